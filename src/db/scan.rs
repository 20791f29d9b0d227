//! Iteration over keys, entries and fields, and pages by cursor as SCAN and HSCAN return them.

use std::vec;

use crate::engine;
use crate::glob::Pattern;
use crate::{Db, Error, KeyType, Result, Value};

/// The number of entries that an iterator asks the engine for at a time.
const PAGE_KEYS: usize = 256;

/// Options of [`Db::scan`].
///
/// [`Db::scan`] has an example.
#[derive(Debug, Clone)]
#[must_use]
pub struct ScanOptions {
    count: usize,
    key_type: Option<KeyType>,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            count: 10,
            key_type: None,
        }
    }
}

impl ScanOptions {
    /// Returns the defaults: about 10 keys a page, of every type.
    ///
    /// [`Db::scan`] has an example.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets about how many keys a page reads; at least 1.
    ///
    /// [`Db::scan`] has an example.
    pub fn count(mut self, count: usize) -> Self {
        self.count = count.max(1);
        self
    }

    /// Returns only keys whose value has this type.
    ///
    /// [`Db::scan`] has an example.
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
    }
}

/// One page of [`Db::scan`].
///
/// [`Db::scan`] has an example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScanPage {
    /// The cursor of the next page; 0 after the last one.
    pub cursor: u64,
    /// The keys. A page may be empty before the last one.
    pub keys: Vec<Value>,
}

/// One page of [`Db::hscan`].
///
/// [`Db::hscan`] has an example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FieldPage {
    /// The cursor of the next page; 0 after the last one.
    pub cursor: u64,
    /// Fields and their values. A page may be empty before the last one.
    pub fields: Vec<(Value, Value)>,
}

/// Which names an iterator returns: all of them by default.
#[derive(Debug, Clone, Default)]
struct Filter {
    prefix: Vec<u8>,
    pattern: Option<Vec<u8>>,
}

impl Filter {
    fn allows(&self, name: &[u8]) -> bool {
        let pattern = self.pattern.as_deref().map(Pattern::new);
        name.starts_with(&self.prefix) && pattern.is_none_or(|pattern| pattern.matches(name))
    }
}

/// An iterator over pages that a cursor leads through.
#[derive(Debug)]
struct Pages<T> {
    db: Db,
    page: vec::IntoIter<T>,
    /// The start of the next page; `None` once the last page was read.
    cursor: Option<u64>,
}

impl<T> Pages<T> {
    fn of(db: &Db) -> Self {
        Self {
            db: db.clone(),
            page: Vec::new().into_iter(),
            cursor: Some(0),
        }
    }

    /// Returns the next item. `read` returns the page at a cursor and the cursor after it, 0 at the
    /// end. An error ends the iteration.
    fn next(&mut self, read: impl Fn(&Db, u64) -> Result<(u64, Vec<T>)>) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            match read(&self.db, self.cursor?) {
                Ok((cursor, items)) => {
                    self.cursor = (cursor != 0).then_some(cursor);
                    self.page = items.into_iter();
                }
                Err(error) => {
                    self.cursor = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// An iterator over the keys of a database; see [`Db::keys`].
///
/// [`Db::keys`] has an example.
#[derive(Debug)]
#[must_use]
pub struct Keys {
    pages: Pages<Value>,
    filter: Filter,
    options: ScanOptions,
}

impl Keys {
    /// Returns only keys that begin with `prefix`. Every key is still read: the index is in hash
    /// order.
    ///
    /// [`Db::keys`] has an example.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.filter.prefix = prefix.as_ref().to_vec();
        self
    }

    /// Returns only keys that match `pattern`, with the rules of Redis's KEYS: `?`, `*`, `[a-z]`,
    /// `[^x]`, and `\` before a byte that stands for itself.
    ///
    /// [`Db::keys`] has an example.
    pub fn matching(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.filter.pattern = Some(pattern.as_ref().to_vec());
        self
    }

    /// Returns only keys whose value has this type.
    ///
    /// [`Db::keys`] has an example.
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.options = self.options.key_type(key_type);
        self
    }
}

impl Iterator for Keys {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let (filter, options) = (&self.filter, &self.options);
        self.pages.next(|db, cursor| {
            let mut page = db.scan(cursor, options)?;
            page.keys.retain(|key| filter.allows(key));
            Ok((page.cursor, page.keys))
        })
    }
}

/// An iterator over the strings of a database with their keys; see [`Db::entries`].
///
/// [`Db::entries`] has an example.
#[derive(Debug)]
#[must_use]
pub struct Entries {
    keys: Keys,
}

impl Entries {
    /// Returns only entries whose key begins with `prefix`.
    ///
    /// [`Db::entries`] has an example.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.keys = self.keys.prefix(prefix);
        self
    }

    /// Returns only entries whose key matches `pattern`; see [`Keys::matching`].
    ///
    /// [`Db::entries`] has an example.
    pub fn matching(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.keys = self.keys.matching(pattern);
        self
    }
}

impl Iterator for Entries {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.keys.next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            match self.keys.pages.db.get(&key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                // Another thread deleted the key, or replaced its string by a hash.
                Ok(None) | Err(Error::WrongType) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// An iterator over the fields of a hash with their values; see [`Db::fields`].
///
/// [`Db::fields`] has an example.
#[derive(Debug)]
#[must_use]
pub struct Fields {
    pages: Pages<(Value, Value)>,
    key: Vec<u8>,
    filter: Filter,
}

impl Fields {
    /// Returns only fields that begin with `prefix`.
    ///
    /// [`Db::fields`] has an example.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.filter.prefix = prefix.as_ref().to_vec();
        self
    }

    /// Returns only fields that match `pattern`; see [`Keys::matching`].
    ///
    /// [`Db::fields`] has an example.
    pub fn matching(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.filter.pattern = Some(pattern.as_ref().to_vec());
        self
    }
}

impl Iterator for Fields {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, filter) = (&self.key, &self.filter);
        self.pages.next(|db, cursor| {
            let mut page = db.hscan(key, cursor, PAGE_KEYS)?;
            page.fields.retain(|(field, _)| filter.allows(field));
            Ok((page.cursor, page.fields))
        })
    }
}

/// Iterators read in pages, by the cursors of [`Db::scan`] and [`Db::hscan`], so they are no
/// snapshot: an entry that exists from the first call to the last is returned once; an entry that
/// is created or deleted meanwhile may be returned. They hold no lock between two calls of `next`.
impl Db {
    /// Returns an iterator over the keys of this database, in no particular order.
    ///
    /// After an error the iterator ends. [`Error::Corrupt`] reports a damaged record.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("user:1", "thailan")?;
    /// db.set("user:22", "minevaldo")?;
    /// db.set("page:1", "Relou Uourdi")?;
    /// assert_eq!(db.keys().count(), 3);
    /// assert_eq!(db.keys().prefix("user:").count(), 2);
    /// for key in db.keys().matching("*:?").prefix("page") {
    ///     assert_eq!(key?, b"page:1");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self) -> Keys {
        Keys {
            pages: Pages::of(self),
            filter: Filter::default(),
            options: ScanOptions::new().count(PAGE_KEYS),
        }
    }

    /// Returns an iterator over all strings of this database, as pairs of key and value. Hashes are
    /// left out: [`Db::fields`] iterates over one.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// let entries = db.entries().collect::<brasa::Result<Vec<_>>>()?;
    /// assert_eq!(entries.len(), 1);
    /// assert_eq!(entries[0].1, "Relou Uourdi");
    /// # Ok(())
    /// # }
    /// ```
    pub fn entries(&self) -> Entries {
        Entries {
            keys: self.keys().key_type(KeyType::String),
        }
    }

    /// Returns an iterator over the fields of the hash at `key`, as pairs of field and value; none
    /// if there is no such key. [`Db::hgetall`] returns all of them as of one moment.
    ///
    /// The first item is [`Error::WrongType`] if the key holds a string.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset_many("meu_hash", &[("nome", "thailan"), ("city", "Recife")])?;
    /// let city = db.fields("meu_hash").matching("c*").next().unwrap()?;
    /// assert_eq!(city.1, "Recife");
    /// # Ok(())
    /// # }
    /// ```
    pub fn fields(&self, key: impl AsRef<[u8]>) -> Fields {
        Fields {
            pages: Pages::of(self),
            key: key.as_ref().to_vec(),
            filter: Filter::default(),
        }
    }

    /// Returns one page of keys, starting at `cursor`: 0 for the first page, then the cursor of the
    /// page before.
    ///
    /// It has the guarantee of Redis's SCAN: a key that exists from the first page to the last is
    /// returned, and a key that is absent throughout is not. A cursor stays valid after the file is
    /// reopened. Every `u64` is a valid cursor. [`Db::keys`] follows the cursor for you.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ScanOptions};
    /// let db = Db::in_memory()?;
    /// db.set("k", "v")?;
    /// let page = db.scan(0, &ScanOptions::new().count(100))?;
    /// assert_eq!((page.cursor, page.keys.len()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, cursor: u64, options: &ScanOptions) -> Result<ScanPage> {
        let page = self.read(
            |tx| tx.scan_keys(self.database, cursor, options.count),
            |engine| engine.scan_keys(self.database, cursor, options.count),
        )?;
        let keys = page
            .keys
            .into_iter()
            .filter(|(_, state)| options.key_type.is_none() || state.key_type() == options.key_type)
            .map(|(key, _)| key)
            .collect();
        Ok(ScanPage {
            cursor: page.cursor,
            keys,
        })
    }

    /// Returns one page of the fields of the hash at `key`, with the guarantees of [`Db::scan`].
    /// Every `u64` is a valid cursor. [`Db::fields`] follows the cursor for you.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a string.
    /// - [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// let page = db.hscan("meu_hash", 0, 100)?;
    /// assert_eq!((page.cursor, page.fields.len()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hscan(&self, key: impl AsRef<[u8]>, cursor: u64, count: usize) -> Result<FieldPage> {
        let page = self.scan_fields(key.as_ref(), cursor, count.max(1))?;
        let fields = page.fields.into_iter();
        Ok(FieldPage {
            cursor: page.cursor,
            fields: fields.map(|(field, found)| (field, found.value)).collect(),
        })
    }

    /// Like [`Db::hscan`], with the deadlines of the fields.
    pub(super) fn scan_fields(
        &self,
        key: &[u8],
        cursor: u64,
        count: usize,
    ) -> Result<engine::FieldPage> {
        self.read(
            |tx| tx.scan_fields(self.database, key, cursor, count),
            |engine| engine.scan_fields(self.database, key, cursor, count),
        )
    }
}

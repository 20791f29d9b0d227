//! Iteration: all keys, keys by prefix, and SCAN by cursor.

use std::vec;

use crate::engine;
use crate::{Db, KeyType, Result, Value};

/// How many keys an iterator asks the engine for at a time.
const PAGE_KEYS: usize = 256;

/// What [`Db::scan`] should return.
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
    /// About 10 keys a page, of either type.
    pub fn new() -> Self {
        Self::default()
    }

    /// About how many keys to look at for a page; at least 1.
    pub fn count(mut self, count: usize) -> Self {
        self.count = count.max(1);
        self
    }

    /// Only keys that hold this.
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = Some(key_type);
        self
    }
}

/// One page of [`Db::scan`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScanPage {
    /// Where to go on; 0 when all has been seen.
    pub cursor: u64,
    /// The keys; a page may be empty before the end.
    pub keys: Vec<Value>,
}

/// One page of [`Db::hscan`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FieldPage {
    /// Where to go on; 0 when all has been seen.
    pub cursor: u64,
    /// Fields and their values; a page may be empty before the end.
    pub fields: Vec<(Value, Value)>,
}

/// The keys of a database; see [`Db::keys`].
#[derive(Debug)]
pub struct Keys {
    db: Db,
    prefix: Vec<u8>,
    page: vec::IntoIter<Value>,
    /// Where the next page begins; `None` when the last one was fetched.
    cursor: Option<u64>,
}

impl Iterator for Keys {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let prefix = &self.prefix;
            let is_of_it = |key: &Value| prefix.is_empty() || key.starts_with(prefix);
            if let Some(key) = self.page.find(is_of_it) {
                return Some(Ok(key));
            }
            let options = ScanOptions::new().count(PAGE_KEYS);
            match self.db.scan(self.cursor?, &options) {
                Ok(page) => {
                    self.cursor = (page.cursor != 0).then_some(page.cursor);
                    self.page = page.keys.into_iter();
                }
                Err(error) => {
                    self.cursor = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Db {
    /// All keys of this database, in no particular order.
    ///
    /// It is no snapshot: a key that is there from beginning to end comes once, one that
    /// is absent all the time never, one that is created or deleted meanwhile perhaps.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// for key in db.keys() {
    ///     assert_eq!(key?, b"chave_1");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self) -> Keys {
        self.scan_prefix("")
    }

    /// All keys that begin with `prefix`, in no particular order. Every key is looked at: the
    /// index is in hash order.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("user:1", "a")?;
    /// db.set("page:1", "b")?;
    /// assert_eq!(db.scan_prefix("user:").count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Keys {
        Keys {
            db: self.clone(),
            prefix: prefix.as_ref().to_vec(),
            page: Vec::new().into_iter(),
            cursor: Some(0),
        }
    }

    /// One page of keys from `cursor` on, which is 0 at the start; with SCAN's guarantee: a key
    /// that is there from start to end is returned, one that is absent throughout is not. A
    /// cursor stays good across reopening. Any number is a valid cursor.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt), as [`Db::get`].
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

    /// One page of a hash's fields from `cursor` on, with the guarantees of [`Db::scan`]. Any number
    /// is a valid cursor.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    pub fn hscan(&self, key: impl AsRef<[u8]>, cursor: u64, count: usize) -> Result<FieldPage> {
        let page = self.scan_fields(key.as_ref(), cursor, count.max(1))?;
        let fields = page.fields.into_iter();
        Ok(FieldPage {
            cursor: page.cursor,
            fields: fields.map(|(field, found)| (field, found.value)).collect(),
        })
    }

    /// As [`Db::hscan`], with the fields' deadlines.
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

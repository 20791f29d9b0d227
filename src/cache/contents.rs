//! The cache as a whole: its size, and iteration over its entries.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec;

use super::entry::Entry;
use super::keys::{Name, is_value, key_of, prefix_of_values};
use super::look::Look;
use super::store::Store;
use super::{Cache, CacheValue};
use crate::{Error, Result};

/// The size and age of the entries of a cache.
///
/// Returned by [`Cache::usage`], which has an example. It counts values and remembered failures of
/// the cache's namespace. It does not count the keys of leases, tags and versions.
///
/// The struct is `#[non_exhaustive]`: later versions may add fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheUsage {
    /// The number of entries, of all versions.
    pub entries: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// The number of entries that the [version](Cache::version) of this handle can use.
    pub entries_of_this_version: u64,
    /// The number of entries past their [`Cache::ttl`] that may still be returned
    /// ([`Cache::stale_while_revalidate`]).
    pub stale: u64,
    /// The number of expired keys of the file that compaction has not removed yet, of all
    /// namespaces; 0 for a cache over a server.
    pub expired: u64,
    /// The time at which the oldest entry was stored.
    pub oldest: Option<SystemTime>,
}

/// An iterator over the keys and values of a cache; made by [`Cache::iter`], which has an example.
#[derive(Debug)]
#[must_use]
pub struct CacheEntries<T> {
    cache: Cache,
    names: vec::IntoIter<Vec<u8>>,
    values: std::marker::PhantomData<fn() -> T>,
}

impl<T: CacheValue> Iterator for CacheEntries<T> {
    type Item = Result<(Vec<u8>, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let name = self.names.next()?;
            let value = match self.cache.look(&name) {
                Ok(Look::Fresh(value)) => value,
                Ok(Look::Due(due)) => due.value,
                // Removed or replaced since its name was read.
                Ok(Look::Failed(_) | Look::Miss) => continue,
                Err(error) => return Some(Err(error)),
            };
            let key = key_of(&name, &self.cache.inner.prefix).to_vec();
            return Some(Ok((key, value)));
        }
    }
}

impl Cache {
    /// Returns the path of the file; `None` for a cache in memory or over a server.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("db.brasa");
    /// let cache = brasa::Cache::open(&path)?;
    /// assert_eq!(cache.path(), Some(&*path));
    /// assert_eq!(brasa::Cache::in_memory()?.path(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn path(&self) -> Option<&Path> {
        match &*self.inner.store {
            // The path of a file is absolute.
            Store::Db(db) => Some(db.path()).filter(|path| path.is_absolute()),
            #[cfg(feature = "redis")]
            Store::Remote(_) => None,
        }
    }

    /// Returns the size and age of the entries. Reads every key of the file or server, and the
    /// header of each entry.
    ///
    /// # Errors
    ///
    /// Those of [`Db::get`](crate::Db::get), or [`Error::Remote`], strict or not.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// let usage = cache.usage()?;
    /// assert_eq!((usage.entries, usage.stale), (1, 0));
    /// println!("{} bytes, the oldest entry is of {:?}", usage.bytes, usage.oldest);
    /// # Ok(())
    /// # }
    /// ```
    pub fn usage(&self) -> Result<CacheUsage> {
        let mut usage = CacheUsage::default();
        let store = &self.inner.store;
        let now_ms = store.now_ms();
        let mut oldest_ms = u64::MAX;
        for name in self.names()? {
            let bytes = match store.get(&name) {
                Ok(Some(bytes)) => bytes,
                Ok(None) | Err(Error::WrongType) => continue,
                Err(error) => return Err(error),
            };
            let Some(entry) = Entry::read(&bytes) else {
                continue;
            };
            usage.entries += 1;
            usage.bytes += (name.len() + bytes.len()) as u64;
            usage.entries_of_this_version += u64::from(entry.version == self.settings.version);
            let is_stale = (1..=now_ms).contains(&entry.soft_deadline_ms);
            usage.stale += u64::from(is_stale);
            oldest_ms = oldest_ms.min(entry.stored_at_ms);
        }
        if usage.entries > 0 {
            usage.oldest = UNIX_EPOCH.checked_add(Duration::from_millis(oldest_ms));
        }
        usage.expired = match &**store {
            Store::Db(db) => db.expired_count()?,
            #[cfg(feature = "redis")]
            Store::Remote(_) => 0,
        };
        Ok(usage)
    }

    /// Returns the number of entries of the namespace, of all versions and types. Reads every key
    /// of the file or server.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::usage`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// assert!(cache.is_empty()?);
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert_eq!(cache.len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> Result<u64> {
        Ok(self.usage()?.entries)
    }

    /// Returns whether the namespace has no entry; [`Cache::len`] has an example.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::usage`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns whether [`Cache::get`] would return a value of type `T`. The call counts neither as
    /// a hit nor as a miss.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::get`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert!(cache.contains::<String>("user:7")?);
    /// assert!(!cache.contains::<String>("user:8")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains<T: CacheValue>(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let name = Name::of_value(&self.inner.prefix, key.as_ref());
        let look = self.look::<T>(name.bytes())?;
        Ok(matches!(look, Look::Fresh(_) | Look::Due(_)))
    }

    /// Removes a value like [`Cache::invalidate`], and returns it if it is of type `T`.
    ///
    /// The call first reads and then removes. A value that another thread or process stores between
    /// these two steps is removed and not returned.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert_eq!(cache.remove::<String>("user:7")?.as_deref(), Some("Minevaldo"));
    /// assert_eq!(cache.remove::<String>("user:7")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove<T: CacheValue>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        let key = key.as_ref();
        let name = Name::of_value(&self.inner.prefix, key);
        let value = match self.look(name.bytes())? {
            Look::Fresh(value) => Some(value),
            Look::Due(due) => Some(due.value),
            Look::Failed(_) | Look::Miss => None,
        };
        self.invalidate(key)?;
        Ok(value)
    }

    /// Returns an iterator over the keys and values of type `T` and of this version, in no
    /// particular order. It omits values of other types.
    ///
    /// This call reads all keys, so it needs memory for all of them. The iterator then reads one
    /// value at a time, and omits values that were removed meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::usage`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// for entry in cache.iter::<String>()? {
    ///     let (key, value) = entry?;
    ///     assert_eq!((&key[..], &*value), (&b"user:7"[..], "Minevaldo"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter<T: CacheValue>(&self) -> Result<CacheEntries<T>> {
        Ok(CacheEntries {
            names: self.names()?.into_iter(),
            cache: self.clone(),
            values: std::marker::PhantomData,
        })
    }

    /// Returns the names of all values in the store.
    fn names(&self) -> Result<Vec<Vec<u8>>> {
        let values = prefix_of_values(&self.inner.namespace, b"");
        let mut names = Vec::new();
        self.inner.store.for_pages(&values, &mut |keys| {
            let keys = keys.iter().filter(|key| is_value(key));
            names.extend(keys.map(|key| key.to_vec()));
            Ok(())
        })?;
        Ok(names)
    }
}

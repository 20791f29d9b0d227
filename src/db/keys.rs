//! Keys of either type: existence, type, count and removal.

use crate::engine::KeyState;
use crate::limits::DATABASE_COUNT;
use crate::{Db, Result};

/// The type of the value of a key.
///
/// [`Db::key_type`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// A string of bytes.
    String,
    /// Fields with values.
    Hash,
}

impl KeyState {
    /// Returns the type as users see it; `None` for a missing key.
    pub(super) fn key_type(&self) -> Option<KeyType> {
        match self {
            KeyState::Absent => None,
            KeyState::String { .. } => Some(KeyType::String),
            KeyState::Hash { .. } => Some(KeyType::Hash),
        }
    }
}

impl Db {
    /// Returns about how many bytes of the file a key takes; `None` for a missing key.
    pub(crate) fn live_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>> {
        let key = key.as_ref();
        self.read(
            |tx| tx.live_bytes_of(self.database, key),
            |engine| engine.live_bytes_of(self.database, key),
        )
    }

    /// Removes a key with its value. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// The errors of every write, see [`Db::set`]. On a full disk a deletion still succeeds.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// assert!(db.del("chave_1")?);
    /// assert!(!db.del("chave_1")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn del(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.del_many(&[key])? == 1)
    }

    /// Removes several keys in one commit. Returns how many existed.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// assert_eq!(db.del_many(&["a", "b"])?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::del`].
    pub fn del_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64> {
        self.write(|tx| {
            let mut removed = 0;
            for key in keys {
                removed += u64::from(tx.delete(self.database, key.as_ref())?);
            }
            Ok(removed)
        })
    }

    /// Returns whether the key exists.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// assert!(db.exists("a")? && !db.exists("b")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt), as [`Db::get`].
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.key_type(key)?.is_some())
    }

    /// Returns how many of several keys exist, as of one moment. A key that is given twice counts
    /// twice.
    ///
    /// # Errors
    ///
    /// Those of [`Db::exists`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// assert_eq!(db.exists_many(&["a", "b", "a"])?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn exists_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64> {
        let states = self.read(
            |tx| tx.states(self.database, keys),
            |engine| engine.states(self.database, keys),
        )?;
        Ok(states.iter().flatten().count() as u64)
    }

    /// Returns the type of the value; `None` for a missing key.
    ///
    /// # Errors
    ///
    /// Those of [`Db::exists`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, KeyType};
    /// let db = Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// assert_eq!(db.key_type("meu_hash")?, Some(KeyType::Hash));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_type(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyType>> {
        Ok(self.state(key.as_ref())?.key_type())
    }

    /// Returns the type of the value and the deadline.
    pub(super) fn state(&self, key: &[u8]) -> Result<KeyState> {
        self.read(
            |tx| tx.key(self.database, key),
            |engine| engine.key(self.database, key),
        )
    }

    /// Returns the number of keys of this database. The call is cheap.
    ///
    /// Expired keys do not count. Deadlines are counted in at most 1,024 steps of equal width. If
    /// deadlines lie far apart, an expired key may still count for a while: at most a 512th of the
    /// time from the first deadline to the last. A hash no longer counts when all of its fields
    /// have expired. The deadlines of its fields are counted in at most 128 steps.
    ///
    /// # Errors
    ///
    /// Those of [`Db::exists`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert_eq!(db.len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> Result<u64> {
        self.read(
            |tx| tx.key_count(self.database),
            |engine| engine.key_count(self.database),
        )
    }

    /// Returns how many keys of this database have a deadline in the future. The call is cheap, and
    /// as exact as [`Db::len`]. If every field of a hash has a deadline, the hash has one: the last
    /// of them.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ManualClock, SetOptions};
    /// use std::time::Duration;
    /// let clock = ManualClock::new(0);
    /// let db = Db::options().clock(clock.clone()).open_in_memory()?;
    /// db.set_with("a", "1", SetOptions::new().ttl(Duration::from_secs(1)))?;
    /// assert_eq!((db.expiring_count()?, db.expired_count()?), (1, 0));
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!((db.expiring_count()?, db.expired_count()?), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::len`].
    pub fn expiring_count(&self) -> Result<u64> {
        self.engine().expiring_count(self.database)
    }

    /// Returns how many keys of this database have expired and still take memory. The call is
    /// cheap, and as exact as [`Db::len`].
    ///
    /// [`Db::expiring_count`] has an example.
    ///
    /// # Errors
    ///
    /// Those of [`Db::len`].
    pub fn expired_count(&self) -> Result<u64> {
        self.engine().expired_count(self.database)
    }

    /// Returns whether this database has no key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert!(db.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes every key of this database.
    ///
    /// # Errors
    ///
    /// Those of [`Db::del`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// db.clear()?;
    /// assert!(db.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.write(|tx| tx.clear(self.database))
    }

    /// Removes every key of all 16 databases, in one commit.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.database(3)?.set("a", "1")?;
    /// db.clear_all()?;
    /// assert!(db.database(3)?.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::del`].
    pub fn clear_all(&self) -> Result<()> {
        self.write(|tx| (0..DATABASE_COUNT).try_for_each(|database| tx.clear(database)))
    }

    /// Swaps two of the 16 databases for all handles at once, like SWAPDB in Redis.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchDatabase`](crate::Error::NoSuchDatabase) if a number exceeds 15.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// db.swap_databases(0, 3)?;
    /// assert!(db.database(3)?.exists("k")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn swap_databases(&self, one: u8, other: u8) -> Result<()> {
        let (one, other) = (self.database(one)?, self.database(other)?);
        self.write(|tx| tx.swap_databases(one.database, other.database))
    }
}

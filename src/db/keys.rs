//! Keys of either type: their existence, type, number and end.

use crate::engine::KeyState;
use crate::limits::DATABASE_COUNT;
use crate::{Db, Result};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// A string of bytes.
    String,
    /// Fields with values.
    Hash,
}

impl KeyState {
    /// The type as users see it; `None` for a key that is not there.
    pub(super) fn key_type(&self) -> Option<KeyType> {
        match self {
            KeyState::Absent => None,
            KeyState::String { .. } => Some(KeyType::String),
            KeyState::Hash { .. } => Some(KeyType::Hash),
        }
    }
}

impl Db {
    /// About how many bytes of the file a key needs; `None` where there is no such key.
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
    /// # Errors
    ///
    /// As [`Db::del`].
    pub fn del_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64> {
        self.write(|tx| {
            let mut removed = 0;
            for key in keys {
                removed += u64::from(tx.delete(self.database, key.as_ref())?);
            }
            Ok(removed)
        })
    }

    /// Whether the key is there.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt), as [`Db::get`].
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.key_type(key)?.is_some())
    }

    /// How many of several keys are there, at one moment. A key that is named twice counts twice.
    ///
    /// # Errors
    ///
    /// As [`Db::exists`].
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

    /// What the key holds; `None` where there is no such key.
    ///
    /// # Errors
    ///
    /// As [`Db::exists`].
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

    /// What the key holds, and its deadline.
    pub(super) fn state(&self, key: &[u8]) -> Result<KeyState> {
        self.read(
            |tx| tx.key(self.database, key),
            |engine| engine.key(self.database, key),
        )
    }

    /// How many keys this database holds; cheap.
    ///
    /// An expired key no longer counts. Deadlines are counted in at most 1,024 steps of
    /// equal width, so that where they lie far apart an expired key may still count for
    /// a moment: at most a 512th of the time from the first deadline to the last. A hash no longer
    /// counts, either, when all of its fields have expired; their deadlines are counted in at most 128 steps.
    ///
    /// # Errors
    ///
    /// As [`Db::exists`].
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

    /// How many keys of this database have a deadline that has not passed; cheap, and as exact as [`Db::len`].
    /// A hash with a deadline on each field has one itself: the last of them.
    ///
    /// # Errors
    ///
    /// As [`Db::len`].
    pub fn expiring_count(&self) -> Result<u64> {
        self.engine().expiring_count(self.database)
    }

    /// How many keys of this database have expired and still take memory; cheap, and as exact as [`Db::len`].
    ///
    /// # Errors
    ///
    /// As [`Db::len`].
    pub fn expired_count(&self) -> Result<u64> {
        self.engine().expired_count(self.database)
    }

    /// Whether this database holds no key.
    ///
    /// # Errors
    ///
    /// As [`Db::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes every key of this database.
    ///
    /// # Errors
    ///
    /// As [`Db::del`].
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
    /// # Errors
    ///
    /// As [`Db::del`].
    pub fn clear_all(&self) -> Result<()> {
        self.write(|tx| (0..DATABASE_COUNT).try_for_each(|database| tx.clear(database)))
    }

    /// Lets two of the 16 databases change places, at once for everybody; as Redis's SWAPDB.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchDatabase`](crate::Error::NoSuchDatabase) where a number exceeds 15.
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

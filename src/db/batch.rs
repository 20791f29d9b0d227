//! Many changes as one commit.

use std::time::Duration;

use crate::engine::Transaction;
use crate::{Db, Result, SetOptions};

use super::expiry::{deadline_after, expire};
use super::strings::set_with;

/// Changes that are collected, and then take effect together; see [`Db::batch`].
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Set {
        key: Vec<u8>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    },
    Delete {
        key: Vec<u8>,
    },
    Expire {
        key: Vec<u8>,
        ttl: Duration,
    },
    HashSet {
        key: Vec<u8>,
        field: Vec<u8>,
        value: Vec<u8>,
    },
    HashDelete {
        key: Vec<u8>,
        field: Vec<u8>,
    },
    Clear,
}

impl Batch {
    /// Sets a string, as [`Db::set`].
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(Change::Set {
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ttl: None,
        })
    }

    /// Sets a string with a time to live, counted from the moment of the commit; zero deletes it.
    pub fn set_ex(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.push(Change::Set {
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ttl: Some(ttl),
        })
    }

    /// Removes a key, as [`Db::del`].
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(Change::Delete {
            key: key.as_ref().to_vec(),
        })
    }

    /// Gives a key a time to live, counted from the moment of the commit, as [`Db::expire`].
    pub fn expire(&mut self, key: impl AsRef<[u8]>, ttl: Duration) -> &mut Self {
        self.push(Change::Expire {
            key: key.as_ref().to_vec(),
            ttl,
        })
    }

    /// Sets a field of a hash, as [`Db::hset`].
    pub fn hset(
        &mut self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(Change::HashSet {
            key: key.as_ref().to_vec(),
            field: field.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
        })
    }

    /// Removes a field of a hash, as [`Db::hdel`].
    pub fn hdel(&mut self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> &mut Self {
        self.push(Change::HashDelete {
            key: key.as_ref().to_vec(),
            field: field.as_ref().to_vec(),
        })
    }

    /// Removes every key of the database, as [`Db::clear`].
    pub fn clear(&mut self) -> &mut Self {
        self.push(Change::Clear)
    }

    fn push(&mut self, change: Change) -> &mut Self {
        self.changes.push(change);
        self
    }
}

impl Db {
    /// Collects changes and makes them one commit: after a kill or a power loss all of them are
    /// there or none, and no other thread sees some without the others.
    ///
    /// The closure only collects, so it may take its time: nobody waits for it.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`](crate::Error::WrongType) where a field is set in a string; then none of the batch was written.
    /// - [`Error::TooLarge`](crate::Error::TooLarge) where the records together exceed
    ///   [`MAX_COMMIT_BYTES`](crate::limits::MAX_COMMIT_BYTES).
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.batch(|b| {
    ///     b.set("chave_1", "Relou Uourdi");
    ///     b.hset("meu_hash", "nome", "thailan");
    ///     b.del("velho");
    /// })?;
    /// assert_eq!(db.len()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self, collect: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::default();
        collect(&mut batch);
        self.write(|tx| {
            batch
                .changes
                .iter()
                .try_for_each(|change| apply(tx, self.database, change))
        })
    }
}

fn apply(tx: &mut Transaction, database: u8, change: &Change) -> Result<()> {
    match change {
        Change::Set { key, value, ttl } => match ttl {
            None => tx.set(database, key, value, 0),
            Some(ttl) => set_with(tx, database, key, value, SetOptions::new().ttl(*ttl)).map(drop),
        },
        Change::Delete { key } => tx.delete(database, key).map(drop),
        Change::Expire { key, ttl } => {
            let deadline_ms = deadline_after(tx.now_ms(), *ttl)?;
            expire(tx, database, key, deadline_ms).map(drop)
        }
        Change::HashSet { key, field, value } => {
            tx.hash_set(database, key, field, value, 0).map(drop)
        }
        Change::HashDelete { key, field } => tx.hash_delete(database, key, field).map(drop),
        Change::Clear => tx.clear(database),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Db, ManualClock, Ttl};

    #[test]
    fn a_hash_is_gone_with_the_last_field_that_has_not_expired() {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock).open_in_memory().unwrap();
        // No verb gives a field a deadline yet; a file may have one.
        db.engine()
            .write(|tx| {
                tx.hash_set(0, b"h", b"expired", b"1", 900)?;
                tx.hash_set(0, b"h", b"live", b"2", 0)?;
                tx.expire(0, b"h", 5_000)
            })
            .unwrap();
        db.batch(|b| _ = b.hdel("h", "live").hset("h", "new", "3"))
            .unwrap();
        assert_eq!(db.ttl("h").unwrap(), Ttl::Persistent, "it is another hash");
        assert_eq!(db.hkeys("h").unwrap(), ["new"]);
    }
}

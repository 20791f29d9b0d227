//! Many changes as one commit.

use std::time::Duration;

use crate::engine::Transaction;
use crate::{Db, Result, SetOptions};

use super::expiry::{deadline_after, expire};
use super::strings::set_with;

/// Changes that are collected, and then take effect together; see [`Db::batch`].
#[derive(Debug, Default)]
pub struct Batch {
    /// Keys, fields and values, one behind the other: one piece of memory for all of them.
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

/// A change, and how long its key, field and value are.
#[derive(Debug)]
struct Change {
    kind: Kind,
    lengths: [usize; 3],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Set,
    SetFor(Duration),
    Delete,
    Expire(Duration),
    HashSet,
    HashDelete,
    Clear,
}

impl Batch {
    /// Sets a string, as [`Db::set`].
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::Set, key.as_ref(), &[], value.as_ref())
    }

    /// Sets a string with a time to live, counted from the moment of the commit; zero deletes it.
    pub fn set_ex(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.push(Kind::SetFor(ttl), key.as_ref(), &[], value.as_ref())
    }

    /// Removes a key, as [`Db::del`].
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::Delete, key.as_ref(), &[], &[])
    }

    /// Gives a key a time to live, counted from the moment of the commit, as [`Db::expire`].
    pub fn expire(&mut self, key: impl AsRef<[u8]>, ttl: Duration) -> &mut Self {
        self.push(Kind::Expire(ttl), key.as_ref(), &[], &[])
    }

    /// Sets a field of a hash, as [`Db::hset`].
    pub fn hset(
        &mut self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(Kind::HashSet, key.as_ref(), field.as_ref(), value.as_ref())
    }

    /// Removes a field of a hash, as [`Db::hdel`].
    pub fn hdel(&mut self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::HashDelete, key.as_ref(), field.as_ref(), &[])
    }

    /// Removes every key of the database, as [`Db::clear`].
    pub fn clear(&mut self) -> &mut Self {
        self.push(Kind::Clear, &[], &[], &[])
    }

    fn push(&mut self, kind: Kind, key: &[u8], field: &[u8], value: &[u8]) -> &mut Self {
        for part in [key, field, value] {
            self.bytes.extend_from_slice(part);
        }
        self.changes.push(Change {
            kind,
            lengths: [key.len(), field.len(), value.len()],
        });
        self
    }

    /// Does all of it, in the order in which it was collected.
    fn apply(&self, tx: &mut Transaction, database: u8) -> Result<()> {
        let mut rest = &self.bytes[..];
        for change in &self.changes {
            // They were put there in this order.
            let [key, field, value] = change.lengths.map(|length| {
                let (part, behind) = rest.split_at_checked(length).unwrap_or_default();
                rest = behind;
                part
            });
            apply(tx, database, change.kind, key, field, value)?;
        }
        Ok(())
    }
}

impl Db {
    /// Collects changes and makes them one commit: after a kill or a power loss all of them are
    /// there or none, and no other thread sees some without the others.
    ///
    /// The closure only collects operations. No other writer waits while it runs.
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
        self.write(|tx| batch.apply(tx, self.database))
    }
}

fn apply(
    tx: &mut Transaction,
    database: u8,
    kind: Kind,
    key: &[u8],
    field: &[u8],
    value: &[u8],
) -> Result<()> {
    match kind {
        Kind::Set => tx.set(database, key, value, 0),
        Kind::SetFor(ttl) => {
            set_with(tx, database, key, value, SetOptions::new().ttl(ttl)).map(drop)
        }
        Kind::Delete => tx.delete(database, key).map(drop),
        Kind::Expire(ttl) => {
            let deadline_ms = deadline_after(tx.now_ms(), ttl)?;
            expire(tx, database, key, deadline_ms).map(drop)
        }
        Kind::HashSet => tx.hash_set(database, key, field, value, 0).map(drop),
        Kind::HashDelete => tx.hash_delete(database, key, field).map(drop),
        Kind::Clear => tx.clear(database),
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

//! Batches: several changes as one commit, collected before the writer lock is acquired.
//!
//! Invariant: the closure of a batch runs without the writer lock. Its changes are applied in the
//! order of the calls, all or none.

use std::time::Duration;

use crate::engine::Transaction;
use crate::{Db, Result, SetOptions};

use super::expiry::{deadline_after, expire};
use super::strings::set_with;

/// Changes that are collected and then applied in one commit, for [`Db::batch`].
///
/// A batch cannot read. [`Db::transaction`] has a table of when to use a batch, a transaction or a
/// single call.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use std::time::Duration;
/// let db = brasa::Db::in_memory()?;
/// db.batch(|b| {
///     b.clear();
///     b.set("chave_1", "Relou Uourdi").set_ex("offer", "3.21", Duration::from_secs(60));
///     b.hset("meu_hash", "nome", "thailan").hset("meu_hash", "idade", "29");
///     b.hdel("meu_hash", "idade");
///     b.expire("meu_hash", Duration::from_secs(30));
///     b.del("chave_1");
/// })?;
/// assert_eq!(db.len()?, 2);
/// assert_eq!(db.hlen("meu_hash")?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    /// The keys, fields and values, one after the other, in a single allocation.
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

/// A change, with the lengths of its key, field and value.
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
    /// Sets a string, like [`Db::set`]. [`Batch`] has an example.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::Set, key.as_ref(), &[], value.as_ref())
    }

    /// Sets a string with a TTL, which begins at the commit. A TTL of zero deletes the key.
    /// [`Batch`] has an example.
    pub fn set_ex(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.push(Kind::SetFor(ttl), key.as_ref(), &[], value.as_ref())
    }

    /// Removes a key, like [`Db::del`]. [`Batch`] has an example.
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::Delete, key.as_ref(), &[], &[])
    }

    /// Sets the TTL of a key, like [`Db::expire`]. It begins at the commit. [`Batch`] has an
    /// example.
    pub fn expire(&mut self, key: impl AsRef<[u8]>, ttl: Duration) -> &mut Self {
        self.push(Kind::Expire(ttl), key.as_ref(), &[], &[])
    }

    /// Sets a field of a hash, like [`Db::hset`]. [`Batch`] has an example.
    pub fn hset(
        &mut self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(Kind::HashSet, key.as_ref(), field.as_ref(), value.as_ref())
    }

    /// Removes a field of a hash, like [`Db::hdel`]. [`Batch`] has an example.
    pub fn hdel(&mut self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> &mut Self {
        self.push(Kind::HashDelete, key.as_ref(), field.as_ref(), &[])
    }

    /// Removes every key of the database, like [`Db::clear`]. [`Batch`] has an example.
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

    /// Applies all changes, in the order of the calls.
    fn apply(&self, tx: &mut Transaction, database: u8) -> Result<()> {
        let mut rest = &self.bytes[..];
        for change in &self.changes {
            // `push` has stored the parts in this order.
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
    /// Collects changes and writes them in one commit. After a kill or a power loss all of them are
    /// there or none, and no other thread or process sees some without the others.
    ///
    /// The closure only collects changes. No other writer waits while it runs. For changes that
    /// depend on a read, use [`Db::transaction`], which has a table of when to use which call.
    ///
    /// # Errors
    ///
    /// After an error none of the changes was written.
    ///
    /// - [`Error::WrongType`](crate::Error::WrongType) if a change sets a field of a key that holds
    ///   a string.
    /// - [`Error::TooLarge`](crate::Error::TooLarge) if the records together exceed
    ///   [`MAX_COMMIT_BYTES`](crate::limits::MAX_COMMIT_BYTES).
    /// - Those of every write, see [`Db::set`].
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
    fn hash_is_removed_with_its_last_field_that_has_not_expired() {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock).open_in_memory().unwrap();
        // The engine's own calls, since they can set a deadline that has passed.
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

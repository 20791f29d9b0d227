//! Deadlines of keys: EXPIRE, TTL, PERSIST.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::{duration_ms, unix_ms};
use crate::engine::{KeyState, Transaction};
use crate::limits::MAX_DEADLINE_MS;
use crate::{Db, Error, Result, Value};

/// The remaining life of a key. The enum is exhaustive: Redis has no other answer.
///
/// [`Db::ttl`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// The key does not exist (-2 in Redis).
    Absent,
    /// The key has no deadline (-1 in Redis).
    Persistent,
    /// The key expires after this time, in whole milliseconds.
    Remaining(Duration),
}

/// The change of a deadline by a read; for [`Db::get_ex`] and [`Db::hget_ex`].
///
/// [`Db::get_ex`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TtlChange {
    /// Keeps the deadline.
    #[default]
    Keep,
    /// Removes the deadline (PERSIST).
    Persist,
    /// Expires after this time (EX, PX). Zero deletes the key.
    After(Duration),
    /// Expires at this time, in Unix milliseconds (EXAT, PXAT). A time in the past deletes the key.
    At(u64),
}

impl TtlChange {
    /// Returns the new deadline. 0 milliseconds is a time in the past, and not the lack of a
    /// deadline.
    pub(super) fn deadline_ms(self, now_ms: u64) -> Result<Option<u64>> {
        match self {
            TtlChange::Keep | TtlChange::Persist => Ok(None),
            TtlChange::After(ttl) => deadline_after(now_ms, ttl).map(Some),
            TtlChange::At(deadline_ms) => storable(deadline_ms).map(Some),
        }
    }
}

/// The condition on the present deadline of a key for [`Db::expire_at_if`]. A missing deadline
/// counts as infinitely late.
///
/// [`Db::expire_at_if`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ExpireCondition {
    /// No condition.
    #[default]
    Always,
    /// The key has no deadline (NX).
    Persistent,
    /// The key has a deadline (XX).
    Expiring,
    /// The new deadline is later than the present one (GT).
    Later,
    /// The new deadline is earlier than the present one (LT).
    Earlier,
    /// The key has a deadline, and the new one is earlier (XX and LT).
    ExpiringAndEarlier,
}

impl ExpireCondition {
    pub(super) fn allows(self, present: Option<u64>, deadline_ms: u64) -> bool {
        match self {
            ExpireCondition::Always => true,
            ExpireCondition::Persistent => present.is_none(),
            ExpireCondition::Expiring => present.is_some(),
            ExpireCondition::Later => present.is_some_and(|present| deadline_ms > present),
            ExpireCondition::Earlier => present.is_none_or(|present| deadline_ms < present),
            ExpireCondition::ExpiringAndEarlier => {
                present.is_some_and(|present| deadline_ms < present)
            }
        }
    }
}

impl Db {
    /// Sets the TTL of a key. Returns whether the key exists.
    ///
    /// A hash expires as a whole. A duration of zero deletes the key.
    ///
    /// # Errors
    ///
    /// - [`Error::DeadlineOutOfRange`] if the deadline cannot be stored.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::Duration;
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// assert!(db.expire("meu_hash", Duration::from_secs(30))?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        let key = key.as_ref();
        self.write(|tx| {
            let deadline_ms = deadline_after(tx.now_ms(), ttl)?;
            expire(tx, self.database, key, deadline_ms)
        })
    }

    /// Sets the deadline of the key in Unix milliseconds (PEXPIREAT). Returns whether the key
    /// exists. A deadline that has passed deletes the key.
    ///
    /// # Errors
    ///
    /// Those of [`Db::expire`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// db.expire_at("k", 4_102_444_800_000)?; // the year 2100
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire_at(&self, key: impl AsRef<[u8]>, deadline_ms: u64) -> Result<bool> {
        self.expire_at_if(key, deadline_ms, ExpireCondition::Always)
    }

    /// Like [`Db::expire_at`], with a time of the system's clock, rounded down to milliseconds.
    ///
    /// # Errors
    ///
    /// Those of [`Db::expire`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::{Duration, SystemTime};
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    /// assert!(db.expire_at_time("k", tomorrow)?);
    /// assert!(db.deadline("k")?.unwrap() <= tomorrow);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire_at_time(&self, key: impl AsRef<[u8]>, deadline: SystemTime) -> Result<bool> {
        self.expire_at(key, unix_ms(deadline))
    }

    /// Like [`Db::expire_at`], if the key's present deadline meets `condition`. Returns whether the
    /// deadline was set.
    ///
    /// # Errors
    ///
    /// Those of [`Db::expire`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ExpireCondition};
    /// let db = Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert!(db.expire_at_if("k", 4_102_444_800_000, ExpireCondition::Persistent)?);
    /// assert!(!db.expire_at_if("k", 4_102_444_900_000, ExpireCondition::Earlier)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire_at_if(
        &self,
        key: impl AsRef<[u8]>,
        deadline_ms: u64,
        condition: ExpireCondition,
    ) -> Result<bool> {
        let key = key.as_ref();
        self.write(|tx| {
            let deadline_ms = storable(deadline_ms)?;
            let present = tx.key(self.database, key)?.deadline_ms();
            // A key that is not there is refused below, whatever the condition.
            Ok(condition.allows(present, deadline_ms)
                && expire(tx, self.database, key, deadline_ms)?)
        })
    }

    /// Removes expired keys of this database and returns the next cursor, 0 at the end, and the
    /// removed keys. It looks at about `count` keys, at least one, from `cursor` on, which is 0 at
    /// the start. Any number is a valid cursor.
    ///
    /// The call is optional: reads do not see expired keys, and compaction drops them. It frees the
    /// memory of their index entries earlier, and writes a record for each of them.
    ///
    /// # Errors
    ///
    /// The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ManualClock, SetOptions};
    /// use std::time::Duration;
    /// let clock = ManualClock::new(1_000);
    /// let db = Db::options().clock(clock.clone()).open_in_memory()?;
    /// db.set_with("k", "v", SetOptions::new().ttl(Duration::from_secs(1)))?;
    /// clock.advance(Duration::from_secs(1));
    /// let (cursor, removed) = db.remove_expired(0, 100)?;
    /// assert_eq!((cursor, removed.len()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove_expired(&self, cursor: u64, count: usize) -> Result<(u64, Vec<Value>)> {
        let engine = self.whole_file()?;
        let page = engine.scan_keys(self.database, cursor, count.max(1))?;
        if page.expired.is_empty() {
            return Ok((page.cursor, Vec::new()));
        }
        let removed = self.write(|tx| {
            let mut removed = Vec::new();
            for key in page.expired {
                // It may have been set meanwhile.
                if tx.key(self.database, &key)? == KeyState::Absent {
                    tx.delete(self.database, &key)?;
                    removed.push(key);
                }
            }
            Ok(removed)
        })?;
        Ok((page.cursor, removed))
    }

    /// Removes the key's deadline. Returns whether it had one.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// use std::time::Duration;
    /// db.set("a", "1")?;
    /// db.expire("a", Duration::from_secs(60))?;
    /// assert!(db.persist("a")?);
    /// assert_eq!(db.ttl("a")?, brasa::Ttl::Persistent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of every write, see [`Db::set`].
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.write(|tx| {
            let had_deadline = tx.key(self.database, key)?.deadline_ms().is_some();
            Ok(had_deadline && tx.expire(self.database, key, 0)?)
        })
    }

    /// Returns the remaining life of a key.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, Ttl};
    /// let db = Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert_eq!(db.ttl("k")?, Ttl::Persistent);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
        Ok(match self.state(key.as_ref())? {
            KeyState::Absent => Ttl::Absent,
            state => match state.deadline_ms() {
                None => Ttl::Persistent,
                Some(deadline_ms) => Ttl::Remaining(Duration::from_millis(
                    deadline_ms.saturating_sub(self.now_ms()),
                )),
            },
        })
    }

    /// Returns the deadline of the key as a time of the system's clock. It is `None` if the key has
    /// no deadline or does not exist; [`Db::ttl`] tells the two apart.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::{Duration, SystemTime};
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert_eq!(db.deadline("k")?, None);
    /// db.expire("k", Duration::from_secs(60))?;
    /// assert!(db.deadline("k")?.unwrap() > SystemTime::now());
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(&self, key: impl AsRef<[u8]>) -> Result<Option<SystemTime>> {
        let deadline_ms = self.deadline_ms(key)?;
        // The largest deadline that a file can hold is within the range of SystemTime.
        Ok(deadline_ms.map(|deadline_ms| UNIX_EPOCH + Duration::from_millis(deadline_ms)))
    }

    /// Returns the deadline of the key in Unix milliseconds; see [`Db::deadline`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// db.expire_at("a", 32_503_680_000_000)?; // in the year 3000
    /// assert_eq!(db.deadline_ms("a")?, Some(32_503_680_000_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a record is damaged.
    pub fn deadline_ms(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>> {
        Ok(self.state(key.as_ref())?.deadline_ms())
    }
}

/// Changes a key's deadline, and deletes a key whose new deadline has passed. Returns whether the key
/// existed.
pub(super) fn expire(
    tx: &mut Transaction,
    database: u8,
    key: &[u8],
    deadline_ms: u64,
) -> Result<bool> {
    if deadline_ms <= tx.now_ms() {
        return tx.delete(database, key);
    }
    tx.expire(database, key, deadline_ms)
}

/// Returns the deadline `ttl` after `now_ms`.
///
/// # Errors
///
/// [`Error::DeadlineOutOfRange`] if it exceeds [`MAX_DEADLINE_MS`].
pub(super) fn deadline_after(now_ms: u64, ttl: Duration) -> Result<u64> {
    let deadline_ms = now_ms.checked_add(duration_ms(ttl));
    storable(deadline_ms.ok_or(Error::DeadlineOutOfRange)?)
}

/// Returns the deadline if a record can store it. The check comes before any lookup, so the answer
/// does not depend on the contents.
///
/// # Errors
///
/// [`Error::DeadlineOutOfRange`] if it exceeds [`MAX_DEADLINE_MS`].
pub(super) fn storable(deadline_ms: u64) -> Result<u64> {
    if deadline_ms > MAX_DEADLINE_MS {
        return Err(Error::DeadlineOutOfRange);
    }
    Ok(deadline_ms)
}

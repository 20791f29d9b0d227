//! Strings: SET, GET and the calls that change a string in place.

use std::cell::Cell;

use crate::engine::{KeyState, Transaction};
use crate::error::check_length;
use crate::limits::MAX_VALUE_BYTES;
use crate::options::{Condition, Expiry};
use crate::{Db, Error, Result, SetOptions, SetOutcome, Value};

use super::expiry::{TtlChange, deadline_after, expire, storable};
use super::numbers::parse_integer;

impl Db {
    /// Sets the string at `key`, without a deadline. Replaces a value of any type.
    ///
    /// # Errors
    ///
    /// The errors of every write: [`Error::TooLarge`], [`Error::DiskFull`], [`Error::OverBudget`],
    /// [`Error::Locked`], [`Error::ReadOnly`], [`Error::Removed`], [`Error::Forked`],
    /// [`Error::Reentered`], [`Error::Poisoned`] and [`Error::Io`]. After each of them nothing has
    /// changed, with one exception: under [`Durability::Always`](crate::Durability::Always), if the
    /// sync failed or could not begin, the write may still appear later.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// assert_eq!(db.get("chave_1")?.unwrap(), b"Relou Uourdi");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.set_blindly(key.as_ref(), value.as_ref())
    }

    /// Sets the string at `key` with a TTL, a condition, or both, like SET in Redis.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if [`SetOptions::return_previous`] meets a hash.
    /// - [`Error::DeadlineOutOfRange`] for a deadline that cannot be stored.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// use std::time::Duration;
    ///
    /// let db = Db::in_memory()?;
    /// db.set_with("row:7", "3.21", SetOptions::new().ttl(Duration::from_secs(10)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if options.is_blind() && !options.return_previous {
            self.set_blindly(key, value)?;
            return Ok(SetOutcome {
                written: true,
                previous: None,
            });
        }
        self.write(|tx| set_with(tx, self.database, key, value, options))
    }

    /// Returns the string at `key`; `None` for a missing key.
    ///
    /// The value is not copied. It points into the mapped file, and stays valid as long as it is
    /// kept.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - [`Error::Corrupt`] if the record is damaged, with
    ///   [`Options::verify_on_read`](crate::Options::verify_on_read).
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert!(db.get("nobody")?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        self.read(
            |tx| Ok(tx.string(self.database, key)?.map(|string| string.value)),
            |engine| engine.string(self.database, key),
        )
    }

    /// Returns the string like [`Db::get`]. Stores in `judged_ms` the time with which the deadline
    /// was compared, if there is a deadline. Reading the clock is a large part of the cost of a
    /// `get`, so a caller that needs the time takes this one.
    #[inline]
    pub(crate) fn get_and_time(&self, key: &[u8], judged_ms: &Cell<u64>) -> Result<Option<Value>> {
        self.read(
            |tx| Ok(tx.string(self.database, key)?.map(|string| string.value)),
            |engine| engine.string_and_time(self.database, key, judged_ms),
        )
    }

    /// Returns the strings at several keys, as of one moment, like MGET in Redis. A key that is
    /// missing or holds a hash gives `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// let values = db.get_many(&["a", "b"])?;
    /// assert!(values[0].is_some() && values[1].is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.read(
            |tx| tx.strings(self.database, keys),
            |engine| engine.strings(self.database, keys),
        )
    }

    /// Returns the string at `key` and removes it in the same step (GETDEL).
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("once", "v")?;
    /// assert_eq!(db.get_del("once")?.unwrap(), "v");
    /// assert_eq!(db.get_del("once")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_del(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let key = key.as_ref();
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            if found.is_some() {
                tx.delete(self.database, key)?;
            }
            Ok(found.map(|found| found.value))
        })
    }

    /// Returns the string at `key` and changes its deadline in the same step (GETEX).
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - [`Error::DeadlineOutOfRange`] for a deadline that cannot be stored.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, TtlChange};
    /// use std::time::Duration;
    /// let db = Db::in_memory()?;
    /// db.set("session", "x")?;
    /// // Each visit extends the session by half an hour.
    /// db.get_ex("session", TtlChange::After(Duration::from_secs(1800)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_ex(&self, key: impl AsRef<[u8]>, change: TtlChange) -> Result<Option<Value>> {
        let key = key.as_ref();
        if change == TtlChange::Keep {
            return self.get(key);
        }
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            if let Some(found) = &found {
                match change.deadline_ms(tx.now_ms())? {
                    None if found.deadline_ms == 0 => {}
                    None => _ = tx.expire(self.database, key, 0)?,
                    Some(deadline_ms) => _ = expire(tx, self.database, key, deadline_ms)?,
                }
            }
            Ok(found.map(|found| found.value))
        })
    }

    /// Sets the strings at several keys in one commit, without deadlines, if none of the keys
    /// exists (MSETNX). Returns whether they were set. For MSET, see [`Db::batch`].
    ///
    /// # Errors
    ///
    /// The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert!(db.set_many_if_absent(&[("a", "1"), ("b", "2")])?);
    /// assert!(!db.set_many_if_absent(&[("b", "3"), ("c", "4")])?);
    /// assert!(!db.exists("c")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_many_if_absent<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        strings: &[(K, V)],
    ) -> Result<bool> {
        self.write(|tx| {
            for (key, _) in strings {
                if tx.key(self.database, key.as_ref())? != KeyState::Absent {
                    return Ok(false);
                }
            }
            for (key, value) in strings {
                tx.set(self.database, key.as_ref(), value.as_ref(), 0)?;
            }
            Ok(true)
        })
    }

    /// Returns the bytes of the string at `key` from `start` to `end`, both included (GETRANGE).
    /// Negative numbers count from the end: -1 is the last byte. Bytes outside of the string are
    /// omitted. The result is empty for a missing key.
    ///
    /// # Errors
    ///
    /// Those of [`Db::get`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// assert_eq!(db.get_range("chave_1", 0, 4)?, b"Relou");
    /// assert_eq!(db.get_range("chave_1", -6, -1)?, b"Uourdi");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_range(&self, key: impl AsRef<[u8]>, start: i64, end: i64) -> Result<Vec<u8>> {
        let Some(value) = self.get(key)? else {
            return Ok(Vec::new());
        };
        let range = byte_range(value.len(), start, end);
        Ok(range.map_or_else(Vec::new, |range| value[range].to_vec()))
    }

    /// Overwrites bytes of the string at `key` from `offset` on, and keeps its deadline (SETRANGE).
    /// A gap behind a shorter string is filled with zeros. Returns the new length. Empty `bytes`
    /// change nothing.
    ///
    /// The call writes the whole new string.
    ///
    /// # Errors
    ///
    /// - [`Error::TooLarge`] if the string would exceed [`MAX_VALUE_BYTES`].
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "Hello World")?;
    /// assert_eq!(db.set_range("k", 6, "brasa")?, 11);
    /// assert_eq!(db.get("k")?.unwrap(), "Hello brasa");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_range(
        &self,
        key: impl AsRef<[u8]>,
        offset: u64,
        bytes: impl AsRef<[u8]>,
    ) -> Result<u64> {
        let (key, bytes) = (key.as_ref(), bytes.as_ref());
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            let deadline_ms = found.as_ref().map_or(0, |found| found.deadline_ms);
            let old = found.as_ref().map_or(&[][..], |found| &found.value);
            if bytes.is_empty() {
                return Ok(old.len() as u64);
            }
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(bytes.len());
            check_length("a value", end, MAX_VALUE_BYTES)?;
            let mut new = old.to_vec();
            new.resize(new.len().max(end), 0);
            new[start..end].copy_from_slice(bytes);
            tx.set(self.database, key, &new, deadline_ms)?;
            Ok(new.len() as u64)
        })
    }

    /// Returns the length of the string at `key` in bytes; 0 for a missing key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "four")?;
    /// assert_eq!(db.strlen("a")?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::get`].
    pub fn strlen(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        Ok(self.get(key)?.map_or(0, |value| value.len() as u64))
    }

    /// Appends to the string at `key`, and keeps its deadline. Creates a missing key. Returns the
    /// new length in bytes.
    ///
    /// The call writes the whole new string, so many appends to a large string are slow.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("greeting", "Relou")?;
    /// assert_eq!(db.append("greeting", " Uourdi")?, 12);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append(&self, key: impl AsRef<[u8]>, suffix: impl AsRef<[u8]>) -> Result<u64> {
        let (key, suffix) = (key.as_ref(), suffix.as_ref());
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            let (old, deadline_ms) = match &found {
                Some(string) => (&*string.value, string.deadline_ms),
                None => (&[][..], 0),
            };
            let length = old.len().saturating_add(suffix.len());
            check_length("a value", length, MAX_VALUE_BYTES)?;
            tx.set(self.database, key, &[old, suffix].concat(), deadline_ms)?;
            Ok(length as u64)
        })
    }

    /// Replaces the string at `key` by the result of `change`, and returns the new string. The deadline
    /// is kept.
    ///
    /// `change` gets the old string, or `None` for a missing key. A result of `None` deletes the key. No
    /// other thread or process writes between the read and the write. Other writers wait while `change`
    /// runs, so it should be quick. It must not write to the same file. [`Db::transaction`] has a table
    /// of when to use which call.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - [`Error::Reentered`], from the inner write, if `change` writes to the same file.
    /// - Those of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("best", "7")?;
    /// let best = db.update("best", |old| match old {
    ///     Some(old) if *old >= *b"5".as_slice() => Some(old.to_vec()),
    ///     _ => Some(b"5".to_vec()),
    /// })?;
    /// assert_eq!(best.unwrap(), b"7");
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            let deadline_ms = found.as_ref().map_or(0, |string| string.deadline_ms);
            let new = change(found.as_ref().map(|string| &*string.value));
            match &new {
                Some(value) => tx.set(self.database, key, value, deadline_ms)?,
                None => _ = tx.delete(self.database, key)?,
            }
            Ok(new)
        })
    }

    /// Adds `increment` to the decimal integer at `key`, and keeps its deadline. A missing key
    /// counts as 0. Returns the sum.
    ///
    /// # Errors
    ///
    /// - [`Error::NotAnInteger`] if the string is no decimal 64-bit integer.
    /// - [`Error::Overflow`] if the sum is none.
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.incr_by("visits", 1)?, 1);
    /// assert_eq!(db.incr_by("visits", -3)?, -2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn incr_by(&self, key: impl AsRef<[u8]>, increment: i64) -> Result<i64> {
        let key = key.as_ref();
        self.write(|tx| {
            let (current, deadline_ms) = match tx.string(self.database, key)? {
                Some(string) => (
                    parse_integer(&string.value).ok_or(Error::NotAnInteger)?,
                    string.deadline_ms,
                ),
                None => (0, 0),
            };
            let sum = current.checked_add(increment).ok_or(Error::Overflow)?;
            tx.set(self.database, key, sum.to_string().as_bytes(), deadline_ms)?;
            Ok(sum)
        })
    }
}

/// Returns the bytes from `start` to `end`, both included; negative numbers count from the end.
/// `None` if there are none.
pub(crate) fn byte_range(len: usize, start: i64, end: i64) -> Option<std::ops::Range<usize>> {
    let len = i64::try_from(len).ok()?;
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let from_start = |at: i64| {
        if at < 0 {
            len.saturating_add(at).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if len == 0 || start > end {
        return None;
    }
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()? + 1)
}

/// Does the work of [`Db::set_with`] within a transaction.
pub(super) fn set_with(
    tx: &mut Transaction,
    database: u8,
    key: &[u8],
    value: &[u8],
    options: SetOptions,
) -> Result<SetOutcome> {
    let new_deadline_ms = match options.expiry {
        Expiry::None | Expiry::Keep => None,
        Expiry::After(ttl) => Some(deadline_after(tx.now_ms(), ttl)?),
        Expiry::At(deadline_ms) => Some(storable(deadline_ms)?),
    };
    let previous = if options.return_previous {
        tx.string(database, key)?.map(|string| string.value)
    } else {
        None
    };
    if options.is_blind() {
        tx.set(database, key, value, 0)?;
        return Ok(SetOutcome {
            written: true,
            previous,
        });
    }
    let now_ms = tx.now_ms();
    let state = tx.key(database, key)?;
    let allowed = match options.condition {
        Condition::Always => true,
        Condition::Absent => state == KeyState::Absent,
        Condition::Present => state != KeyState::Absent,
    };
    if !allowed {
        return Ok(SetOutcome {
            written: false,
            previous,
        });
    }
    let deadline_ms = match options.expiry {
        Expiry::Keep => state.deadline_ms(),
        _ => new_deadline_ms,
    };
    match deadline_ms {
        Some(deadline_ms) if deadline_ms <= now_ms => {
            tx.delete(database, key)?;
        }
        deadline_ms => tx.set(database, key, value, deadline_ms.unwrap_or(0))?,
    }
    Ok(SetOutcome {
        written: true,
        previous,
    })
}

//! Deadlines of fields, as in Redis since 7.4: HEXPIRE and related commands, and HGETEX, HSETEX and
//! HGETDEL of 8.0.

use std::time::Duration;

use super::expiry::{deadline_after, storable};
use crate::engine::{Dated, KeyState, Transaction};
use crate::options::{Condition, Expiry};
use crate::{Db, Error, ExpireCondition, Result, SetOptions, Ttl, TtlChange, Value};

/// The outcome of setting a deadline of a field; from [`Db::hexpire_at_if`]. The enum is exhaustive:
/// Redis has no other answer.
///
/// [`Db::hexpire`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldExpiry {
    /// The field or the key does not exist (-2 in Redis).
    Absent,
    /// The condition was not met (0).
    NotMet,
    /// The deadline was set (1).
    Set,
    /// The deadline is in the past, so the field was deleted (2).
    Deleted,
}

impl Db {
    /// Sets the TTL of a field. A duration of zero deletes the field, and the hash with its last
    /// field.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hexpire_at_if`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, FieldExpiry};
    /// use std::time::Duration;
    /// let db = Db::in_memory()?;
    /// db.hset("session", "token", "x")?;
    /// assert_eq!(db.hexpire("session", "token", Duration::from_secs(60))?, FieldExpiry::Set);
    /// assert_eq!(db.hexpire("session", "nobody", Duration::from_secs(60))?, FieldExpiry::Absent);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hexpire(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<FieldExpiry> {
        let (key, field) = (key.as_ref(), field.as_ref());
        self.write(|tx| {
            let deadline_ms = deadline_after(tx.now_ms(), ttl)?;
            expire_field(
                tx,
                self.database,
                (key, field),
                deadline_ms,
                ExpireCondition::Always,
            )
        })
    }

    /// Sets the deadlines of several fields in one commit, in Unix milliseconds, if their present
    /// deadlines meet `condition`. A deadline in the past deletes the field.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a string.
    /// - [`Error::DeadlineOutOfRange`] if the deadline cannot be stored.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ExpireCondition, FieldExpiry};
    /// let db = Db::in_memory()?;
    /// db.hset("h", "f", "v")?;
    /// let year_2100_ms = 4_102_444_800_000;
    /// let done = db.hexpire_at_if("h", &["f", "g"], year_2100_ms, ExpireCondition::Persistent)?;
    /// assert_eq!(done, [FieldExpiry::Set, FieldExpiry::Absent]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hexpire_at_if<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
        deadline_ms: u64,
        condition: ExpireCondition,
    ) -> Result<Vec<FieldExpiry>> {
        let key = key.as_ref();
        self.write(|tx| {
            let deadline_ms = storable(deadline_ms)?;
            let fields = fields.iter().map(AsRef::as_ref);
            fields
                .map(|field| expire_field(tx, self.database, (key, field), deadline_ms, condition))
                .collect()
        })
    }

    /// Returns the remaining life of a field.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, Ttl};
    /// let db = Db::in_memory()?;
    /// db.hset("h", "f", "v")?;
    /// assert_eq!(db.httl("h", "f")?, Ttl::Persistent);
    /// # Ok(())
    /// # }
    /// ```
    pub fn httl(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<Ttl> {
        let deadlines = self.field_deadlines_ms(key, &[field])?;
        Ok(match deadlines.first().copied().flatten() {
            None => Ttl::Absent,
            Some(None) => Ttl::Persistent,
            Some(Some(deadline_ms)) => Ttl::Remaining(Duration::from_millis(
                deadline_ms.saturating_sub(self.now_ms()),
            )),
        })
    }

    /// Returns the deadlines of several fields in Unix milliseconds, as of one moment. A field
    /// without a deadline gives `None`, and so does a field that does not exist; [`Db::httl`] tells
    /// the two apart.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a string.
    /// - [`Error::Corrupt`] if a record is damaged.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// let db = Db::in_memory()?;
    /// let year_2100_ms = 4_102_444_800_000;
    /// db.hset("session", "user", "thailan")?;
    /// db.hset_with("session", &[("token", "x")], SetOptions::new().deadline_ms(year_2100_ms))?;
    /// assert_eq!(db.hdeadlines_ms("session", &["token", "user"])?, [Some(year_2100_ms), None]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hdeadlines_ms<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Vec<Option<u64>>> {
        let deadlines = self.field_deadlines_ms(key, fields)?;
        Ok(deadlines.into_iter().map(Option::flatten).collect())
    }

    /// Like [`Db::hdeadlines_ms`], with `None` for an absent field and `Some(None)` for a field
    /// without a deadline.
    pub(crate) fn field_deadlines_ms<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Vec<Option<Option<u64>>>> {
        let found = self.some_fields(key.as_ref(), fields)?.into_iter();
        let deadline_ms = |found: Dated| (found.deadline_ms != 0).then_some(found.deadline_ms);
        Ok(found.map(|found| found.map(deadline_ms)).collect())
    }

    /// Removes the deadlines of several fields in one commit. Returns for each whether it had one, or
    /// `None` if the field does not exist.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// use std::time::Duration;
    /// db.hset("user:7", "token", "5f1c")?;
    /// db.hexpire("user:7", "token", Duration::from_secs(60))?;
    /// assert_eq!(db.hpersist("user:7", &["token", "age"])?, [Some(true), None]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a string.
    /// - The errors of every write, see [`Db::set`].
    pub fn hpersist<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Vec<Option<bool>>> {
        let key = key.as_ref();
        self.write(|tx| {
            let mut done = Vec::with_capacity(fields.len());
            for field in fields {
                let found = tx.field(self.database, key, field.as_ref())?;
                let had_deadline = found.map(|found| found.deadline_ms != 0);
                if had_deadline == Some(true) {
                    tx.field_expire(self.database, key, field.as_ref(), 0)?;
                }
                done.push(had_deadline);
            }
            Ok(done)
        })
    }

    /// Returns the values of several fields and changes their deadlines in the same step (HGETEX).
    ///
    /// # Errors
    ///
    /// Those of [`Db::hexpire_at_if`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, Ttl, TtlChange};
    /// use std::time::Duration;
    /// let db = Db::in_memory()?;
    /// db.hset("h", "f", "v")?;
    /// let values = db.hget_ex("h", &["f"], TtlChange::After(Duration::from_secs(10)))?;
    /// assert_eq!(values[0].as_ref().unwrap(), "v");
    /// assert!(matches!(db.httl("h", "f")?, Ttl::Remaining(_)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hget_ex<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
        change: TtlChange,
    ) -> Result<Vec<Option<Value>>> {
        let key = key.as_ref();
        if change == TtlChange::Keep {
            return self.hget_many(key, fields);
        }
        self.write(|tx| {
            let deadline_ms = change.deadline_ms(tx.now_ms())?;
            let mut values = Vec::with_capacity(fields.len());
            for field in fields.iter().map(AsRef::as_ref) {
                let found = tx.field(self.database, key, field)?;
                if let Some(found) = &found {
                    match deadline_ms {
                        None if found.deadline_ms == 0 => {}
                        None => _ = tx.field_expire(self.database, key, field, 0)?,
                        Some(deadline_ms) => {
                            let always = ExpireCondition::Always;
                            expire_field(tx, self.database, (key, field), deadline_ms, always)?;
                        }
                    }
                }
                values.push(found.map(|found| found.value));
            }
            Ok(values)
        })
    }

    /// Returns the values of several fields and removes the fields in the same step (HGETDEL). A hash
    /// without fields is removed.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hdel`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("h", "f", "v")?;
    /// assert_eq!(db.hget_del("h", &["f"])?[0].as_ref().unwrap(), "v");
    /// assert!(!db.exists("h")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hget_del<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Vec<Option<Value>>> {
        let key = key.as_ref();
        self.write(|tx| {
            let mut values = Vec::with_capacity(fields.len());
            for field in fields.iter().map(AsRef::as_ref) {
                let found = tx.field(self.database, key, field)?;
                if found.is_some() {
                    tx.hash_delete(self.database, key, field)?;
                }
                values.push(found.map(|found| found.value));
            }
            Ok(values)
        })
    }

    /// Sets several fields, all or none, with one deadline, on a condition about all of them, or both
    /// (HSETEX). Returns whether they were set.
    ///
    /// With [`SetOptions::only_if_absent`] none of the fields may exist, with
    /// [`SetOptions::only_if_present`] all of them must. [`SetOptions::keep_ttl`] keeps the
    /// deadline of each field. [`SetOptions::return_previous`] has no effect. A deadline in the
    /// past deletes the fields.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hexpire_at_if`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// use std::time::Duration;
    /// let db = Db::in_memory()?;
    /// let options = SetOptions::new().ttl(Duration::from_secs(10)).only_if_absent();
    /// assert!(db.hset_with("session", &[("token", "x")], options)?);
    /// assert!(!db.hset_with("session", &[("token", "y")], options)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hset_with<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[(F, V)],
        options: SetOptions,
    ) -> Result<bool> {
        let key = key.as_ref();
        self.write(|tx| {
            let now_ms = tx.now_ms();
            let new_deadline_ms = match options.expiry {
                Expiry::None | Expiry::Keep => None,
                Expiry::After(ttl) => Some(deadline_after(now_ms, ttl)?),
                Expiry::At(deadline_ms) => Some(storable(deadline_ms)?),
            };
            if let KeyState::String { .. } = tx.key(self.database, key)? {
                return Err(Error::WrongType);
            }
            for (field, _) in fields {
                let is_there = tx.field(self.database, key, field.as_ref())?.is_some();
                match options.condition {
                    Condition::Absent if is_there => return Ok(false),
                    Condition::Present if !is_there => return Ok(false),
                    _ => {}
                }
            }
            for (field, value) in fields {
                let (field, value) = (field.as_ref(), value.as_ref());
                let deadline_ms = match options.expiry {
                    Expiry::Keep => {
                        let found = tx.field(self.database, key, field)?;
                        let kept_ms = found.map_or(0, |found| found.deadline_ms);
                        (kept_ms != 0).then_some(kept_ms)
                    }
                    _ => new_deadline_ms,
                };
                match deadline_ms {
                    Some(deadline_ms) if deadline_ms <= now_ms => {
                        tx.hash_delete(self.database, key, field)?;
                    }
                    deadline_ms => {
                        let deadline_ms = deadline_ms.unwrap_or(0);
                        tx.hash_set(self.database, key, field, value, deadline_ms)?;
                    }
                }
            }
            Ok(true)
        })
    }
}

/// Changes the deadline of a field if its present deadline meets the condition. Deletes the field
/// if the new deadline is in the past.
fn expire_field(
    tx: &mut Transaction,
    database: u8,
    (key, field): (&[u8], &[u8]),
    deadline_ms: u64,
    condition: ExpireCondition,
) -> Result<FieldExpiry> {
    let Some(found) = tx.field(database, key, field)? else {
        return Ok(FieldExpiry::Absent);
    };
    let present = (found.deadline_ms != 0).then_some(found.deadline_ms);
    if !condition.allows(present, deadline_ms) {
        return Ok(FieldExpiry::NotMet);
    }
    if deadline_ms <= tx.now_ms() {
        tx.hash_delete(database, key, field)?;
        return Ok(FieldExpiry::Deleted);
    }
    tx.field_expire(database, key, field, deadline_ms)?;
    Ok(FieldExpiry::Set)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::FieldExpiry;
    use crate::{Db, ExpireCondition, ManualClock, Result, Ttl};

    #[test]
    fn a_field_is_gone_at_its_deadline_and_the_hash_with_its_last() -> Result<()> {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock.clone()).open_in_memory()?;
        db.hset_many("h", &[("a", "1"), ("b", "2")])?;
        db.hexpire("h", "a", Duration::from_millis(10))?;
        assert_eq!(
            db.httl("h", "a")?,
            Ttl::Remaining(Duration::from_millis(10))
        );
        assert_eq!(db.httl("h", "b")?, Ttl::Persistent);
        assert_eq!(db.httl("h", "c")?, Ttl::Absent);
        clock.advance(Duration::from_millis(10));
        assert_eq!(db.hget("h", "a")?, None);
        assert_eq!((db.hlen("h")?, db.hkeys("h")?.len()), (1, 1));
        db.hexpire("h", "b", Duration::from_millis(10))?;
        clock.advance(Duration::from_millis(10));
        assert!(!db.exists("h")?);
        // It is another hash, without what was there.
        db.hset("h", "c", "3")?;
        assert_eq!(db.hkeys("h")?, ["c"]);
        Ok(())
    }

    #[test]
    fn setting_and_deleting_a_field_ends_its_deadline_and_counting_keeps_it() -> Result<()> {
        let db = Db::in_memory()?;
        db.hset_many("h", &[("a", "1"), ("b", "2")])?;
        for field in ["a", "b"] {
            db.hexpire("h", field, Duration::from_secs(100))?;
        }
        db.hincr_by("h", "a", 1)?;
        assert!(matches!(db.httl("h", "a")?, Ttl::Remaining(_)));
        db.hset("h", "a", "7")?;
        assert_eq!(db.httl("h", "a")?, Ttl::Persistent);
        db.hdel("h", "b")?;
        db.hset("h", "b", "7")?;
        assert_eq!(db.httl("h", "b")?, Ttl::Persistent);
        Ok(())
    }

    #[test]
    fn what_a_condition_does_not_allow_is_said_field_by_field() -> Result<()> {
        let db = Db::options()
            .clock(ManualClock::new(1_000))
            .open_in_memory()?;
        db.hset_many("h", &[("a", "1"), ("b", "2")])?;
        let expire = |field: &str, deadline_ms, condition| {
            let done = db.hexpire_at_if("h", &[field], deadline_ms, condition)?;
            Ok::<_, crate::Error>(done[0])
        };
        use ExpireCondition::{Always, Earlier, Expiring, Later, Persistent};
        assert_eq!(expire("a", 5_000, Expiring)?, FieldExpiry::NotMet);
        assert_eq!(expire("a", 5_000, Later)?, FieldExpiry::NotMet);
        assert_eq!(expire("a", 5_000, Persistent)?, FieldExpiry::Set);
        assert_eq!(expire("a", 6_000, Persistent)?, FieldExpiry::NotMet);
        assert_eq!(expire("a", 6_000, Earlier)?, FieldExpiry::NotMet);
        assert_eq!(expire("a", 6_000, Later)?, FieldExpiry::Set);
        assert_eq!(expire("a", 0, Later)?, FieldExpiry::NotMet);
        assert_eq!(expire("a", 0, Always)?, FieldExpiry::Deleted);
        assert_eq!(expire("a", 0, Always)?, FieldExpiry::Absent);
        assert_eq!(db.hpersist("h", &["a", "b"])?, [None, Some(false)]);
        Ok(())
    }
}

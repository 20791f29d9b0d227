//! Looking a value up, and judging the entry: a miss, fresh, stale, due early, or a failure.
//!
//! Invariant: a lookup writes nothing and, in a file, never blocks.

use std::cell::Cell;

use super::entry::{Entry, FIXED_BYTES, ValueKind};
use super::keys::{Name, tag_name};
use super::stats::count;
use super::store::parse_stamp;
use super::{Cache, CacheValue, early};
use crate::{Error, Result, Value};

/// The result of a lookup.
pub(super) enum Look<T> {
    /// A fresh value.
    Fresh(T),
    /// A value that a caller should compute again.
    Due(Due<T>),
    /// The message of a remembered failure.
    Failed(String),
    Miss,
}

pub(super) struct Due<T> {
    pub(super) value: T,
    /// Whether the value is stale; otherwise it is due early.
    pub(super) is_stale: bool,
    /// The time at which the value was stored. A caller that later finds another time knows that
    /// the value was replaced.
    pub(super) stored_at_ms: u64,
}

/// The judgement on an entry, with the offset of its value.
enum Verdict {
    Miss,
    Failed {
        value_at: usize,
    },
    Fresh {
        value_at: usize,
    },
    Due {
        value_at: usize,
        is_stale: bool,
        stored_at_ms: u64,
    },
}

impl Cache {
    /// Returns the value of a key, fresh or stale.
    ///
    /// Returns `None` if there is no value, or if it is expired, of another type or version, or has
    /// an invalidated tag. A remembered failure is `None` as well.
    ///
    /// # Errors
    ///
    /// Those of [`Db::get`](crate::Db::get), or [`Error::Remote`], only from a strict cache. In any
    /// other cache an error counts as a miss.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("pi", &b"3.21".to_vec())?;
    /// let bytes: Option<brasa::Value> = cache.get("pi")?; // in the mapped file, not a copy
    /// assert_eq!(bytes.unwrap(), b"3.21");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get<T: CacheValue>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        let name = Name::of_value(&self.inner.prefix, key.as_ref());
        let counters = &self.inner.counters;
        let mut other = Look::Miss;
        if let Some(value) = self.fresh(name.bytes(), &mut other)? {
            counters.hit();
            return Ok(Some(value));
        }
        Ok(match other {
            Look::Due(due) => {
                self.count_hit(&due);
                Some(due.value)
            }
            Look::Failed(_) => {
                count(&counters.failure_hits);
                None
            }
            _ => {
                count(&counters.misses);
                None
            }
        })
    }

    pub(super) fn count_hit<T>(&self, due: &Due<T>) {
        match due.is_stale {
            true => self.inner.counters.stale_hit(),
            false => self.inner.counters.hit(),
        }
    }

    /// Looks a value up by its name in the store.
    pub(super) fn look<T: CacheValue>(&self, name: &[u8]) -> Result<Look<T>> {
        let mut other = Look::Miss;
        Ok(match self.fresh(name, &mut other)? {
            Some(value) => Look::Fresh(value),
            None => other,
        })
    }

    /// Judges the bytes of an entry that is not in the store.
    pub(super) fn look_into<T: CacheValue>(&self, bytes: Value) -> Result<Look<T>> {
        let mut other = Look::Miss;
        Ok(match self.judge(bytes, 0, &mut other)? {
            Some(value) => Look::Fresh(value),
            None => other,
        })
    }

    /// Returns a value by its name if it is fresh; otherwise stores the result of the lookup in
    /// `other`.
    ///
    /// The results are apart for speed: a hit would pay for moving the larger type.
    #[inline]
    pub(super) fn fresh<T: CacheValue>(
        &self,
        name: &[u8],
        other: &mut Look<T>,
    ) -> Result<Option<T>> {
        let now_ms = Cell::new(0);
        match self.inner.store.get_and_time(name, &now_ms) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => self.judge(bytes, now_ms.get(), other),
            // A hash under the name is not an entry.
            Err(Error::WrongType) => Ok(None),
            Err(error) => self.inner.forgive(Err(error), None),
        }
    }

    /// Like [`Cache::fresh`], for the bytes of an entry. A time of 0 has not been read yet.
    #[inline]
    pub(super) fn judge<T: CacheValue>(
        &self,
        mut bytes: Value,
        now_ms: u64,
        other: &mut Look<T>,
    ) -> Result<Option<T>> {
        match self.verdict(&bytes, T::kind(), now_ms)? {
            Verdict::Miss => {}
            Verdict::Fresh { value_at } => {
                bytes.skip(value_at);
                return Ok(T::decode(bytes));
            }
            Verdict::Failed { value_at } => {
                bytes.skip(value_at);
                *other = Look::Failed(String::from_utf8_lossy(&bytes).into_owned());
            }
            Verdict::Due {
                value_at,
                is_stale,
                stored_at_ms,
            } => {
                bytes.skip(value_at);
                if let Some(value) = T::decode(bytes) {
                    *other = Look::Due(Due {
                        value,
                        is_stale,
                        stored_at_ms,
                    });
                }
            }
        }
        Ok(None)
    }

    fn verdict(&self, bytes: &[u8], kind: ValueKind, now_ms: u64) -> Result<Verdict> {
        let Some(entry) = Entry::read(bytes) else {
            return Ok(Verdict::Miss);
        };
        let value_at = entry.value_at;
        let is_tagged = value_at > FIXED_BYTES;
        if entry.version != self.settings.version || (is_tagged && !self.tags_hold(&entry)?) {
            return Ok(Verdict::Miss);
        }
        if entry.is_failure {
            return Ok(Verdict::Failed { value_at });
        }
        if entry.kind != kind {
            return Ok(Verdict::Miss);
        }
        Ok(match self.age(&entry, now_ms) {
            (false, false) => Verdict::Fresh { value_at },
            (is_stale, _) => Verdict::Due {
                value_at,
                is_stale,
                stored_at_ms: entry.stored_at_ms,
            },
        })
    }

    /// Returns whether an entry is stale, and whether a fresh one should be computed again early.
    fn age(&self, entry: &Entry<'_>, now_ms: u64) -> (bool, bool) {
        if entry.soft_deadline_ms == 0 {
            return (false, false);
        }
        let now_ms = match now_ms {
            0 => self.inner.store.now_ms(),
            now_ms => now_ms,
        };
        let is_stale = now_ms >= entry.soft_deadline_ms;
        let is_early = !is_stale
            && early::is_due_early(
                now_ms,
                entry.soft_deadline_ms,
                entry.computing_us,
                self.settings.beta,
                early::uniform,
            );
        (is_stale, is_early)
    }

    /// Returns whether no tag of an entry was invalidated since its computation began. A missing
    /// stamp counts as changed, since an invalidated one and an evicted one look the same.
    fn tags_hold(&self, entry: &Entry<'_>) -> Result<bool> {
        for (tag, stamp) in entry.tags() {
            let found = self.inner.store.get(&tag_name(&self.inner.namespace, tag));
            let found = self.inner.forgive(found, None)?;
            if found.and_then(|found| parse_stamp(&found)) != Some(stamp) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! Looking a value up, and judging what is there.

use super::entry::{Entry, FIXED_BYTES};
use super::keys::{Name, tag_name};
use super::stats::count;
use super::store::parse_stamp;
use super::{Cache, CacheValue, early};
use crate::{Error, Result, Value};

/// What a look has found.
pub(super) enum Look<T> {
    /// A value, fresh.
    Fresh(T),
    /// A value that somebody should compute anew.
    Due(Due<T>),
    /// The message of a failure that is remembered.
    Failed(String),
    Miss,
}

pub(super) struct Due<T> {
    pub(super) value: T,
    /// Whether its time is up; else it is merely early.
    pub(super) is_stale: bool,
    /// When it was stored: who finds another time later knows that somebody was faster.
    pub(super) stored_at_ms: u64,
}

impl Cache {
    /// The value of a key; `None` where it is missing, gone, of another type or version, or has an invalidated tag. What is stale is given out.
    ///
    /// # Errors
    ///
    /// Those of [`Db::get`](crate::Db::get), or [`Error::Remote`], of a strict cache; else an error is a miss.
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
        Ok(match self.look(name.bytes())? {
            Look::Fresh(value) => {
                counters.hit();
                Some(value)
            }
            Look::Due(due) => {
                self.count_hit(&due);
                Some(due.value)
            }
            Look::Failed(_) => {
                count(&counters.failure_hits);
                None
            }
            Look::Miss => {
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
    #[inline]
    pub(super) fn look<T: CacheValue>(&self, name: &[u8]) -> Result<Look<T>> {
        match self.inner.store.get_and_time(name) {
            Ok(None) => Ok(Look::Miss),
            Ok(Some((bytes, now_ms))) => self.judge(bytes, now_ms),
            // A hash in its place is no entry of ours.
            Err(Error::WrongType) => Ok(Look::Miss),
            Err(error) => self.inner.forgive(Err(error), Look::Miss),
        }
    }

    /// What an entry's bytes are worth to this view now; a time of 0 is one that was not read yet.
    #[inline]
    pub(super) fn judge<T: CacheValue>(&self, bytes: Value, now_ms: u64) -> Result<Look<T>> {
        let Some(entry) = Entry::read(&bytes) else {
            return Ok(Look::Miss);
        };
        let is_tagged = entry.value_at > FIXED_BYTES;
        if entry.version != self.settings.version || (is_tagged && !self.tags_hold(&entry)?) {
            return Ok(Look::Miss);
        }
        let value_at = entry.value_at;
        if entry.is_failure {
            let message = String::from_utf8_lossy(bytes.get(value_at..).unwrap_or_default());
            return Ok(Look::Failed(message.into_owned()));
        }
        if entry.kind != T::kind() {
            return Ok(Look::Miss);
        }
        let (is_stale, is_early) = self.age(&entry, now_ms);
        let stored_at_ms = entry.stored_at_ms;
        Ok(match T::decode(bytes.skip(value_at)) {
            None => Look::Miss,
            Some(value) if is_stale || is_early => Look::Due(Due {
                value,
                is_stale,
                stored_at_ms,
            }),
            Some(value) => Look::Fresh(value),
        })
    }

    /// Whether an entry is stale, and whether it should be computed anew before it is.
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

    /// Whether no tag of an entry was invalidated since its computation began. A stamp that is gone counts as another one: it was
    /// invalidated, or evicted, and nobody can tell.
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

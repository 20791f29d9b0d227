//! Removing the entries of versions that are no longer in use.
//!
//! An entry of another version is a miss, and the next computation of its key overwrites it. Keys
//! that no caller asks for again need a register. It is a hash with a field for each version of the
//! namespace. The field holds the time at which that version last stored a value, to within a day.
//!
//! A handle that finds a version without a value stored for a week removes the entries of that
//! version.
//!
//! Invariant: versions that are in use at the same time, by two programs or by two views of one
//! program, never remove each other's entries.

use super::Cache;
use super::entry::version_of;
use super::keys::{is_value, lease_of, prefix_of_values, versions_name};
use crate::Result;
use crate::sync::thread;

const DAY_MS: u64 = 86_400_000;

/// The time for which a version that stores nothing keeps its entries.
const KEPT_MS: u64 = 7 * DAY_MS;

impl Cache {
    /// Removes every entry of this namespace that has another [version](Cache::version) than this
    /// view, or no version. Returns how many entries it removed.
    ///
    /// It reads every key of the file or server, page by page. Without this call, a background
    /// thread removes the entries of a version that has stored nothing for a week. The thread
    /// starts when another version stores a value.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert_eq!(cache.version("2.1").reclaim()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reclaim(&self) -> Result<u64> {
        let removed = self.remove_versions(|version| version != Some(self.settings.version))?;
        self.inner.reached(removed)
    }

    /// Removes the values of the versions that `goes` selects. An entry of another layout has the
    /// version `None`.
    fn remove_versions(&self, goes: impl Fn(Option<u64>) -> bool) -> Result<u64> {
        let store = &self.inner.store;
        let values = prefix_of_values(&self.inner.namespace, b"");
        let mut removed = 0;
        store.for_pages(&values, &mut |keys| {
            let values: Vec<&[u8]> = keys.iter().copied().filter(|key| is_value(key)).collect();
            removed += store.remove_where(&values, |head| goes(version_of(head)))?;
            Ok(())
        })?;
        Ok(removed)
    }

    /// Updates the register after a value was stored, at most once a day.
    pub(super) fn note_version(&self) {
        let version = self.settings.version;
        if version == 0 {
            return;
        }
        let now_ms = self.inner.store.now_ms();
        let mut noted = self.inner.noted_versions();
        if noted
            .get(&version)
            .is_some_and(|at_ms| now_ms.saturating_sub(*at_ms) < DAY_MS)
        {
            return;
        }
        noted.insert(version, now_ms);
        drop(noted);
        let cache = self.clone();
        // If no thread can be started, old entries stay until they are overwritten, evicted or
        // expired.
        let _ = thread::Builder::new()
            .name("brasa-reclaim".to_owned())
            .spawn(move || {
                if let Err(error) = cache.tend_versions(now_ms) {
                    cache.inner.note(&error);
                }
            });
    }

    /// Enters this view's version into the register, and removes the entries of unused versions.
    fn tend_versions(&self, now_ms: u64) -> Result<()> {
        let store = &self.inner.store;
        let register = versions_name(&self.inner.namespace);
        let own = self.settings.version.to_string();
        let read = |text: &[u8]| str::from_utf8(text).ok()?.parse::<u64>().ok();
        let (mut is_entered, mut stale) = (false, Vec::new());
        for (version, used_ms) in store.fields(&register)? {
            let idle_ms = now_ms.saturating_sub(read(&used_ms).unwrap_or(0));
            if version == own.as_bytes() {
                is_entered = idle_ms < DAY_MS;
            } else if let Some(version) = read(&version).filter(|_| idle_ms > KEPT_MS) {
                stale.push(version);
            }
        }
        if !is_entered {
            store.set_field(&register, own.as_bytes(), now_ms.to_string().as_bytes())?;
        }
        if stale.is_empty() {
            return Ok(());
        }
        let lease = self.inner.keeper.acquire_briefly(&lease_of(&register))?;
        if lease.is_none() {
            return Ok(()); // Another handle does it.
        }
        self.remove_versions(|version| version.is_some_and(|version| stale.contains(&version)))?;
        // The register is changed last, so that another handle continues after a kill.
        let stale: Vec<String> = stale.iter().map(u64::to_string).collect();
        let stale: Vec<&[u8]> = stale.iter().map(String::as_bytes).collect();
        store.remove_fields(&register, &stale)
    }
}

#[cfg(test)]
mod tests {
    use crate::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::Inner;
    use crate::cache::keys::Name;
    use crate::cache::store::Store;
    use crate::{Db, ManualClock};

    const REGISTER: &str = "{cache}:versions";

    fn caches() -> (ManualClock, Db, impl Fn() -> Cache) {
        let clock = ManualClock::new(1_700_000_000_000);
        let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
        let kept = db.clone();
        let open = move || {
            let store = Arc::new(Store::Db(db.clone()));
            Cache::of(Inner::new(store, "cache".to_owned(), true, None))
        };
        (clock, kept, open)
    }

    fn name(key: &str) -> Vec<u8> {
        Name::of_value(b"{cache:", key.as_bytes()).bytes().to_vec()
    }

    fn until(holds: impl Fn() -> bool) {
        let mut looks = (0..10_000).map(|_| thread::sleep(Duration::from_millis(1)));
        assert!(looks.any(|()| holds()), "it is not done");
    }

    #[test]
    fn reclaim_removes_the_entries_of_other_versions_and_nothing_else() {
        let (_, db, open) = caches();
        let (old, new) = (open(), open().version("2"));
        for key in (0..1_000).map(|number| number.to_string()) {
            old.insert(&key, &"old".to_owned()).unwrap();
        }
        db.set(name("of another layout"), "odd").unwrap();
        new.insert("7", &"new".to_owned()).unwrap();
        let others = [
            "{cache:7}:lease",
            "{cache:8}:lease",
            "cache:tag:t",
            "{other:7}",
        ];
        for other in others {
            db.set(other, "x").unwrap();
        }
        db.hset(name("hash"), "f", "1").unwrap();
        assert_eq!(new.reclaim().unwrap(), 999 + 1);
        assert_eq!(new.get::<String>("7").unwrap().as_deref(), Some("new"));
        for other in others {
            assert!(db.exists(other).unwrap(), "{other}");
        }
        assert!(db.exists(name("hash")).unwrap());
        assert_eq!(new.reclaim().unwrap(), 0);
    }

    #[test]
    fn version_that_has_stored_nothing_for_a_week_is_reclaimed_by_another() {
        let (clock, db, open) = caches();
        let day = Duration::from_millis(DAY_MS);
        let (old, other) = (open().version("1"), open().version("of other things"));
        old.insert("k", &"old".to_owned()).unwrap();
        other.insert("kept", &"other".to_owned()).unwrap();
        open().insert("without", &"a version".to_owned()).unwrap();
        until(|| db.hlen(REGISTER).unwrap() == 2);
        clock.advance(4 * day);
        let entered_now = || {
            let register = db.hgetall(REGISTER).unwrap();
            let now = db.now_ms().to_string();
            register.iter().filter(|(_, at)| *at == now).count()
        };
        other.insert("kept", &"again".to_owned()).unwrap();
        until(|| entered_now() == 1);
        let new = open().version("2");
        new.insert("other", &"new".to_owned()).unwrap();
        until(|| entered_now() == 2);
        assert!(db.exists(name("k")).unwrap(), "it may still be in use");
        clock.advance(4 * day);
        open().version("2").insert("x", &"new".to_owned()).unwrap();
        until(|| db.hlen(REGISTER).unwrap() == 2);
        assert!(!db.exists(name("k")).unwrap());
        for kept in ["kept", "without", "other", "x"] {
            assert!(db.exists(name(kept)).unwrap(), "{kept}");
        }
    }

    #[test]
    fn one_handle_reclaims_at_a_time_and_the_register_is_written_once_a_day() {
        let (clock, db, open) = caches();
        let (old, new) = (open().version("1"), open().version("2"));
        old.tend_versions(0).unwrap();
        clock.advance(Duration::from_millis(8 * DAY_MS));
        let now_ms = db.now_ms();
        let lease = new.inner.keeper.acquire(&lease_of(REGISTER.as_bytes()));
        new.tend_versions(now_ms).unwrap();
        assert_eq!(db.hlen(REGISTER).unwrap(), 2, "another handle does it");
        drop(lease);
        new.tend_versions(now_ms).unwrap();
        assert_eq!(db.hlen(REGISTER).unwrap(), 1);
        new.tend_versions(now_ms + 1_000).unwrap();
        let entered = db.hgetall(REGISTER).unwrap().remove(0).1;
        assert_eq!(entered.to_str().unwrap(), now_ms.to_string());
    }
}

//! Reads the log as it grows: the changes of all processes, in order, across compactions.
//!
//! A *position* in the log survives compactions (see [`crate::docs::format`]). A watch that has
//! read the old file to its end continues at the first record of the new one that is not a copy. A
//! watch that is further behind has missed commits: a gap.
//!
//! A [`Place`] keeps its file, with index, mapping and descriptor, even after a compaction has
//! replaced it. A [`TrackedWatch`] does not: the handle reads the rest for it when it follows the
//! compaction.

use super::{Engine, Generation};
use crate::Result;
use crate::record::{self, HEADER_BYTES, Kind};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Length of a *moved* record. Its value is the number of the new generation.
const MOVED_BYTES: u64 = HEADER_BYTES as u64 + 8;

/// Where a reader of changes stands.
pub(crate) struct Place {
    generation: Arc<Generation>,
    offset: u64,
    /// Something was missed, and the reader does not know yet.
    has_gap: bool,
}

/// How many changes are read for all tracked watches together when a compaction is followed: others may be waiting to write.
/// Watches that are further behind get a gap.
const MAX_TRACKED_CHANGES: usize = 1 << 18;

/// Receives the changes of a [`TrackedWatch`].
pub(crate) trait Observer: Send {
    /// Takes a change; returns whether it wants more.
    fn observe(&mut self, change: &Change) -> bool;
}

/// A watch that keeps no replaced file.
pub(crate) struct TrackedWatch<O: Observer + 'static> {
    state: Arc<Mutex<Tracked<O>>>,
}

/// The position of a tracked watch, and the receiver of its changes. It owns no handle, since the
/// engine may be the last to drop it.
pub(super) struct Tracked<O: ?Sized> {
    /// `None` once the observer wants no more.
    place: Option<Place>,
    observer: O,
}

/// What the engine keeps of the watches that it tracks.
pub(super) type TrackedWatches = Mutex<Vec<WeakWatch>>;

type WeakWatch = Weak<Mutex<Tracked<dyn Observer>>>;

/// The kind of a change; from [`Watch`](crate::Watch).
///
/// [`Watch`](crate::Watch) has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A string was set.
    Set,
    /// A key was removed.
    Delete,
    /// A deadline of a key was set or removed.
    Expire,
    /// A field was set.
    HashSet,
    /// A field was removed.
    HashDelete,
    /// A deadline of a field was set or removed.
    FieldExpire,
    /// A database was emptied.
    Clear,
    /// Two databases were swapped.
    SwapDatabases,
    /// Changes were missed: a compaction dropped them before they were read. A program that keeps a
    /// copy of the data must read it again.
    Gap,
}

/// One change; from [`Watch`](crate::Watch).
///
/// [`Watch`](crate::Watch) has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The number of the database.
    pub database: u8,
    /// The key; empty if the change is about a whole database.
    pub key: Vec<u8>,
    /// The field; `None` if the change is about the whole key.
    pub field: Option<Vec<u8>>,
    /// The position after the change, to continue with [`Db::watch_from`](crate::Db::watch_from).
    pub position: u64,
}

/// What a reader of changes comes to.
pub(crate) enum Seen {
    /// A change, of which the position is not filled in yet.
    Change(Change),
    /// Nothing has happened since.
    Nothing,
}

impl Engine {
    /// The place behind all that has happened so far.
    pub(crate) fn place_now(&self) -> Result<Place> {
        self.look_for_news()?;
        let generation = self.generation();
        Ok(Place {
            offset: generation.published_upto(),
            generation,
            has_gap: false,
        })
    }

    /// The place of a position; where it is none of this file's any more, the first that is, with a gap.
    pub(crate) fn place_of(&self, position: u64) -> Result<Place> {
        self.look_for_news()?;
        let generation = self.generation();
        let found = generation.offset_of(position);
        Ok(Place {
            offset: found.unwrap_or(generation.header.copied_upto),
            has_gap: found.is_none(),
            generation,
        })
    }

    /// The next change of data.
    pub(crate) fn next_change(&self, place: &mut Place) -> Result<Seen> {
        self.look_for_news()?;
        self.next_known(place, true)
    }

    /// As [`Engine::next_change`], among those that are applied. Without `catch_up` the same holds for the rest of a replaced file.
    fn next_known(&self, place: &mut Place, catch_up: bool) -> Result<Seen> {
        loop {
            if std::mem::take(&mut place.has_gap) {
                return Ok(Seen::Change(Change::of_nothing(ChangeKind::Gap)));
            }
            while place.offset < place.generation.published_upto() {
                // Not before: it shows all that was published when it is taken.
                let mapping = place.generation.mapping();
                let always = self.settings.verify_on_read;
                let logged = place.generation.logged(mapping, place.offset, always)?;
                place.offset = logged.end;
                if let Some(change) = logged.change.filter(|change| change.kind.is_data()) {
                    return Ok(Seen::Change(of_record(&change)));
                }
            }
            let current = self.generation();
            if Arc::ptr_eq(&current, &place.generation) {
                return Ok(Seen::Nothing);
            }
            let old = Arc::clone(&place.generation);
            if catch_up {
                // A handle that followed in between may have left the end of the old file unread.
                let _ = old.catch_up(&mut old.lock_tail())?;
            }
            if place.offset < old.published_upto() {
                continue;
            }
            if current.header == old.header && place.offset <= current.published_upto() {
                // The same file, which was opened again.
                place.generation = current;
                continue;
            }
            let is_next = current.header.hash_key == old.header.hash_key
                && current.header.generation == old.header.generation.saturating_add(1);
            place.has_gap = !is_next;
            place.offset = current.header.copied_upto;
            place.generation = current;
        }
    }
}

impl Engine {
    /// Begins to track what happens from now on.
    pub(crate) fn track<O: Observer + 'static>(&self, observer: O) -> Result<TrackedWatch<O>> {
        let place = self.place_now()?;
        let state = Arc::new(Mutex::new(Tracked {
            place: Some(place),
            observer,
        }));
        let weak: Weak<Mutex<Tracked<O>>> = Arc::downgrade(&state);
        let mut watches = self.lock_tracked();
        if watches.len().is_power_of_two() {
            watches.retain(|watch| watch.strong_count() > 0);
        }
        watches.push(weak);
        drop(watches);
        Ok(TrackedWatch { state })
    }

    /// Lets a tracked watch see all that has happened so far.
    pub(crate) fn observe<O: Observer>(&self, watch: &TrackedWatch<O>) -> Result<()> {
        loop {
            let mut state = watch.lock();
            let state = &mut *state;
            let Some(place) = &mut state.place else {
                return Ok(());
            };
            while let Seen::Change(change) = self.next_change(place)? {
                if !state.observer.observe(&change) {
                    state.place = None;
                    return Ok(());
                }
            }
            if place.generation.id == self.id_now() {
                return Ok(());
            }
            // A compaction was followed just now, and passed this watch by because it was in use.
        }
    }

    fn lock_tracked(&self) -> MutexGuard<'_, Vec<WeakWatch>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets tracked watches read the rest of the replaced file, and continue in the new one. The
    /// caller may hold the writer lock, but not the tail.
    pub(super) fn move_tracked_watches(&self) {
        let mut budget = MAX_TRACKED_CHANGES;
        let watches: Vec<_> = {
            let mut watches = self.lock_tracked();
            watches.retain(|watch| watch.strong_count() > 0);
            watches.iter().filter_map(Weak::upgrade).collect()
        };
        for watch in watches {
            // Its own thread is about to read on, if it is in use.
            if let Ok(mut state) = watch.try_lock() {
                self.move_tracked(&mut state, &mut budget);
            }
        }
    }

    fn move_tracked(&self, state: &mut Tracked<dyn Observer>, budget: &mut usize) {
        let Some(place) = &mut state.place else {
            return;
        };
        loop {
            let seen = match budget.checked_sub(1) {
                None => None,
                Some(left) => {
                    *budget = left;
                    self.next_known(place, false).ok()
                }
            };
            let wants_more = match seen {
                Some(Seen::Nothing) => return,
                Some(Seen::Change(change)) => state.observer.observe(&change),
                None => {
                    place.go_to_end_of(self.generation());
                    state.observer.observe(&Change::of_nothing(ChangeKind::Gap))
                }
            };
            if !wants_more {
                state.place = None;
                return;
            }
        }
    }
}

impl<O: Observer> TrackedWatch<O> {
    fn lock(&self) -> MutexGuard<'_, Tracked<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the observer, or changes it.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut O) -> R) -> R {
        act(&mut self.lock().observer)
    }
}

impl Place {
    /// Goes to the end of a file, of which nothing more is read. The caller tells of the gap.
    fn go_to_end_of(&mut self, generation: Arc<Generation>) {
        self.offset = generation.published_upto();
        self.generation = generation;
        self.has_gap = false;
    }

    /// The position of the next record. After the *moved* at the end of an old file it is the one
    /// before: the first new record of the new file has that position.
    pub(crate) fn position(&self) -> u64 {
        let before = self.offset.saturating_sub(MOVED_BYTES);
        let is_moved = || {
            let found = self.generation.verified(self.generation.mapping(), before);
            found.is_ok_and(|record| record.kind == Kind::Moved)
        };
        let is_behind_moved = self.generation.may_have_moved() && is_moved();
        self.generation.position(match is_behind_moved {
            true => before,
            false => self.offset,
        })
    }
}

impl Generation {
    /// The offset of a position, if a record begins there, or the log ends there.
    fn offset_of(&self, position: u64) -> Option<u64> {
        let into = position.checked_sub(self.header.base_position)?;
        let offset = self.header.copied_upto.checked_add(into)?;
        if offset == self.published_upto() {
            return Some(offset);
        }
        if offset > self.published_upto() || !offset.is_multiple_of(8) {
            return None;
        }
        // The first record that is no copy begins there, whether it is damaged or not.
        let is_first = offset == self.header.copied_upto;
        // Any other offset may lie in the middle of a value: the checksum of a record holds for one offset only.
        let is_record = || self.logged(self.mapping(), offset, true).is_ok();
        (is_first || is_record()).then_some(offset)
    }
}

impl Change {
    fn of_nothing(kind: ChangeKind) -> Change {
        Change {
            kind,
            database: 0,
            key: Vec::new(),
            field: None,
            position: 0,
        }
    }
}

fn of_record(record: &record::Change<'_>) -> Change {
    let kind = match record.kind {
        Kind::Set => ChangeKind::Set,
        Kind::Delete => ChangeKind::Delete,
        Kind::Expire => ChangeKind::Expire,
        Kind::HashSet => ChangeKind::HashSet,
        Kind::HashDelete => ChangeKind::HashDelete,
        Kind::FieldExpire => ChangeKind::FieldExpire,
        Kind::SwapDatabases => ChangeKind::SwapDatabases,
        // The others are no data, and not shown.
        _ => ChangeKind::Clear,
    };
    let has_field = matches!(
        record.kind,
        Kind::HashSet | Kind::HashDelete | Kind::FieldExpire
    );
    Change {
        database: record.database,
        key: record.key.to_vec(),
        field: has_field.then(|| record.field.to_vec()),
        ..Change::of_nothing(kind)
    }
}

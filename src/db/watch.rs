//! Watching the changes of a file, by this process and by others.

use std::time::Duration;

use crate::engine::{Change, LogPlace, Observer, Seen, TrackedWatch};
use crate::sync::Instant;
use crate::sync::thread;
use crate::{Db, Result};

/// How often a [`Watch`] that waits looks.
const STEP: Duration = Duration::from_millis(5);

/// The changes that any process makes to a file, in the order in which they take effect; from [`Db::watch`].
///
/// As an iterator it ends once it has returned every change *so far*. A later call of `next` continues.
/// What expires is no change: nothing is written for it. What is evicted is removed.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{ChangeKind, Db};
/// let db = Db::in_memory()?;
/// let mut watch = db.watch()?;
/// db.set("chave_1", "Relou Uourdi")?;
/// let change = watch.next().unwrap()?;
/// assert_eq!((change.kind, &change.key[..]), (ChangeKind::Set, &b"chave_1"[..]));
/// assert!(watch.next().is_none());
/// # Ok(())
/// # }
/// ```
pub struct Watch {
    db: Db,
    place: LogPlace,
}

impl Watch {
    /// The next change, which is waited for up to `timeout`; `None` where nothing happened.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where a file that has taken this one's place cannot be read, and
    /// [`Error::Corrupt`](crate::Error::Corrupt) where it is damaged.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Change>> {
        let begun = Instant::now();
        loop {
            if let Some(change) = self.next() {
                return change.map(Some);
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(STEP));
        }
    }

    /// The position of what comes next, for [`Db::watch_from`].
    pub fn position(&self) -> u64 {
        self.place.position()
    }
}

impl Iterator for Watch {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        let seen = self.db.engine().next_change(&mut self.place);
        let position = self.place.position();
        match seen {
            Err(error) => Some(Err(error)),
            Ok(Seen::Nothing) => None,
            Ok(Seen::Change(change)) => Some(Ok(Change { position, ..change })),
        }
    }
}

impl Db {
    /// Watches what happens to the file from now on, in all databases, by whichever process.
    ///
    /// The log is there anyway: watching costs the writers nothing, and nothing is lost by being slow. Only who falls behind
    /// by a whole compaction is told of a [`ChangeKind::Gap`](crate::ChangeKind::Gap).
    ///
    /// # Errors
    ///
    /// As reading: [`Error::Io`](crate::Error::Io), [`Error::Forked`](crate::Error::Forked).
    pub fn watch(&self) -> Result<Watch> {
        Ok(Watch {
            place: self.engine().place_now()?,
            db: self.clone(),
        })
    }

    /// Watches as [`Db::watch`] without keeping a file that a compaction replaces.
    pub(crate) fn track<O: Observer + 'static>(&self, observer: O) -> Result<TrackedWatch<O>> {
        self.engine().track(observer)
    }

    /// Lets a tracked watch see all that has happened so far.
    pub(crate) fn observe<O: Observer>(&self, watch: &TrackedWatch<O>) -> Result<()> {
        self.engine().observe(watch)
    }

    /// Watches what has happened since a position that an earlier [`Watch`] has given. Where the file no longer has it,
    /// a [`ChangeKind::Gap`](crate::ChangeKind::Gap) comes first.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// let position = db.watch()?.position();
    /// db.set("a", "1")?;
    /// db.hset("h", "f", "2")?;
    /// let keys: Vec<_> = db.watch_from(position)?.map(|change| change.unwrap().key).collect();
    /// assert_eq!(keys, [b"a", b"h"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::watch`].
    pub fn watch_from(&self, position: u64) -> Result<Watch> {
        Ok(Watch {
            place: self.engine().place_of(position)?,
            db: self.clone(),
        })
    }
}

//! Watches the changes of a file, by this process and by others.

use std::time::Duration;

use crate::engine::{Change, LogPlace, Observer, Seen, TrackedWatch};
use crate::sync::Instant;
use crate::sync::thread;
use crate::{Db, Result};

/// How often a waiting [`Watch`] looks for changes.
const STEP: Duration = Duration::from_millis(5);

/// The changes to a file by any process, in the order in which they take effect; from
/// [`Db::watch`].
///
/// The iterator ends when it has returned every change so far. A later call of `next` continues.
/// Expiry is no change, since it writes nothing. An eviction is a removal.
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
    /// Waits up to `timeout` for the next change. Returns `None` if there was none.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// use std::time::Duration;
    /// let mut watch = db.watch()?;
    /// db.set("a", "1")?;
    /// assert!(watch.wait(Duration::from_secs(1))?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the file at the path was replaced and the new one cannot
    /// be read, and [`Error::Corrupt`](crate::Error::Corrupt) if the log is damaged.
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

    /// Returns the position of the next change, for [`Db::watch_from`].
    ///
    /// [`Db::watch_from`] has an example.
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
    /// Watches the changes to the file from now on, in all databases and by all processes.
    ///
    /// A watch reads the log, so it costs writers nothing, and a slow reader loses nothing. Only a
    /// reader that is behind by a whole compaction gets a
    /// [`ChangeKind::Gap`](crate::ChangeKind::Gap).
    ///
    /// [`Watch`] has an example.
    ///
    /// # Errors
    ///
    /// Those of a read: [`Error::Io`](crate::Error::Io), [`Error::Forked`](crate::Error::Forked).
    pub fn watch(&self) -> Result<Watch> {
        Ok(Watch {
            place: self.engine().place_now()?,
            db: self.clone(),
        })
    }

    /// Watches like [`Db::watch`], and keeps no file that a compaction replaces.
    pub(crate) fn track<O: Observer + 'static>(&self, observer: O) -> Result<TrackedWatch<O>> {
        self.engine().track(observer)
    }

    /// Reports all changes so far to a tracked watch.
    pub(crate) fn observe<O: Observer>(&self, watch: &TrackedWatch<O>) -> Result<()> {
        self.engine().observe(watch)
    }

    /// Watches the changes since a position that an earlier [`Watch`] returned. If the file no
    /// longer has that position, a [`ChangeKind::Gap`](crate::ChangeKind::Gap) comes first.
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
    /// Those of [`Db::watch`].
    pub fn watch_from(&self, position: u64) -> Result<Watch> {
        Ok(Watch {
            place: self.engine().place_of(position)?,
            db: self.clone(),
        })
    }
}

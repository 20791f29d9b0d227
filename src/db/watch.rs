//! Watching a file change, whoever changes it.

use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Place, Seen};
use crate::record::{Change as Record, Kind};
use crate::{Db, Result};

/// How often a [`Watch`] that waits looks.
const STEP: Duration = Duration::from_millis(5);

/// What has happened to a key; from [`Watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A string was set.
    Set,
    /// A key was removed.
    Delete,
    /// A key's deadline was set, or taken away.
    Expire,
    /// A field was set.
    HashSet,
    /// A field was removed.
    HashDelete,
    /// A field's deadline was set, or taken away.
    FieldExpire,
    /// A database was emptied.
    Clear,
    /// Two databases have changed places.
    SwapDatabases,
    /// Changes were missed: they were made before the file was compacted, and had not been read by then. Whoever keeps a copy
    /// of what the file holds reads it anew.
    Gap,
}

/// One change; from [`Watch`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What has happened.
    pub kind: ChangeKind,
    /// In which database.
    pub database: u8,
    /// To which key; empty where it is about a whole database.
    pub key: Vec<u8>,
    /// To which field; `None` where it is about the whole key.
    pub field: Option<Vec<u8>>,
    /// The position behind it: where to go on with [`Db::watch_from`].
    pub position: u64,
}

/// The changes that any process makes to a file, in the order in which they take effect; from [`Db::watch`].
///
/// As an iterator it ends where nothing more has happened *so far*, and goes on when it is asked again.
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
    place: Place,
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
        let seen = self.db.engine().next_change(&mut self.place, of_record);
        let position = self.place.position();
        match seen {
            Err(error) => Some(Err(error)),
            Ok(Seen::Nothing) => None,
            Ok(Seen::Change(change)) => Some(Ok(Change { position, ..change })),
            Ok(Seen::Gap) => Some(Ok(Change {
                kind: ChangeKind::Gap,
                database: 0,
                key: Vec::new(),
                field: None,
                position,
            })),
        }
    }
}

fn of_record(record: &Record<'_>) -> Change {
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
        kind,
        database: record.database,
        key: record.key.to_vec(),
        field: has_field.then(|| record.field.to_vec()),
        position: 0,
    }
}

impl Db {
    /// Watches what happens to the file from now on, in all databases, by whichever process.
    ///
    /// The log is there anyway: watching costs the writers nothing, and nothing is lost by being slow. Only who falls behind
    /// by a whole compaction is told of a [`ChangeKind::Gap`].
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

    /// Watches what has happened since a position that an earlier [`Watch`] has given. Where the file no longer has it,
    /// a [`ChangeKind::Gap`] comes first.
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

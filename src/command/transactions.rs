//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: commands that take effect together, as one commit of the file.
//!
//! WATCH does nothing until EXEC: the log tells whether any process has touched a key since. It
//! costs memory for the names. If a compaction replaces the file, the handle reads the rest of the
//! old file for the session and releases it. A session that is too far behind for that counts as
//! touched, so that EXEC does nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::client::name_bytes;
use super::error::{ErrorReply, Failure};
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::engine::{Observer, TrackedWatch};
use crate::limits::{MAX_WATCHED_BYTES, is_commit_too_large};
use crate::sync::thread;
use crate::{Change, ChangeKind, Db, Error, KeyType, Result};

const FLAGS: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Transactions, "multi", 1, multi)
        .flags(FLAGS)
        .help(
            "",
            "Starts a transaction: queues commands until EXEC",
        ),
    Command::new(Group::Transactions, "exec", 1, exec)
        .flags(Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE))
        .help("", "Executes the queued commands in one commit"),
    Command::new(Group::Transactions, "discard", 1, discard)
        .flags(FLAGS)
        .help("", "Discards the queued commands"),
    Command::new(Group::Transactions, "watch", -2, watch)
        .flags(FLAGS)
        .keys(KeyPositions::ALL)
        .help(
            "key [key ...]",
            "Makes the next EXEC return nil if a client or process changes one of the keys before it",
        ),
    Command::new(Group::Transactions, "unwatch", 1, unwatch)
        .flags(FLAGS)
        .help("", "Stops watching all keys"),
];

/// What a session has begun and not executed yet.
#[derive(Default)]
pub(super) struct Pending {
    queue: Option<Queue>,
    watched: Option<Watched>,
    /// Work to do after the commit, collected while EXEC executes.
    afterwards: Option<Afterwards>,
}

/// What is not done in the middle of a commit: others could not write meanwhile, or the file takes it at no such time.
#[derive(Default)]
struct Afterwards {
    sync: bool,
    compact: bool,
    sleep: Duration,
}

/// The commands since MULTI.
#[derive(Default)]
struct Queue {
    commands: Vec<Vec<Vec<u8>>>,
    bytes: u64,
    /// One of them was refused: EXEC will do nothing.
    is_refused: bool,
}

/// Keys that EXEC must find untouched.
struct Watched {
    changes: TrackedWatch<Touched>,
    /// What the names take.
    bytes: u64,
}

/// The watched keys, and whether one was touched.
#[derive(Default)]
struct Touched {
    keys: WatchedKeys,
    is_touched: bool,
}

/// By database and name, what each was: a key that was not there cannot be removed.
type WatchedKeys = BTreeMap<u8, BTreeMap<Vec<u8>, Option<FieldCount>>>;

/// How many fields a key that is there has, none where it is a string: what expires is not in the log.
type FieldCount = u64;

fn field_count(db: &Db, key: &[u8]) -> Result<Option<FieldCount>> {
    match db.key_type(key)? {
        None => Ok(None),
        Some(KeyType::Hash) => match db.hlen(key) {
            Ok(count) => Ok((count > 0).then_some(count)),
            // It was changed meanwhile, and the log has the change.
            Err(Error::WrongType) => Ok(Some(0)),
            Err(error) => Err(error),
        },
        Some(_) => Ok(Some(0)),
    }
}

impl Pending {
    /// Whether commands are being collected.
    pub(super) fn is_collecting(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether keys are watched.
    pub(super) fn watched_count(&self) -> usize {
        self.watched
            .as_ref()
            .map_or(0, |watched| watched.changes.with(|touched| touched.count()))
    }

    /// How many commands were collected, and of how many bytes; `None` outside of MULTI.
    pub(super) fn collected(&self) -> Option<(usize, u64)> {
        let queue = self.queue.as_ref()?;
        Some((queue.commands.len(), queue.bytes))
    }

    /// Notes that a command was refused while others are collected.
    pub(super) fn refuse(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.is_refused = true;
        }
    }

    /// Keeps a command for EXEC.
    pub(super) fn collect(&mut self, words: &[&[u8]]) -> Reply {
        let Some(queue) = &mut self.queue else {
            return Reply::Error(Failure::text("EXEC without MULTI").into_reply("exec"));
        };
        let bytes = words.iter().map(|word| name_bytes(word));
        let bytes = bytes.fold(queue.bytes, u64::saturating_add);
        if is_commit_too_large(bytes) {
            queue.is_refused = true;
            return Reply::Error(ErrorReply::new(
                &b"ERR the transaction exceeds the size limit of a commit: split it"[..],
            ));
        }
        queue.bytes = bytes;
        queue
            .commands
            .push(words.iter().map(|word| word.to_vec()).collect());
        Reply::Status(Cow::Borrowed("QUEUED"))
    }

    /// Whether EXEC executes what was collected.
    pub(super) fn is_executing(&self) -> bool {
        self.afterwards.is_some()
    }

    /// Puts a sync off until after the commit; gives back whether there is one.
    pub(super) fn puts_off_sync(&mut self) -> bool {
        let afterwards = self.afterwards.as_mut();
        afterwards.map(|after| after.sync = true).is_some()
    }

    /// As [`Pending::puts_off_sync`], a compaction.
    pub(super) fn puts_off_compaction(&mut self) -> bool {
        let afterwards = self.afterwards.as_mut();
        afterwards.map(|after| after.compact = true).is_some()
    }

    /// As [`Pending::puts_off_sync`], a pause: no other client may write during a commit.
    pub(super) fn puts_off_sleep(&mut self, time: Duration) -> bool {
        let afterwards = self.afterwards.as_mut();
        afterwards.map(|after| after.sleep += time).is_some()
    }

    /// Forgets all of it.
    pub(super) fn forget(&mut self) {
        *self = Pending::default();
    }
}

/// Whether a command is executed at once although others are being collected.
pub(super) fn is_never_collected(command: &Command) -> bool {
    matches!(
        command.name,
        "multi" | "exec" | "discard" | "watch" | "quit" | "reset"
    )
}

fn multi(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    if session.pending.is_collecting() {
        return Err(Failure::text("MULTI calls can not be nested"));
    }
    session.pending.queue = Some(Queue::default());
    Ok(Reply::OK)
}

fn discard(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    if !session.pending.is_collecting() {
        return Err(Failure::text("DISCARD without MULTI"));
    }
    session.pending.forget();
    Ok(Reply::OK)
}

fn unwatch(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    session.pending.watched = None;
    Ok(Reply::OK)
}

fn watch(session: &mut Session, keys: &[&[u8]]) -> Result<Reply, Failure> {
    if session.pending.is_collecting() {
        return Err(Failure::text("WATCH inside MULTI is not allowed"));
    }
    let database = session.db().database_number();
    let bytes = match &session.pending.watched {
        Some(watched) => watched.bytes_with(database, keys),
        None => keys
            .iter()
            .map(|key| name_bytes(key))
            .fold(0, u64::saturating_add),
    };
    if bytes > MAX_WATCHED_BYTES {
        return Err(Failure::text(
            "the names of the watched keys would exceed 64 MiB: UNWATCH, or watch fewer keys",
        ));
    }
    let db = session.db().clone();
    // If this fails, the keys watched before stay watched.
    let watched = match &mut session.pending.watched {
        Some(watched) => {
            // What was done to the new keys until now does not count.
            db.observe(&watched.changes)?;
            watched
        }
        none => none.insert(Watched {
            changes: db.track(Touched::default())?,
            bytes: 0,
        }),
    };
    for key in keys {
        let is_known = |touched: &mut Touched| touched.knows(database, key);
        if watched.changes.with(is_known) {
            continue;
        }
        let before = field_count(&db, key)?;
        watched.changes.with(|touched| {
            let known = touched.keys.entry(database).or_default();
            known.insert(key.to_vec(), before);
        });
        watched.bytes += name_bytes(key);
    }
    Ok(Reply::OK)
}

fn exec(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    let Pending { queue, watched, .. } = std::mem::take(&mut session.pending);
    let Some(queue) = queue else {
        // Redis keeps the keys watched then.
        session.pending.watched = watched;
        return Err(Failure::text("EXEC without MULTI"));
    };
    if queue.is_refused {
        return Err(Failure::Reply(ErrorReply::new(
            &b"EXECABORT Transaction discarded because of previous errors."[..],
        )));
    }
    session.pending.afterwards = Some(Afterwards::default());
    let done = execute_queue(session, &queue, watched);
    let afterwards = session.pending.afterwards.take().unwrap_or_default();
    let replies = done?;
    afterwards.carry_out(session.db());
    Ok(replies.map_or(Reply::NilArray, Reply::Array))
}

/// The replies; `None` where a watched key was touched.
fn execute_queue(
    session: &mut Session,
    queue: &Queue,
    watched: Option<Watched>,
) -> Result<Option<Vec<Reply>>> {
    if let Some(watched) = &watched {
        // Most of it, while others may write.
        session.db().observe(&watched.changes)?;
    }
    if session.db().is_read_only() {
        // There is nothing to commit, and no lock to be had.
        let is_touched = match &watched {
            None => false,
            Some(watched) => watched.is_touched_now(session.db())?,
        };
        return match is_touched {
            true => Ok(None),
            false => session.execute_all(&queue.commands).map(Some),
        };
    }
    let outside = session.db().clone();
    let done = outside.transaction(|tx| -> Result<Option<Vec<Reply>>> {
        if let Some(watched) = &watched
            && watched.is_touched_now(tx)?
        {
            return Ok(None);
        }
        session.set_db(tx.database(outside.database_number())?);
        session.execute_all(&queue.commands).map(Some)
    });
    // Which database is selected by now.
    let selected = outside.database(session.db().database_number())?;
    session.set_db(selected);
    done
}

impl Afterwards {
    /// The replies have already promised it. The next write or sync reports a failed sync. A failed
    /// compaction leaves the file as it was.
    fn carry_out(self, db: &Db) {
        if self.compact {
            let _ = db.compact();
        }
        if self.sync {
            let _ = db.sync();
        }
        thread::sleep(self.sleep);
    }
}

impl Watched {
    /// What the names take together with these.
    fn bytes_with(&self, database: u8, keys: &[&[u8]]) -> u64 {
        self.changes.with(|touched| {
            let new = keys.iter().filter(|key| !touched.knows(database, key));
            new.map(|key| name_bytes(key))
                .fold(self.bytes, u64::saturating_add)
        })
    }

    /// Whether a key was touched until now, or has expired, or a field of it: in the middle of a transaction, in which nothing else
    /// happens.
    fn is_touched_now(&self, db: &Db) -> Result<bool> {
        db.observe(&self.changes)?;
        self.changes.with(|touched| {
            if touched.is_touched {
                return Ok(true);
            }
            for (database, keys) in &touched.keys {
                let db = db.database(*database)?;
                for (key, before) in keys.iter().filter(|(_, before)| before.is_some()) {
                    if field_count(&db, key)? != *before {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })
    }
}

impl Observer for Touched {
    /// The first change that touches a key is enough: EXEC fails for that one alone.
    fn observe(&mut self, change: &Change) -> bool {
        self.is_touched = Touched::is_touched_by(&self.keys, change);
        !self.is_touched
    }
}

impl Touched {
    fn knows(&self, database: u8, key: &[u8]) -> bool {
        let known = self.keys.get(&database);
        known.is_some_and(|known| known.contains_key(key))
    }

    fn count(&self) -> usize {
        self.keys.values().map(BTreeMap::len).sum()
    }

    fn is_touched_by(keys: &WatchedKeys, change: &Change) -> bool {
        let keys = keys.get(&change.database);
        let was_there = || keys?.get(&change.key[..]).map(Option::is_some);
        match change.kind {
            ChangeKind::Set | ChangeKind::HashSet => was_there().is_some(),
            ChangeKind::Delete
            | ChangeKind::Expire
            | ChangeKind::HashDelete
            | ChangeKind::FieldExpire => was_there() == Some(true),
            ChangeKind::Clear => keys.is_some_and(|keys| keys.values().any(Option::is_some)),
            // Which other one is not told: this one, perhaps.
            ChangeKind::SwapDatabases => true,
            // It cannot be known.
            ChangeKind::Gap => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Db;
    use crate::command::{Reply, Session};

    #[test]
    fn one_change_that_counts_is_enough_and_the_others_are_not_read() {
        let db = Db::in_memory().unwrap();
        let mut session = Session::new(db.clone());
        assert_eq!(session.execute(&["WATCH", "a", "b"]), Reply::OK);
        for key in ["other", "a", "b", "other"] {
            db.set(key, "1").unwrap();
        }
        let watched = session.pending.watched.as_ref().unwrap();
        db.observe(&watched.changes).unwrap();
        assert!(watched.changes.with(|touched| touched.is_touched));
        // What happens later is not looked at.
        watched.changes.with(|touched| touched.is_touched = false);
        db.set("a", "2").unwrap();
        db.observe(&watched.changes).unwrap();
        assert!(!watched.changes.with(|touched| touched.is_touched));
        watched.changes.with(|touched| touched.is_touched = true);
        session.execute(&["MULTI"]);
        session.execute(&["GET", "a"]);
        assert_eq!(session.execute(&["EXEC"]), Reply::NilArray);
    }

    #[test]
    fn a_transaction_whose_replies_would_be_too_large_does_nothing() {
        let db = Db::in_memory().unwrap();
        db.set("k", vec![b'v'; 1 << 20]).unwrap();
        let mut session = Session::new(db.clone());
        session.execute(&["MULTI"]);
        session.execute(&["SET", "other", "1"]);
        for _ in 0..1_024 {
            session.execute(&["GET", "k"]);
        }
        let refused = session.execute(&["EXEC"]);
        assert!(matches!(&refused, Reply::Error(_)), "{refused:?}");
        assert!(!db.exists("other").unwrap());
        assert_eq!(session.execute(&["GET", "other"]), Reply::Nil);
    }
}

//! Copies the live part of a log into a rewrite, while others continue to write to the log.
//!
//! The copy has three parts: the live records up to the end of the log at the start of the copy;
//! the deadlines of hashes; and all later commits, whole. The index may be ahead of the copied
//! place. The copy is still right:
//!
//! 1. A key without changes since the start is copied as it is.
//! 2. A record that changes a whole key (*set*, *delete*, *clear*) is copied again after the live
//!    records. It overrides any earlier copy of the key.
//! 3. A record that changes a part of a key (*expire*, *hash delete*, *field expire*) finds that
//!    part in the copy. The part was live when the index was asked, or a later copied record set or
//!    deleted it.
//! 4. The deadline of a hash belongs to no field, and the fields that keep the hash alive may come
//!    later. So the deadline is written after the live records, and again after each later *hash
//!    set*. An expired deadline is written too, because the fields may have been copied before.
//! 5. An exchange of databases is none of these. It ends the copy, which starts again.
//! 6. Data that had expired at the horizon, the time at which the copy began, is omitted. A later
//!    commit can bring it back, if its transaction has an earlier time or a clock was set back.
//!    Only *expire* and *field expire* do so, since all other records state the whole new value.
//!    The copy remembers the omitted records, and copies them before such a commit. If the clock is
//!    set back to before the horizon, the copy ends, because omitted data is alive again.

use super::super::Generation;
use super::super::generation::ask_ahead;
use super::super::liveness::Liveness;
use super::super::lookup::{Held, RecordAt};
use super::super::read::has_passed;
use super::super::rewrite::Rewrite;
use crate::index::{HashSummary, SHARD_COUNT, Visited};
use crate::limits::DATABASE_COUNT;
use crate::log::{Reader, Tail};
use crate::mutation::{self, Mutation};
use crate::record::{Change, Kind};
use crate::{Error, Result};

/// Bytes that are copied between two calls of [`Observer::goes_on`].
const STRIDE_BYTES: u64 = 256 << 10;

/// How far a copy has come.
#[derive(Debug)]
pub(super) struct LogCopy {
    /// Where the log ended when the copy began.
    pub(super) began_at: u64,
    /// The next place to read.
    pub(super) source: Tail,
    pub(super) phase: Phase,
    /// The copy leaves out what had expired at this time.
    pub(super) horizon_ms: u64,
    left_out: LeftOut,
}

/// What a copy has left out because it had expired.
#[derive(Debug)]
struct LeftOut {
    /// The records.
    records: Visited,
    /// The first records of hashes that had expired themselves.
    hashes: Visited,
    /// Whether there is any.
    is_any: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Copies what is live up to where the log ended.
    Live,
    /// Copies all that came since.
    Whole,
}

/// The receiver of the progress of a copy.
pub(super) trait Observer {
    /// Called after every stride with the offset reached; returns whether to continue.
    fn goes_on(&mut self, offset: u64) -> bool;

    /// Called for each live record that is copied to `new_offset`. Its key has its queue position
    /// at `queued_at`.
    fn copies(&mut self, queued_at: u64, new_offset: u64) {
        let _ = (queued_at, new_offset);
    }
}

impl<F: FnMut(u64) -> bool> Observer for F {
    fn goes_on(&mut self, offset: u64) -> bool {
        self(offset)
    }
}

/// Why a copy stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It has come to where it was to go.
    Done,
    /// It was told to stop.
    Asked,
    /// The copy is worth nothing: see 5 and 6.
    Void,
}

impl LogCopy {
    /// A copy of nothing yet, of what has not expired at the horizon.
    pub(super) fn new(source: &Generation, horizon_ms: u64) -> LogCopy {
        mutation::note_compaction(horizon_ms);
        let began_at = source.published_upto();
        LogCopy {
            began_at,
            source: Tail::first(source.header.salt),
            phase: Phase::Live,
            horizon_ms,
            left_out: LeftOut {
                records: Visited::new(began_at),
                hashes: Visited::new(began_at),
                is_any: false,
            },
        }
    }

    /// Copies up to the offset `upto` of the source, which the log has reached. `observer` sees what is done.
    pub(super) fn run(
        &mut self,
        source: &Generation,
        rewrite: &mut Rewrite,
        upto: u64,
        now_ms: u64,
        observer: &mut dyn Observer,
    ) -> Result<Stopped> {
        if now_ms < self.horizon_ms {
            return Ok(Stopped::Void);
        }
        let mapping = source.mapping();
        let mut reader = Reader::from_link(&**mapping, source.link(self.source))
            .passing_over_pages(source.synced_upto());
        let mut stride_end = self.source.offset + STRIDE_BYTES;
        let mut asked_upto = 0;
        loop {
            ask_ahead(mapping, self.source.offset, &mut asked_upto);
            if self.phase == Phase::Live && self.source.offset >= self.began_at {
                if !mutation::is_on(Mutation::ForgetHashDeadlines) {
                    copy_hash_deadlines(source, rewrite, self.horizon_ms)?;
                }
                self.phase = Phase::Whole;
            }
            if self.source.offset >= upto {
                return Ok(Stopped::Done);
            }
            if self.source.offset >= stride_end {
                if !observer.goes_on(self.source.offset) {
                    return Ok(Stopped::Asked);
                }
                stride_end = self.source.offset + STRIDE_BYTES;
            }
            match reader.next_commit() {
                Ok(Some(_)) => {}
                // Nothing is read behind a `Poisoned` record, whatever stands there.
                Ok(None) if reader.has_ended() => {
                    self.source.offset = upto.max(self.began_at);
                    continue;
                }
                Ok(None) => {
                    let reason = "the log ends before the position up to which opening read it";
                    return Err(Error::corrupt(&source.path, self.source.offset, reason));
                }
                Err(damage) => {
                    let reason = damage.reason.to_string();
                    return Err(Error::corrupt(&source.path, damage.offset, reason));
                }
            }
            match self.phase {
                Phase::Live => {
                    for (offset, change) in reader.records() {
                        match source.live_record(offset, &change, self.horizon_ms)? {
                            Liveness::Dead => {}
                            Liveness::Expired { hash } => self.left_out.note(offset, hash),
                            Liveness::Live(live) => {
                                observer.copies(live.queued_at, rewrite.tail().offset);
                                rewrite.append(&[Change {
                                    database: live.database,
                                    deadline_ms: live.deadline_ms,
                                    ..change
                                }])?;
                            }
                        }
                    }
                }
                Phase::Whole if mutation::is_on(Mutation::ForgetLaterWrites) => {}
                Phase::Whole => {
                    let changes: Vec<Change<'_>> = reader
                        .records()
                        .map(|(_, change)| change)
                        .filter(|change| change.kind.is_data())
                        .collect();
                    if changes
                        .iter()
                        .any(|change| change.kind == Kind::SwapDatabases)
                    {
                        return Ok(Stopped::Void);
                    }
                    if !mutation::is_on(Mutation::ForgetLeftOut) {
                        self.left_out.bring_back(source, rewrite, &changes)?;
                    }
                    if !changes.is_empty() {
                        rewrite.append(&changes)?;
                    }
                    if !mutation::is_on(Mutation::ForgetRenewedDeadlines) {
                        renew_hash_deadlines(source, rewrite, &changes)?;
                    }
                }
            }
            let link = reader.link();
            self.source = Tail {
                offset: link.offset,
                previous: link.previous,
            };
        }
    }
}

impl LeftOut {
    /// Notes that a record is left out; `hash` as in [`Liveness::Expired`].
    fn note(&mut self, offset: u64, hash: Option<u64>) {
        self.is_any = true;
        self.records.mark(offset);
        if let Some(hash) = hash {
            self.hashes.mark(hash);
        }
    }

    /// Copies the records that get another deadline from these changes.
    ///
    /// A record before the copy's beginning that the index still has was what its key or field held
    /// all the time since. So it is right to set it here, whatever the index knows by now.
    fn bring_back(
        &self,
        source: &Generation,
        rewrite: &mut Rewrite,
        changes: &[Change<'_>],
    ) -> Result<()> {
        if !self.is_any {
            return Ok(());
        }
        let contents = source.contents();
        for change in changes {
            if !matches!(change.kind, Kind::Expire | Kind::FieldExpire) {
                continue;
            }
            let hash = source.hasher.hash(change.key);
            let Some(shard) = contents.index.read(change.database, hash.shard()) else {
                continue;
            };
            // Behind the lock, so that it shows all that the shard points at.
            let mapping = source.mapping();
            let lookup = source.lookup(contents, mapping);
            let mut set = |record: &RecordAt<'_>| match self.records.take(record.offset) {
                true => rewrite.append(&[Change {
                    database: change.database,
                    deadline_ms: record.deadline_ms,
                    ..record.change
                }]),
                false => Ok(()),
            };
            match lookup.key(&shard, hash, change.key)?.held {
                Held::String(record) => set(&record)?,
                Held::Hash(found) if change.kind == Kind::Expire => {
                    if self.hashes.take(found.summary.key_offset) {
                        for field in lookup.fields_from(&shard, &found, 0)? {
                            set(&field?.1)?;
                        }
                    }
                }
                Held::Hash(found) => {
                    if let Some(field) = lookup.field(&shard, &found, change.field)?.record {
                        set(&field)?;
                    }
                    let deadline_ms = found.summary.deadline_ms;
                    if deadline_ms != 0 {
                        // The hash itself may have been left out.
                        rewrite.append(&[expire(change.database, change.key, deadline_ms)])?;
                    }
                }
                Held::Nothing => {}
            }
        }
        Ok(())
    }
}

/// Writes the deadline of every hash that has one, except of those that had expired at the horizon:
/// nothing of them was copied.
fn copy_hash_deadlines(source: &Generation, rewrite: &mut Rewrite, horizon_ms: u64) -> Result<()> {
    let contents = source.contents();
    for database in 0..DATABASE_COUNT {
        for number in 0..SHARD_COUNT {
            let Some(shard) = contents.index.read(database, number) else {
                break;
            };
            // Behind the lock, so that it shows all that the shard points at.
            let mapping = source.mapping();
            let lookup = source.lookup(contents, mapping);
            for key in lookup.keys_from(&shard, number, 0) {
                let (_, Held::Hash(hash)) = key? else {
                    continue;
                };
                let HashSummary {
                    key_offset,
                    deadline_ms,
                    ..
                } = hash.summary;
                if deadline_ms != 0 && !has_passed(deadline_ms, horizon_ms) {
                    let key = lookup.record(key_offset)?.key;
                    rewrite.append(&[expire(database, key, deadline_ms)])?;
                }
            }
        }
    }
    Ok(())
}

/// Writes the deadlines of the hashes that a commit has set fields in.
fn renew_hash_deadlines(
    source: &Generation,
    rewrite: &mut Rewrite,
    changes: &[Change<'_>],
) -> Result<()> {
    let mut last = None;
    for change in changes {
        let hash = (change.database, change.key);
        if change.kind != Kind::HashSet || last == Some(hash) {
            continue;
        }
        last = Some(hash);
        let deadline_ms = source.hash_deadline_ms(change.database, change.key)?;
        if deadline_ms != 0 {
            rewrite.append(&[expire(change.database, change.key, deadline_ms)])?;
        }
    }
    Ok(())
}

fn expire(database: u8, key: &[u8], deadline_ms: u64) -> Change<'_> {
    Change {
        deadline_ms,
        ..Change::of_key(Kind::Expire, database, key)
    }
}

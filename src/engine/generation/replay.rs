//! Applying the log to the index: when the file is opened, when others have written, and in place of a checkpoint that does not hold.
//!
//! Records are read some ahead of being applied, and the places in the index that they will need are touched in between: else each would wait for
//! its own miss of the cache, which is a quarter of the time.

use super::super::apply::{Applied, apply_commit};
use super::super::base::Layer;
use super::{Contents, Generation};
use crate::index::{Joint, Statistics};
use crate::log::{Damage, END_WORD, LOG_START, Reader, Source, Tail, stored_change};
use crate::mutation::{self, Mutation};
use crate::record::{self, Change, Link};
use crate::storage::Mapping;
use crate::{Error, Result};

/// How much of the log is asked for at once.
const ASKED_BYTES: u64 = 8 << 20;

/// Bytes that a replay reads before it asks for readahead: the commits of a process that is being
/// followed are still in memory.
const SHORT_TAIL_BYTES: u64 = 16 << 10;

/// How many records are read before they are applied.
const AHEAD: usize = 32;

/// A part of the log that is not read, and where it is gone on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skip {
    start: u64,
    end: Joint,
}

/// How much was applied.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Replayed {
    pub(in crate::engine) record_count: u64,
    pub(in crate::engine) commit_count: u64,
    pub(in crate::engine) bytes: u64,
}

/// Commits that were read and not applied yet.
#[derive(Default)]
struct Ahead<'a> {
    records: Vec<Applied<'a>>,
    commits: Vec<ReadCommit>,
}

/// A commit among others that were read.
struct ReadCommit {
    /// Where its records end among theirs.
    records_end: usize,
    /// What comes behind it.
    behind: Link,
    bytes: u64,
}

/// A record of the published log, and where the next one begins.
pub(in crate::engine) struct Logged<'a> {
    /// `None` for a damaged page of a checkpoint, which is passed over.
    pub(in crate::engine) change: Option<Change<'a>>,
    pub(in crate::engine) end: u64,
}

/// Why no more is read ahead.
enum Stop {
    /// There is enough to be applied.
    Enough,
    /// The log, or what is to be read of it, ends.
    End,
    Damage(Damage),
}

impl Generation {
    /// Replays the log in place of a checkpoint that does not hold.
    pub(in crate::engine) fn rebuild(&self) -> Result<()> {
        let tail = self.lock_tail();
        self.rebuild_upto(&tail)
    }

    /// As [`Generation::rebuild`], for a caller that holds the tail.
    pub(in crate::engine) fn rebuild_upto(&self, tail: &Tail) -> Result<()> {
        if !self.is_given_up() {
            return Ok(());
        }
        let contents = Contents::default();
        let mut statistics = Statistics::default();
        let mapping = self.mapping();
        let mut reader = self.reader(mapping, Tail::first(self.header.salt));
        let mut ahead = Ahead::default();
        let mut asked_upto = 0;
        while reader.link().offset < tail.offset {
            ask_ahead(mapping, reader.link().offset, &mut asked_upto);
            let stop = self.read_ahead(&mut reader, tail.offset, &mut ahead);
            for_each_commit(&ahead, |records, _| {
                let lookup = self.lookup(&contents, mapping);
                apply_commit(&contents.index, &mut statistics, lookup, records)
            })?;
            match stop {
                Stop::Damage(damage) => {
                    let reason = damage.reason.to_string();
                    return Err(Error::corrupt(&self.path, damage.offset, reason));
                }
                Stop::End if reader.link().offset < tail.offset => {
                    let reason = "the log ends before the position up to which opening read it";
                    return Err(Error::corrupt(&self.path, reader.link().offset, reason));
                }
                _ => {}
            }
        }
        let mut counts = self.statistics();
        if self.rebuilt.set(contents).is_ok() {
            *counts = statistics;
        }
        Ok(())
    }

    /// Applies every whole commit from the tail on, and moves it behind them. The inner error says what the log ends at, if
    /// that is damage; what stands before it was applied.
    pub(in crate::engine) fn catch_up(
        &self,
        tail: &mut Tail,
    ) -> Result<(Replayed, std::result::Result<(), Damage>)> {
        let mut replayed = Replayed::default();
        loop {
            // Nothing counts behind a record that says that a sync has failed, whatever stands there.
            if self.poison.get().is_some() {
                return Ok((replayed, Ok(())));
            }
            let end = match self.apply_readable(tail, &mut replayed) {
                Err(_) if self.is_given_up() => {
                    self.rebuild_upto(tail)?;
                    continue;
                }
                end => end?,
            };
            let word = self.mapping().word(tail.offset);
            if word == Some(END_WORD) {
                return Ok((replayed, end));
            }
            // The file may have grown beyond what is known of it.
            let file_bytes = self
                .mappable_bytes()
                .map_err(Error::io("look at", &self.path))?;
            if file_bytes > self.mapping().readable_bytes() {
                self.map_upto(file_bytes)?;
                continue;
            }
            match (end, word) {
                // A commit was published just now.
                (Ok(()), Some(_)) => {}
                // The file ends here, without the word that should end it.
                (Ok(()), None) => return Ok((replayed, end)),
                (Err(_), _) => {
                    let header = self.header_at(tail.offset);
                    if self.passed_over.is(tail.offset, header) {
                        return Ok((replayed, end));
                    }
                    // A writer may have replaced the leftovers since they were judged: what is
                    // remembered is judged once more.
                    self.passed_over.set(tail.offset, header);
                }
            }
        }
    }

    /// Applies the commits that the mapping shows. Where the outer error is one of the checkpoint, the tail stands before the commit that
    /// led to it, which may be applied in part.
    fn apply_readable(
        &self,
        tail: &mut Tail,
        replayed: &mut Replayed,
    ) -> Result<std::result::Result<(), Damage>> {
        let mapping = self.mapping();
        let contents = self.contents();
        let mut statistics = self.statistics();
        let mut reader = self.reader(mapping, *tail);
        let mut ahead = Ahead::default();
        let (begun_at, mut asked_upto) = (tail.offset, 0);
        let mut last_start = None;
        let note_last = |start: Option<u64>| {
            let word = start.and_then(|start| Some((start, mapping.word(start + 8)?)));
            if let Some((start, word)) = word {
                self.note_record(start, word);
            }
        };
        loop {
            if tail.offset - begun_at >= SHORT_TAIL_BYTES {
                ask_ahead(mapping, tail.offset, &mut asked_upto);
            }
            let stop = self.read_ahead(&mut reader, u64::MAX, &mut ahead);
            contents.index.touch(
                ahead
                    .records
                    .iter()
                    .map(|record| (record.change.database, record.hash)),
            );
            for_each_commit(&ahead, |records, commit| {
                let lookup = self.lookup(contents, mapping);
                apply_commit(&contents.index, &mut statistics, lookup, records)?;
                self.note_control(records, commit.behind.offset);
                replayed.bytes += commit.bytes;
                replayed.record_count += records.len() as u64;
                replayed.commit_count += u64::from(commit.bytes > 0);
                if commit.bytes > 0 {
                    last_start = Some(commit.behind.offset - commit.bytes);
                }
                *tail = Tail {
                    offset: commit.behind.offset,
                    previous: commit.behind.previous,
                };
                self.set_published_upto(tail.offset);
                Ok(())
            })?;
            note_last(last_start.take());
            match stop {
                Stop::Enough => {}
                Stop::End => return Ok(Ok(())),
                Stop::Damage(damage) => return Ok(Err(damage)),
            }
        }
    }

    /// Reads commits before `upto`, until there are some records to be applied.
    fn read_ahead<'a>(
        &self,
        reader: &mut Reader<'a, Mapping>,
        upto: u64,
        ahead: &mut Ahead<'a>,
    ) -> Stop {
        ahead.records.clear();
        ahead.commits.clear();
        while ahead.records.len() < AHEAD {
            if reader.link().offset >= upto {
                return Stop::End;
            }
            let mut bytes = 0;
            if !self.skip(reader) {
                match reader.next_commit() {
                    Ok(Some(commit)) => bytes = commit.end - commit.start,
                    Ok(None) => return Stop::End,
                    Err(damage) => return Stop::Damage(damage),
                }
                let records = reader.records().map(|(offset, change)| Applied {
                    change,
                    offset,
                    hash: self.hasher.hash(change.key),
                });
                ahead.records.extend(records);
            }
            ahead.commits.push(ReadCommit {
                records_end: ahead.records.len(),
                behind: reader.link(),
                bytes,
            });
        }
        Stop::Enough
    }

    /// The record at an offset of the published log at which one begins, for a reader that walks from record to record.
    ///
    /// What replay has not read is verified once: everything before the end of the checkpoint. With `always` each record is.
    pub(in crate::engine) fn logged<'a>(
        &self,
        mapping: &'a Mapping,
        offset: u64,
        always: bool,
    ) -> Result<Logged<'a>> {
        let base = self.contents().base.as_ref();
        let unread = base.filter(|base| offset < base.newest().end.offset);
        let found = match unread {
            _ if always => self.verified(mapping, offset),
            Some(base) => base.record(mapping, offset),
            None => stored_change(mapping, offset).ok_or_else(|| {
                let reason = "the record was valid when the file was opened, and is not valid now";
                Error::corrupt(&self.path, offset, reason)
            }),
        };
        match found {
            Ok(change) => Ok(Logged {
                end: offset + change.size_bytes(),
                change: Some(change),
            }),
            Err(error) => {
                // The record before it is not needed to pass over a page.
                let tail = Tail {
                    offset,
                    previous: 0,
                };
                let page = self.reader(mapping, tail).pass_over();
                let page = page.ok_or(error)?;
                Ok(Logged {
                    change: None,
                    end: page.end,
                })
            }
        }
    }

    /// The record at an offset, after its own checksum was found to hold.
    pub(in crate::engine) fn verified<'a>(
        &self,
        mapping: &'a Mapping,
        offset: u64,
    ) -> Result<Change<'a>> {
        let corrupt = |reason: String| Error::corrupt(&self.path, offset, reason);
        let found = Some(offset)
            .filter(|offset| *offset >= LOG_START && offset.is_multiple_of(8))
            .and_then(|offset| Source::word(mapping, offset))
            .ok_or_else(|| corrupt("there is no record".to_owned()))?;
        let size = record::size_of_record(found).map_err(|reason| corrupt(reason.to_string()))?;
        let bytes = Source::bytes(mapping, offset, size)
            .ok_or_else(|| corrupt("the record exceeds the end of the file".to_owned()))?;
        if mutation::is_on(Mutation::SkipLogCheck)
            && let Some(change) = stored_change(mapping, offset)
        {
            return Ok(change);
        }
        let record = record::decode_unlinked(bytes, self.header.salt, offset);
        let record = record.map_err(|reason| corrupt(reason.to_string()))?;
        Ok(record.change)
    }

    fn reader<'a>(&self, mapping: &'a Mapping, tail: Tail) -> Reader<'a, Mapping> {
        Reader::from_link(mapping, self.link(tail)).passing_over_pages(self.synced_upto())
    }

    /// Goes on behind pages that need not be read, where the reader has come to some.
    fn skip(&self, reader: &mut Reader<'_, Mapping>) -> bool {
        let offset = reader.link().offset;
        let found = self.skips.binary_search_by_key(&offset, |skip| skip.start);
        let Ok(at) = found else {
            return false;
        };
        let end = self.skips[at].end;
        reader.jump(end.offset, end.previous);
        true
    }
}

/// Asks for what comes next in the log, where that was not yet asked for; see [`Mapping::expect_jumps`].
pub(in crate::engine) fn ask_ahead(mapping: &Mapping, offset: u64, asked_upto: &mut u64) {
    if offset.saturating_add(ASKED_BYTES / 2) >= *asked_upto {
        mapping.will_need(offset.max(*asked_upto), ASKED_BYTES);
        *asked_upto = offset.max(*asked_upto).saturating_add(ASKED_BYTES);
    }
}

fn for_each_commit<'a>(
    ahead: &Ahead<'a>,
    mut visit: impl FnMut(&[Applied<'a>], &ReadCommit) -> Result<()>,
) -> Result<()> {
    let mut start = 0;
    for commit in &ahead.commits {
        visit(&ahead.records[start..commit.records_end], commit)?;
        start = commit.records_end;
    }
    Ok(())
}

/// The pages of layers, which a reader of the log may pass by.
pub(super) fn skips(layers: &[Layer]) -> Vec<Skip> {
    let mut skips = Vec::new();
    for layer in layers.iter().rev() {
        let mut start = layer.closing.exact_upto.offset;
        for gap in &layer.closing.gaps {
            if gap.start.offset > start {
                skips.push(Skip {
                    start,
                    end: gap.start,
                });
            }
            start = gap.end;
        }
        skips.push(Skip {
            start,
            end: layer.end,
        });
    }
    skips
}

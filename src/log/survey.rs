//! Reads a damaged log: past the damage, to the commits after it.
//!
//! Below `synced_upto` every byte belongs to a whole commit that was on the device. If the chain
//! breaks there, the next record that is valid by its own checksum is one of them. The walk follows
//! the chain again from that record.
//!
//! The walk does not search at or after `synced_upto`. A power loss may have left a record there
//! without its predecessor. Its own checksum is valid too, but it was never part of the log. The
//! log ends there at the first bytes that are no whole commit.
//!
//! Invariants:
//!
//! 1. A commit is returned whole or not at all. After damage a record counts as the start of a
//!    commit only if the record before it is known to have ended its own (see [`record::goes_on`]).
//!    Otherwise the walk skips to the next end of a commit.
//! 2. Time is linear in the file's size, whatever its contents. Bytes with a wrong checksum are
//!    counted, and the search ends after [`BUDGET_FACTOR`] times the file's size.
//! 3. Memory is bounded: the number of separate gaps and of listed lost records is limited.

use super::reader::record_at;
use super::{Commit, Damage, Reader, Source};
use crate::record::{self, Change, Invalid, Link, Record};

/// How often the whole file may be summed in vain.
const BUDGET_FACTOR: u64 = 4;

/// The number of separate gaps; the rest up to `synced_upto` is not searched.
const MAX_GAPS: usize = 1 << 16;

/// Lost records that are listed.
const MAX_LISTED: usize = 1 << 14;

/// A part of the log that is lost: from the end of a whole commit to the beginning of another.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where the first thing stands that is not as it must be.
    pub(crate) damage_at: u64,
    /// What is wrong there; `None` where the log just ends, too early.
    pub(crate) reason: Option<Invalid>,
    /// The search for a record after the damage was ended early (invariants 2 and 3).
    pub(crate) given_up: bool,
    /// The records in it that can be told.
    pub(crate) lost: Vec<Lost>,
    /// How many more there are.
    pub(crate) unlisted_count: u64,
}

/// A record that is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) offset: u64,
    /// Whether it is valid, and lost only because its commit is not whole. Else its checksum does
    /// not hold, and what its header and key say may be wrong.
    pub(crate) certain: bool,
}

impl Gap {
    fn list(&mut self, listed_count: &mut usize, offset: u64, certain: bool) {
        if *listed_count < MAX_LISTED {
            *listed_count += 1;
            self.lost.push(Lost { offset, certain });
        } else {
            self.unlisted_count += 1;
        }
    }
}

/// What comes next in a log.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole commit; its records are in [`Survey::records`].
    Commit(Commit),
    /// A damaged page of a checkpoint. It costs no data.
    DamagedPage(Commit),
    Gap(Gap),
}

/// Reads a log that may be damaged.
#[derive(Debug)]
pub(crate) struct Survey<'a, S: Source + ?Sized> {
    source: &'a S,
    salt: u32,
    synced_upto: u64,
    reader: Reader<'a, S>,
    /// Where the last whole commit ends.
    commits_upto: u64,
    /// Where nothing more can come, and what stands there.
    end: Option<(u64, Option<Damage>)>,
    budget_bytes: u64,
    gap_count: usize,
    listed_count: usize,
}

/// A record that holds by its own checksum.
struct Found<'a> {
    record: Record<'a>,
    offset: u64,
    size: u64,
}

impl Found<'_> {
    fn behind(&self, salt: u32) -> Link {
        Link {
            salt,
            offset: self.offset + self.size,
            previous: self.record.checksum,
        }
    }
}

impl<'a, S: Source + ?Sized> Survey<'a, S> {
    pub(crate) fn new(source: &'a S, salt: u32, synced_upto: u64) -> Self {
        Self {
            source,
            salt,
            synced_upto,
            reader: Reader::from_start(source, salt).passing_over_pages(synced_upto),
            commits_upto: super::LOG_START,
            end: None,
            budget_bytes: source.len().saturating_mul(BUDGET_FACTOR),
            gap_count: 0,
            listed_count: 0,
        }
    }

    /// The next commit or gap; `None` where the log ends.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        if self.end.is_some() {
            return None;
        }
        let damage = match self.reader.next_commit() {
            Ok(Some(commit)) => {
                self.commits_upto = commit.end;
                return Some(match self.reader.has_passed_over() {
                    true => Step::DamagedPage(commit),
                    false => Step::Commit(commit),
                });
            }
            Ok(None) => None,
            Err(damage) => Some(damage),
        };
        let start = self.reader.link().offset;
        if start >= self.synced_upto {
            self.end = Some((start, damage));
            return None;
        }
        Some(Step::Gap(self.cross(start, damage)))
    }

    /// The records of the commit that was read last, with their offsets.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, Change<'a>)> {
        self.reader.records()
    }

    /// Where the last whole commit ends.
    pub(crate) fn commits_upto(&self) -> u64 {
        self.commits_upto
    }

    /// Where the log ends, and what is wrong there, if anything; once there are no more steps.
    pub(crate) fn end(&self) -> (u64, Option<Damage>) {
        self.end.unwrap_or((self.commits_upto, None))
    }

    /// Finds the way from a place below `synced_upto`, where the chain breaks, to the next commit.
    fn cross(&mut self, start: u64, damage: Option<Damage>) -> Gap {
        let damage_at = damage.map_or(start, |damage| damage.offset);
        let mut gap = Gap {
            start,
            end: self.synced_upto,
            damage_at,
            reason: damage.map(|damage| damage.reason),
            given_up: false,
            lost: Vec::new(),
            unlisted_count: 0,
        };
        if damage.is_some() {
            // They are valid, and their commit is not whole.
            for (offset, _) in self.reader.records() {
                gap.list(&mut self.listed_count, offset, true);
            }
        }
        self.gap_count += 1;
        // What follows a `Poisoned` record never counts.
        gap.given_up = self.gap_count >= MAX_GAPS;
        if self.reader.has_ended() || gap.given_up {
            self.end = Some((self.synced_upto, None));
            return gap;
        }

        // A record about the log itself, in the place of the commit's next record, is not damaged.
        let sound_itself = matches!(gap.reason, Some(Invalid::ControlInCommit { .. }));
        let mut hole = damage_at;
        let mut search_from = if sound_itself { hole } else { hole + 8 };
        while let Some(found) = self.find(hole, search_from, &mut gap.given_up) {
            self.list_damaged(&mut gap, hole, found.offset);
            let resumed = if self.begins_commit(hole, &found) {
                Ok(Link {
                    salt: self.salt,
                    offset: found.offset,
                    previous: found.record.previous,
                })
            } else {
                self.pass_commit(&mut gap, found)
            };
            match resumed {
                Ok(link) => {
                    gap.end = link.offset;
                    self.reader =
                        Reader::from_link(self.source, link).passing_over_pages(self.synced_upto);
                    return gap;
                }
                Err(next_hole) => hole = next_hole,
            }
            search_from = hole + 8;
        }
        gap.end = self.synced_upto.max(hole);
        self.list_damaged(&mut gap, hole, self.synced_upto.min(self.source.len()));
        self.end = Some((gap.end, None));
        gap
    }

    /// The next record from an offset on that holds by its own checksum and ends at or below
    /// `synced_upto`; or begins there, and is known to follow what stands in the hole.
    fn find(&mut self, hole: u64, from: u64, given_up: &mut bool) -> Option<Found<'a>> {
        // What did not hold there was summed once already.
        self.spend(hole);
        let mut offset = from;
        while offset <= self.synced_upto {
            if self.budget_bytes == 0 {
                *given_up = true;
                return None;
            }
            // Behind the end of the file there is nothing.
            let word = self.source.word(offset)?;
            if let Ok(size) = record::size_of_record(word)
                && (offset == self.synced_upto || offset + size as u64 <= self.synced_upto)
                && let Some(bytes) = self.source.bytes(offset, size)
            {
                match record::decode_unlinked(bytes, self.salt, offset) {
                    Ok(record) => {
                        let found = Found {
                            record,
                            offset,
                            size: size as u64,
                        };
                        let known = offset < self.synced_upto
                            || self.predecessor_goes_on(hole, &found).is_some();
                        return known.then_some(found);
                    }
                    Err(Invalid::Checksum { .. }) => self.spend(offset),
                    Err(_) => {}
                }
            }
            offset += 8;
        }
        None
    }

    /// Counts the bytes of what may be a record against the budget.
    fn spend(&mut self, offset: u64) {
        let size = self
            .source
            .word(offset)
            .and_then(|word| record::size_of_record(word).ok())
            .filter(|size| self.source.bytes(offset, *size).is_some());
        self.budget_bytes = self.budget_bytes.saturating_sub(size.unwrap_or(8) as u64);
    }

    /// Whether a record that was found behind a hole is the first of its commit (invariant 1).
    fn begins_commit(&self, hole: u64, found: &Found<'_>) -> bool {
        !found.record.change.kind.is_data() || self.predecessor_goes_on(hole, found) == Some(false)
    }

    /// Whether the commit of the damaged record before a found record continues; `None` if that is
    /// unknown.
    fn predecessor_goes_on(&self, hole: u64, found: &Found<'_>) -> Option<bool> {
        let checksum_then = found.record.previous;
        let goes_on = |offset: u64| {
            let len = usize::try_from(found.offset.checked_sub(offset)?).ok()?;
            let bytes = self.source.bytes(offset, len)?;
            record::goes_on(bytes, self.salt, offset, checksum_then)
        };
        let known = goes_on(hole);
        if known.is_some() {
            return known;
        }
        // The hole has several records, of which the last may still show where it began.
        let mut offset = found.offset;
        while offset > hole + record::HEADER_BYTES as u64 {
            offset -= 8;
            let size = self.source.word(offset).map(record::size_of_record);
            if size == Some(Ok(usize::try_from(found.offset - offset).ok()?))
                && self.stored_checksum(offset) == Some(checksum_then)
            {
                return goes_on(offset);
            }
        }
        None
    }

    fn stored_checksum(&self, offset: u64) -> Option<u32> {
        record::stored_checksum(self.source.bytes(offset, record::HEADER_BYTES)?)
    }

    /// Passes over the rest of a commit that is not whole; gives back what ties the next one to its
    /// place, or else where the chain breaks again.
    fn pass_commit(&mut self, gap: &mut Gap, found: Found<'a>) -> Result<Link, u64> {
        let mut link = found.behind(self.salt);
        let mut more = found.record.more;
        gap.list(&mut self.listed_count, found.offset, true);
        while more {
            match record_at(self.source, link) {
                Ok(Some((record, size))) if record.change.kind.is_data() => {
                    gap.list(&mut self.listed_count, link.offset, true);
                    link.previous = record.checksum;
                    link.offset += size;
                    more = record.more;
                }
                // It is a commit of its own, wherever it stands.
                Ok(Some(_)) => break,
                Ok(None) | Err(_) => return Err(link.offset),
            }
        }
        Ok(link)
    }

    /// Lists what may be the damaged records from an offset on.
    fn list_damaged(&mut self, gap: &mut Gap, from: u64, upto: u64) {
        let mut offset = from;
        while offset < upto {
            let Some(change) = super::stored_change(self.source, offset) else {
                return;
            };
            gap.list(&mut self.listed_count, offset, false);
            offset += change.size_bytes();
        }
    }
}

//! A budget of live bytes, and what goes when a write would exceed it.
//!
//! SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web
//! Caches", NSDI 2024), with the log as its queue: keys stand in it in the order in which they were set. A hand
//! walks from old to new. A key that was read since the hand last passed is spared, and loses its mark; any other gets
//! a tombstone. Where the hand comes to the end of the log it begins again.
//!
//! Where it departs from the paper: a key that is set again goes to the new end of the queue, since the log has it
//! there; and the marks and the hand are this process's own, so that each process begins at the oldest key and with no
//! marks. To one that lives for a moment the queue is plain first in, first out.
//!
//! Invariants:
//!
//! 1. What is to be evicted is judged against the index as it is: tombstones are committed before the hand goes round
//!    again, and before the write that needs the room.
//! 2. What the write itself touches is spared: it was put together from what is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::Writer;
use super::lookup::{Held, RecordAt};
use super::read::has_passed;
use super::transaction::Staged;
use super::{Engine, Generation};
use crate::index::KeyHash;
use crate::log::{LOG_START, stored_change};
use crate::options::Evict;
use crate::record::{self, Change, Kind};
use crate::storage::Mapping;
use crate::{Error, Result};

/// How many tombstones one commit takes.
const MAX_TOMBSTONES: usize = 256;

/// How many live bytes there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) max_bytes: u64,
    pub(super) evict: Evict,
}

impl Engine {
    /// Makes room for a commit, where there is a budget.
    pub(super) fn make_room(&self, writer: &mut Writer, staged: &Staged) -> Result<()> {
        let Some(budget) = self.settings.budget else {
            return Ok(());
        };
        if staged.frugal {
            return Ok(());
        }
        let generation = Arc::clone(&writer.generation);
        generation.with_sound_checkpoint(|| self.make_room_within(writer, staged, budget))
    }

    fn make_room_within(&self, writer: &mut Writer, staged: &Staged, budget: Budget) -> Result<()> {
        let now_ms = self.now_ms();
        let generation = Arc::clone(&writer.generation);
        let mapping = generation.mapping();
        let mut touched: Vec<KeyHash> = staged.records.iter().map(|record| record.hash).collect();
        touched.sort_unstable();
        touched.dedup();
        let (added, replaced) = generation.sizes_of(mapping, staged, now_ms)?;
        let needed = |generation: &Generation| {
            let live_bytes = generation.statistics().live_bytes(now_ms);
            live_bytes.saturating_add(added).saturating_sub(replaced)
        };
        let over_budget = |needed| {
            Err(Error::OverBudget {
                path: self.path.clone(),
                needed,
                max_bytes: budget.max_bytes,
            })
        };
        let first_needed = needed(&generation);
        if first_needed > budget.max_bytes && budget.evict == Evict::Reject {
            return over_budget(first_needed);
        }
        if added > budget.max_bytes {
            return over_budget(added);
        }
        let mut rounds = 0;
        loop {
            let excess = needed(&generation).saturating_sub(budget.max_bytes);
            if excess == 0 {
                return Ok(());
            }
            // The first round may find marks alone, the second takes them all.
            if rounds > 2 {
                return over_budget(needed(&generation));
            }
            let mut victims = Staged::default();
            let reached_end =
                self.choose_victims(writer, mapping, excess, now_ms, &touched, &mut victims)?;
            rounds += usize::from(reached_end);
            if !victims.records.is_empty() {
                self.commit(writer, &generation, &mut victims)?;
            }
        }
    }

    /// Walks the hand on and stages tombstones for so many bytes; ends early at the end of the log, and says so.
    fn choose_victims(
        &self,
        writer: &mut Writer,
        mapping: &Mapping,
        excess: u64,
        now_ms: u64,
        touched: &[KeyHash],
        victims: &mut Staged,
    ) -> Result<bool> {
        let generation = &writer.generation;
        let end = generation.published_upto();
        let mut freed = 0;
        let mut hand = writer.hand.max(LOG_START);
        let mut reached_end = false;
        while freed < excess && victims.records.len() < MAX_TOMBSTONES {
            if hand >= end {
                reached_end = true;
                break;
            }
            let Some(change) = stored_change(mapping, hand) else {
                let reason = "there is no valid record any more";
                return Err(Error::corrupt(&self.path, hand, reason));
            };
            if let Some(database) = generation.queued_key(hand, &change, now_ms)? {
                let hash = generation.hasher.hash(change.key);
                let was_read = generation.visited.as_ref().is_some_and(|v| v.take(hand));
                if !was_read && touched.binary_search(&hash).is_err() {
                    let tombstone = Change::of_key(Kind::Delete, database, change.key);
                    freed += generation.key_bytes(mapping, &tombstone, hash, now_ms)?;
                    victims.push(&tombstone, hash)?;
                }
            }
            hand += change.size_bytes();
        }
        writer.hand = if reached_end { LOG_START } else { hand };
        let count = victims.records.len() as u64;
        self.evicted_keys.fetch_add(count, Ordering::Relaxed);
        self.evicted_bytes.fetch_add(freed, Ordering::Relaxed);
        Ok(reached_end)
    }
}

impl Generation {
    /// How many live bytes a commit adds, and how many of those that are there it replaces. Of a key that it changes
    /// more than once only the first change replaces anything.
    fn sizes_of(&self, mapping: &Mapping, staged: &Staged, now_ms: u64) -> Result<(u64, u64)> {
        let (mut added, mut replaced) = (0, 0);
        let mut seen = BTreeSet::new();
        for staged_record in &staged.records {
            let hash = staged_record.hash;
            let Some(change) = record::reparse_at(&staged.bytes, staged_record.start) else {
                continue;
            };
            let is_first = seen.insert((change.database, hash));
            if matches!(change.kind, Kind::Set | Kind::HashSet | Kind::Expire) {
                added += change.size_bytes();
            }
            if is_first {
                replaced += match change.kind {
                    Kind::Set | Kind::Delete => self.key_bytes(mapping, &change, hash, now_ms)?,
                    Kind::HashSet => self.field_bytes(mapping, &change, hash, now_ms)?,
                    _ => 0,
                };
            }
        }
        Ok((added, replaced))
    }

    /// How many live bytes a key has.
    fn key_bytes(
        &self,
        mapping: &Mapping,
        change: &Change<'_>,
        hash: KeyHash,
        now_ms: u64,
    ) -> Result<u64> {
        let contents = self.contents();
        let Some(shard) = contents.index.read(change.database, hash.shard()) else {
            return Ok(0);
        };
        let lookup = self.lookup(contents, mapping);
        Ok(match lookup.key(&shard, hash, change.key)?.held {
            Held::Nothing => 0,
            Held::String(record) if has_passed(record.deadline_ms, now_ms) => 0,
            Held::String(record) => record.change.size_bytes(),
            Held::Hash(hash) => lookup.live_bytes(&shard, &hash, now_ms)?,
        })
    }

    /// How many live bytes a field has.
    fn field_bytes(
        &self,
        mapping: &Mapping,
        change: &Change<'_>,
        hash: KeyHash,
        now_ms: u64,
    ) -> Result<u64> {
        let contents = self.contents();
        let Some(shard) = contents.index.read(change.database, hash.shard()) else {
            return Ok(0);
        };
        let lookup = self.lookup(contents, mapping);
        let Held::Hash(hash) = lookup.key(&shard, hash, change.key)?.held else {
            return Ok(0);
        };
        let field = lookup.field(&shard, &hash, change.field)?.record;
        let is_over = |field: &RecordAt<'_>| {
            has_passed(hash.summary.deadline_ms, now_ms) || has_passed(field.deadline_ms, now_ms)
        };
        Ok(field
            .filter(|field| !is_over(field))
            .map_or(0, |field| field.change.size_bytes()))
    }
}

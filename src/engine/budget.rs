//! A budget of live bytes, and the keys to evict when a write would exceed it.
//!
//! The policy is SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an
//! Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024), with the log as its queue.
//! Keys are in the queue in the order in which they were set. The eviction hand walks from old to
//! new. It spares a key that was read since it last passed, and clears the visited bit of that key.
//! Any other key gets a tombstone. At the end of the log the hand starts again.
//!
//! There are two differences from the paper. A key that is set again moves to the new end of the
//! queue, since its record is there in the log. Visited bits and the hand belong to one process, so
//! each process starts at the oldest key without any bits. For a short-lived process the queue is
//! first in, first out.
//!
//! Invariants:
//!
//! 1. Tombstones are in the commit of the write that they make room for: a failed write evicts
//!    nothing. Only tombstones beyond [`MAX_TOMBSTONE_BYTES`], as in a file far above a new budget,
//!    are committed separately, before the write.
//! 2. A write that cannot fit evicts nothing: the bytes that would remain without all other keys
//!    are counted first.
//! 3. Keys that the write itself touches are never evicted: the write was built from their values.
//! 4. No mapping outlives a commit: the commit makes the log grow, and an older mapping does not show it.

use std::collections::BTreeSet;

use super::commit::Writer;
use super::lookup::{Held, RecordAt};
use super::read::has_passed;
use super::transaction::Staged;
use super::{Engine, Generation};
use crate::index::KeyHash;
use crate::limits::DATABASE_COUNT;
use crate::log::LOG_START;
use crate::mutation::{self, Mutation};
use crate::options::Evict;
use crate::record::{self, Change, Kind};
use crate::storage::Mapping;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::{Error, Result};

/// How many bytes of tombstones are staged before they are committed.
const MAX_TOMBSTONE_BYTES: usize = 16 << 20;

/// How often the hand comes to the end of the log for one write, and what it takes until then; at first from wherever it stood.
const PASSES: [Pass; 4] = [
    Pass::SparesMarked,
    Pass::SparesMarked,
    Pass::TakesMarked,
    Pass::TakesExpired,
];

/// What the hand may evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Keys that were not read since the hand last passed.
    SparesMarked,
    /// Marked keys too: readers may set marks faster than the hand takes them away.
    TakesMarked,
    /// Expired keys too.
    TakesExpired,
}

/// Keys that are chosen, and not evicted yet.
#[derive(Default)]
struct Victims {
    tombstones: Staged,
    /// Which keys they are: the hand may come round to them again.
    chosen: BTreeSet<(u8, KeyHash)>,
    freed_bytes: u64,
    /// Where the hand stands behind them.
    hand: u64,
    /// For [`Mutation::KeepEvictionMapping`].
    kept_mapping: Option<Arc<Mapping>>,
}

/// What one call of [`Engine::choose_victims`] looks for.
#[derive(Clone, Copy)]
struct Hunt<'a> {
    /// How many bytes the victims have when there are enough.
    enough_bytes: u64,
    now_ms: u64,
    /// Hashes of the keys that the write touches, sorted.
    touched: &'a [KeyHash],
    pass: Pass,
}

/// How many live bytes there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) max_bytes: u64,
    pub(super) evict: Evict,
}

impl Engine {
    /// Commits what is staged, with the evictions that it needs where there is a budget; returns where the commit ends.
    pub(super) fn commit_within_budget(
        &self,
        writer: &mut Writer,
        generation: &Arc<Generation>,
        staged: &mut Staged,
    ) -> Result<u64> {
        let victims = match self.settings.budget {
            Some(budget) if !staged.frugal => {
                generation.with_sound_checkpoint(|| self.make_room(writer, staged, budget))?
            }
            _ => None,
        };
        let Some(mut victims) = victims else {
            return self.commit(writer, generation, staged);
        };
        // The tombstones come first: the write may swap the databases that they were chosen in.
        if !victims.tombstones.append(staged) {
            self.evict(writer, &mut victims)?;
            return self.commit(writer, generation, staged);
        }
        let end = self.commit(writer, generation, &mut victims.tombstones)?;
        self.count_evicted(writer, &victims);
        Ok(end)
    }

    /// Chooses the keys to evict for a commit; `None` if it fits.
    fn make_room(
        &self,
        writer: &mut Writer,
        staged: &Staged,
        budget: Budget,
    ) -> Result<Option<Victims>> {
        let now_ms = self.now_ms();
        let generation = Arc::clone(&writer.generation);
        let (added, replaced) = generation.sizes_of(staged, now_ms)?;
        let needed = || {
            let live_bytes = generation.statistics().live_bytes(now_ms);
            live_bytes.saturating_add(added).saturating_sub(replaced)
        };
        let over_budget = |needed| Error::OverBudget {
            path: self.path.clone(),
            needed,
            max_bytes: budget.max_bytes,
        };
        if needed() <= budget.max_bytes {
            return Ok(None);
        }
        if budget.evict == Evict::Reject {
            return Err(over_budget(needed()));
        }
        // Invariant 2.
        let spared = generation.spared_bytes(staged, now_ms)?;
        let least = spared.saturating_add(added).saturating_sub(replaced);
        if least > budget.max_bytes {
            return Err(over_budget(least));
        }
        let mut touched: Vec<KeyHash> = staged.records.iter().map(|record| record.hash).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut victims = Victims {
            hand: writer.hand,
            kept_mapping: writer.kept_mapping.take(),
            ..Victims::default()
        };
        let mut passes = PASSES.into_iter();
        let mut pass = passes.next().unwrap_or(Pass::TakesExpired);
        loop {
            let hunt = Hunt {
                enough_bytes: needed().saturating_sub(budget.max_bytes),
                now_ms,
                touched: &touched,
                pass,
            };
            if victims.freed_bytes >= hunt.enough_bytes {
                return Ok(Some(victims));
            }
            let has_ended = self.choose_victims(&generation, hunt, &mut victims);
            writer.kept_mapping.clone_from(&victims.kept_mapping);
            if has_ended? {
                let Some(next) = passes.next() else {
                    return Err(over_budget(needed() - victims.freed_bytes));
                };
                pass = next;
            }
            if victims.tombstones.bytes.len() >= MAX_TOMBSTONE_BYTES {
                self.evict(writer, &mut victims)?;
            }
        }
    }

    /// Moves the hand and stages tombstones until there are enough. Returns early, with `true`, at the end of the log.
    fn choose_victims(
        &self,
        generation: &Generation,
        hunt: Hunt<'_>,
        victims: &mut Victims,
    ) -> Result<bool> {
        let end = generation.published_upto();
        // Taken after the end was read, so that it shows the log up to there (invariant 4).
        let mapping = match mutation::is_on(Mutation::KeepEvictionMapping) {
            true => {
                let newest = || Arc::clone(generation.mapping());
                &Arc::clone(victims.kept_mapping.get_or_insert_with(newest))
            }
            false => generation.mapping(),
        };
        // An expired key may still count as live: deadlines are counted in steps.
        let now_ms = match hunt.pass {
            Pass::TakesExpired => 0,
            _ => hunt.now_ms,
        };
        let mut hand = victims.hand.max(LOG_START);
        while victims.freed_bytes < hunt.enough_bytes
            && victims.tombstones.bytes.len() < MAX_TOMBSTONE_BYTES
        {
            if hand >= end {
                victims.hand = LOG_START;
                return Ok(true);
            }
            let logged = generation.logged(mapping, hand, self.settings.verify_on_read)?;
            if let Some(change) = &logged.change
                && let Some(database) = generation.queued_key(hand, change, now_ms)?
            {
                let hash = generation.hasher.hash(change.key);
                let was_read = generation.visited.as_ref().is_some_and(|v| v.take(hand));
                let is_spared = was_read && hunt.pass == Pass::SparesMarked
                    || hunt.touched.binary_search(&hash).is_ok();
                if !is_spared && victims.chosen.insert((database, hash)) {
                    let tombstone = Change::of_key(Kind::Delete, database, change.key);
                    victims.freed_bytes += generation.key_bytes(&tombstone, hash, now_ms)?;
                    victims.tombstones.push(&tombstone, hash)?;
                }
            }
            hand = logged.end;
        }
        victims.hand = hand;
        Ok(false)
    }

    /// Evicts what is chosen, in a commit of its own.
    fn evict(&self, writer: &mut Writer, victims: &mut Victims) -> Result<()> {
        let generation = Arc::clone(&writer.generation);
        self.commit(writer, &generation, &mut victims.tombstones)?;
        self.count_evicted(writer, victims);
        *victims = Victims {
            hand: victims.hand,
            ..Victims::default()
        };
        Ok(())
    }

    fn count_evicted(&self, writer: &mut Writer, victims: &Victims) {
        writer.hand = victims.hand;
        let count = victims.chosen.len() as u64;
        self.evicted_keys.fetch_add(count, Ordering::Relaxed);
        self.evicted_bytes
            .fetch_add(victims.freed_bytes, Ordering::Relaxed);
    }
}

impl Generation {
    /// How many live bytes a commit adds, and how many of those that are there it replaces. Of a key that it changes
    /// more than once only the first change replaces anything.
    fn sizes_of(&self, staged: &Staged, now_ms: u64) -> Result<(u64, u64)> {
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
                    Kind::Set | Kind::Delete => self.key_bytes(&change, hash, now_ms)?,
                    Kind::HashSet => self.field_bytes(&change, hash, now_ms)?,
                    _ => 0,
                };
            }
        }
        Ok((added, replaced))
    }

    /// How many live bytes the keys have that a commit touches, in every database: these are not evicted for it.
    fn spared_bytes(&self, staged: &Staged, now_ms: u64) -> Result<u64> {
        let mut seen = BTreeSet::new();
        let mut bytes: u64 = 0;
        for staged_record in &staged.records {
            let hash = staged_record.hash;
            let Some(change) = record::reparse_at(&staged.bytes, staged_record.start) else {
                continue;
            };
            if !change.kind.is_key() || !seen.insert(hash) {
                continue;
            }
            for database in 0..DATABASE_COUNT {
                let change = Change { database, ..change };
                bytes = bytes.saturating_add(self.key_bytes(&change, hash, now_ms)?);
            }
        }
        Ok(bytes)
    }

    /// How many live bytes a key has.
    fn key_bytes(&self, change: &Change<'_>, hash: KeyHash, now_ms: u64) -> Result<u64> {
        let contents = self.contents();
        let Some(shard) = contents.index.read(change.database, hash.shard()) else {
            return Ok(0);
        };
        // Takes the mapping after the lock on the shard, so that it shows every record that the shard points at.
        let lookup = self.lookup(contents, self.mapping());
        Ok(match lookup.key(&shard, hash, change.key)?.held {
            Held::Nothing => 0,
            Held::String(record) if has_passed(record.deadline_ms, now_ms) => 0,
            Held::String(record) => record.change.size_bytes(),
            Held::Hash(hash) => lookup.live_bytes(&shard, &hash, now_ms)?,
        })
    }

    /// How many live bytes a field has.
    fn field_bytes(&self, change: &Change<'_>, hash: KeyHash, now_ms: u64) -> Result<u64> {
        let contents = self.contents();
        let Some(shard) = contents.index.read(change.database, hash.shard()) else {
            return Ok(0);
        };
        let lookup = self.lookup(contents, self.mapping());
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

//! The deadlines of a hash's fields: tells how many fields have expired, without a walk over them.
//!
//! Steps are enough for nearly all questions, and a checkpoint stores them. They are exact while
//! each is a single millisecond. A hash with more deadlines than steps also counts its fields by
//! deadline. It counts all of them, or only the changes if its object in the checkpoint has wider
//! steps.

use std::collections::BTreeMap;

use super::Size;
use super::steps::Steps;
use crate::sync::{Mutex, PoisonError};

/// Steps of a hash at most: they are moved one by one when the hash gets another deadline.
pub(crate) const MAX_FIELD_STEPS: usize = 128;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldDeadlines {
    /// All fields that have a deadline, with those of the checkpoint's object.
    pub(crate) steps: Steps,
    /// Bytes of the records of those fields.
    bytes: u64,
    /// `None` while the steps are exact.
    exact: Option<Box<Exact>>,
}

/// Fields by deadline.
#[derive(Debug, Default)]
struct Exact {
    /// Whether the fields of the checkpoint's object are counted by it, and here only what has changed.
    is_change: bool,
    counts: BTreeMap<u64, i64>,
    /// A time, and the fields that had expired by then: the sum continues from there.
    passed: Mutex<(u64, i64)>,
}

/// How many fields have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    Count(u64),
    /// As many more than of the checkpoint's object.
    More(i64),
}

impl FieldDeadlines {
    /// Those of an object in a checkpoint, which the hash is about to change.
    pub(crate) fn above(steps: Steps) -> FieldDeadlines {
        let exact = (!steps.is_exact()).then(|| {
            Box::new(Exact {
                is_change: true,
                ..Exact::default()
            })
        });
        FieldDeadlines {
            bytes: steps.total().bytes,
            steps,
            exact,
        }
    }

    /// Bytes of the records of all fields that have a deadline.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn has_room_for(&self, deadline_ms: u64) -> bool {
        self.steps.has_room_for(deadline_ms, MAX_FIELD_STEPS)
    }

    /// Makes steps wider until a deadline has one.
    pub(crate) fn make_room_for(&mut self, deadline_ms: u64) {
        if self.exact.is_none() {
            let counts = self.steps.iter();
            let counts = counts.map(|(end_ms, size)| (end_ms, count_of(size.keys)));
            self.exact = Some(Box::new(Exact {
                counts: counts.collect(),
                ..Exact::default()
            }));
        }
        self.steps.make_room_for(deadline_ms, MAX_FIELD_STEPS);
    }

    pub(crate) fn add(&mut self, deadline_ms: u64, size: Size) {
        self.steps.add(deadline_ms, size);
        self.bytes = self.bytes.saturating_add(size.bytes);
        self.change(deadline_ms, 1);
    }

    /// Counts no longer what [`FieldDeadlines::add`] counted.
    pub(crate) fn remove(&mut self, deadline_ms: u64, size: Size) {
        self.steps.remove(deadline_ms, size);
        self.bytes = self.bytes.saturating_sub(size.bytes);
        self.change(deadline_ms, -1);
    }

    fn change(&mut self, deadline_ms: u64, by: i64) {
        let Some(exact) = &mut self.exact else {
            return;
        };
        let count = exact.counts.entry(deadline_ms).or_default();
        *count = count.saturating_add(by);
        if *count == 0 {
            exact.counts.remove(&deadline_ms);
        }
        let passed = exact.passed.get_mut();
        let (upto_ms, passed) = passed.unwrap_or_else(PoisonError::into_inner);
        if deadline_ms <= *upto_ms {
            *passed = passed.saturating_add(by);
        }
    }

    /// How many fields have expired at a time.
    pub(crate) fn expired(&self, now_ms: u64) -> Expired {
        let Some(exact) = &self.exact else {
            return Expired::Count(self.steps.passed(now_ms).keys);
        };
        let passed = exact.passed(now_ms);
        match exact.is_change {
            true => Expired::More(passed),
            false => Expired::Count(u64::try_from(passed).unwrap_or(0)),
        }
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        // A B-tree keeps its nodes half full or better: at most twice its entries.
        const COUNT_BYTES: usize = 2 * std::mem::size_of::<(u64, i64)>();
        let exact = self.exact.as_ref().map_or(0, |exact| exact.counts.len());
        std::mem::size_of::<Self>() + self.steps.heap_bytes() + exact * COUNT_BYTES
    }
}

impl Exact {
    fn passed(&self, now_ms: u64) -> i64 {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let (upto_ms, sum) = *passed;
        let sum = match upto_ms <= now_ms {
            true => sum.saturating_add(self.between(upto_ms, now_ms)),
            false => sum.saturating_sub(self.between(now_ms, upto_ms)),
        };
        *passed = (now_ms, sum);
        sum
    }

    /// Fields with a deadline after one time and not after another.
    fn between(&self, after_ms: u64, upto_ms: u64) -> i64 {
        let first = after_ms.saturating_add(1);
        if first > upto_ms {
            return 0;
        }
        let counts = self.counts.range(first..=upto_ms);
        counts.fold(0, |sum: i64, (_, count)| sum.saturating_add(*count))
    }
}

impl Clone for Exact {
    fn clone(&self) -> Self {
        let passed = *self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        Exact {
            is_change: self.is_change,
            counts: self.counts.clone(),
            passed: Mutex::new(passed),
        }
    }
}

fn count_of(keys: u64) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Size = Size {
        keys: 1,
        bytes: 100,
    };

    fn add(deadlines: &mut FieldDeadlines, deadline_ms: u64) {
        if !deadlines.has_room_for(deadline_ms) {
            deadlines.make_room_for(deadline_ms);
        }
        deadlines.add(deadline_ms, ONE);
    }

    #[test]
    fn expired_fields_are_counted_exactly_however_many_deadlines_there_are() {
        let mut deadlines = FieldDeadlines::default();
        let all: Vec<u64> = (1..=10_000).map(|number| number * 37 % 50_021).collect();
        for deadline_ms in &all {
            add(&mut deadlines, *deadline_ms);
        }
        assert!(deadlines.steps.iter().count() <= MAX_FIELD_STEPS);
        let (gone, left) = all.split_at(3_000);
        for deadline_ms in gone {
            deadlines.remove(*deadline_ms, ONE);
        }
        // Forwards and backwards.
        for now_ms in [0, 1, 700, 30_000, 29_999, 60_000, 5] {
            let passed = left.iter().filter(|deadline| **deadline <= now_ms).count() as u64;
            assert_eq!(
                deadlines.expired(now_ms),
                Expired::Count(passed),
                "{now_ms}"
            );
            assert!(deadlines.steps.passed(now_ms).keys <= passed);
        }
        assert_eq!(deadlines.steps.total().keys, left.len() as u64);
    }

    #[test]
    fn changes_above_wide_steps_are_counted_apart() {
        let mut below = Steps::default();
        for deadline_ms in 1..=1_000 {
            below.make_room_for(deadline_ms, MAX_FIELD_STEPS);
            below.add(deadline_ms, ONE);
        }
        let mut deadlines = FieldDeadlines::above(below);
        deadlines.remove(10, ONE);
        add(&mut deadlines, 2_000_000);
        assert_eq!(deadlines.expired(9), Expired::More(0));
        assert_eq!(deadlines.expired(500), Expired::More(-1));
        assert_eq!(deadlines.expired(2_000_000), Expired::More(0));
        assert_eq!(deadlines.steps.total().keys, 1_000);
    }
}

//! Which kinds of calls overlapped in time.

use std::collections::BTreeMap;

use crate::judge::Call;
use crate::program::Op;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Read,
    Write,
    Transaction,
    Nested,
    Compact,
    Checkpoint,
    Sync,
    Backup,
    Watch,
    Cached,
    Open,
    Close,
    MoveClock,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Read,
        Kind::Write,
        Kind::Transaction,
        Kind::Nested,
        Kind::Compact,
        Kind::Checkpoint,
        Kind::Sync,
        Kind::Backup,
        Kind::Watch,
        Kind::Cached,
        Kind::Open,
        Kind::Close,
        Kind::MoveClock,
    ];

    pub fn of(op: &Op) -> Kind {
        match op {
            Op::Get(_) | Op::HGet(_) | Op::HLen => Kind::Read,
            Op::Transaction(_) | Op::Scan => Kind::Transaction,
            Op::Nested(_) => Kind::Nested,
            Op::Compact => Kind::Compact,
            Op::Checkpoint => Kind::Checkpoint,
            Op::Sync => Kind::Sync,
            Op::Backup => Kind::Backup,
            Op::Watch => Kind::Watch,
            Op::Cached(..) | Op::Invalidate(_) => Kind::Cached,
            Op::Reopen(_) => Kind::Open,
            Op::Advance(_) | Op::TurnBack(_) => Kind::MoveClock,
            _ => Kind::Write,
        }
    }
}

/// How often two kinds of calls overlapped, in any number of histories.
#[derive(Debug, Default, Clone)]
pub struct Pairs(BTreeMap<(Kind, Kind), u64>);

impl Pairs {
    pub fn of(calls: &[Call]) -> Pairs {
        let mut pairs = Pairs::default();
        for (number, one) in calls.iter().enumerate() {
            for other in &calls[number + 1..] {
                if one.begun < other.ended && other.begun < one.ended {
                    let pair = (one.kind.min(other.kind), one.kind.max(other.kind));
                    *pairs.0.entry(pair).or_default() += 1;
                }
            }
        }
        pairs
    }

    pub fn add(&mut self, other: &Pairs) {
        for (pair, count) in &other.0 {
            *self.0.entry(*pair).or_default() += count;
        }
    }

    /// Every pair with its count, the rarest first.
    pub fn counts(&self) -> Vec<((Kind, Kind), u64)> {
        let mut counts = Vec::new();
        for (number, one) in Kind::ALL.into_iter().enumerate() {
            for other in &Kind::ALL[number..] {
                let count = self.0.get(&(one, *other)).copied().unwrap_or(0);
                // To move the clock takes no step.
                if (one, *other) != (Kind::MoveClock, Kind::MoveClock) {
                    counts.push(((one, *other), count));
                }
            }
        }
        counts.sort_by_key(|(_, count)| *count);
        counts
    }
}

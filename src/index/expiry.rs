//! Sizes of the expired data, without a check of each key.

use super::Size;
use super::steps::Steps;

/// Steps at most.
const MAX_STEPS: usize = 1024;

/// Steps at most that are kept in a checkpoint.
const MAX_STORED_STEPS: usize = 256;

/// Sizes by deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpiryHistogram {
    steps: Steps,
    /// A time, and what had expired by then: the sum is continued from there when it is asked for again.
    passed: Option<(u64, Size)>,
}

impl ExpiryHistogram {
    pub(super) fn add(&mut self, deadline_ms: u64, size: Size) {
        if !self.steps.has_room_for(deadline_ms, MAX_STEPS) {
            self.steps.make_room_for(deadline_ms, MAX_STEPS);
            self.passed = None;
        }
        self.steps.add(deadline_ms, size);
        if let Some((upto_ms, passed)) = &mut self.passed
            && self.steps.end_ms(deadline_ms) <= *upto_ms
        {
            passed.add(size);
        }
    }

    pub(super) fn remove(&mut self, deadline_ms: u64, size: Size) {
        if self.steps.remove(deadline_ms, size)
            && let Some((upto_ms, passed)) = &mut self.passed
            && self.steps.end_ms(deadline_ms) <= *upto_ms
        {
            passed.remove(size);
        }
    }

    /// What had expired at `now_ms`.
    pub(super) fn expired(&mut self, now_ms: u64) -> Size {
        let (upto_ms, mut total) = match self.passed {
            Some((upto_ms, passed)) if upto_ms <= now_ms => (upto_ms, passed),
            _ => (0, Size::default()),
        };
        for (_, size) in self.steps.between(upto_ms, now_ms) {
            total.add(size);
        }
        self.passed = Some((now_ms, total));
        total
    }

    /// What expires after a time.
    pub(super) fn to_come(&self, now_ms: u64) -> Size {
        let mut sum = Size::default();
        for (_, size) in self.steps.between(now_ms, u64::MAX) {
            sum.add(size);
        }
        sum
    }

    /// Appends it as the format's page says.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut stored = self.steps.clone();
        stored.widen_to(MAX_STORED_STEPS);
        stored.encode(out);
    }

    /// Takes what [`encode`](Self::encode) has appended off the front of `bytes`. No step may have more than `limit`.
    pub(super) fn decode(bytes: &mut &[u8], limit: Size) -> Option<ExpiryHistogram> {
        Some(ExpiryHistogram {
            steps: Steps::decode(bytes, MAX_STORED_STEPS, limit)?,
            passed: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Size = Size {
        keys: 1,
        bytes: 100,
    };

    #[test]
    fn what_has_expired_is_counted_to_the_millisecond_while_deadlines_are_few() {
        let mut histogram = ExpiryHistogram::default();
        for deadline_ms in 1..=MAX_STEPS as u64 {
            histogram.add(deadline_ms, ONE);
        }
        assert_eq!(histogram.expired(0), Size::default());
        assert_eq!(histogram.expired(10).keys, 10);
        assert_eq!(histogram.expired(10).bytes, 1_000);
    }

    #[test]
    fn many_deadlines_are_seen_late_but_never_early_and_all_in_the_end() {
        let mut histogram = ExpiryHistogram::default();
        let deadlines: Vec<u64> = (0..10_000).map(|i| 1_000_000 + i * 37).collect();
        for deadline_ms in &deadlines {
            histogram.add(*deadline_ms, ONE);
        }
        assert!(histogram.steps.iter().count() <= MAX_STEPS);
        let span = deadlines[deadlines.len() - 1] - deadlines[0];
        for now_ms in (999_000..1_400_000).step_by(1_000) {
            let passed = |now_ms| deadlines.iter().filter(|at| **at <= now_ms).count() as u64;
            let counted = histogram.expired(now_ms).keys;
            assert!(counted <= passed(now_ms));
            assert!(counted >= passed(now_ms - span / 512));
        }
        for deadline_ms in &deadlines {
            histogram.remove(*deadline_ms, ONE);
        }
        assert!(histogram.steps.is_empty());
    }

    #[test]
    fn what_was_added_up_once_follows_every_change() {
        let mut histogram = ExpiryHistogram::default();
        for deadline_ms in 1..=10 {
            histogram.add(deadline_ms, ONE);
        }
        assert_eq!(histogram.expired(5).keys, 5);
        histogram.add(3, ONE);
        histogram.remove(5, ONE);
        histogram.remove(9, ONE);
        assert_eq!(histogram.expired(5).keys, 5);
        assert_eq!(histogram.expired(10).keys, 9);
        assert_eq!(histogram.expired(2).keys, 2, "the clock was set back");
        assert_eq!(histogram.expired(10).keys, 9);
        for deadline_ms in 0..5_000 {
            histogram.add(20 + deadline_ms, ONE);
        }
        assert_eq!(histogram.expired(10_000).keys, 5_009);
    }

    #[test]
    fn the_latest_deadline_can_be_counted() {
        let mut histogram = ExpiryHistogram::default();
        histogram.add(u64::MAX, ONE);
        assert_eq!(histogram.expired(u64::MAX - 1), Size::default());
        assert_eq!(histogram.expired(u64::MAX), ONE);
    }
}

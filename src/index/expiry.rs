//! How much has expired by now, without a look at each key.
//!
//! Deadlines are counted in steps of equal width. The width doubles when there are too many
//! steps, so that memory stays bounded, at the price of seeing an expiry up to one step late.

use std::collections::BTreeMap;

use super::Size;
use super::statistics::{take_u32, take_u64};

/// Steps at most.
const MAX_STEPS: usize = 1024;

/// Steps at most that are kept in a checkpoint.
const MAX_STORED_STEPS: usize = 256;

/// The widest steps: wide enough for every deadline.
const MAX_WIDTH_LOG2: u32 = 62;

/// Sizes by deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpiryHistogram {
    /// The width of a step is two to this, in milliseconds.
    width_log2: u32,
    /// What expires within each step, by the step's number, counted from its end: by then all of it has.
    steps: BTreeMap<u64, Size>,
    /// What expires up to a step, added up when it was last asked for: who asks again adds what came since.
    passed: Option<(u64, Size)>,
}

impl ExpiryHistogram {
    pub(super) fn add(&mut self, deadline_ms: u64, size: Size) {
        let step = self.step(deadline_ms);
        self.steps.entry(step).or_default().add(size);
        if let Some((upto, passed)) = &mut self.passed
            && step <= *upto
        {
            passed.add(size);
        }
        self.widen_to(MAX_STEPS);
    }

    /// What expires after a time.
    pub(super) fn to_come(&self, now_ms: u64) -> Size {
        let first = self.step(now_ms);
        let mut sum = Size::default();
        for size in self.steps.range(first..).map(|(_, size)| *size) {
            sum.add(size);
        }
        sum
    }

    /// Makes steps wider until there are at most so many.
    fn widen_to(&mut self, max_steps: usize) {
        while self.steps.len() > max_steps && self.width_log2 < MAX_WIDTH_LOG2 {
            self.widen();
        }
    }

    /// Appends it as the format's page says.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut stored = self.clone();
        stored.widen_to(MAX_STORED_STEPS);
        let count = u32::try_from(stored.steps.len()).unwrap_or(0);
        out.extend_from_slice(&stored.width_log2.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        for (step, size) in &stored.steps {
            for word in [*step, size.keys, size.bytes] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Takes what [`encode`](Self::encode) has appended off the front of `bytes`. No step may have more than `limit`.
    pub(super) fn decode(bytes: &mut &[u8], limit: Size) -> Option<ExpiryHistogram> {
        let (width_log2, count) = (take_u32(bytes)?, take_u32(bytes)?);
        if width_log2 > MAX_WIDTH_LOG2 || usize::try_from(count).ok()? > MAX_STORED_STEPS {
            return None;
        }
        let mut histogram = ExpiryHistogram {
            width_log2,
            ..ExpiryHistogram::default()
        };
        let mut total = Size::default();
        for _ in 0..count {
            let step = take_u64(bytes)?;
            let size = Size {
                keys: take_u64(bytes)?,
                bytes: take_u64(bytes)?,
            };
            total.keys = total.keys.checked_add(size.keys)?;
            total.bytes = total.bytes.checked_add(size.bytes)?;
            histogram.steps.insert(step, size);
        }
        (total.keys <= limit.keys && total.bytes <= limit.bytes).then_some(histogram)
    }

    pub(super) fn remove(&mut self, deadline_ms: u64, size: Size) {
        let step = self.step(deadline_ms);
        if let Some(there) = self.steps.get_mut(&step) {
            there.remove(size);
            if *there == Size::default() {
                self.steps.remove(&step);
            }
            if let Some((upto, passed)) = &mut self.passed
                && step <= *upto
            {
                passed.remove(size);
            }
        }
    }

    /// What had expired at `now_ms`.
    pub(super) fn expired(&mut self, now_ms: u64) -> Size {
        let step = now_ms >> self.width_log2;
        let (from, mut total) = match self.passed {
            Some((upto, passed)) if upto <= step => (upto.saturating_add(1), passed),
            _ => (0, Size::default()),
        };
        if from <= step {
            for (_, size) in self.steps.range(from..=step) {
                total.add(*size);
            }
        }
        self.passed = Some((step, total));
        total
    }

    /// The step at whose end the deadline has passed.
    fn step(&self, deadline_ms: u64) -> u64 {
        deadline_ms.div_ceil(1 << self.width_log2)
    }

    fn widen(&mut self) {
        self.width_log2 += 1;
        self.passed = None;
        let narrow = std::mem::take(&mut self.steps);
        for (step, size) in narrow {
            // The same as counting the deadline anew, since rounding up twice is rounding up once.
            self.steps.entry(step.div_ceil(2)).or_default().add(size);
        }
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
        assert!(histogram.steps.len() <= MAX_STEPS);
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

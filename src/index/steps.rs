//! Sizes by deadline, in steps of equal width.
//!
//! The width doubles when there are too many steps, so that memory stays bounded. The price is that
//! an expiry may be counted up to one step late. The step of a deadline depends on the width alone.

use super::Size;
use super::statistics::{take_u32, take_u64};

/// The widest steps: wide enough for every deadline.
const MAX_WIDTH_LOG2: u32 = 62;

/// Bytes of one step as it is encoded.
const STEP_BYTES: usize = 24;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// The width of a step is two to this, in milliseconds.
    width_log2: u32,
    /// The number of each step, counted from its end, and what expires within it; in order.
    steps: Vec<(u64, Size)>,
}

impl Steps {
    pub(crate) fn of_one(deadline_ms: u64, size: Size) -> Steps {
        Steps {
            width_log2: 0,
            steps: vec![(deadline_ms, size)],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether each step is a single millisecond.
    pub(crate) fn is_exact(&self) -> bool {
        self.width_log2 == 0
    }

    /// The time by which all that belongs to the step of a deadline has expired.
    pub(crate) fn end_ms(&self, deadline_ms: u64) -> u64 {
        self.end_of(self.step(deadline_ms))
    }

    /// The steps in order: the time by which all of each has expired, and its size.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Size)> {
        let steps = self.steps.iter();
        steps.map(|(step, size)| (self.end_of(*step), *size))
    }

    /// Whether a deadline has a step, or there are fewer than `max_steps`.
    pub(crate) fn has_room_for(&self, deadline_ms: u64, max_steps: usize) -> bool {
        self.steps.len() < max_steps || self.find(deadline_ms).is_ok()
    }

    pub(crate) fn add(&mut self, deadline_ms: u64, size: Size) {
        match self.find(deadline_ms) {
            Ok(at) => self.steps[at].1.add(size),
            Err(at) => self.steps.insert(at, (self.step(deadline_ms), size)),
        }
    }

    /// Counts no longer what [`Steps::add`] counted; says whether there was such a step.
    pub(crate) fn remove(&mut self, deadline_ms: u64, size: Size) -> bool {
        let Ok(at) = self.find(deadline_ms) else {
            return false;
        };
        self.steps[at].1.remove(size);
        if self.steps[at].1 == Size::default() {
            self.steps.remove(at);
        }
        true
    }

    /// Makes steps wider until a deadline has one of at most `max_steps`.
    pub(crate) fn make_room_for(&mut self, deadline_ms: u64, max_steps: usize) {
        while !self.has_room_for(deadline_ms, max_steps) && self.widen() {}
    }

    /// Makes steps wider until there are at most `max_steps`.
    pub(crate) fn widen_to(&mut self, max_steps: usize) {
        while self.steps.len() > max_steps && self.widen() {}
    }

    fn widen(&mut self) -> bool {
        if self.width_log2 >= MAX_WIDTH_LOG2 {
            return false;
        }
        self.width_log2 += 1;
        for (step, _) in &mut self.steps {
            // The same as counting the deadline anew: rounding up twice is rounding up once.
            *step = step.div_ceil(2);
        }
        self.steps.dedup_by(|(step, size), (kept, sum)| {
            let is_same = step == kept;
            if is_same {
                sum.add(*size);
            }
            is_same
        });
        true
    }

    /// The steps that end after one time and not after another one, as [`Steps::iter`].
    pub(crate) fn between(&self, after_ms: u64, upto_ms: u64) -> impl Iterator<Item = (u64, Size)> {
        let behind = |ms| {
            self.steps
                .partition_point(|(step, _)| self.end_of(*step) <= ms)
        };
        let range = behind(after_ms)..behind(upto_ms).max(behind(after_ms));
        let steps = self.steps[range].iter();
        steps.map(|(step, size)| (self.end_of(*step), *size))
    }

    /// What has expired at a time for certain, since its step has ended.
    pub(crate) fn passed(&self, now_ms: u64) -> Size {
        let mut sum = Size::default();
        for (_, size) in self.between(0, now_ms) {
            sum.add(size);
        }
        sum
    }

    /// Whether a time lies within a step, so that some of the step's deadlines may have passed.
    pub(crate) fn has_step_around(&self, now_ms: u64) -> bool {
        let next = self.between(now_ms, u64::MAX).next();
        next.is_some_and(|(end_ms, _)| end_ms - now_ms < 1 << self.width_log2)
    }

    /// The time by which all has expired, 0 for nothing.
    pub(crate) fn last_ms(&self) -> u64 {
        self.iter().last().map_or(0, |(end_ms, _)| end_ms)
    }

    /// Whether something expires after a time for certain, since its step begins then or later.
    pub(crate) fn is_to_come(&self, now_ms: u64) -> bool {
        self.last_ms().saturating_sub((1 << self.width_log2) - 1) > now_ms
    }

    /// The number of deadlines, and their bytes.
    pub(crate) fn total(&self) -> Size {
        let mut total = Size::default();
        for (_, size) in &self.steps {
            total.add(*size);
        }
        total
    }

    /// Memory that the steps take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.steps.capacity() * std::mem::size_of::<(u64, Size)>()
    }

    /// How long it is when it is encoded.
    pub(crate) fn encoded_len(&self) -> usize {
        8 + STEP_BYTES * self.steps.len()
    }

    /// Appends it as the format's page says.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.steps.len()).unwrap_or(0);
        out.extend_from_slice(&self.width_log2.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        for (step, size) in &self.steps {
            for word in [*step, size.keys, size.bytes] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Takes what [`encode`](Self::encode) has appended off the front of `bytes`. All steps together
    /// may have no more than `limit`.
    pub(crate) fn decode(bytes: &mut &[u8], max_steps: usize, limit: Size) -> Option<Steps> {
        let (width_log2, count) = (take_u32(bytes)?, take_u32(bytes)?);
        let count = usize::try_from(count).ok()?;
        if width_log2 > MAX_WIDTH_LOG2 || count > max_steps {
            return None;
        }
        let mut steps: Vec<(u64, Size)> = Vec::with_capacity(count);
        let mut total = Size::default();
        for _ in 0..count {
            let step = take_u64(bytes)?;
            let size = Size {
                keys: take_u64(bytes)?,
                bytes: take_u64(bytes)?,
            };
            total.keys = total.keys.checked_add(size.keys)?;
            total.bytes = total.bytes.checked_add(size.bytes)?;
            if steps.last().is_some_and(|(last, _)| *last >= step) {
                return None;
            }
            steps.push((step, size));
        }
        let sound = total.keys <= limit.keys && total.bytes <= limit.bytes;
        sound.then_some(Steps { width_log2, steps })
    }

    /// The bytes at the front of `bytes` that [`decode`](Self::decode) would take.
    pub(crate) fn split_encoded(bytes: &[u8]) -> Option<&[u8]> {
        let mut rest = bytes.get(4..)?;
        let count = usize::try_from(take_u32(&mut rest)?).ok()?;
        bytes.get(..count.checked_mul(STEP_BYTES)?.checked_add(8)?)
    }

    fn find(&self, deadline_ms: u64) -> Result<usize, usize> {
        let step = self.step(deadline_ms);
        self.steps.binary_search_by_key(&step, |(step, _)| *step)
    }

    fn step(&self, deadline_ms: u64) -> u64 {
        deadline_ms.div_ceil(1 << self.width_log2)
    }

    fn end_of(&self, step: u64) -> u64 {
        step.saturating_mul(1 << self.width_log2)
    }
}

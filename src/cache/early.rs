//! The decision to compute a value again before it is stale, and the random numbers of the cache.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns whether a caller should compute a value again although it is fresh.
///
/// The rule is that of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede
/// Prevention", VLDB 2015: now − computing time × beta × ln(u) reaches the deadline, with u drawn
/// evenly from (0, 1]. The probability rises towards the deadline, and with the computing time.
///
/// `draw` is called only if its number can change the answer, so that a hit far from its deadline
/// does not draw one.
pub(super) fn is_due_early(
    now_ms: u64,
    deadline_ms: u64,
    computing_us: u32,
    beta: f64,
    draw: impl FnOnce() -> f64,
) -> bool {
    // The smallest u that can be drawn is 2^-53, and -ln(2^-53) is 36.74.
    const LONGEST: f64 = 36.75;
    #[allow(clippy::cast_precision_loss, reason = "a time span in milliseconds")]
    let left_ms = deadline_ms.saturating_sub(now_ms) as f64;
    let scale_ms = f64::from(computing_us) / 1e3 * beta;
    if scale_ms * LONGEST < left_ms {
        return false;
    }
    -draw().ln() * scale_ms >= left_ms
}

/// Returns a number from (0, 1], from this thread's own generator (xorshift64*, Vigna 2016).
pub(super) fn uniform() -> f64 {
    crate::sync::thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let mut state = STATE.get();
    if state == 0 {
        state = random() | 1;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    STATE.set(state);
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let bits = (bits + 1) as f64;
    bits / (1_u64 << 53) as f64
}

/// Returns a random number. The standard library's hasher draws its keys from the operating system,
/// so the numbers of two processes differ.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_is_not_early_and_draws_no_number_far_from_the_deadline() {
        let never = || unreachable!("a number was drawn");
        assert!(!is_due_early(0, 10_000, 200_000, 1.0, never));
        assert!(!is_due_early(0, 10_000, 0, 1.0, never));
        assert!(!is_due_early(9_999, 10_000, 1_000_000, 0.0, never));
    }

    #[test]
    fn drawn_number_decides_by_the_formula() {
        // 1 s of computing, 2 s left: u must be at most e^-2 = 0.1353.
        let due = |u| is_due_early(8_000, 10_000, 1_000_000, 1.0, || u);
        assert!(due(0.135));
        assert!(!due(0.136));
        // Half as eager: e^-4 = 0.0183.
        let due = |u| is_due_early(8_000, 10_000, 1_000_000, 0.5, || u);
        assert!(due(0.018) && !due(0.019));
    }

    #[test]
    fn share_of_early_refreshes_is_the_exponential_of_the_time_left() {
        let (mut early, count) = (0, 100_000);
        for _ in 0..count {
            early += u32::from(is_due_early(9_000, 10_000, 1_000_000, 1.0, uniform));
        }
        let share = f64::from(early) / f64::from(count);
        // e^-1 = 0.3679; the standard deviation of the share is 0.0015.
        assert!((share - 0.3679).abs() < 0.01, "{share}");
    }

    #[test]
    fn drawn_numbers_are_above_0_and_at_most_1() {
        for _ in 0..10_000 {
            let u = uniform();
            assert!(u > 0.0 && u <= 1.0);
        }
    }
}

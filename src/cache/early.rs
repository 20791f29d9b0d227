//! When a value is computed anew before its time is up, and chance.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Whether a caller should compute a value anew although it is fresh: the rule of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic
/// Cache Stampede Prevention", VLDB 2015. It says yes when now − computing time × beta × ln(u) reaches the deadline, u being
/// drawn evenly from (0, 1]: ever more often as the deadline comes near, and the earlier the longer the computing takes.
///
/// `draw` is asked only where its answer can matter.
pub(super) fn is_due_early(
    now_ms: u64,
    deadline_ms: u64,
    computing_us: u32,
    beta: f64,
    draw: impl FnOnce() -> f64,
) -> bool {
    // The smallest u that can be drawn is 2^-53.
    const LONGEST: f64 = 36.75;
    #[allow(clippy::cast_precision_loss, reason = "a time span in milliseconds")]
    let left_ms = deadline_ms.saturating_sub(now_ms) as f64;
    let scale_ms = f64::from(computing_us) / 1e3 * beta;
    if scale_ms * LONGEST < left_ms {
        return false;
    }
    -draw().ln() * scale_ms >= left_ms
}

/// A number from (0, 1], of this thread's own generator (xorshift64*, Vigna 2016).
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

/// A number that nobody else has: the standard library's hasher draws its keys from the operating system.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_early_while_the_deadline_is_far_for_its_computing_time() {
        let never = || unreachable!("chance was asked");
        assert!(!is_due_early(0, 10_000, 200_000, 1.0, never));
        assert!(!is_due_early(0, 10_000, 0, 1.0, never));
        assert!(!is_due_early(9_999, 10_000, 1_000_000, 0.0, never));
    }

    #[test]
    fn what_is_drawn_decides_by_the_formula() {
        // 1 s of computing, 2 s left: u must be at most e^-2 = 0.1353.
        let due = |u| is_due_early(8_000, 10_000, 1_000_000, 1.0, || u);
        assert!(due(0.135));
        assert!(!due(0.136));
        // Half as eager: e^-4 = 0.0183.
        let due = |u| is_due_early(8_000, 10_000, 1_000_000, 0.5, || u);
        assert!(due(0.018) && !due(0.019));
    }

    #[test]
    fn the_share_of_early_ones_is_the_exponential_of_the_time_left() {
        let (mut early, count) = (0, 100_000);
        for _ in 0..count {
            early += u32::from(is_due_early(9_000, 10_000, 1_000_000, 1.0, uniform));
        }
        let share = f64::from(early) / f64::from(count);
        // e^-1 = 0.3679; the standard deviation of the share is 0.0015.
        assert!((share - 0.3679).abs() < 0.01, "{share}");
    }

    #[test]
    fn numbers_are_drawn_from_0_to_1_without_0() {
        for _ in 0..10_000 {
            let u = uniform();
            assert!(u > 0.0 && u <= 1.0);
        }
    }
}

//! What the key of a lease holds: the token of its owner, then the tokens of *displaced* owners,
//! which stopped renewing and lost the lease to another, from the newest to the oldest. Spaces
//! separate them. Without an owner it begins with a space.
//!
//! Invariant: while a token is in the lease, no newer value was stored and the key was not
//! invalidated, since each of these removes the token. So a displaced owner may store its value
//! late.

use std::time::Duration;

/// How long a lease lasts that its owner does not renew. Short, so that a killed owner is soon
/// replaced; long enough that a machine which is merely busy renews it in time.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(500);

/// The time to live of the key, which each renewal sets again: what is left of it says when the
/// owner renewed last. Tokens of displaced owners are kept for so long.
pub(super) const KEPT: Duration = Duration::from_secs(3_600);

/// Most bytes that a lease holds. A token that was cut off is no token any more.
pub(super) const MAX_BYTES: usize = 512;

/// What came of an attempt to acquire a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquired {
    /// Its owner renews it.
    No,
    /// It had no owner.
    Free,
    /// Its owner had stopped renewing it, and is displaced.
    Lapsed,
}

/// What becomes of a lease when a value was stored, or the lease given back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The token is not in the lease: nothing is to be done.
    Lost,
    /// It is removed.
    Removed,
    /// It holds this from now on.
    Left(Vec<u8>),
}

/// Whether a lease has an owner that renews it, given what is left of its time to live. A clock
/// that was set back makes more be left than there can be: the lease counts as lapsed, as after a
/// jump ahead.
pub(super) fn is_held(held: &[u8], left: Option<Duration>) -> bool {
    has_owner(held) && left.is_some_and(|left| left > KEPT - LEASE_TTL && left <= KEPT + LEASE_TTL)
}

pub(super) fn has_owner(held: &[u8]) -> bool {
    !held.is_empty() && !held.starts_with(b" ")
}

pub(super) fn is_owner(held: &[u8], token: &[u8]) -> bool {
    find(held, token) == Some(0)
}

/// The lease with a new owner.
pub(super) fn taken(held: &[u8], token: &[u8]) -> Vec<u8> {
    let mut taken = token.to_vec();
    if has_owner(held) {
        taken.push(b' ');
    }
    taken.extend_from_slice(held);
    taken.truncate(MAX_BYTES);
    taken
}

/// The lease after the value of a token's owner was stored: newer owners may still store theirs.
pub(super) fn after_storing(held: &[u8], token: &[u8]) -> Settled {
    match find(held, token) {
        None => Settled::Lost,
        Some(0 | 1) => Settled::Removed,
        Some(at) => Settled::Left(held[..at - 1].to_vec()),
    }
}

/// The lease after its owner gave it back without a value.
pub(super) fn after_giving_back(held: &[u8], token: &[u8]) -> Settled {
    match find(held, token) {
        Some(0) if held.len() == token.len() => Settled::Removed,
        Some(0) => Settled::Left(held[token.len()..].to_vec()),
        _ => Settled::Lost,
    }
}

/// Where a token begins.
fn find(held: &[u8], token: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in held.split(|byte| *byte == b' ') {
        if part == token {
            return Some(at);
        }
        at += part.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displaced_owner_may_store_until_a_newer_value_is_stored() {
        let held = taken(&taken(b"a", b"b"), b"c");
        assert_eq!(held, b"c b a");
        assert!(is_owner(&held, b"c") && !is_owner(&held, b"b"));
        assert_eq!(after_storing(&held, b"c"), Settled::Removed);
        assert_eq!(after_storing(&held, b"b"), Settled::Left(b"c".to_vec()));
        assert_eq!(after_storing(&held, b"a"), Settled::Left(b"c b".to_vec()));
        for absent in ["", "d", "c b", "b a"] {
            assert_eq!(after_storing(&held, absent.as_bytes()), Settled::Lost);
        }
    }

    #[test]
    fn lease_that_is_given_back_keeps_its_displaced_owners() {
        assert_eq!(after_giving_back(b"a", b"a"), Settled::Removed);
        let held = b" b a".to_vec();
        assert_eq!(
            after_giving_back(b"c b a", b"c"),
            Settled::Left(held.clone())
        );
        assert_eq!(after_giving_back(b"c b a", b"b"), Settled::Lost);
        assert!(!has_owner(&held) && has_owner(b"c b a"));
        assert_eq!(taken(&held, b"d"), b"d b a");
        assert_eq!(after_storing(&held, b"b"), Settled::Removed);
        assert_eq!(after_storing(&held, b"a"), Settled::Left(b" b".to_vec()));
        assert_eq!(after_storing(b" b", b"b"), Settled::Removed);
    }

    #[test]
    fn lease_is_bounded_and_a_token_that_was_cut_off_is_lost() {
        let mut held = Vec::new();
        for number in 0..1_000 {
            held = taken(&held, format!("token-{number}").as_bytes());
        }
        assert!(held.len() <= MAX_BYTES);
        assert!(is_owner(&held, b"token-999"));
        assert_eq!(after_storing(&held, b"token-0"), Settled::Lost);
    }

    #[test]
    fn lease_is_held_while_it_is_renewed() {
        let millisecond = Duration::from_millis(1);
        for (left, expected) in [
            (None, false),
            (Some(KEPT), true),
            (Some(KEPT - LEASE_TTL + millisecond), true),
            (Some(KEPT - LEASE_TTL), false),
            (Some(Duration::ZERO), false),
            (Some(KEPT + LEASE_TTL), true),
            (Some(KEPT + LEASE_TTL + millisecond), false),
            (Some(Duration::MAX), false),
        ] {
            assert_eq!(is_held(b"a", left), expected, "{left:?}");
            assert!(!is_held(b" a", left));
        }
    }
}

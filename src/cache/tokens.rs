//! The contents of a lease: the token of its owner, then the tokens of *displaced* owners, from the
//! newest to the oldest. Spaces separate the tokens. A lease without an owner begins with a space.
//!
//! A displaced owner stopped renewing the lease, and lost it to another owner.
//!
//! Invariant: while a token is in the lease, no newer value was stored and the key was not
//! invalidated, since each of these removes the token. A displaced owner may therefore store its
//! value late.

use std::time::Duration;

/// The time after which a lease lapses if its owner does not renew it. It is short, so that a
/// killed owner is soon replaced, and long enough for a busy machine to renew the lease in time.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(500);

/// The TTL of the key, which each renewal sets again. The remaining TTL tells when the owner last
/// renewed the lease. Tokens of displaced owners are kept for this time.
pub(super) const KEPT: Duration = Duration::from_secs(3_600);

/// The most bytes in a lease. A token that was cut off no longer counts as a token.
pub(super) const MAX_BYTES: usize = 512;

/// The outcome of an attempt to acquire a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquired {
    /// Not acquired: its owner renews it.
    No,
    /// Acquired: it had no owner.
    Free,
    /// Acquired: its owner had stopped renewing it, and is displaced.
    Lapsed,
}

/// The state of a lease after its value was stored, or after it was released.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The token is not in the lease, which stays as it is.
    Lost,
    /// The lease is removed.
    Removed,
    /// The lease has these contents.
    Left(Vec<u8>),
}

/// Returns whether a lease has an owner that renews it, given the remaining TTL. A clock that was
/// set back makes the remaining TTL too long; the lease then counts as lapsed, as after a jump
/// ahead.
pub(super) fn is_held(held: &[u8], left: Option<Duration>) -> bool {
    has_owner(held) && left.is_some_and(|left| left > KEPT - LEASE_TTL && left <= KEPT + LEASE_TTL)
}

pub(super) fn has_owner(held: &[u8]) -> bool {
    !held.is_empty() && !held.starts_with(b" ")
}

pub(super) fn is_owner(held: &[u8], token: &[u8]) -> bool {
    find(held, token) == Some(0)
}

/// Returns the lease with a new owner.
pub(super) fn taken(held: &[u8], token: &[u8]) -> Vec<u8> {
    let mut taken = token.to_vec();
    if has_owner(held) {
        taken.push(b' ');
    }
    taken.extend_from_slice(held);
    taken.truncate(MAX_BYTES);
    taken
}

/// Returns the lease after the value of a token's owner was stored. Newer owners may still store
/// theirs.
pub(super) fn after_storing(held: &[u8], token: &[u8]) -> Settled {
    match find(held, token) {
        None => Settled::Lost,
        Some(0 | 1) => Settled::Removed,
        Some(at) => Settled::Left(held[..at - 1].to_vec()),
    }
}

/// Returns the lease after its owner released it without a value.
pub(super) fn after_giving_back(held: &[u8], token: &[u8]) -> Settled {
    match find(held, token) {
        Some(0) if held.len() == token.len() => Settled::Removed,
        Some(0) => Settled::Left(held[token.len()..].to_vec()),
        _ => Settled::Lost,
    }
}

/// Returns the offset of a token.
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
    fn released_lease_keeps_its_displaced_owners() {
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

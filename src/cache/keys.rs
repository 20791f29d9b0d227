//! The names under which a cache's keys stand in the store.
//!
//! A value is at `{NAMESPACE:KEY}`, its lease at `{NAMESPACE:KEY}:lease`, a tag's stamp at `NAMESPACE:tag:TAG`, and the register of
//! versions at `{NAMESPACE}:versions`, with a lease, too. None can be
//! taken for another: a value's name ends with a brace and a lease's does not, a tag's begins without one, and a namespace has no colon. What stands between the braces
//! decides in which slot of a Redis Cluster a key is, so that a value and its lease, which are changed in one step, are
//! in the same; it is never empty, since a namespace is not.

use crate::limits::MAX_KEY_BYTES;

/// What a lease's name has behind the value's.
const LEASE_SUFFIX: &[u8] = b":lease";

/// A short key without an allocation, since a hit must not cost one.
pub(super) struct Name {
    inline: [u8; INLINE_BYTES],
    len: usize,
    /// All of it, where it is longer.
    spilled: Vec<u8>,
}

const INLINE_BYTES: usize = 64;

impl Name {
    /// Where a value is, given what the names of all of them begin with ([`prefix_of_values`]).
    #[inline]
    pub(super) fn of_value(prefix: &[u8], key: &[u8]) -> Name {
        let (key_at, end_at) = (prefix.len(), prefix.len() + key.len());
        let mut name = Name {
            inline: [0; INLINE_BYTES],
            len: end_at + 1,
            spilled: Vec::new(),
        };
        if name.len > INLINE_BYTES {
            name.spilled = [prefix, key, b"}"].concat();
        } else {
            name.inline[..key_at].copy_from_slice(prefix);
            name.inline[key_at..end_at].copy_from_slice(key);
            name.inline[end_at] = b'}';
        }
        name
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self.len > INLINE_BYTES {
            true => &self.spilled,
            false => &self.inline[..self.len],
        }
    }
}

/// Returns the key of a value with this name.
pub(super) fn key_of<'a>(value_name: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let key = value_name.strip_prefix(prefix).unwrap_or(value_name);
    key.strip_suffix(b"}").unwrap_or(key)
}

/// Where the lease on a value is.
pub(super) fn lease_of(value_name: &[u8]) -> Vec<u8> {
    [value_name, LEASE_SUFFIX].concat()
}

/// Whether a key of the namespace is a value's, and not a lease's.
pub(super) fn is_value(key: &[u8]) -> bool {
    key.ends_with(b"}")
}

/// A key with the one that goes with it: a value's lease and the value, in this order, since who has lost the lease stores nothing any more.
/// Of what is neither, or is too long to have a lease, the key alone.
pub(super) fn with_its_other(key: &[u8]) -> Vec<Vec<u8>> {
    let value = match key.strip_suffix(LEASE_SUFFIX) {
        Some(value) if is_value(value) => value,
        _ if is_value(key) => key,
        _ => return vec![key.to_vec()],
    };
    let lease = lease_of(value);
    match lease.len() > MAX_KEY_BYTES {
        true => vec![key.to_vec()],
        false => vec![lease, value.to_vec()],
    }
}

/// Where a tag's stamp is.
pub(super) fn tag_name(namespace: &str, tag: &[u8]) -> Vec<u8> {
    [namespace.as_bytes(), b":tag:", tag].concat()
}

/// Where the register of versions is.
pub(super) fn versions_name(namespace: &str) -> Vec<u8> {
    [b"{", namespace.as_bytes(), b"}:versions"].concat()
}

/// What the names of all values whose keys begin with `prefix`, and of their leases, begin with.
pub(super) fn prefix_of_values(namespace: &str, prefix: &[u8]) -> Vec<u8> {
    [b"{", namespace.as_bytes(), b":", prefix].concat()
}

/// What the names of all tags begin with.
pub(super) fn prefix_of_tags(namespace: &str) -> Vec<u8> {
    tag_name(namespace, b"")
}

/// Whether a text may be a namespace.
pub(super) fn is_namespace(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && !text.contains(['{', '}', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a key that Redis Cluster hashes, by its specification.
    fn hashed(key: &[u8]) -> &[u8] {
        let Some(open) = key.iter().position(|byte| *byte == b'{') else {
            return key;
        };
        let behind = &key[open + 1..];
        match behind.iter().position(|byte| *byte == b'}') {
            Some(len) if len > 0 => &behind[..len],
            _ => key,
        }
    }

    #[test]
    fn a_value_and_its_lease_are_in_one_slot_whatever_the_key() {
        let long = [b'k'; 1_000];
        for key in [
            &b"user:1"[..],
            b"",
            b"}",
            b"{",
            b"{}",
            b"a}b",
            b"\xff\0",
            &long,
        ] {
            let name = Name::of_value(b"{cache:", key);
            let lease = lease_of(name.bytes());
            assert_eq!(hashed(name.bytes()), hashed(&lease), "{key:?}");
            assert_ne!(name.bytes(), lease);
            assert!(name.bytes().starts_with(&prefix_of_values("cache", b"")));
        }
    }

    #[test]
    fn a_name_is_the_same_on_either_side_of_the_inline_length() {
        for len in INLINE_BYTES - 10..INLINE_BYTES + 10 {
            let key = vec![b'k'; len];
            let name = Name::of_value(b"{n:", &key);
            assert_eq!(name.bytes(), [b"{n:", &key[..], b"}"].concat());
        }
    }

    #[test]
    fn a_lease_and_its_value_go_together_and_the_lease_goes_first() {
        let both = [b"{n:k}:lease".to_vec(), b"{n:k}".to_vec()];
        assert_eq!(with_its_other(b"{n:k}"), both);
        assert_eq!(with_its_other(b"{n:k}:lease"), both);
        assert_eq!(with_its_other(b"n:tag:t"), [b"n:tag:t"]);
        let long = [vec![b'k'; MAX_KEY_BYTES - 1], b"}".to_vec()].concat();
        assert_eq!(with_its_other(&long), [long]);
    }

    #[test]
    fn a_value_whose_key_looks_like_a_lease_is_none() {
        let value = Name::of_value(b"{cache:", b"a}:lease");
        let lease = lease_of(Name::of_value(b"{cache:", b"a").bytes());
        assert_ne!(value.bytes(), lease);
    }
}

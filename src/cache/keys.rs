//! The names of a cache's keys in the store.
//!
//! | key | name |
//! | --- | --- |
//! | a value | `{NAMESPACE:KEY}` |
//! | its lease | `{NAMESPACE:KEY}:lease` |
//! | a tag's stamp | `NAMESPACE:tag:TAG` |
//! | the register of versions | `{NAMESPACE}:versions`, and its lease |
//!
//! Invariants:
//!
//! 1. No name can be mistaken for another. A value's name ends with a brace and a lease's name does
//!    not; a tag's name begins without a brace; a namespace has no colon.
//! 2. A value and its lease are in one slot of a Redis Cluster, because one step changes both. The
//!    cluster hashes the text between the braces, which is never empty, since a namespace is not.

use crate::limits::MAX_KEY_BYTES;

/// The suffix that makes a value's name the name of its lease.
const LEASE_SUFFIX: &[u8] = b":lease";

/// A name in the store. A short one needs no allocation, since a hit must not allocate.
pub(super) struct Name {
    inline: [u8; INLINE_BYTES],
    len: usize,
    /// The whole name, if it is too long for `inline`.
    spilled: Vec<u8>,
}

const INLINE_BYTES: usize = 64;

impl Name {
    /// Makes the name of a value from the prefix of all values' names ([`prefix_of_values`]).
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

/// Returns the key of the value with this name.
pub(super) fn key_of<'a>(value_name: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let key = value_name.strip_prefix(prefix).unwrap_or(value_name);
    key.strip_suffix(b"}").unwrap_or(key)
}

/// Returns the name of the lease on a value.
pub(super) fn lease_of(value_name: &[u8]) -> Vec<u8> {
    [value_name, LEASE_SUFFIX].concat()
}

/// Returns whether a name of the namespace is a value's, not a lease's.
pub(super) fn is_value(key: &[u8]) -> bool {
    key.ends_with(b"}")
}

/// Returns the names that must be removed together with this one: a lease and its value. Returns
/// the name alone if it is neither, or is too long to have a lease.
///
/// The lease comes first: once it is removed, its owner can no longer store the value.
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

/// Returns the name of a tag's stamp.
pub(super) fn tag_name(namespace: &str, tag: &[u8]) -> Vec<u8> {
    [namespace.as_bytes(), b":tag:", tag].concat()
}

/// Returns the name of the register of versions.
pub(super) fn versions_name(namespace: &str) -> Vec<u8> {
    [b"{", namespace.as_bytes(), b"}:versions"].concat()
}

/// Returns the prefix of the names of all values whose keys begin with `prefix`, and of their
/// leases.
pub(super) fn prefix_of_values(namespace: &str, prefix: &[u8]) -> Vec<u8> {
    [b"{", namespace.as_bytes(), b":", prefix].concat()
}

/// Returns the prefix of the names of all tags.
pub(super) fn prefix_of_tags(namespace: &str) -> Vec<u8> {
    tag_name(namespace, b"")
}

/// Returns whether a text is a valid namespace.
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
        let rest = &key[open + 1..];
        match rest.iter().position(|byte| *byte == b'}') {
            Some(len) if len > 0 => &rest[..len],
            _ => key,
        }
    }

    #[test]
    fn value_and_its_lease_are_in_one_slot_for_every_key() {
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
    fn name_has_the_same_form_below_and_above_the_inline_length() {
        for len in INLINE_BYTES - 10..INLINE_BYTES + 10 {
            let key = vec![b'k'; len];
            let name = Name::of_value(b"{n:", &key);
            assert_eq!(name.bytes(), [b"{n:", &key[..], b"}"].concat());
        }
    }

    #[test]
    fn lease_and_its_value_are_removed_together_and_the_lease_first() {
        let both = [b"{n:k}:lease".to_vec(), b"{n:k}".to_vec()];
        assert_eq!(with_its_other(b"{n:k}"), both);
        assert_eq!(with_its_other(b"{n:k}:lease"), both);
        assert_eq!(with_its_other(b"n:tag:t"), [b"n:tag:t"]);
        let long = [vec![b'k'; MAX_KEY_BYTES - 1], b"}".to_vec()].concat();
        assert_eq!(with_its_other(&long), [long]);
    }

    #[test]
    fn value_whose_key_looks_like_a_lease_is_not_a_lease() {
        let value = Name::of_value(b"{cache:", b"a}:lease");
        let lease = lease_of(Name::of_value(b"{cache:", b"a").bytes());
        assert_ne!(value.bytes(), lease);
    }
}

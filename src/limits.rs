//! The limits of format version 1, each checked before anything is allocated
//! and tested on both sides.
//!
//! They are part of the file format (see [`crate::docs::format`]): raising one
//! takes a new minor version.

/// The maximum length of a key in bytes.
pub const MAX_KEY_BYTES: usize = 65_535;

/// The maximum length of a field in bytes.
pub const MAX_FIELD_BYTES: usize = 65_535;

/// The maximum length of a value in bytes: 512 MiB, `proto-max-bulk-len` of Redis.
pub const MAX_VALUE_BYTES: usize = 512 << 20;

/// The maximum size of the records of one commit together, in bytes: 1 GiB.
pub const MAX_COMMIT_BYTES: u64 = 1 << 30;

/// Whether records of this many bytes are more than one commit may contain.
///
/// The writer and the reader of a log both ask here: a commit that the writer accepts can be read.
pub(crate) const fn is_commit_too_large(bytes: u64) -> bool {
    bytes > MAX_COMMIT_BYTES
}

/// The maximum size of one reply of a server in bytes, including all replies of an EXEC: 1 GiB. A
/// larger reply is refused.
///
/// Unlike the other limits it is not part of the format.
pub const MAX_REPLY_BYTES: u64 = 1 << 30;

/// The maximum size of the names of all keys that one client of a server watches, in bytes: 64 MiB.
/// Each name counts 16 bytes more.
///
/// Neither this limit nor the next one is part of the format.
pub const MAX_WATCHED_BYTES: u64 = 64 << 20;

/// The maximum for the names and patterns of the subscriptions of one client, like
/// [`MAX_WATCHED_BYTES`].
pub const MAX_SUBSCRIBED_BYTES: u64 = 64 << 20;

/// The number of databases in a file; they are numbered from 0.
pub const DATABASE_COUNT: u8 = 16;

/// The maximum size of a file in bytes: 1 TiB. The index stores an offset in 37 bits, counted in
/// units of 8 bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 40;

/// The latest deadline, in Unix milliseconds. Redis keeps deadlines in a signed 64-bit integer.
pub const MAX_DEADLINE_MS: u64 = i64::MAX.unsigned_abs();

#[cfg(test)]
mod tests {
    use super::{MAX_COMMIT_BYTES, is_commit_too_large};

    #[test]
    fn commit_of_exactly_the_limit_is_allowed() {
        assert!(!is_commit_too_large(0));
        assert!(!is_commit_too_large(MAX_COMMIT_BYTES));
        assert!(is_commit_too_large(MAX_COMMIT_BYTES + 1));
    }
}

//! The limits of format version 1, each checked before anything is allocated
//! and tested on both sides.
//!
//! They are part of the file format (see [`crate::docs::format`]): raising one
//! takes a new minor version.

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 65_535;

/// Longest field of a hash in bytes.
pub const MAX_FIELD_BYTES: usize = 65_535;

/// Longest value in bytes: 512 MiB, Redis's `proto-max-bulk-len`.
pub const MAX_VALUE_BYTES: usize = 512 << 20;

/// Most bytes that the records of one commit may take together: 1 GiB.
pub const MAX_COMMIT_BYTES: u64 = 1 << 30;

/// Whether records of this many bytes are more than one commit may contain.
///
/// The writer and the reader of a log both ask here: a commit that the writer accepts can be read.
pub(crate) const fn is_commit_too_large(bytes: u64) -> bool {
    bytes > MAX_COMMIT_BYTES
}

/// Most bytes of one reply of a server, an EXEC's all together included: 1 GiB. What is larger is refused.
///
/// Unlike the others it is no part of the format.
pub const MAX_REPLY_BYTES: u64 = 1 << 30;

/// Most bytes that the names of all keys take that one client of a server watches, each counted with 16 bytes more: 64 MiB.
///
/// It is no part of the format, nor is the next one.
pub const MAX_WATCHED_BYTES: u64 = 64 << 20;

/// As [`MAX_WATCHED_BYTES`], the names and patterns that one client has subscribed to.
pub const MAX_SUBSCRIBED_BYTES: u64 = 64 << 20;

/// Number of databases in a file; they are numbered from 0.
pub const DATABASE_COUNT: u8 = 16;

/// Most bytes that a file may hold: 1 TiB. The index stores an offset in 37
/// bits, counted in units of 8 bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 40;

/// Latest deadline, in Unix milliseconds. Redis keeps deadlines in a signed 64-bit integer.
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

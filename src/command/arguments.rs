//! Reading arguments.

use super::error::Failure;
use crate::db::parse_integer;

/// An integer as Redis reads one: decimal, 64 bits with a sign, nothing around it.
pub(super) fn integer(word: &[u8]) -> Result<i64, Failure> {
    parse_integer(word).ok_or(Failure::NOT_AN_INTEGER)
}

/// Whether a word is this option; `option` is in capitals, the word in whatever case.
pub(super) fn is(word: &[u8], option: &str) -> bool {
    word.eq_ignore_ascii_case(option.as_bytes())
}

/// Words in pairs; `None` where there is none, or one is left over.
pub(super) fn pairs<'a, 'w>(words: &'a [&'w [u8]]) -> Option<&'a [[&'w [u8]; 2]]> {
    match words.as_chunks() {
        ([], _) => None,
        (pairs, []) => Some(pairs),
        _ => None,
    }
}

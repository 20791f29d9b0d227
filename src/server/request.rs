//! Decodes requests from a socket: arrays of bulk strings, and inline lines if they are allowed.
//!
//! The decoder is pure: bytes in, words out.
//!
//! Invariants:
//!
//! 1. No byte is read twice, however a request is split: the decoder remembers its place.
//! 2. Memory is allocated only for bytes that have arrived, never for a number that a client sent.
//! 3. The [`Limits`] bound every buffer, before and after the password.

use std::ops::Range;

use crate::command::split_words;
use crate::limits::MAX_VALUE_BYTES;

/// Words that a decoder keeps memory for.
const KEPT_WORDS: usize = 1024;

/// Longest line: a length, or a request that is a line.
const MAX_LINE_BYTES: usize = 64 << 10;

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Words of a request, at most.
    pub words: usize,
    /// Bytes of a word, at most.
    pub word_bytes: usize,
    /// Bytes of a request, at most.
    pub request_bytes: usize,
    /// Whether to accept inline requests.
    pub lines: bool,
}

impl Limits {
    /// As Redis's before the password was given: enough for AUTH and HELLO.
    pub const STRANGER: Limits = Limits {
        words: 10,
        word_bytes: 16 << 10,
        request_bytes: 1 << 20,
        lines: false,
    };

    /// As Redis's: `proto-max-bulk-len`, a million words, and a gigabyte in all.
    pub const TRUSTED: Limits = Limits {
        words: 1 << 20,
        word_bytes: MAX_VALUE_BYTES,
        request_bytes: 1 << 30,
        lines: false,
    };

    /// Whether they are those before the password, lines or not: the errors say so.
    fn is_of_stranger(&self) -> bool {
        let lines = self.lines;
        *self
            == Limits {
                lines,
                ..Self::STRANGER
            }
    }
}

/// Why a client is not listened to any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// What it is told, behind "Protocol error: ".
    Said(String),
    /// It speaks another protocol, and is told nothing.
    Foreign,
}

fn said<T>(text: &str) -> Result<T, ProtocolError> {
    Err(ProtocolError::Said(text.to_owned()))
}

/// Takes requests out of the bytes that have arrived. See the module.
#[derive(Debug, Default)]
pub struct Decoder {
    /// How far it has looked for the end of a line.
    scanned: usize,
    /// Where the next part of the request begins.
    at: usize,
    /// Words that are still to come, once the array's length was read.
    words_left: Option<usize>,
    /// The length of the word that comes next, once it was read.
    word_len: Option<usize>,
    /// Where the words stand that were read.
    words: Vec<Range<usize>>,
    /// The words of a line, which may differ from their bytes.
    line: Vec<Vec<u8>>,
}

/// What there is in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A request, which takes so many bytes; see [`Decoder::word`].
    Request(usize),
    /// Nothing whole.
    Part,
}

impl Decoder {
    /// Begins anew, whatever was decoded in part.
    pub(super) fn forget(&mut self) {
        self.scanned = 0;
        self.at = 0;
        self.words_left = None;
        self.word_len = None;
    }

    /// Looks for a request at the beginning of `bytes`, which may have grown since the last look and have lost nothing.
    pub fn decode(&mut self, bytes: &[u8], limits: &Limits) -> Result<Decoded, ProtocolError> {
        if self.words_left.is_none() {
            self.words.clear();
            // Of a request with very many words, which are rare.
            self.words.shrink_to(KEPT_WORDS);
            self.line.clear();
            match bytes.first() {
                None => return Ok(Decoded::Part),
                // An empty line says nothing, to Redis either: `redis-cli --pipe` sends one before its last request.
                Some(b'\r' | b'\n') => {
                    let line = self.line_at(bytes, "too big inline request")?;
                    return match line {
                        Some(line) if line.is_empty() => Ok(self.finish()),
                        Some(_) => said("expected '*': inline commands are off"),
                        None => Ok(Decoded::Part),
                    };
                }
                Some(b'*') => {
                    let Some(line) = self.line_at(bytes, "too big mbulk count string")? else {
                        return Ok(Decoded::Part);
                    };
                    let count = number(&bytes[line][1..]).filter(|count| *count <= 1 << 31);
                    let Some(count) = count else {
                        return said("invalid multibulk length");
                    };
                    match usize::try_from(count) {
                        // An empty array, or none, is no request.
                        Ok(0) | Err(_) => return Ok(self.finish()),
                        Ok(count) if count <= limits.words => self.words_left = Some(count),
                        Ok(_) if limits.is_of_stranger() => {
                            return said("unauthenticated multibulk length");
                        }
                        Ok(_) => return said("invalid multibulk length"),
                    }
                }
                Some(_) => return self.decode_line(bytes, limits),
            }
        }
        self.decode_words(bytes, limits)
    }

    fn decode_words(&mut self, bytes: &[u8], limits: &Limits) -> Result<Decoded, ProtocolError> {
        while let Some(left) = self.words_left.filter(|left| *left > 0) {
            let len = match self.word_len {
                Some(len) => len,
                None => {
                    let Some(line) = self.line_at(bytes, "too big bulk count string")? else {
                        return self.part(bytes, limits);
                    };
                    let line = &bytes[line];
                    if line.first() != Some(&b'$') {
                        let found = line.first().copied().unwrap_or(b' ');
                        return said(&format!("expected '$', got '{}'", char::from(found)));
                    }
                    let len = number(&line[1..]).and_then(|len| usize::try_from(len).ok());
                    match len {
                        Some(len) if len <= limits.word_bytes => self.word_len = Some(len),
                        Some(_) if limits.is_of_stranger() => {
                            return said("unauthenticated bulk length");
                        }
                        _ => return said("invalid bulk length"),
                    }
                    self.word_len.unwrap_or(0)
                }
            };
            let end = self.at.saturating_add(len);
            if end.saturating_add(2) > limits.request_bytes {
                return said("too big request");
            }
            if bytes.len() < end + 2 {
                return self.part(bytes, limits);
            }
            // As Redis, which does not look at the two bytes behind a word.
            self.words.push(self.at..end);
            self.at = end + 2;
            self.scanned = self.at;
            self.word_len = None;
            self.words_left = Some(left - 1);
        }
        Ok(self.finish())
    }

    fn part(&self, bytes: &[u8], limits: &Limits) -> Result<Decoded, ProtocolError> {
        match bytes.len() > limits.request_bytes {
            true => said("too big request"),
            false => Ok(Decoded::Part),
        }
    }

    /// The line that begins at `at`, without its end; moves behind it.
    fn line_at(
        &mut self,
        bytes: &[u8],
        too_long: &str,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let start = self.at;
        let from = self.scanned.max(start);
        let found = bytes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.scanned = bytes.len();
            return match bytes.len() - start > MAX_LINE_BYTES {
                true => said(too_long),
                false => Ok(None),
            };
        };
        let end = from + found;
        self.at = end + 1;
        self.scanned = self.at;
        let has_return = end > start && bytes[end - 1] == b'\r';
        Ok(Some(start..end - usize::from(has_return)))
    }

    fn decode_line(&mut self, bytes: &[u8], limits: &Limits) -> Result<Decoded, ProtocolError> {
        // A browser that was made to speak to a port of its own machine.
        for foreign in [&b"POST"[..], b"Host:"] {
            let seen = bytes.len().min(foreign.len());
            if bytes[..seen].eq_ignore_ascii_case(&foreign[..seen]) {
                match seen == foreign.len() {
                    true => return Err(ProtocolError::Foreign),
                    false => return Ok(Decoded::Part),
                }
            }
        }
        if !limits.lines {
            return said("expected '*': inline commands are off");
        }
        let Some(line) = self.line_at(bytes, "too big inline request")? else {
            return Ok(Decoded::Part);
        };
        match split_words(&bytes[line]) {
            Ok(words) => {
                self.line = words.into_iter().map(|word| word.to_vec()).collect();
                Ok(self.finish())
            }
            Err(_) => said("unbalanced quotes in request"),
        }
    }

    /// The request ends here.
    fn finish(&mut self) -> Decoded {
        self.words_left = None;
        self.word_len = None;
        self.scanned = 0;
        Decoded::Request(std::mem::take(&mut self.at))
    }

    /// How many words the request has that was found last.
    pub fn word_count(&self) -> usize {
        self.words.len() + self.line.len()
    }

    /// A word of the request that was found last, in the same bytes; empty where there is none.
    pub fn word<'b>(&'b self, bytes: &'b [u8], index: usize) -> &'b [u8] {
        match self.words.get(index) {
            Some(range) => bytes.get(range.clone()).unwrap_or_default(),
            None => self.line.get(index).map_or(&[], Vec::as_slice),
        }
    }

    /// Where a word of the request that was found last stands in its bytes; `None` for one of a line.
    pub(super) fn place(&self, index: usize) -> Option<Range<usize>> {
        self.words.get(index).cloned()
    }

    /// How many bytes are still to come of the word that is being received, if that is known.
    pub fn bytes_missing(&self, have: usize) -> usize {
        let end = self.word_len.map_or(0, |len| self.at + len + 2);
        end.saturating_sub(have)
    }
}

/// A number as Redis reads it in the protocol.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-");
    let magnitude = digits.unwrap_or(text);
    if magnitude.is_empty() || magnitude.len() > 19 {
        return None;
    }
    let mut number = 0_u64;
    for byte in magnitude {
        let digit = Some(byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)?;
        // Of 19 digits at most: below 2^64.
        number = number * 10 + u64::from(digit);
    }
    match digits {
        None => i64::try_from(number).ok(),
        Some(_) => 0_i64.checked_sub_unsigned(number),
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoded, Decoder, Limits, ProtocolError};

    const LIMITS: Limits = Limits {
        lines: true,
        ..Limits::TRUSTED
    };

    fn words_of(decoder: &Decoder, bytes: &[u8]) -> Vec<Vec<u8>> {
        let words = 0..decoder.word_count();
        words
            .map(|index| decoder.word(bytes, index).to_vec())
            .collect()
    }

    /// All requests, and the error that they end with.
    fn all(bytes: &[u8], limits: &Limits) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let mut decoder = Decoder::default();
        let mut requests = Vec::new();
        let mut rest = bytes;
        loop {
            match decoder.decode(rest, limits) {
                Err(error) => return (requests, Some(error)),
                Ok(Decoded::Part) => return (requests, None),
                Ok(Decoded::Request(len)) => {
                    requests.push(words_of(&decoder, rest));
                    rest = &rest[len..];
                }
            }
        }
    }

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn requests_are_arrays_or_lines() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nSET k \"a b\"\r\n*0\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI";
        let (requests, error) = all(bytes, &LIMITS);
        let none: &[&str] = &[];
        assert_eq!(
            requests,
            [
                words(&["GET", "k"]),
                words(&["SET", "k", "a b"]),
                words(none),
                words(&["PING"])
            ]
        );
        assert_eq!(error, None);
    }

    #[test]
    fn a_request_means_the_same_however_it_is_cut() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$5\r\na\r\nbc\r\nGET k1\r\n*1\r\n$0\r\n\r\n*1\r\n+OK\r\n";
        let (expected, expected_error) = all(bytes, &LIMITS);
        for cut in 0..bytes.len() {
            for second in cut..bytes.len() {
                let mut decoder = Decoder::default();
                let (mut requests, mut error) = (Vec::new(), None);
                let mut buffer = Vec::new();
                for piece in [&bytes[..cut], &bytes[cut..second], &bytes[second..]] {
                    buffer.extend_from_slice(piece);
                    while error.is_none() {
                        match decoder.decode(&buffer, &LIMITS) {
                            Err(met) => error = Some(met),
                            Ok(Decoded::Part) => break,
                            Ok(Decoded::Request(len)) => {
                                requests.push(words_of(&decoder, &buffer));
                                buffer.drain(..len);
                            }
                        }
                    }
                }
                assert_eq!(
                    (&requests, &error),
                    (&expected, &expected_error),
                    "{cut} {second}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused_in_the_words_of_redis() {
        let said = |text: &str| Some(ProtocolError::Said(text.to_owned()));
        for (bytes, expected) in [
            (&b"*x\r\n"[..], said("invalid multibulk length")),
            (b"*1000000000000\r\n", said("invalid multibulk length")),
            (
                b"*1\r\n$9223372036854775808\r\n",
                said("invalid bulk length"),
            ),
            (b"*1\r\n$-1\r\n", said("invalid bulk length")),
            (b"*1\r\n$536870913\r\n", said("invalid bulk length")),
            (b"*1\r\n+OK\r\n", said("expected '$', got '+'")),
            (b"SET k \"a\r\n", said("unbalanced quotes in request")),
            (b"POST / HTTP/1.1\r\n", Some(ProtocolError::Foreign)),
            (b"host: localhost\r\n", Some(ProtocolError::Foreign)),
        ] {
            assert_eq!(
                all(bytes, &LIMITS),
                (Vec::new(), expected),
                "{}",
                bytes.escape_ascii()
            );
        }
        let long = vec![b'a'; 65 << 10];
        assert_eq!(all(&long, &LIMITS).1, said("too big inline request"));
        let mut long = b"*".to_vec();
        long.extend(vec![b'1'; 65 << 10]);
        assert_eq!(all(&long, &LIMITS).1, said("too big mbulk count string"));
        assert!(all(b"GET k\r\n", &Limits::TRUSTED).1.is_some());
    }

    #[test]
    fn an_empty_line_is_no_request_and_no_error() {
        let (requests, error) = all(b"\r\n*1\r\n$4\r\nPING\r\n\n\r\n", &Limits::TRUSTED);
        let none: &[&str] = &[];
        assert_eq!(
            requests,
            [words(none), words(&["PING"]), words(none), words(none)]
        );
        assert_eq!(error, None);
    }

    #[test]
    fn the_memory_of_a_request_of_very_many_words_is_given_back() {
        let mut decoder = Decoder::default();
        let many = [&b"*100000\r\n"[..], &b"$0\r\n\r\n".repeat(100_000)].concat();
        assert!(matches!(
            decoder.decode(&many, &LIMITS),
            Ok(Decoded::Request(_))
        ));
        assert_eq!(decoder.word_count(), 100_000);
        let next = decoder.decode(b"*1\r\n$4\r\nPING\r\n", &LIMITS);
        assert!(matches!(next, Ok(Decoded::Request(_))));
        assert!(decoder.words.capacity() <= super::KEPT_WORDS);
    }

    #[test]
    fn a_stranger_may_send_little() {
        let said = |text: &str| Some(ProtocolError::Said(text.to_owned()));
        let strange = |bytes: &[u8]| all(bytes, &Limits::STRANGER).1;
        assert_eq!(
            strange(b"*11\r\n"),
            said("unauthenticated multibulk length")
        );
        assert_eq!(
            strange(b"*1\r\n$16385\r\n"),
            said("unauthenticated bulk length")
        );
        assert_eq!(strange(b"*10\r\n$16384\r\n"), None);
    }
}

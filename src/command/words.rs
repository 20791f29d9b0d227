//! A line of text as the words of a command.

use std::fmt;
use std::io::{self, Write};

/// The error of a line with a quote that is not closed, or is closed in the middle of a word.
///
/// The struct is `#[non_exhaustive]`: later versions may add fields.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnbalancedQuotes;

impl fmt::Display for UnbalancedQuotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unbalanced quotes: close each quote, and put a space after it")
    }
}

impl std::error::Error for UnbalancedQuotes {}

/// Splits a line into words with the quoting rules of redis-cli, which are also those of the
/// server's inline commands.
///
/// Words are separated by white space. Between double quotes a backslash begins `\n`, `\r`, `\t`, `\b`, `\a` or
/// `\x` with two hexadecimal digits, and takes any other byte as it is. Between single quotes only `\'` is
/// special. A quote may begin within a word, and what ends it ends the word.
///
/// # Errors
///
/// [`UnbalancedQuotes`].
///
/// ```
/// use brasa::command::split_words;
///
/// let words = split_words(br#"SET chave_1 "Relou\tUourdi" EX 10"#).unwrap();
/// assert_eq!(words[2], b"Relou\tUourdi");
/// assert!(split_words(b"SET chave_1 \"Relou").is_err());
/// ```
pub fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut words = Vec::new();
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let (word, behind) = first_word(rest)?;
        words.push(word);
        rest = skip_space(behind);
    }
    Ok(words)
}

/// White space as C's `isspace` has it.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn skip_space(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| !is_space(*byte));
    start
        .and_then(|start| line.get(start..))
        .unwrap_or_default()
}

/// The word that a line begins with, and what stands behind it.
fn first_word(line: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    let mut word = Vec::new();
    let mut rest = line;
    while let Some((byte, behind)) = rest.split_first() {
        let after_quotes = match byte {
            b'"' => double_quoted(behind, &mut word)?,
            b'\'' => single_quoted(behind, &mut word)?,
            b' ' | b'\n' | b'\r' | b'\t' => break,
            byte => {
                word.push(*byte);
                rest = behind;
                continue;
            }
        };
        return match after_quotes.first() {
            Some(next) if !is_space(*next) => Err(UnbalancedQuotes),
            _ => Ok((word, after_quotes)),
        };
    }
    Ok((word, rest))
}

/// Reads up to the closing quote, and gives back what stands behind it.
fn double_quoted<'l>(line: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], UnbalancedQuotes> {
    let mut rest = line;
    loop {
        let (byte, behind) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', behind @ ..] => return Ok(behind),
            [b'\\', escape @ ..] if !escape.is_empty() => unescape(escape),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

/// Reads up to the closing quote, and gives back what stands behind it.
fn single_quoted<'l>(line: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], UnbalancedQuotes> {
    let mut rest = line;
    loop {
        let (byte, behind) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', behind @ ..] => return Ok(behind),
            [b'\\', b'\'', behind @ ..] => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        word.push(byte);
        rest = behind;
    }
}

/// The byte that an escape stands for, without its backslash, and what stands behind it.
fn unescape(escape: &[u8]) -> (u8, &[u8]) {
    if let [b'x', high, low, behind @ ..] = escape
        && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
    {
        return (high << 4 | low, behind);
    }
    let (byte, behind) = escape.split_first().unwrap_or((&b'\\', &[]));
    let byte = match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => *other,
    };
    (byte, behind)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Writes a word between double quotes, as Redis shows one and [`split_words`] takes it back. All of it is ASCII.
///
/// # Errors
///
/// Those of the output.
///
/// ```
/// let mut line = Vec::new();
/// brasa::command::write_quoted(b"it's\n\xff", &mut line).unwrap();
/// assert_eq!(line, br#""it's\n\xff""#);
/// ```
pub fn write_quoted(word: &[u8], output: &mut impl Write) -> io::Result<()> {
    output.write_all(b"\"")?;
    for byte in word {
        match byte {
            b'\\' | b'"' => output.write_all(&[b'\\', *byte])?,
            b'\n' => output.write_all(b"\\n")?,
            b'\r' => output.write_all(b"\\r")?,
            b'\t' => output.write_all(b"\\t")?,
            0x07 => output.write_all(b"\\a")?,
            0x08 => output.write_all(b"\\b")?,
            b' '..=b'~' => output.write_all(&[*byte])?,
            _ => write!(output, "\\x{byte:02x}")?,
        }
    }
    output.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::{UnbalancedQuotes, split_words, write_quoted};

    #[test]
    fn a_quoted_word_is_as_redis_shows_it_and_can_be_taken_back() {
        let quoted = |word: &[u8]| {
            let mut line = Vec::new();
            write_quoted(word, &mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        assert_eq!(quoted(b"k'\"\\"), r#""k'\"\\""#);
        assert_eq!(
            quoted(b"\n\r\t\x07\x08\x00\x7f\xff\x1b\x0b \xc3\xa9~"),
            r#""\n\r\t\a\b\x00\x7f\xff\x1b\x0b \xc3\xa9~""#
        );
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(split_words(quoted(&all).as_bytes()).unwrap(), [all]);
        assert_eq!(quoted(b""), r#""""#);
    }

    fn split(line: &[u8]) -> Vec<Vec<u8>> {
        split_words(line).unwrap()
    }

    #[test]
    fn white_space_of_any_kind_and_length_separates_words() {
        assert_eq!(split(b"  SET\tk \r v\n"), [&b"SET"[..], b"k", b"v"]);
        assert!(split(b"").is_empty());
        assert!(split(b" \t\r\n\x0b\x0c").is_empty());
    }

    #[test]
    fn double_quotes_know_the_escapes_of_redis_cli() {
        for (line, word) in [
            (&br#""a b""#[..], &b"a b"[..]),
            (br#""""#, b""),
            (br#""\n\r\t\b\a\\\"""#, b"\n\r\t\x08\x07\\\""),
            (br#""\x00\xfF\x7g""#, b"\x00\xffx7g"),
            (br#""\x""#, b"x"),
            (br#""\q\'""#, b"q'"),
            (br#""it's""#, b"it's"),
        ] {
            assert_eq!(split(line), [word], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn single_quotes_know_only_the_escaped_quote() {
        for (line, word) in [
            (&br"'a b'"[..], &b"a b"[..]),
            (br"''", b""),
            (br"'\n\'\x00'", br"\n'\x00"),
            (br#"'say "hi"'"#, br#"say "hi""#),
        ] {
            assert_eq!(split(line), [word], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_quote_may_begin_within_a_word_and_its_end_ends_the_word() {
        assert_eq!(split(br#"ab"c d" e"#), [&b"abc d"[..], b"e"]);
        assert_eq!(split(br#"ab'c d'"#), [b"abc d"]);
    }

    #[test]
    fn an_open_quote_or_one_closed_within_a_word_is_refused() {
        for line in [
            &b"\""[..],
            b"'",
            b"SET k \"v",
            b"SET k 'v",
            br#""v\""#,
            br#""v\"#,
            br"'v\'",
            br#""a"b"#,
            br#"'a'b"#,
            br#""a""b""#,
            br#""a"'b'"#,
        ] {
            let refused = split_words(line);
            assert_eq!(refused, Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn outside_of_quotes_a_backslash_is_a_backslash_and_any_byte_is_itself() {
        assert_eq!(split(br"a\nb \"), [&br"a\nb"[..], br"\"]);
        assert_eq!(split(b"\xff\x00\x80"), [b"\xff\x00\x80"]);
        assert_eq!(split(b"a\x0bb"), [b"a\x0bb"]);
    }
}

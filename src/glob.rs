//! The patterns of KEYS and MATCH: `?`, `*`, `[a-z]`, `[^x]` and the backslash.
//!
//! Invariant: matching ends within about [`MAX_STEPS`] steps for every pattern, since a pattern may
//! come from any client.
//!
//! The algorithm does not recurse. After a mismatch it lets the *last* star take one more byte.
//! That is enough, because the part before that star has matched already. The steps are at most the
//! length of the pattern times the length of the text.

/// The number of comparisons after which a text counts as not matching. A pattern and a text of a
/// thousand bytes each stay below it.
const MAX_STEPS: usize = 1 << 20;

/// Returns whether a name matches a pattern of KEYS or PSUBSCRIBE.
#[cfg(feature = "server")]
pub(crate) fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    Pattern::new(pattern).matches(name)
}

/// A pattern for whole keys or fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern<'p> {
    pattern: &'p [u8],
}

impl<'p> Pattern<'p> {
    /// Makes a pattern. Every sequence of bytes is valid.
    pub(crate) fn new(pattern: &'p [u8]) -> Self {
        Self { pattern }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut pattern = self.pattern;
        let mut text = text;
        let mut steps = 0;
        // The pattern after the last star, and the text at which it was last tried.
        let mut last_star: Option<(&[u8], &[u8])> = None;
        loop {
            if let [b'*', rest @ ..] = pattern {
                pattern = rest;
                last_star = Some((pattern, text));
                continue;
            }
            let Some((byte, text_rest)) = text.split_first() else {
                // A star was handled above, and no other part matches the end of the text.
                return pattern.is_empty();
            };
            if let Some(rest) = match_one(pattern, *byte, &mut steps) {
                (pattern, text) = (rest, text_rest);
            } else if let Some((after_star, [_, shorter @ ..])) = last_star {
                (pattern, text) = (after_star, shorter);
                last_star = Some((pattern, text));
            } else {
                return false;
            }
            if steps > MAX_STEPS {
                return false;
            }
        }
    }
}

/// Compares a byte with the first part of a pattern, which is not a star. Returns the rest of the
/// pattern if the part matches.
fn match_one<'p>(pattern: &'p [u8], byte: u8, steps: &mut usize) -> Option<&'p [u8]> {
    *steps += 1;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => match_class(class, byte, steps),
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Like [`match_one`], for the pattern after an opening bracket. A class that is not closed ends
/// with the pattern. A class without members matches no byte.
fn match_class<'p>(class: &'p [u8], byte: u8, steps: &mut usize) -> Option<&'p [u8]> {
    let (mut class, negated) = match class {
        [b'^', members @ ..] => (members, true),
        members => (members, false),
    };
    let mut found = false;
    loop {
        *steps += 1;
        class = match class {
            [b'\\', member, rest @ ..] => {
                found |= *member == byte;
                rest
            }
            [b']', rest @ ..] => return (found != negated).then_some(rest),
            [] => return (found != negated).then_some(class),
            [start, b'-', end, rest @ ..] => {
                // A range may be written backwards.
                found |= (*start.min(end)..=*start.max(end)).contains(&byte);
                rest
            }
            [member, rest @ ..] => {
                found |= *member == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use crate::sync::Instant;
    use std::time::Duration;

    fn matches(pattern: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> bool {
        Pattern::new(pattern.as_ref()).matches(text.as_ref())
    }

    /// Each pattern, with texts that match and texts that do not.
    const CASES: [(&str, &[&str], &[&str]); 33] = [
        ("", &[""], &["a"]),
        ("user:1", &["user:1"], &["user:", "user:12", "User:1"]),
        ("*", &["", "a", "abc"], &[]),
        ("**", &["a", "abc"], &[]),
        ("a*", &["a", "ab", "abc"], &["", "ba"]),
        ("a**", &["a", "ab"], &["b"]),
        ("*a", &["a", "ba", "aa", "aba"], &["", "ab"]),
        ("a*b", &["ab", "aab", "abb", "a*b"], &["a", "b", "abc"]),
        ("*a*b*", &["ab", "xaybz", "aab"], &["ba", "a", "b"]),
        (
            "*abab*c",
            &["ababc", "abababc", "aababxc"],
            &["abac", "abab"],
        ),
        ("h?llo", &["hello", "h?llo", "h*llo"], &["hllo", "heello"]),
        ("?", &["a"], &["", "ab"]),
        ("?*", &["a", "ab"], &[""]),
        ("*?", &["a", "ab"], &[""]),
        (
            "h[ae]llo",
            &["hello", "hallo"],
            &["hillo", "hllo", "haello"],
        ),
        ("h[^e]llo", &["hallo", "h^llo"], &["hello", "hllo"]),
        (
            "h[a-c]llo",
            &["hallo", "hbllo", "hcllo"],
            &["hdllo", "h-llo"],
        ),
        ("h[c-a]llo", &["hallo", "hbllo", "hcllo"], &["hdllo"]),
        ("[^a-c]", &["d", "-"], &["a", "b", "c", ""]),
        ("[0-9a-f]", &["0", "9", "a", "f"], &["g", "-", ":"]),
        ("[a-]", &["a", "]", "_"], &["b", "-", "[a-]"]),
        ("[-a]", &["-", "a"], &["b"]),
        ("[a-a]", &["a"], &["-", "b"]),
        ("[]", &[], &["", "]", "[]", "a"]),
        ("[^]", &["]", "a"], &["", "[^]"]),
        ("[]a]", &[], &["]", "a", "a]", "]a]"]),
        ("[abc", &["a", "b", "c"], &["[abc", "d", ""]),
        ("[", &[], &["[", "", "a"]),
        (r"[\]a]", &["]", "a"], &[r"\", r"\]"]),
        (r"[\a-c]", &["a", "-", "c"], &["b", r"\"]),
        (r"\*", &["*"], &[r"\*", "a", ""]),
        (r"a\?b\[c\\", &[r"a?b[c\"], &[r"axb[c\", r"a\?b\[c\\"]),
        (r"a\", &[r"a\"], &["a"]),
    ];

    #[test]
    fn pattern_matches_its_texts_and_no_others() {
        for (pattern, matching, others) in CASES {
            for text in matching {
                assert!(matches(pattern, text), "{pattern:?} matches {text:?}");
            }
            for text in others {
                assert!(
                    !matches(pattern, text),
                    "{pattern:?} must not match {text:?}"
                );
            }
        }
    }

    #[test]
    fn pattern_is_bytes_and_its_ranges_are_unsigned() {
        assert!(matches(b"[\x80-\xff]\x00", b"\xc3\x00"));
        assert!(!matches(b"[\x80-\xff]", b"a"));
        assert!(matches(b"[a-\xff]", b"\x80"));
        assert!(!matches(b"[a-\xff]", b"A"));
        assert!(matches(b"?", b"\xff") && !matches(b"?", "ã"));
    }

    #[test]
    fn hostile_pattern_ends_soon() {
        let text = vec![b'a'; 65_535];
        let start = Instant::now();
        for pattern in [
            "*a".repeat(2_000) + "b",
            format!("*{}b", "a".repeat(30_000)),
            "[".repeat(60_000),
            "*[".to_owned() + &"a-b".repeat(20_000),
            "*?".repeat(30_000) + "b",
            "*".repeat(65_535) + "b",
        ] {
            assert!(!matches(&pattern, &text), "{:.20}", pattern);
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn pattern_and_text_of_a_thousand_bytes_are_not_cut_off() {
        let text = "a".repeat(999) + "b";
        assert!(matches(format!("*{}b", "a".repeat(998)), &text));
        assert!(matches(format!("*{}*b", "*a".repeat(499)), &text));
    }
}

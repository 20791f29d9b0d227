//! Patterns of KEYS and MATCH: `?`, `*`, `[a-z]`, `[^x]` and the backslash.
//!
//! A pattern may come from any client, so matching must end soon whatever the pattern is.
//! It does not recurse: where something does not fit, it is enough to let the *last* star take one
//! byte more, since all that stood before that star did fit. That takes at worst the
//! pattern's length times the text's, and is cut off at [`MAX_STEPS`].

/// How many bytes of the pattern are looked at, again and again, before a text counts as not
/// matching. A pattern and a text of a thousand bytes each stay below it.
const MAX_STEPS: usize = 1 << 20;

/// Whether a name matches a pattern, as KEYS and PSUBSCRIBE take it.
#[cfg(feature = "server")]
pub(crate) fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    Pattern::new(pattern).matches(name)
}

/// A pattern that whole keys or fields are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern<'p> {
    pattern: &'p [u8],
}

impl<'p> Pattern<'p> {
    /// Every sequence of bytes is a pattern.
    pub(crate) fn new(pattern: &'p [u8]) -> Self {
        Self { pattern }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut pattern = self.pattern;
        let mut text = text;
        let mut steps = 0;
        // What follows the last star, and where in the text that was tried last.
        let mut last_star: Option<(&[u8], &[u8])> = None;
        loop {
            if let [b'*', behind @ ..] = pattern {
                pattern = behind;
                last_star = Some((pattern, text));
                continue;
            }
            let Some((byte, text_behind)) = text.split_first() else {
                // A star would have been taken above, and nothing else fits the end.
                return pattern.is_empty();
            };
            if let Some(behind) = fit(pattern, *byte, &mut steps) {
                (pattern, text) = (behind, text_behind);
            } else if let Some((behind_star, [_, shorter @ ..])) = last_star {
                (pattern, text) = (behind_star, shorter);
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

/// Compares the first part of a pattern, no star, with a byte; gives back what follows that part
/// where they fit.
fn fit<'p>(pattern: &'p [u8], byte: u8, steps: &mut usize) -> Option<&'p [u8]> {
    *steps += 1;
    match pattern {
        [] => None,
        [b'?', behind @ ..] => Some(behind),
        [b'[', class @ ..] => fit_class(class, byte, steps),
        [b'\\', escaped, behind @ ..] => (*escaped == byte).then_some(behind),
        [literal, behind @ ..] => (*literal == byte).then_some(behind),
    }
}

/// As [`fit`], for what stands behind an opening bracket. A class that is not closed ends with the
/// pattern, and one without members fits no byte.
fn fit_class<'p>(class: &'p [u8], byte: u8, steps: &mut usize) -> Option<&'p [u8]> {
    let (mut class, negated) = match class {
        [b'^', members @ ..] => (members, true),
        members => (members, false),
    };
    let mut found = false;
    loop {
        *steps += 1;
        class = match class {
            [b'\\', member, behind @ ..] => {
                found |= *member == byte;
                behind
            }
            [b']', behind @ ..] => return (found != negated).then_some(behind),
            [] => return (found != negated).then_some(class),
            [start, b'-', end, behind @ ..] => {
                // A range may be given backwards.
                found |= (*start.min(end)..=*start.max(end)).contains(&byte);
                behind
            }
            [member, behind @ ..] => {
                found |= *member == byte;
                behind
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

    /// Each pattern with texts that it fits, and texts that it does not.
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
    fn a_pattern_fits_what_it_says_and_nothing_else() {
        for (pattern, fitting, others) in CASES {
            for text in fitting {
                assert!(matches(pattern, text), "{pattern:?} fits {text:?}");
            }
            for text in others {
                assert!(!matches(pattern, text), "{pattern:?} does not fit {text:?}");
            }
        }
    }

    #[test]
    fn patterns_are_bytes_and_ranges_of_them_have_no_sign() {
        assert!(matches(b"[\x80-\xff]\x00", b"\xc3\x00"));
        assert!(!matches(b"[\x80-\xff]", b"a"));
        assert!(matches(b"[a-\xff]", b"\x80"));
        assert!(!matches(b"[a-\xff]", b"A"));
        assert!(matches(b"?", b"\xff") && !matches(b"?", "ã"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
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
    fn honest_patterns_and_texts_of_a_thousand_bytes_are_not_cut_off() {
        let text = "a".repeat(999) + "b";
        assert!(matches(format!("*{}b", "a".repeat(998)), &text));
        assert!(matches(format!("*{}*b", "*a".repeat(499)), &text));
    }
}

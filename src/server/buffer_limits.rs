//! How many bytes may wait for a client, and from it: `client-output-buffer-limit` and `client-query-buffer-limit`.

use std::fmt::Write as _;
use std::time::Duration;

/// The smallest `client-query-buffer-limit`.
pub(super) const MIN_QUERY_BUFFER_BYTES: u64 = 1 << 20;

/// The default of `client-query-buffer-limit`.
pub(super) const QUERY_BUFFER_BYTES: usize = 1 << 30;

/// How many bytes of replies and messages may wait for a client; 0 for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OutputLimit {
    /// Beyond that it is disconnected at once.
    pub(super) hard: usize,
    /// Beyond that it is disconnected after `soft_time`.
    pub(super) soft: usize,
    pub(super) soft_time: Duration,
}

impl OutputLimit {
    const fn new(hard: usize, soft: usize, seconds: u64) -> OutputLimit {
        OutputLimit {
            hard,
            soft,
            soft_time: Duration::from_secs(seconds),
        }
    }
}

/// The limits by Redis's classes of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputLimits {
    /// Replies to any client.
    pub(super) normal: OutputLimit,
    /// There are no replicas: it is kept for the tools that set it.
    replica: OutputLimit,
    /// Messages to any client.
    pub(super) pubsub: OutputLimit,
}

/// Redis's defaults.
impl Default for OutputLimits {
    fn default() -> Self {
        OutputLimits {
            normal: OutputLimit::new(0, 0, 0),
            replica: OutputLimit::new(256 << 20, 64 << 20, 60),
            pubsub: OutputLimit::new(32 << 20, 8 << 20, 60),
        }
    }
}

impl OutputLimits {
    /// Changes the limits of the classes that the text names: class, hard limit, soft limit, seconds, and so on.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, in Redis's words. Then nothing is changed.
    pub(super) fn change(&mut self, text: &str) -> Result<(), &'static str> {
        let mut changed = self.clone();
        if !text.is_empty() {
            let words: Vec<&str> = text.split(' ').collect();
            let (groups, []) = words.as_chunks() else {
                return Err("Wrong number of arguments in buffer limit configuration.");
            };
            for [class, hard, soft, seconds] in groups {
                let limit = match class.to_ascii_lowercase().as_str() {
                    "normal" => &mut changed.normal,
                    "slave" | "replica" => &mut changed.replica,
                    "pubsub" => &mut changed.pubsub,
                    _ => {
                        return Err(
                            "Invalid client class specified in buffer limit configuration.",
                        );
                    }
                };
                let size = |word| usize::try_from(parse_memory(word)?).ok();
                let read = || {
                    let seconds = seconds.parse::<u32>().ok()?;
                    Some(OutputLimit::new(size(hard)?, size(soft)?, seconds.into()))
                };
                *limit = read().ok_or(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
                )?;
            }
        }
        *self = changed;
        Ok(())
    }

    /// The limits as CONFIG GET shows them.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let classes = [
            ("normal", &self.normal),
            ("slave", &self.replica),
            ("pubsub", &self.pubsub),
        ];
        for (name, limit) in classes {
            let separator = if text.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{separator}{name} {} {} {}",
                limit.hard,
                limit.soft,
                limit.soft_time.as_secs()
            );
        }
        text
    }
}

/// A number of bytes with a unit, as Redis reads one: `1kb` is 1,024 and `1k` is 1,000.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::{OutputLimits, parse_memory};

    #[test]
    fn limits_are_read_and_refused_as_in_redis() {
        let mut limits = OutputLimits::default();
        assert_eq!(
            limits.text(),
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        );
        assert_eq!(limits.change(""), Ok(()));
        assert_eq!(limits.change("normal 1kb 1k 5 pubsub 1GB 2g 6"), Ok(()));
        let expected =
            "normal 1024 1000 5 slave 268435456 67108864 60 pubsub 1073741824 2000000000 6";
        assert_eq!(limits.text(), expected);
        for (text, refusal) in [
            ("normal 0 0", "Wrong number"),
            ("normal  0 0 0", "Wrong number"),
            ("master 0 0 0", "Invalid client class"),
            ("normal a 0 0", "Error in hard"),
            ("normal 0 0 -1", "Error in hard"),
            ("normal 1.5kb 0 0", "Error in hard"),
            ("normal -1 0 0", "Error in hard"),
            ("normal 1 1 1 x 1 1 1", "Invalid client class"),
        ] {
            let refused = limits.change(text).unwrap_err();
            assert!(refused.starts_with(refusal), "{text}: {refused}");
        }
        assert_eq!(limits.text(), expected);
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10B", Some(10)),
            ("2mb", Some(2 << 20)),
            ("100gb", Some(100 << 30)),
            ("abc", None),
            ("", None),
            ("-5mb", None),
            ("99999999999999999999", None),
            ("18446744073709551615k", None),
        ] {
            assert_eq!(parse_memory(text), expected, "{text}");
        }
    }
}

//! Log messages about a file that cannot be read or written: each reason once, and again after a
//! while.

use std::collections::HashMap;
use std::time::Duration;

use crate::Error;
use crate::sync::Instant;
use crate::sync::{Mutex, PoisonError};

/// How long the same reason is not logged again.
const PAUSE: Duration = Duration::from_secs(60);

/// Reasons that are kept, at most.
const KEPT: usize = 64;

/// The errors that were logged last. See the module.
#[derive(Debug, Default)]
pub(super) struct LoggedErrors(Mutex<HashMap<String, Instant>>);

impl LoggedErrors {
    /// Logs an error, if it is one of the file and was not logged a moment ago.
    pub(super) fn note(&self, error: &Error) {
        if !is_of_file(error) {
            return;
        }
        let text = error.to_string();
        if self.is_due(&text, Instant::now()) {
            tracing::error!("a command failed: {text}");
        }
    }

    fn is_due(&self, text: &str, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        let is_due = logged.len() < KEPT && !logged.contains_key(text);
        if is_due {
            logged.insert(text.to_owned(), now);
        }
        is_due
    }
}

/// Whether an error is one of the file or of the machine, and not of what a client has asked for.
fn is_of_file(error: &Error) -> bool {
    !matches!(
        error,
        Error::TooLarge { .. }
            | Error::WrongType
            | Error::NotAnInteger
            | Error::FieldNotAnInteger
            | Error::NotAFloat
            | Error::FieldNotAFloat
            | Error::NotFinite
            | Error::InfiniteIncrement
            | Error::Overflow
            | Error::DeadlineOutOfRange
            | Error::NoSuchDatabase { .. }
            | Error::OverBudget { .. }
            | Error::ReadOnly { .. }
    )
}

#[cfg(test)]
mod tests {
    use crate::sync::Instant;
    use std::time::Duration;

    use super::{KEPT, LoggedErrors, PAUSE};

    #[test]
    fn same_reason_is_logged_once_a_minute() {
        let (logged, begun) = (LoggedErrors::default(), Instant::now());
        assert!(logged.is_due("damaged", begun));
        assert!(!logged.is_due("damaged", begun + PAUSE / 2));
        assert!(logged.is_due("full", begun + PAUSE / 2));
        assert!(logged.is_due("damaged", begun + PAUSE));
        // A damaged file has many offsets: the log is not filled with them.
        let later = begun + PAUSE * 3;
        let due = (0..1_000).filter(|number| logged.is_due(&number.to_string(), later));
        assert_eq!(due.count(), KEPT);
        assert!(logged.is_due("again", later + PAUSE + Duration::from_secs(1)));
    }
}

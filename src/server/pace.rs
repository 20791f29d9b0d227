//! Which commands block the thread that executes them, and how many may do so at once.

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::command::{Command, Flags};
use crate::sync::Arc;

/// Clients that may block a thread at once, for either reason. The runtime has 512 threads for that, and stands still when all of them
/// wait.
const BLOCKED: usize = 64;

/// A pattern of more bytes takes long to compare with names.
const LONG_PATTERN_BYTES: usize = 1_024;

/// What a command may make its thread do, which others need not wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is done at once.
    Quick,
    /// It may have to wait for another process's write, or for a client with a slow command.
    Waits,
    /// It may take long by itself.
    Long,
}

/// The slots for blocked threads. A slow command does not queue after the clients that wait for
/// another process.
#[derive(Debug)]
pub(super) struct Places {
    waiting: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            waiting: Arc::new(Semaphore::new(BLOCKED)),
            long: Arc::new(Semaphore::new(BLOCKED)),
        }
    }
}

impl Places {
    /// Waits until there is a place for a command of this pace, without a thread. It is free again when it is dropped.
    pub(super) async fn take(&self, pace: Pace) -> Option<OwnedSemaphorePermit> {
        let places = match pace {
            Pace::Quick => return None,
            Pace::Waits => &self.waiting,
            Pace::Long => &self.long,
        };
        // It fails only if the semaphore is closed, which never happens.
        Arc::clone(places).acquire_owned().await.ok()
    }

    /// Whether a slow command is in progress that may keep other clients from writing.
    pub(super) fn has_long(&self) -> bool {
        self.long.available_permits() < BLOCKED
    }
}

/// Whether a command may take long, whatever other processes do.
pub(super) fn takes_long(command: &Command) -> bool {
    let is_quick = matches!(command.name, "shutdown" | "monitor");
    command.flags.contains(Flags::ADMIN) && !is_quick
        || matches!(command.name, "keys" | "lcs" | "waitaof")
}

/// Whether a SCAN or HSCAN may take long: it asks for a page of 10,000 entries or more, or compares names with a long pattern.
pub(super) fn scans_much<'w>(command: &Command, mut words: impl Iterator<Item = &'w [u8]>) -> bool {
    let is_large = |word: &[u8]| word.len() > 4 && word.iter().all(u8::is_ascii_digit);
    matches!(command.name, "scan" | "hscan")
        && words.any(|word| is_large(word) || word.len() > LONG_PATTERN_BYTES)
}

/// Does something; others are served meanwhile where it is not quick.
pub(super) fn at_pace<R>(pace: Pace, work: impl FnOnce() -> R) -> R {
    match pace {
        Pace::Quick => work(),
        Pace::Waits | Pace::Long => tokio::task::block_in_place(work),
    }
}

#[cfg(test)]
mod tests {
    use super::scans_much;
    use crate::command::find;

    #[test]
    fn scan_of_a_large_page_or_by_a_long_pattern_takes_long() {
        let long = "x".repeat(1_025);
        for (name, words, expected) in [
            ("scan", vec!["COUNT", "9999"], false),
            ("scan", vec!["MATCH", "user:*", "COUNT", "10000"], true),
            ("hscan", vec!["count", "1000000000", "NOVALUES"], true),
            ("hscan", vec!["MATCH", &long], true),
            ("hget", vec!["1000000"], false),
        ] {
            let command = find(name.as_bytes()).unwrap();
            let found = scans_much(command, words.iter().map(|word| word.as_bytes()));
            assert_eq!(found, expected, "{name} {words:?}");
        }
    }
}

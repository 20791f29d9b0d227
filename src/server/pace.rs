//! Which commands block the thread that executes them, and how many may do so at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::command::{Command, Flags};

/// Clients that may block a thread at once, for either reason. The runtime has 512 threads for that, and stands still when all of them
/// wait.
const BLOCKED: usize = 64;

/// What a command may make its thread do, which others need not wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is done at once.
    Quick,
    /// It may have to wait until another process has written, or a client whose command takes long.
    Waits,
    /// It may take long by itself.
    Long,
}

/// The places of those who block a thread: whoever does so by himself does not queue behind all who wait for another process.
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
        // It fails where the semaphore is closed, which nobody does.
        Arc::clone(places).acquire_owned().await.ok()
    }

    /// Whether somebody is at what may take long, and may keep the others from writing meanwhile.
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

/// Does something; others are served meanwhile where it is not quick.
pub(super) fn at_pace<R>(pace: Pace, work: impl FnOnce() -> R) -> R {
    match pace {
        Pace::Quick => work(),
        Pace::Waits | Pace::Long => tokio::task::block_in_place(work),
    }
}

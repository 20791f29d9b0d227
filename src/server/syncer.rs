//! One sync for all clients that wait for it.
//!
//! A client that has written takes a number. A thread syncs repeatedly while clients wait. Each
//! sync covers all numbers taken before it began.

use std::time::Duration;

use tokio::sync::watch;

use crate::Db;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

/// What the last syncs have come to.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// All numbers up to here are on the device.
    covered: u64,
    /// The last number that a failed sync was for, and why it failed.
    failed: Option<(u64, String)>,
}

impl Outcome {
    /// Why what this number stands for may not be on the device.
    fn failure_of(&self, number: u64) -> Option<&str> {
        let (upto, failure) = self.failed.as_ref()?;
        (number <= *upto && number > self.covered).then_some(&**failure)
    }
}

#[derive(Debug)]
struct Asked {
    last: AtomicU64,
    is_over: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

/// See the module.
pub(super) struct Syncer {
    asked: Arc<Asked>,
    outcomes: watch::Receiver<Outcome>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Syncer {
    pub(super) fn start(db: Db) -> std::io::Result<Syncer> {
        let asked = Arc::new(Asked {
            last: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        });
        let (sender, outcomes) = watch::channel(Outcome::default());
        let shared = Arc::clone(&asked);
        let thread = thread::Builder::new()
            .name("brasa-sync".to_owned())
            .spawn(move || shared.sync_while_asked(&db, &sender))?;
        Ok(Syncer {
            asked,
            outcomes,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits until everything that was written before this call is on the device.
    ///
    /// # Errors
    ///
    /// Why it cannot be carried there.
    pub(super) async fn wait(&self) -> Result<(), String> {
        let number = self.asked.last.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.wake();
        let mut outcomes = self.outcomes.clone();
        let reached = outcomes
            .wait_for(|outcome| outcome.covered >= number || outcome.failure_of(number).is_some())
            .await;
        match reached {
            Ok(outcome) => match outcome.failure_of(number) {
                Some(failure) => Err(failure.to_owned()),
                None => Ok(()),
            },
            Err(_) => Err("the server is shutting down".to_owned()),
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.asked.is_over.store(true, Ordering::Release);
        self.asked.wake();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // No receiver is left for a panic there.
            let _ = thread.join();
        }
    }
}

impl Asked {
    fn wake(&self) {
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_one();
    }

    /// Gives the clients that the last sync released a moment to ask again.
    ///
    /// Without this pause two halves of them would alternate, and each sync would cover one half.
    /// The pause is at most as long as the last sync took. It happens once if the clients do not
    /// come back.
    fn gather(&self, upto: u64, sync_took: Duration) {
        /// A client that was released and has not asked again does something else, however slow the device is.
        const LONGEST: Duration = Duration::from_millis(1);
        /// Short compared with a sync, and long enough to leave the processor to the awaited
        /// clients.
        const STEP: Duration = Duration::from_micros(20);
        let begun = Instant::now();
        let at_most = sync_took.min(LONGEST);
        while self.last.load(Ordering::Acquire) < upto && begun.elapsed() < at_most {
            thread::sleep(STEP);
        }
    }

    fn sync_while_asked(&self, db: &Db, outcomes: &watch::Sender<Outcome>) {
        let (mut covered, mut done) = (0, 0);
        let (mut expected, mut took) = (0, Duration::ZERO);
        loop {
            let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            while self.last.load(Ordering::Acquire) == done {
                if self.is_over.load(Ordering::Acquire) {
                    return;
                }
                held = self
                    .changed
                    .wait(held)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(held);
            self.gather(done + expected, took);
            // Read before the sync begins: what comes later is not covered by it.
            let number = self.last.load(Ordering::Acquire);
            let begun = Instant::now();
            let synced = db.sync();
            took = begun.elapsed();
            expected = self.last.load(Ordering::Acquire) - done;
            let failure = synced.err().map(|error| error.to_string());
            let failed = failure.map(|failure| (number, failure));
            if failed.is_none() {
                covered = number;
            }
            done = number;
            // Another time it may be a file that a compaction has made, and that can be synced.
            let _ = outcomes.send(Outcome { covered, failed });
        }
    }
}

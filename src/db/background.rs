//! The threads of a handle: one that syncs what [`Durability::Interval`] allows to lag, and one that compacts.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::engine::Engine;
use crate::{Durability, Error, Result};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Syncs the engine every interval until it is dropped.
pub(crate) struct IntervalSync {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Compacts in a thread of its own, which lives as long as there is something to do.
pub(crate) struct Compactor {
    engine: Arc<Engine>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compactor {
    pub(super) fn new(engine: &Arc<Engine>) -> Compactor {
        Compactor {
            engine: Arc::clone(engine),
            thread: Mutex::new(None),
        }
    }

    /// Starts the thread, unless it is running.
    pub(super) fn start(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let started = thread::Builder::new()
            .name("brasa-compact".to_owned())
            .spawn(move || engine.compact_in_background());
        // Without a thread the file grows on; closing does its share all the same.
        *thread = started.ok();
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.engine.stop_compaction();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic there has nobody left to be told.
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl IntervalSync {
    /// Starts the thread where the durability asks for one.
    pub(super) fn start(
        engine: &Arc<Engine>,
        durability: Durability,
        read_only: bool,
    ) -> Result<Option<IntervalSync>> {
        let Durability::Interval(interval) = durability else {
            return Ok(None);
        };
        // An interval of nothing would keep a processor busy with asking.
        let interval = interval.max(SHORTEST_INTERVAL);
        if read_only {
            return Ok(None);
        }
        let stop = Arc::new(Stop::default());
        let thread = thread::Builder::new()
            .name("brasa-sync".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                let engine = Arc::clone(engine);
                move || {
                    while !stop.wait(interval) {
                        // A failure poisons the file, and every later write reports it.
                        let _ = engine.sync_if_behind();
                    }
                }
            })
            .map_err(Error::io("start the sync thread of", engine.path()))?;
        Ok(Some(IntervalSync {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Stop {
    /// Waits for the interval to pass; gives back whether it was asked to stop.
    fn wait(&self, interval: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) = self
            .changed
            .wait_timeout_while(asked, interval, |asked| !*asked)
            .unwrap_or_else(PoisonError::into_inner);
        *asked
    }
}

impl Drop for IntervalSync {
    fn drop(&mut self) {
        *self
            .stop
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has nobody left to be told.
            let _ = thread.join();
        }
    }
}

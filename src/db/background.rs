//! The threads of a handle: one that syncs what [`Durability::Interval`] allows to lag, one that compacts, and one that gives up
//! a writer lock that is no longer used.

use std::time::Duration;

use crate::engine::{Engine, LeaseState};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use crate::{Durability, Error, Result};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// How long the compactor waits before it looks again whether a full disk has room for the copy: at
/// first, and at most. A look is one system call.
const SHORTEST_SPACE_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_SPACE_PAUSE: Duration = Duration::from_secs(8);

/// Syncs the engine every interval until it is dropped. The thread starts with the first write: a program that only reads, for a moment,
/// would pay more for it than for the rest.
pub(crate) struct IntervalSync {
    engine: Arc<Engine>,
    interval: Duration,
    stop: Arc<Stop>,
    started: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Ends a thread of a handle. In the child of a fork there is no such thread to wait for.
fn join(engine: &Engine, thread: Option<JoinHandle<()>>) {
    let Some(thread) = thread else {
        return;
    };
    if engine.is_forked() {
        std::mem::forget(thread);
    } else if thread.thread().id() != thread::current().id() {
        // A panic there has no caller to report to.
        let _ = thread.join();
    }
}

/// Compacts and writes checkpoints in a background thread, which ends when no work is due.
pub(crate) struct Compactor {
    engine: Arc<Engine>,
    state: Arc<CompactorState>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compactor {
    pub(super) fn new(engine: &Arc<Engine>) -> Compactor {
        Compactor {
            engine: Arc::clone(engine),
            state: Arc::default(),
            thread: Mutex::new(None),
        }
    }

    /// Starts the thread if work is due and no thread is running. Two loads, if there is nothing to
    /// start: every write calls this.
    #[inline]
    pub(super) fn start_if_due(&self) {
        if self.engine.is_work_due() && !self.state.is_running.load(Ordering::SeqCst) {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.is_running.swap(true, Ordering::SeqCst) {
            return;
        }
        // The previous thread is ending.
        join(&self.engine, thread.take());
        let (engine, running) = (Arc::clone(&self.engine), Running(Arc::clone(&self.state)));
        let started = thread::Builder::new()
            .name("brasa-compact".to_owned())
            .spawn(move || running.work(&engine));
        // Without a thread the file grows until the handle closes, which compacts it.
        if started.is_err() {
            self.state.is_running.store(false, Ordering::SeqCst);
        }
        *thread = started.ok();
    }
}

#[derive(Default)]
struct CompactorState {
    /// Set while the thread promises to look at the work that is due before it ends.
    is_running: AtomicBool,
    /// Set when the handle closes: the thread waits for nothing any more.
    is_closing: AtomicBool,
}

/// The state of the running thread. A panic clears its mark, too.
struct Running(Arc<CompactorState>);

impl Running {
    fn work(&self, engine: &Engine) {
        let mut pause = SHORTEST_SPACE_PAUSE;
        loop {
            engine.clear_work_due();
            engine.work_in_background();
            if engine.is_stopping() || self.0.is_closing.load(Ordering::SeqCst) {
                self.0.is_running.store(false, Ordering::SeqCst);
                return;
            }
            if engine.is_work_due() {
                continue;
            }
            if engine.is_waiting_for_space() {
                // No write need come: another program may free the space.
                thread::park_timeout(pause);
                pause = (pause * 2).min(LONGEST_SPACE_PAUSE);
                continue;
            }
            self.0.is_running.store(false, Ordering::SeqCst);
            // A write that found work due after the look above saw a running thread and left the
            // work to it. If another thread has been started since, that one does the work.
            if !engine.is_work_due() || self.0.is_running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_running.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        // Else closing would begin what is dropped here again. The child of a fork takes no lock, which a
        // thread of the parent may have held.
        if !self.engine.is_forked() && !self.engine.is_due_on_close() {
            self.engine.stop_compaction();
        }
        self.state.is_closing.store(true, Ordering::SeqCst);
        let thread = self.thread.get_mut();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = &thread
            && !self.engine.is_forked()
        {
            thread.thread().unpark();
        }
        // It is this one where the listener of a compaction drops the last handle.
        join(&self.engine, thread);
    }
}

/// Gives up an idle lease: looks after it while there is one, and sleeps else. The thread starts with the first one.
pub(crate) struct LeaseKeeper {
    engine: Arc<Engine>,
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default)]
struct SignalState {
    is_lease: bool,
    is_over: bool,
}

/// How often a lease is looked at.
const LEASE_STEP: Duration = Duration::from_millis(1);

impl LeaseKeeper {
    pub(super) fn new(engine: &Arc<Engine>) -> LeaseKeeper {
        LeaseKeeper {
            engine: Arc::clone(engine),
            signal: Arc::default(),
            thread: Mutex::new(None),
        }
    }

    /// Says that there is a lease now.
    pub(super) fn wake(&self) {
        self.signal.lock().is_lease = true;
        self.signal.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return;
        }
        let (engine, signal) = (Arc::downgrade(&self.engine), Arc::clone(&self.signal));
        let started = thread::Builder::new()
            .name("brasa-lease".to_owned())
            .spawn(move || signal.keep(&engine));
        match started {
            Ok(started) => *thread = Some(started),
            // No thread would release it.
            Err(_) => self.engine.end_lease(),
        }
    }
}

impl Signal {
    fn lock(&self) -> crate::sync::MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread owns the engine only while it works: in the child of a fork, where the thread does
    /// not run on, what it owned would never be closed.
    fn keep(&self, engine: &Weak<Engine>) {
        loop {
            let state = self.lock();
            let mut state = self
                .changed
                .wait_while(state, |state| !state.is_lease && !state.is_over)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            state.is_lease = false;
            loop {
                // Not a mere sleep: closing waits for this thread.
                let (still, _) = self
                    .changed
                    .wait_timeout_while(state, LEASE_STEP, |state| !state.is_over)
                    .unwrap_or_else(PoisonError::into_inner);
                if still.is_over {
                    return;
                }
                drop(still);
                let is_lease = engine
                    .upgrade()
                    .is_some_and(|engine| engine.look_after_lease() == LeaseState::Held);
                if !is_lease {
                    break;
                }
                state = self.lock();
            }
        }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        if !self.engine.is_forked() {
            self.signal.lock().is_over = true;
            self.signal.changed.notify_all();
            // So that the thread has nothing to wait for.
            self.engine.end_lease();
        }
        let thread = self.thread.get_mut();
        join(
            &self.engine,
            thread.unwrap_or_else(PoisonError::into_inner).take(),
        );
    }
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl IntervalSync {
    /// `None` where the durability asks for none.
    pub(super) fn new(
        engine: &Arc<Engine>,
        durability: Durability,
        read_only: bool,
    ) -> Option<IntervalSync> {
        let Durability::Interval(interval) = durability else {
            return None;
        };
        (!read_only).then(|| IntervalSync {
            engine: Arc::clone(engine),
            // An interval of nothing would keep a processor busy with asking.
            interval: interval.max(SHORTEST_INTERVAL),
            stop: Arc::default(),
            started: AtomicBool::new(false),
            thread: Mutex::new(None),
        })
    }

    /// Before anything is written.
    pub(super) fn ensure_started(&self) -> Result<()> {
        if self.started.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return Ok(());
        }
        let started = thread::Builder::new()
            .name("brasa-sync".to_owned())
            .spawn({
                let (stop, interval) = (Arc::clone(&self.stop), self.interval);
                // As the lease's keeper, it owns the engine only while it works.
                let engine = Arc::downgrade(&self.engine);
                move || {
                    while !stop.wait(interval)
                        && let Some(engine) = engine.upgrade()
                    {
                        // A sync that failed is reported by every later write; one that had to wait for too long is tried again.
                        let _ = engine.sync_if_behind();
                        // If this fails, the next call that reads or writes says so.
                        let _ = engine.follow_if_replaced();
                    }
                }
            })
            .map_err(Error::io("start the sync thread of", self.engine.path()))?;
        *thread = Some(started);
        self.started.store(true, Ordering::Relaxed);
        Ok(())
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
        // In the child of a fork the thread may have held the lock when it was lost.
        if !self.engine.is_forked() {
            let asked = self.stop.asked.lock();
            *asked.unwrap_or_else(PoisonError::into_inner) = true;
            self.stop.changed.notify_all();
        }
        let thread = self.thread.get_mut();
        join(
            &self.engine,
            thread.unwrap_or_else(PoisonError::into_inner).take(),
        );
    }
}

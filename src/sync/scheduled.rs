//! The primitives of `crate::sync` in a build with `--cfg brasa_schedules`: the scheduler of the
//! crate `shuttle` decides at each of them which thread runs next.
//!
//! Invariants:
//!
//! 1. All threads of one execution are coroutines on one thread of the system. So the state of an
//!    execution stands in `std` thread-locals, and `std` cells need no lock of the system.
//! 2. No coroutine is switched while it holds a lock of `std`: it would block all others for good.
//! 3. Time passes only where a thread sleeps, yields or waits with a timeout. A sleep takes a few turns of the scheduler, so that other threads may run meanwhile.

use std::cell::{Cell, RefCell};
use std::ops::{Add, AddAssign, Deref, DerefMut, Sub};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use shuttle::sync::{
    Arc, Barrier, LockResult, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
    TryLockResult, Weak, atomic, mpsc,
};
pub(crate) use thread_local_of_coroutine as thread_local;
// Their initializers take no lock and touch no file (invariant 2).
pub use std::sync::{LazyLock, Once};

/// How many turns of the scheduler a sleep takes.
const TURNS_OF_A_SLEEP: u32 = 4;

std::thread_local! {
    /// The monotonic time of this execution (invariant 1).
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

std::thread_local! {
    /// How many stacks are still to be collected, and those that were.
    static STACKS: RefCell<(usize, Vec<String>)> = const { RefCell::new((0, Vec::new())) };
}

/// Collects the stacks of the next `count` threads that come to a lock or a sleep, to show what a
/// livelock consists of.
pub fn collect_stacks(count: usize) {
    STACKS.with_borrow_mut(|stacks| *stacks = (count, Vec::new()));
}

/// Returns the stacks that were collected.
pub fn collected_stacks() -> Vec<String> {
    STACKS.with_borrow(|stacks| stacks.1.clone())
}

fn note_stack() {
    STACKS.with_borrow_mut(|(left, stacks)| {
        if *left > 0 {
            *left -= 1;
            stacks.push(std::backtrace::Backtrace::force_capture().to_string());
        }
    });
}

/// Lets monotonic time pass.
pub fn advance(by: Duration) {
    NOW.set(NOW.get().saturating_add(by));
}

/// Returns the monotonic time since the execution began, or since the first one on this thread.
pub fn now() -> Duration {
    NOW.get()
}

/// A point of the monotonic time that the laboratory moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Instant {
        Instant(now())
    }

    pub fn elapsed(&self) -> Duration {
        now().saturating_sub(self.0)
    }

    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub fn checked_add(&self, by: Duration) -> Option<Instant> {
        self.0.checked_add(by).map(Instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, by: Duration) -> Instant {
        Instant(self.0 + by)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        self.0 += by;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

pub mod thread {
    //! Threads that the scheduler runs one at a time.

    use std::cell::Cell;
    use std::io;
    use std::time::Duration;

    pub use shuttle::thread::{
        JoinHandle, Result, Scope, ScopedJoinHandle, Thread, ThreadId, current, panicking, park,
        scope,
    };

    /// The number of a simulated process; `None` for the thread that judges.
    pub type Process = Option<usize>;

    shuttle::thread_local! {
        static PROCESS: Cell<Process> = Cell::new(None);
    }

    /// Returns the simulated process that this thread belongs to.
    pub fn process() -> Process {
        PROCESS.with(Cell::get)
    }

    /// Puts this thread, and those that it starts, into a simulated process.
    pub fn enter_process(process: usize) {
        PROCESS.with(|mine| mine.set(Some(process)));
    }

    /// Starts a thread in the process of this one.
    pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let process = process();
        shuttle::thread::spawn(move || {
            PROCESS.with(|mine| mine.set(process));
            work()
        })
    }

    /// Starts a thread; its name is not kept.
    #[derive(Debug, Default)]
    pub struct Builder;

    impl Builder {
        /// Makes a builder.
        pub fn new() -> Builder {
            Builder
        }

        /// Takes the name of the thread.
        pub fn name(self, _name: String) -> Builder {
            self
        }

        /// Starts the thread.
        pub fn spawn<T: Send + 'static>(
            self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            Ok(spawn(work))
        }
    }

    /// Lets another thread run. Takes a microsecond: a thread may yield until a time is over.
    pub fn yield_now() {
        super::note_stack();
        advance(Duration::from_micros(1));
        shuttle::thread::yield_now();
    }

    use super::{TURNS_OF_A_SLEEP, advance, now};

    /// Lets time pass, and other threads run (invariant 3).
    pub fn sleep(duration: Duration) {
        super::note_stack();
        let end = now().saturating_add(duration);
        while now() < end {
            yield_now();
            advance((duration / TURNS_OF_A_SLEEP).max(Duration::from_nanos(1)));
        }
    }

    /// A wait that may end early, as the standard library allows.
    pub fn park_timeout(duration: Duration) {
        sleep(duration);
    }
}

/// A variable of each coroutine, with the calls of the standard library's.
pub struct LocalKey<T: 'static>(pub &'static shuttle::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(f)
    }
}

impl<T: Copy> LocalKey<Cell<T>> {
    pub fn get(&'static self) -> T {
        self.0.with(Cell::get)
    }

    pub fn set(&'static self, value: T) {
        self.0.with(|cell| cell.set(value));
    }
}

impl<T> LocalKey<RefCell<T>> {
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(|cell| f(&cell.borrow()))
    }

    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.0.with(|cell| f(&mut cell.borrow_mut()))
    }
}

macro_rules! thread_local_of_coroutine {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const $initial:block;)*) => {
        $($(#[$attribute])* static $name: $crate::sync::LocalKey<$type> = {
            shuttle::thread_local! {
                static INNER: $type = $initial;
            }
            $crate::sync::LocalKey(&INNER)
        };)*
    };
}
pub(crate) use thread_local_of_coroutine;

/// A mutex whose guard knows it, so that a wait with a timeout can take it again.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        note_stack();
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(poisoned) => Err(PoisonError::new(MutexGuard {
                mutex: self,
                guard: poisoned.into_inner(),
            })),
        }
    }

    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                Err(TryLockError::Poisoned(PoisonError::new(MutexGuard {
                    mutex: self,
                    guard: poisoned.into_inner(),
                })))
            }
        }
    }

    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }

    pub fn into_inner(self) -> LockResult<T>
    where
        T: Sized,
    {
        self.0.into_inner()
    }

    pub fn clear_poison(&self) {
        self.0.clear_poison();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A condition variable whose waits can time out.
#[derive(Debug, Default)]
pub struct Condvar {
    condvar: shuttle::sync::Condvar,
    /// Counts the notifications, for those that wait with a timeout.
    notifications: AtomicU64,
}

/// Whether a wait ended by its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar {
            condvar: shuttle::sync::Condvar::new(),
            notifications: AtomicU64::new(0),
        }
    }

    pub fn notify_one(&self) {
        self.notify_all();
    }

    pub fn notify_all(&self) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
        self.condvar.notify_all();
    }

    pub fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        mut waits: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { mutex, mut guard } = guard;
        while waits(&mut guard) {
            guard = match self.condvar.wait(guard) {
                Ok(guard) => guard,
                Err(poisoned) => {
                    let guard = poisoned.into_inner();
                    return Err(PoisonError::new(MutexGuard { mutex, guard }));
                }
            };
        }
        Ok(MutexGuard { mutex, guard })
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex;
        let seen = self.notifications.load(Ordering::Relaxed);
        let end = now().saturating_add(timeout);
        drop(guard);
        let is_notified = || self.notifications.load(Ordering::Relaxed) != seen;
        while now() < end && !is_notified() {
            thread::yield_now();
            advance((timeout / TURNS_OF_A_SLEEP).max(Duration::from_nanos(1)));
        }
        let result = WaitTimeoutResult(!is_notified());
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), result))),
        }
    }

    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut waits: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let end = now().saturating_add(timeout);
        loop {
            if !waits(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let left = end.saturating_sub(now());
            if left.is_zero() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = self.wait_timeout(guard, left)?.0;
        }
    }
}

/// A cell that is set once. Unlike the one of `std` it may be initialized by a closure that takes
/// locks (invariant 2).
#[derive(Debug)]
pub struct OnceLock<T> {
    cell: std::sync::OnceLock<T>,
    is_being_set: AtomicBool,
}

impl<T> OnceLock<T> {
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            cell: std::sync::OnceLock::new(),
            is_being_set: AtomicBool::new(false),
        }
    }

    pub fn get(&self) -> Option<&T> {
        self.cell.get()
    }

    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.cell.get_mut()
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        self.cell.set(value)
    }

    pub fn into_inner(self) -> Option<T> {
        self.cell.into_inner()
    }

    pub fn get_or_init(&self, initialize: impl FnOnce() -> T) -> &T {
        while self.cell.get().is_none() && self.is_being_set.swap(true, Ordering::Relaxed) {
            thread::yield_now();
        }
        if let Some(value) = self.cell.get() {
            return value;
        }
        let value = initialize();
        self.cell.get_or_init(|| value)
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

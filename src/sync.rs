//! The primitives of concurrency and of monotonic time, under the names of the standard library.
//!
//! This module is the only one that names `std::sync`, `std::thread` and `Instant`;
//! `tests/architecture.rs` holds that. A build with `--cfg brasa_schedules` replaces all of them by
//! ones that a scheduler controls (`scheduled.rs`): `tests/schedules` tries orders of threads, and
//! times, that no test with real threads meets. A normal build re-exports the standard library and
//! pays nothing.

#![allow(unused_imports, reason = "each set of features uses some of them")]

#[cfg(brasa_schedules)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it has what the standard library has"
)]
pub(crate) mod scheduled;
#[cfg(not(brasa_schedules))]
mod standard {
    pub(crate) use std::sync::{
        Arc, Barrier, Condvar, LazyLock, LockResult, Mutex, MutexGuard, Once, OnceLock,
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError, TryLockResult, Weak,
        atomic, mpsc,
    };
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
    pub(crate) use std::time::Instant;
}

/// A word that no scheduler controls. A file's memory consists of them, since their layout is that of
/// a `u64`. So are counters of the whole process, which several executions share.
pub(crate) use std::sync::atomic::AtomicU64 as Word;
/// Locks that no scheduler controls: those of the simulated disk and of files in memory, each
/// operation of which is one step. While one of them is held no other lock is taken.
pub(crate) mod plain {
    pub(crate) use std::sync::{Mutex, MutexGuard};
}
/// State of an execution under the scheduler, and of a thread in a normal build.
pub(crate) use std::thread_local as execution_local;

/// Declares a value that all handles of a process share, made at its first use. An execution under a
/// scheduler has its own.
#[cfg(not(brasa_schedules))]
macro_rules! process_static {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $initial:expr;) => {
        $(#[$attribute])* static $name: $crate::sync::LazyLock<$type> =
            $crate::sync::LazyLock::new(|| $initial);
    };
}
#[cfg(brasa_schedules)]
macro_rules! process_static {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $initial:expr;) => {
        shuttle::lazy_static! {
            $(#[$attribute])* static ref $name: $type = $initial;
        }
    };
}
pub(crate) use process_static;

#[cfg(brasa_schedules)]
pub(crate) use scheduled::*;
#[cfg(not(brasa_schedules))]
pub(crate) use standard::*;

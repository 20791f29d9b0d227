//! The primitives of concurrency and of monotonic time, under the names of the standard library.
//!
//! This is the only file that names `std::sync`, `std::thread` and `Instant`;
//! `tests/architecture.rs` holds that. So a build for the schedule laboratory can replace all of
//! them by ones that a scheduler controls. A normal build re-exports the standard library and pays
//! nothing.

#![allow(unused_imports, reason = "each set of features uses some of them")]

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::mpsc;
pub(crate) use std::sync::{
    Arc, Barrier, Condvar, LazyLock, LockResult, Mutex, MutexGuard, Once, OnceLock, PoisonError,
    RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError, TryLockResult, Weak,
};
pub(crate) use std::thread;
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

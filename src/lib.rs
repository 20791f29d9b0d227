//! **brasa** (Portuguese for an ember) keeps strings and hashes, each with a time to live, in one
//! file: an embedded, durable key-value engine with the meanings of Redis and no server.
//!
//! ```
//! # fn main() -> brasa::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("cache.brasa");
//! use brasa::{Db, SetOptions};
//! use std::time::Duration;
//!
//! let db = Db::open(&path)?;
//! db.set("chave_1", "Relou Uourdi")?;
//! assert_eq!(db.get("chave_1")?.unwrap().to_str(), Ok("Relou Uourdi"));
//!
//! db.hset("meu_hash", "nome", "thailan")?;
//! db.expire("meu_hash", Duration::from_secs(30))?;
//!
//! db.set_with("row:7", "3.21", SetOptions::new().ttl(Duration::from_secs(10)))?;
//! db.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to read on
//!
//! - [`Db`] is the handle, with everything that can be done; [`Options`] says how to open it.
//! - [`Cache`] is the cache in front of something slow; [`docs::cache`] says what it promises.
//! - [`docs::durability`] says what survives what.
//! - [`docs::processes`] says how many programs share a file.
//! - `brasa serve`, feature `server`, is a server of Redis's protocol over the same file.
//! - [`docs::space`] says when a file shrinks, and what goes when it has a budget.
//! - [`docs::opening`] says what opening costs, and what a checkpoint is.
//! - [`docs::speed`] says what calls cost, and what bounds them.
//! - [`docs::format`] is the specification of the file, byte by byte.
//! - [`docs::architecture`] is the map of the modules, for whoever changes them.
//! - [`inspect`] looks into a file without opening it: its records, whether they are sound, and what can be saved.
//! - [`command`] runs Redis commands, words in and a reply out, as the command line does.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Input from a file, a socket, an argument or a clock must neither panic nor be truncated by a cast.
// (Here and not in Cargo.toml: tests and examples may unwrap.)
#![warn(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("brasa maps whole files and needs a 64-bit target");

mod cache;
mod clock;
pub mod command;
mod db;
mod engine;
mod error;
mod glob;
mod index;
pub mod inspect;
pub mod limits;
mod log;
// Public through `simulation` alone.
#[cfg_attr(not(feature = "simulation"), allow(dead_code, unreachable_pub))]
mod mutation;
mod options;
mod record;
#[cfg(feature = "redis")]
mod remote;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "simulation")]
pub mod simulation;
mod storage;
#[cfg(feature = "redis")]
pub mod transfer;

#[cfg(feature = "serde")]
pub use cache::Serialized;
pub use cache::{
    Cache, CacheEncoding, CacheEntries, CacheError, CacheKey, CacheOptions, CacheStats, CacheTimes,
    CacheUsage, CacheValue, Degraded, DegradedTo, Encoded, Hashed, Memoized, ValueKind,
    WaitTimeout,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use db::{
    Batch, Db, Entries, ExpireCondition, FieldExpiry, FieldPage, Fields, KeyType, Keys,
    ScanOptions, ScanPage, Ttl, TtlChange, Watch,
};
pub use engine::{Change, ChangeKind, CompactionReport, Recovery, Stats, Value};
pub use error::{Error, Result};
pub use options::{Durability, Evict, Fallback, OnDamage, Options, SetOptions, SetOutcome};

/// The project's prose, rendered with the documentation.
pub mod docs {
    #[doc = include_str!("docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("docs/cache.md")]
    pub mod cache {}
    #[doc = include_str!("docs/durability.md")]
    pub mod durability {}
    #[doc = include_str!("docs/format.md")]
    pub mod format {}
    #[doc = include_str!("docs/opening.md")]
    pub mod opening {}
    #[doc = include_str!("docs/processes.md")]
    pub mod processes {}
    #[doc = include_str!("docs/server.md")]
    pub mod server {}
    #[doc = include_str!("docs/speed.md")]
    pub mod speed {}
    #[doc = include_str!("docs/space.md")]
    pub mod space {}
}

/// Compiles and runs the programs of the README as documentation tests.
#[cfg(all(doctest, feature = "serde", feature = "simulation"))]
#[doc = include_str!("../README.md")]
struct Readme;

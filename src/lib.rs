//! A durable cache and key-value store in one file, for programs that want no server: strings and
//! hashes, a TTL on every key and field, any number of processes on one file, and the commands of
//! Redis. *Brasa* is Portuguese for an ember.
//!
//! # A cache in front of something slow
//!
//! [`Cache`] computes a missing value once for all threads and processes that ask for it:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("cache.brasa");
//! use std::time::Duration;
//!
//! let cache = brasa::Cache::open(&path)?.ttl(Duration::from_secs(600)); // or Cache::for_app("tool")
//! let answer: String = cache.get_or_insert_with("question", || slow_lookup("question"))?;
//! # assert_eq!(answer, "QUESTION");
//! # Ok(())
//! # }
//! # fn slow_lookup(question: &str) -> std::io::Result<String> { Ok(question.to_uppercase()) }
//! ```
//!
//! # A database
//!
//! [`Db`] is the store itself:
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
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `serde` | a [`Cache`] stores every type that is `Serialize` and `DeserializeOwned` |
//! | `tokio` | `Cache::get_or_insert_async` |
//! | `tracing` | events for logs: compactions, recoveries, fallbacks, failed syncs ([`docs::tracing`]) |
//! | `cli` | the program `brasa` |
//! | `server` | the module `server`, and `brasa serve` with `cli` |
//! | `redis`, `redis-cluster`, `redis-tls` | a [`Cache`] over Redis, over a cluster, or over TLS; the module `transfer`, `brasa push` and `pull` |
//! | `simulation` | a disk that fails and loses power, for crash tests of your own code |
//!
//! # Further reading
//!
//! | page | subject |
//! | --- | --- |
//! | [`docs::cache`] | the promises of a cache |
//! | [`docs::durability`] | the failures that a file survives |
//! | [`docs::processes`] | programs that share a file |
//! | [`docs::server`] | a server of Redis's protocol over the same file |
//! | [`docs::space`] | the size of a file, compaction, and eviction under a budget |
//! | [`docs::opening`] | the cost of opening, and checkpoints |
//! | [`docs::speed`] | the cost of calls |
//! | [`docs::tracing`] | events for logs |
//! | [`docs::format`] | the file, byte by byte |
//! | [`docs::architecture`] | the modules, for maintainers |
//!
//! [`inspect`] examines and repairs a file without opening it. [`command`] runs Redis commands, words
//! in and a reply out, as the command line does.

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
mod events;
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
mod sync;
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
    #[doc = include_str!("docs/tracing.md")]
    pub mod tracing {}
}

/// Compiles and runs the programs of the README as documentation tests.
#[cfg(all(doctest, feature = "serde", feature = "simulation"))]
#[doc = include_str!("../README.md")]
struct Readme;

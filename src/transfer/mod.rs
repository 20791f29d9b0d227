//! Transfers between a file and a Redis or Valkey server: [`push`] and [`pull`]. Feature `redis`.
//!
//! A transfer copies strings and hashes, with the deadlines of keys and fields, many at a time. It
//! replaces keys of the same name on the other side, and keeps all others. It reports each key that
//! the target refuses or cannot store, and continues with the rest. Then it compares all keys on
//! both sides: [`Report::verified_count`].
//!
//! The 16 databases of a file keep their numbers. If the URL names a database (`redis://host/3`),
//! only the database that the handle shows is transferred, to or from that one. A cluster has only
//! database 0.
//!
//! ```no_run
//! # fn main() -> brasa::Result<()> {
//! use brasa::transfer::{Event, pull, push};
//!
//! let db = brasa::Db::open("cache.brasa")?;
//! let tell = |event: Event<'_>| println!("{event:?}");
//! let report = pull("redis://127.0.0.1/0", &db, None, tell)?;
//! assert!(report.is_complete());
//! push(&db, "redis://127.0.0.1/1", None, tell)?;
//! # Ok(())
//! # }
//! ```

mod compare;
mod position;
mod pull;
mod push;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

pub use position::Position;
pub use pull::pull;
pub use push::push;

use crate::limits::DATABASE_COUNT;
use crate::remote::{Link, Server};
use crate::{Db, Error, Result};

/// The timeout for one answer of a server, or for a page of them.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is collected at most before it is sent or written.
const PAGE_BYTES: usize = 4 << 20;

/// How many keys are asked for at a time.
const PAGE_KEYS: usize = 256;

/// Errors after which nothing more would succeed.
const FATAL: [&str; 11] = [
    "OOM",
    "READONLY",
    "LOADING",
    "NOAUTH",
    "NOPERM",
    "MISCONF",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "BUSY",
];

/// The progress of a transfer.
///
/// The [module](crate::transfer) has an example.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Keys were transferred.
    Moved {
        /// The number so far, including those before [`push`] or [`pull`] was resumed.
        done: u64,
        /// About how many there are.
        total: u64,
        /// The position from which the transfer can be resumed.
        position: &'a Position,
    },
    /// The given position cannot be used, so the transfer starts from the beginning.
    BegunAnew {
        /// The reason.
        reason: &'a str,
    },
    /// Keys were compared.
    Verified {
        /// The number so far.
        done: u64,
        /// About how many there are.
        total: u64,
    },
    /// A key was not transferred.
    Refused {
        /// The number of the database in the file.
        database: u8,
        /// The key.
        key: &'a [u8],
        /// The reason.
        reason: &'a str,
    },
    /// A key was transferred, and differs on both sides.
    Differs {
        /// The number of the database in the file.
        database: u8,
        /// The key.
        key: &'a [u8],
        /// The difference.
        reason: &'a str,
    },
}

/// The report of a transfer.
///
/// The [module](crate::transfer) has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// The number of transferred keys, including those before the transfer was resumed.
    pub moved_count: u64,
    /// The number of keys that are equal on both sides: type, length and deadline.
    pub verified_count: u64,
    /// The number of keys that were not transferred. Each was reported.
    pub refused_count: u64,
    /// The number of transferred keys that differ. Each was reported. Another program may have
    /// changed them meanwhile.
    pub differing_count: u64,
}

impl Report {
    /// Returns whether all keys were transferred and are equal.
    ///
    /// The [module](crate::transfer) has an example.
    pub fn is_complete(&self) -> bool {
        self.refused_count == 0 && self.differing_count == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} keys moved, {} verified, {} refused, {} different",
            self.moved_count, self.verified_count, self.refused_count, self.differing_count
        )
    }
}

/// One move under way.
struct Transfer<'a> {
    db: &'a Db,
    server: Server,
    link: Link,
    /// Whether the URL names a database.
    is_one_to_one: bool,
    tell: &'a mut dyn FnMut(Event<'_>),
    report: Report,
    /// Hashes of the keys that were refused, which are not to be told again as different.
    refused: HashSet<u64>,
    /// Whether the server does, once it was asked.
    knows_field_deadlines: Option<bool>,
}

impl<'a> Transfer<'a> {
    fn begin(db: &'a Db, url: &str, tell: &'a mut dyn FnMut(Event<'_>)) -> Result<Transfer<'a>> {
        let server = Server::connect(url, TIMEOUT)?;
        let link = server.open("connect to")?;
        Ok(Transfer {
            is_one_to_one: server.names_database(),
            db,
            server,
            link,
            tell,
            report: Report::default(),
            refused: HashSet::new(),
            knows_field_deadlines: None,
        })
    }

    /// The numbers of the file's databases that are moved.
    fn databases(&self) -> Vec<u8> {
        match self.is_one_to_one {
            true => vec![self.db.database_number()],
            false => (0..DATABASE_COUNT).collect(),
        }
    }

    /// Goes to the server's counterpart of a database; `false` where it has none.
    fn select(&mut self, database: u8) -> Result<bool> {
        if self.server.is_cluster() {
            return Ok(database == 0);
        }
        if self.is_one_to_one {
            return Ok(true);
        }
        let selected = self.link.query::<()>(redis::cmd("SELECT").arg(database));
        match selected {
            Ok(()) => Ok(true),
            // The server has fewer of them.
            Err(error) if error.code().is_some() && !is_fatal(&error) => Ok(false),
            Err(error) => Err(self.server.error("select a database of", &error)),
        }
    }

    /// Where to begin: at `from`, if it belongs to this run of the server. One that was started since may have lost what it was sent, and its cursors
    /// mean something else.
    fn begin_at(&mut self, from: Option<&Position>, run: &str) -> Position {
        match from {
            Some(from) if from.run == run => from.clone(),
            Some(_) => {
                let reason = "the server has restarted";
                (self.tell)(Event::BegunAnew { reason });
                Position::default()
            }
            None => Position::default(),
        }
    }

    fn refuse(&mut self, database: u8, key: &[u8], reason: &str) {
        self.report.refused_count += 1;
        self.refused.insert(fingerprint(database, key));
        (self.tell)(Event::Refused {
            database,
            key,
            reason,
        });
    }

    /// Sends requests, and gives back an answer or a reason for each.
    fn ask(&mut self, commands: &[redis::Cmd]) -> Result<Vec<Answer>> {
        let failed = |server: &Server, error: redis::RedisError| server.error("talk to", &error);
        let answers = self.link.pipeline(commands);
        let answers = answers.map_err(|error| failed(&self.server, error))?;
        answers
            .into_iter()
            .map(|answer| match answer {
                Err(error) if is_fatal(&error) || error.code().is_none() => {
                    Err(failed(&self.server, error))
                }
                answer => Ok(answer.map_err(|error| error.to_string())),
            })
            .collect()
    }
}

/// What a server answers to one request, or why it does not.
type Answer = Result<redis::Value, String>;

/// Whether nothing more would succeed after an error.
fn is_fatal(error: &redis::RedisError) -> bool {
    error.code().is_some_and(|code| FATAL.contains(&code))
}

/// An answer as what it should be.
fn read<T: redis::FromRedisValue>(server: &Server, answer: redis::Value) -> Result<T> {
    redis::from_redis_value(answer).map_err(|error| Error::Remote {
        operation: "understand",
        address: server.address().to_owned(),
        reason: error.to_string(),
    })
}

/// What a key is remembered by.
fn fingerprint(database: u8, key: &[u8]) -> u64 {
    siphasher::sip::SipHasher13::new_with_keys(u64::from(database), 0).hash(key)
}

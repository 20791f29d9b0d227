//! Everything between a file and a Redis or Valkey server: [`push`] and [`pull`]. Feature `redis`.
//!
//! Strings and hashes are moved with the deadlines of keys and fields, many at a time. What exists on the other side under the same key is replaced; what exists there
//! under other keys stays. What the other side refuses, or what cannot be kept here, is told key by key, and the rest is moved. Then everything
//! is looked at once more, on both sides: [`Report::verified_count`].
//!
//! A file's 16 databases keep their numbers. Where the URL names a database (`redis://host/3`), only the one that the handle shows is moved, to or from that
//! one. A cluster has database 0 alone.

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

/// How long a server may take for one answer, or for a page of them.
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

/// What happens on the way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Keys have been moved.
    Moved {
        /// So many by now, those before [`push`] or [`pull`] was gone on with included.
        done: u64,
        /// Of about so many.
        total: u64,
        /// Where to go on if this ends here.
        position: &'a Position,
    },
    /// The position that was given is of no use, and everything is moved from the beginning.
    BegunAnew {
        /// Why.
        reason: &'a str,
    },
    /// Keys have been looked at once more.
    Verified {
        /// So many by now.
        done: u64,
        /// Of about so many.
        total: u64,
    },
    /// A key was not moved.
    Refused {
        /// In which of the file's databases.
        database: u8,
        /// Which.
        key: &'a [u8],
        /// Why not.
        reason: &'a str,
    },
    /// A key is not the same on both sides, although it was moved.
    Differs {
        /// In which of the file's databases.
        database: u8,
        /// Which.
        key: &'a [u8],
        /// What is different.
        reason: &'a str,
    },
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Keys that were moved, those before it was gone on with included.
    pub moved_count: u64,
    /// Keys that are the same on both sides: type, length and deadline.
    pub verified_count: u64,
    /// Keys that were not moved, each of which was told.
    pub refused_count: u64,
    /// Keys that were moved and are not the same, each of which was told. Somebody may have changed them meanwhile.
    pub differing_count: u64,
}

impl Report {
    /// Whether everything is there.
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

//! Redis commands: words in, a reply out.
//!
//! This layer knows the commands' names, options, checks and error texts, as in Redis 7.0. It must
//! not know anything below the public [`Db`](crate::Db), nor the source of the words. The command
//! line reads them from its arguments or from lines ([`split_words`]); a server reads them from a
//! socket.
//!
//! Every command is a row of one table ([`commands`]), next to the function that executes it.
//!
//! ```
//! # fn main() -> brasa::Result<()> {
//! use brasa::command::{Reply, Session};
//!
//! let mut session = Session::new(brasa::Db::in_memory()?);
//! assert_eq!(session.execute(&["SET", "chave_1", "Relou Uourdi"]), Reply::OK);
//! assert_eq!(session.execute(&["STRLEN", "chave_1"]), Reply::Integer(12));
//!
//! let Reply::Error(error) = session.execute(&["HGET", "chave_1", "nome"]) else {
//!     panic!("a string is no hash");
//! };
//! assert_eq!(error.code(), "WRONGTYPE");
//! # Ok(())
//! # }
//! ```

mod arguments;
mod bitfield;
mod bits;
mod client;
mod conditional;
mod connection;
mod dump;
mod error;
mod expiry;
mod fields;

mod hashes;
pub mod host;
mod introspection;
mod keys;
mod lcs;
mod object;
mod places;
mod pubsub;
mod ranges;
mod reply;
mod scan;
mod server;
mod session;
mod settings;
mod strings;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod transactions;
mod words;

pub use error::ErrorReply;
pub use reply::{Bulk, Reply};
pub use session::{Session, refusal};
pub use settings::REDIS_VERSION;
pub use table::{Command, Flags, Group, KeyPositions, commands, find};
pub use words::{UnbalancedQuotes, split_words, write_quoted};

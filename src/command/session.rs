//! One user's conversation with a database.

use std::fmt;

use super::Reply;
use super::error::{ErrorReply, Failure, QUOTED_BYTES};
use super::table::{Command, find};
use super::transactions::{Pending, is_never_collected};
use crate::{Db, Result};

/// Executes commands one after another, and remembers what they agreed on: which of the 16
/// databases is selected, what is watched, and what MULTI has collected.
///
/// Sessions on clones of one [`Db`] are independent of each other, and may run on threads of their own.
pub struct Session {
    db: Db,
    pub(super) pending: Pending,
}

impl Session {
    /// A session on the database that the handle shows.
    pub fn new(db: Db) -> Session {
        Session {
            db,
            pending: Pending::default(),
        }
    }

    /// The database that is selected.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Ends the session and closes its handle, see [`Db::close`].
    ///
    /// # Errors
    ///
    /// As [`Db::close`].
    pub fn close(self) -> Result<()> {
        self.db.close()
    }

    /// Executes one command: its name, in upper or lower case, and its arguments.
    ///
    /// Whatever goes wrong is the reply: a [`Reply::Error`] with the text that Redis would give.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::command::{Reply, Session};
    ///
    /// let mut session = Session::new(brasa::Db::in_memory()?);
    /// assert_eq!(session.execute(&["incrby", "visits", "41"]), Reply::Integer(41));
    /// assert_eq!(session.execute(&["INCR", "visits"]), Reply::Integer(42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn execute(&mut self, words: &[impl AsRef<[u8]>]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        self.execute_words(&words)
    }

    /// As [`Session::execute`], for words that stand beside one another already.
    pub fn execute_words(&mut self, words: &[&[u8]]) -> Reply {
        match resolve(words) {
            Ok((command, _)) if self.pending.is_collecting() && !is_never_collected(command) => {
                self.pending.collect(words)
            }
            Ok((command, arguments)) => self.carry_out(command, arguments),
            Err(refusal) => {
                self.pending.refuse();
                Reply::Error(refusal)
            }
        }
    }

    /// Executes what was collected.
    pub(super) fn execute_all(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Reply> {
        let commands = commands.iter();
        commands.map(|words| self.execute(words)).collect()
    }

    fn carry_out(&mut self, command: &Command, arguments: &[&[u8]]) -> Reply {
        (command.handler)(self, arguments)
            .unwrap_or_else(|failure| Reply::Error(failure.into_reply(command.name)))
    }

    /// Goes on with another handle on the same file.
    pub(super) fn set_db(&mut self, db: Db) {
        self.db = db;
    }

    pub(super) fn select(&mut self, number: u8) -> Result<()> {
        self.db = self.db.database(number)?;
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("db", &self.db)
            .field("collected", &self.pending.collected())
            .field("watched", &self.pending.watched_count())
            .finish_non_exhaustive()
    }
}

/// The error that any session would answer with before it looked at its database: there is no
/// such command, or it does not take this many arguments.
///
/// It lets a caller who has not opened a file yet leave it alone.
///
/// ```
/// let refused = brasa::command::refusal(&["GET"]).unwrap();
/// assert_eq!(refused.to_string(), "ERR wrong number of arguments for 'get' command");
/// assert!(brasa::command::refusal(&["GET", "k"]).is_none());
/// ```
pub fn refusal(words: &[impl AsRef<[u8]>]) -> Option<ErrorReply> {
    let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
    resolve(&words).err()
}

/// The command, and the words behind its name.
fn resolve<'a, 'w>(
    words: &'a [&'w [u8]],
) -> Result<(&'static Command, &'a [&'w [u8]]), ErrorReply> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(ErrorReply::new(&b"ERR no command given"[..]));
    };
    let Some(command) = find(name) else {
        return Err(unknown_command(name, arguments));
    };
    if !command.takes(words.len()) {
        return Err(Failure::Arity.into_reply(command.name));
    }
    Ok((command, arguments))
}

fn unknown_command(name: &[u8], arguments: &[&[u8]]) -> ErrorReply {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(quoted(name, QUOTED_BYTES));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for argument in arguments {
        let room = QUOTED_BYTES.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(quoted(argument, room));
        text.extend_from_slice(b"' ");
    }
    ErrorReply::new(text)
}

/// The beginning of a word, up to its first zero byte, where Redis ends it.
fn quoted(word: &[u8], most_bytes: usize) -> &[u8] {
    let text = word.split(|byte| *byte == 0).next().unwrap_or_default();
    text.get(..most_bytes).unwrap_or(text)
}

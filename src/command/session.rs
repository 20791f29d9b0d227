//! One user's conversation with a database.

use super::Reply;
use super::error::{ErrorReply, Failure};
use super::table::{Command, find};
use crate::{Db, Result};

/// How much of a user's words an error quotes, in bytes.
const QUOTED_BYTES: usize = 128;

/// Executes commands one after another, and remembers what they agreed on: which of the 16
/// databases is selected.
///
/// Sessions on clones of one [`Db`] are independent of each other, and may run on threads of their own.
#[derive(Debug)]
pub struct Session {
    db: Db,
}

impl Session {
    /// A session on the database that the handle shows.
    pub fn new(db: Db) -> Session {
        Session { db }
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
        match resolve(&words) {
            Ok((command, arguments)) => (command.handler)(self, arguments)
                .unwrap_or_else(|failure| Reply::Error(failure.into_reply(command.name))),
            Err(refusal) => Reply::Error(refusal),
        }
    }

    pub(super) fn select(&mut self, number: u8) -> Result<()> {
        self.db = self.db.database(number)?;
        Ok(())
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

//! One user's conversation with a database.

use std::fmt;

use super::Reply;
use super::client::{Client, Silence};
use super::error::{ErrorReply, Failure, QUOTED_BYTES, quoted};
use super::host::{ClientInfo, Host};
use super::table::{Command, Flags, find};
use super::transactions::{Pending, is_never_collected};
use crate::limits::MAX_REPLY_BYTES;
use crate::sync::Arc;
use crate::{Db, Error, Result};

/// Executes commands one after another, and remembers what they agreed on: which of the 16
/// databases is selected, what is watched, and what MULTI has collected.
///
/// Sessions on clones of one [`Db`] are independent of each other, and may run on threads of their own.
///
/// The [module](crate::command) has an example of a session.
pub struct Session {
    db: Db,
    pub(super) pending: Pending,
    pub(super) client: Client,
    /// The command that was executed last.
    last_command: &'static str,
    /// Whether something may have been written since it was last asked.
    has_written: bool,
}

impl Session {
    /// A session on the database that the handle shows.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn new(db: Db) -> Session {
        Session {
            db,
            pending: Pending::default(),
            client: Client::local(),
            last_command: "NULL",
            has_written: false,
        }
    }

    /// A session of a server's client, which has this number. `is_trusted` says that it need give no password.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn of_client(db: Db, host: Arc<dyn Host>, id: u64, is_trusted: bool) -> Session {
        let mut session = Session::new(db);
        session.client.host = Some(host);
        session.client.id = id;
        session.client.is_trusted = is_trusted;
        session
    }

    /// The version of the protocol for replies, 2 or 3.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn protocol(&self) -> u8 {
        self.client.protocol
    }

    /// Whether the client has given the password, or none is needed.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn is_trusted(&self) -> bool {
        self.client.is_trusted
    }

    /// Ends the conversation, as QUIT.
    #[cfg(feature = "server")]
    pub(crate) fn leave(&mut self) {
        self.client.is_leaving = true;
    }

    /// Takes [`Session::leave`] back: the command that ended the conversation is executed again.
    #[cfg(feature = "server")]
    pub(crate) fn stay(&mut self) {
        self.client.is_leaving = false;
    }

    /// Whether the client has asked to be disconnected, once it has its reply.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn is_leaving(&self) -> bool {
        self.client.is_leaving
    }

    /// Whether a command that may write was executed since this was last asked.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn takes_has_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// Whether MULTI has begun to collect commands.
    #[cfg(feature = "server")]
    pub(crate) fn is_collecting(&self) -> bool {
        self.pending.is_collecting()
    }

    /// Goes on with another handle on the same file: that of a transaction, or the one behind it.
    #[cfg(feature = "server")]
    pub(crate) fn go_on_with(&mut self, db: Db) {
        self.db = db;
    }

    /// Which replies are wanted from here on.
    #[cfg(feature = "server")]
    pub(crate) fn silence(&self) -> Silence {
        self.client.silence
    }

    /// Whether CLIENT REPLY keeps nothing off now.
    #[cfg(feature = "server")]
    pub(crate) fn wants_replies(&self) -> bool {
        self.client.silence == Silence::None
    }

    /// Goes back to a command after which these were wanted.
    #[cfg(feature = "server")]
    pub(crate) fn set_silence(&mut self, silence: Silence) {
        self.client.silence = silence;
    }

    /// Whether the client waits for messages, or for what MONITOR shows.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn is_subscribed(&self) -> bool {
        !self.client.subscriptions.is_empty() || self.client.is_monitoring
    }

    /// The session as CLIENT INFO shows it, without what only the server knows.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn client_info(&self) -> ClientInfo {
        let mut info = ClientInfo {
            id: self.client.id,
            ..ClientInfo::default()
        };
        self.describe(&mut info);
        info
    }

    /// As [`Session::client_info`], into what was told before.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn describe(&self, info: &mut ClientInfo) {
        info.database = self.db.database_number();
        info.subscriptions = self.client.subscriptions.counts();
        info.collected = self.pending.collected().map(|(count, _)| count);
        info.command = self.last_command;
        info.protocol = self.client.protocol;
        // Without an allocation where nothing has changed, as after nearly every command.
        if info.name != self.client.name {
            info.name.clone_from(&self.client.name);
        }
        if info.library != self.client.library {
            info.library.clone_from(&self.client.library);
        }
    }

    /// The database that is selected.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Ends the session and closes its handle, see [`Db::close`].
    ///
    /// The [module](crate::command) has an example of a session.
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
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn execute_words(&mut self, words: &[&[u8]]) -> Reply {
        let (command, arguments) = match resolve(words) {
            Ok(resolved) => resolved,
            Err(refusal) => return self.refuse(words, refusal),
        };
        if let Some(refusal) = self.refusal_of(command) {
            return self.refuse(words, refusal);
        }
        match self.pending.is_collecting() && !is_never_collected(command) {
            true => self.pending.collect(words),
            false => self.carry_out(command, arguments),
        }
    }

    /// Whether to send the reply to the last executed command: CLIENT REPLY.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn takes_reply_wanted(&mut self) -> bool {
        match self.client.silence {
            Silence::None => true,
            Silence::All => false,
            Silence::SkipNow => {
                self.client.silence = Silence::None;
                false
            }
            Silence::SkipNext => {
                self.client.silence = Silence::SkipNow;
                false
            }
        }
    }

    /// Executes what was collected: each was judged when it came, and not again by what those before it have made of the session.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] where the replies become larger than a reply may be.
    pub(super) fn execute_all(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut size_bytes = 0;
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
            let reply = match resolve(&words) {
                Ok((command, arguments)) => self.carry_out(command, arguments),
                Err(refusal) => Reply::Error(refusal),
            };
            size_bytes += reply.size_bytes();
            if size_bytes > MAX_REPLY_BYTES {
                return Err(Error::TooLarge {
                    what: "the reply to EXEC",
                    length: size_bytes,
                    limit: MAX_REPLY_BYTES,
                });
            }
            replies.push(reply);
        }
        Ok(replies)
    }

    /// The reply to what is not executed. While commands are collected, EXEC will do nothing; where it is EXEC itself, the transaction is over.
    fn refuse(&mut self, words: &[&[u8]], refusal: ErrorReply) -> Reply {
        let command = words.first().and_then(|name| find(name));
        if command.is_none_or(|command| command.name != "exec") {
            self.pending.refuse();
            return Reply::Error(refusal);
        }
        self.pending.forget();
        let text = refusal.as_bytes();
        let text = text.strip_prefix(b"ERR ").unwrap_or(text);
        let abort = b"EXECABORT Transaction discarded because of: ";
        Reply::Error(ErrorReply::new([&abort[..], text].concat()))
    }

    /// Why a command cannot be executed as things stand.
    fn refusal_of(&self, command: &Command) -> Option<ErrorReply> {
        if !self.client.is_trusted && !command.flags.contains(Flags::NO_AUTH) {
            return Some(ErrorReply::new(&b"NOAUTH Authentication required."[..]));
        }
        if self.client.only_listens() && !may_listener_send(command) {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.name
            );
            return Some(ErrorReply::new(text.into_bytes()));
        }
        let is_misplaced = self.pending.is_collecting() && command.flags.contains(Flags::NO_MULTI);
        is_misplaced.then(|| ErrorReply::new(&b"ERR Command not allowed inside a transaction"[..]))
    }

    fn carry_out(&mut self, command: &'static Command, arguments: &[&[u8]]) -> Reply {
        self.last_command = command.name;
        self.has_written |= command.flags.contains(Flags::WRITE) || command.name == "exec";
        match (command.handler)(self, arguments) {
            Ok(reply) => reply,
            Err(_) if command.is_asked_for_help(arguments) => command.list_subcommands(),
            Err(failure) => {
                if let (Failure::Db(error), Some(host)) = (&failure, &self.client.host) {
                    host.note_error(error);
                }
                Reply::Error(failure.into_reply(command.name))
            }
        }
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

/// Whether a subscribed client may send a command in version 2 of the protocol.
fn may_listener_send(command: &Command) -> bool {
    const ALLOWED: [&str; 9] = [
        "subscribe",
        "psubscribe",
        "ssubscribe",
        "unsubscribe",
        "punsubscribe",
        "sunsubscribe",
        "ping",
        "quit",
        "reset",
    ];
    ALLOWED.contains(&command.name)
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
/// A caller that has not opened a file yet can leave it unopened.
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
    command
        .check_subcommand(words)
        .map_err(|failure| failure.into_reply(command.name))?;
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

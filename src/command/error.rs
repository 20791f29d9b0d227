//! Error replies: the one place where this crate's errors become Redis's texts.

use std::borrow::Cow;
use std::fmt;

use crate::Error;

/// How much of a user's words an error quotes, in bytes.
pub(super) const QUOTED_BYTES: usize = 128;

/// The text of an error reply: a code in capitals, a space, and what is wrong.
///
/// It is one line. It may quote what the user gave, hence bytes.
///
/// The [module](crate::command) has an example of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorReply(Cow<'static, [u8]>);

impl ErrorReply {
    /// `text` is complete, its code included. A line break in it becomes a space, since the
    /// protocol ends an error with one.
    pub(crate) fn new(text: impl Into<Cow<'static, [u8]>>) -> Self {
        let mut text = text.into();
        if text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            for byte in text.to_mut() {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
        }
        Self(text)
    }

    /// The whole text, which is UTF-8 where the user's words were.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its first word, as `ERR` or `WRONGTYPE`.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn code(&self) -> &str {
        let word = self.0.split(|byte| *byte == b' ').next();
        str::from_utf8(word.unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorReply({self})")
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(super) enum Failure {
    /// It has too few words, too many, or an odd one out.
    Arity,
    /// Its deadline is zero, negative, or beyond what can be stored.
    ExpireTime,
    /// Another check of the command's own; the text without its code, which is `ERR`.
    Text(Cow<'static, [u8]>),
    /// A reply that is complete, with its code.
    Reply(ErrorReply),
    /// The database refused.
    Db(Error),
}

impl Failure {
    pub(super) const SYNTAX: Failure = Failure::text("syntax error");
    pub(super) const NOT_AN_INTEGER: Failure =
        Failure::text("value is not an integer or out of range");

    pub(super) const fn text(text: &'static str) -> Failure {
        Failure::Text(Cow::Borrowed(text.as_bytes()))
    }

    /// There is no such subcommand.
    pub(super) fn subcommand(command: &str, name: &[u8]) -> Failure {
        Failure::of_subcommand(b"unknown subcommand '", command, name)
    }

    /// A subcommand has words that it does not take, which Redis says in these words where it finds out late.
    pub(super) fn subcommand_or_arity(command: &str, name: &[u8]) -> Failure {
        let text = b"unknown subcommand or wrong number of arguments for '";
        Failure::of_subcommand(text, command, name)
    }

    fn of_subcommand(text: &[u8], command: &str, name: &[u8]) -> Failure {
        let name = quoted(name, QUOTED_BYTES);
        let help = command.to_ascii_uppercase();
        let text = [text, name, b"'. Try ", help.as_bytes(), b" HELP."];
        Failure::Text(Cow::Owned(text.concat()))
    }

    /// The reply, in the name of the command of this name.
    pub(super) fn into_reply(self, command: &str) -> ErrorReply {
        match self {
            Failure::Arity => err(format!("wrong number of arguments for '{command}' command")),
            Failure::ExpireTime => err(format!("invalid expire time in '{command}' command")),
            Failure::Text(text) => err(text),
            Failure::Reply(reply) => reply,
            Failure::Db(error) => of_error(&error, command),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Db(error)
    }
}

fn of_error(error: &Error, command: &str) -> ErrorReply {
    match error {
        Error::WrongType => ErrorReply::new(
            &b"WRONGTYPE Operation against a key holding the wrong kind of value"[..],
        ),
        Error::DeadlineOutOfRange => Failure::ExpireTime.into_reply(command),
        Error::NoSuchDatabase { .. } => err("DB index is out of range"),
        // Redis's clients look for this text; a key's or a field's length has none in Redis.
        Error::TooLarge {
            what: "a value", ..
        } => err("string exceeds maximum allowed size (proto-max-bulk-len)"),
        Error::ReadOnly { .. } => ErrorReply::new(format!("READONLY {error}").into_bytes()),
        // The others' messages say what happened to which file; some of them in Redis's words.
        error => err(error.to_string()),
    }
}

fn err(text: impl AsRef<[u8]>) -> ErrorReply {
    ErrorReply::new([b"ERR ", text.as_ref()].concat())
}

/// The beginning of a word, up to its first zero byte, where Redis ends it.
pub(super) fn quoted(word: &[u8], most_bytes: usize) -> &[u8] {
    let text = word.split(|byte| *byte == 0).next().unwrap_or_default();
    text.get(..most_bytes).unwrap_or(text)
}

//! The reply to a command.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use super::error::ErrorReply;
use crate::Value;

/// The answer to a command, with the types of Redis's protocol, version 3.
///
/// Version 2 of the protocol shows a map as a flat array of keys and values, and a double as its
/// text.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// A short text such as `OK`.
    Status(Cow<'static, str>),
    /// The command was refused, or failed.
    Error(ErrorReply),
    /// Text of several lines, for people.
    Verbatim(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// A floating point number.
    Double(f64),
    /// Bytes.
    Bulk(Bulk),
    /// No value: the key is missing, or a condition was not met.
    Nil,
    /// Like [`Reply::Nil`], instead of a list. Version 2 of the protocol has two nulls.
    NilArray,
    /// A list of replies.
    Array(Vec<Reply>),
    /// Keys and their values.
    Map(Vec<(Reply, Reply)>),
    /// A push that answers no command: a message, or the confirmation of a subscription.
    Push(Vec<Reply>),
    /// Any number of replies in sequence.
    Several(Vec<Reply>),
    /// A list of pairs: version 3 shows lists of two, version 2 a flat list.
    Pairs(Vec<(Reply, Reply)>),
}

impl Reply {
    /// The status `OK`.
    pub const OK: Reply = Reply::Status(Cow::Borrowed("OK"));

    /// Bytes that were made for the reply.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::command::{Reply, Session};
    /// let mut session = Session::new(brasa::Db::in_memory()?);
    /// assert_eq!(session.execute(&["ECHO", "hi"]), Reply::bulk("hi"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn bulk(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply::Bulk(Bulk::Owned(bytes.into()))
    }

    /// Returns about how many bytes the reply takes when it is sent, or more.
    pub(crate) fn size_bytes(&self) -> u64 {
        /// More than the numbers and line ends around any part.
        const AROUND_BYTES: u64 = 64;
        let len = |len: usize| len as u64;
        let list = |replies: &[Reply]| replies.iter().map(Reply::size_bytes).sum();
        let inside = match self {
            Reply::Status(text) | Reply::Verbatim(text) => len(text.len()),
            Reply::Error(error) => len(error.as_bytes().len()),
            Reply::Bulk(bytes) => len(bytes.len()),
            Reply::Integer(_) | Reply::Double(_) | Reply::Nil | Reply::NilArray => 0,
            Reply::Array(replies) | Reply::Push(replies) | Reply::Several(replies) => list(replies),
            Reply::Map(entries) | Reply::Pairs(entries) => entries
                .iter()
                .map(|(key, value)| key.size_bytes() + value.size_bytes())
                .sum(),
        };
        AROUND_BYTES + inside
    }

    /// Returns 1 for `true` and 0 for `false`.
    pub(super) fn flag(yes: bool) -> Reply {
        Reply::Integer(i64::from(yes))
    }

    /// Returns a number that is signed in Redis, cut to its maximum.
    pub(super) fn count(count: u64) -> Reply {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Returns a bulk for each value, and nil for each missing one.
    pub(super) fn array<I>(values: I) -> Reply
    where
        I: IntoIterator,
        I::Item: Into<Reply>,
    {
        Reply::Array(values.into_iter().map(Into::into).collect())
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Reply::Bulk(Bulk::Shared(value))
    }
}

impl From<Option<Value>> for Reply {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Reply::Nil, Reply::from)
    }
}

/// The bytes of a reply: a value of the database that was not copied, or bytes of its own.
///
/// The [module](crate::command) has an example of a session.
#[derive(Clone)]
#[non_exhaustive]
pub enum Bulk {
    /// A value, which points into the mapped file.
    Shared(Value),
    /// Bytes that were made for the reply.
    Owned(Vec<u8>),
}

impl Deref for Bulk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bulk::Shared(value) => value,
            Bulk::Owned(bytes) => bytes,
        }
    }
}

impl PartialEq for Bulk {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bulk {}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

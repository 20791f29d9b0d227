//! The command table: all commands, and how they are called.
//!
//! Each group of commands declares its part next to the functions that carry
//! them out; here the parts become one table, sorted by name.

use std::fmt;

use super::arguments::integer;
use super::error::Failure;
use super::{
    Reply, Session, bitfield, bits, conditional, connection, dump, expiry, fields, hashes,
    introspection, keys, object, places, pubsub, ranges, scan, server, settings, strings,
    transactions,
};
use crate::sync::LazyLock;

/// Carries out a command; the words are those behind its name.
pub(super) type Handler = fn(&mut Session, &[&[u8]]) -> Result<Reply, Failure>;

/// One command: its name, how it is called, and what it does.
///
/// The [module](crate::command) has an example of a session.
#[non_exhaustive]
pub struct Command {
    /// The name, in lower case.
    pub name: &'static str,
    /// How many words it takes, its name included; where negative, at least that many.
    pub arity: i16,
    /// What kind of command it is.
    pub flags: Flags,
    /// Which of its words are keys.
    pub keys: KeyPositions,
    /// Where it belongs.
    pub group: Group,
    /// Its subcommands, where it has some: the words that may follow its name, in capitals, each with how many words it takes, as `arity`
    /// has it.
    pub subcommands: &'static [(&'static str, i16)],
    /// What follows its name, as in Redis's documentation: options in brackets, alternatives with bars.
    pub syntax: &'static str,
    /// What it does, in a sentence without a full stop.
    pub summary: &'static str,
    pub(super) handler: Handler,
}

impl Command {
    pub(super) const fn new(
        group: Group,
        name: &'static str,
        arity: i16,
        handler: Handler,
    ) -> Command {
        Command {
            name,
            arity,
            flags: Flags(0),
            keys: KeyPositions::NONE,
            group,
            subcommands: &[],
            syntax: "",
            summary: "",
            handler,
        }
    }

    pub(super) const fn flags(mut self, flags: Flags) -> Command {
        self.flags = flags;
        self
    }

    pub(super) const fn keys(mut self, keys: KeyPositions) -> Command {
        self.keys = keys;
        self
    }

    pub(super) const fn subcommands(
        mut self,
        subcommands: &'static [(&'static str, i16)],
    ) -> Command {
        self.subcommands = subcommands;
        self
    }

    pub(super) const fn help(mut self, syntax: &'static str, summary: &'static str) -> Command {
        self.syntax = syntax;
        self.summary = summary;
        self
    }

    /// Those of its words that are keys; the name is the first word.
    pub(super) fn key_words<'w>(&self, words: &[&'w [u8]]) -> Vec<&'w [u8]> {
        let KeyPositions { first, last, step } = self.keys;
        if self.flags.contains(Flags::MOVABLE_KEYS) {
            // A number says how many pairs of key and value follow it.
            let count = words.get(1).and_then(|word| integer(word).ok());
            let count = count
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(0);
            let keys = words.get(2..).unwrap_or_default().iter().step_by(2);
            return keys.take(count).copied().collect();
        }
        let Some(first) = usize::try_from(first).ok().filter(|first| *first > 0) else {
            return Vec::new();
        };
        let end = match usize::try_from(last) {
            Ok(last) => last.saturating_add(1).min(words.len()),
            Err(_) => words.len(),
        };
        let keys = words.get(first..end).unwrap_or_default().iter();
        keys.step_by(usize::from(step.unsigned_abs()).max(1))
            .copied()
            .collect()
    }

    /// Refuses a subcommand that there is not, or that takes another number of words; the command's name is the first of them.
    pub(super) fn check_subcommand(&self, words: &[&[u8]]) -> Result<(), Failure> {
        let Some(name) = words.get(1).filter(|_| !self.subcommands.is_empty()) else {
            return Ok(());
        };
        let mut subcommands = self.subcommands.iter();
        match subcommands.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) {
            None => Err(Failure::subcommand(self.name, name)),
            Some((_, arity)) if takes(*arity, words.len()) => Ok(()),
            Some((known, _)) => {
                let known = known.to_ascii_lowercase();
                let text = format!(
                    "wrong number of arguments for '{}|{known}' command",
                    self.name
                );
                Err(Failure::Text(text.into_bytes().into()))
            }
        }
    }

    /// Whether the words behind its name are HELP, which each command with subcommands has.
    pub(super) fn is_asked_for_help(&self, arguments: &[&[u8]]) -> bool {
        let is_help = |name: &[u8]| name.eq_ignore_ascii_case(b"HELP");
        !self.subcommands.is_empty() && matches!(arguments, [name] if is_help(name))
    }

    /// What HELP answers where a command has no better answer: its subcommands, with as many arguments as they take.
    pub(super) fn list_subcommands(&self) -> Reply {
        let name = self.name.to_ascii_uppercase();
        let first = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        let others = self.subcommands.iter().map(|(name, arity)| {
            let count = usize::from(arity.unsigned_abs()).saturating_sub(2);
            let more = if *arity < 0 { " [<arg> ...]" } else { "" };
            format!("{name}{}{more}", " <arg>".repeat(count))
        });
        let lines = std::iter::once(first).chain(others);
        Reply::Array(lines.map(|line| Reply::Status(line.into())).collect())
    }

    /// Whether it may be called with this many words, its name included.
    ///
    /// ```
    /// let get = brasa::command::find(b"GET").unwrap();
    /// assert!(get.takes(2) && !get.takes(3));
    /// ```
    pub fn takes(&self, word_count: usize) -> bool {
        takes(self.arity, word_count)
    }
}

/// Whether so many words are as many as an arity says.
fn takes(arity: i16, word_count: usize) -> bool {
    let least = usize::from(arity.unsigned_abs());
    match arity < 0 {
        true => word_count >= least,
        false => word_count == least,
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("arity", &self.arity)
            .field("flags", &self.flags)
            .field("keys", &self.keys)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What kind of command it is, with the names that Redis's COMMAND gives.
///
/// The [module](crate::command) has an example of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// It may change data.
    pub const WRITE: Flags = Flags(1);
    /// It reads data and changes none.
    pub const READONLY: Flags = Flags(1 << 1);
    /// It may need more space, and is refused where there is none.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// It may be called while data is still being loaded.
    pub const LOADING: Flags = Flags(1 << 3);
    /// It may be called where the data may be out of date.
    pub const STALE: Flags = Flags(1 << 4);
    /// It takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 5);

    /// It is for administrators.
    pub const ADMIN: Flags = Flags(1 << 6);
    /// It is about messages between clients.
    pub const PUBSUB: Flags = Flags(1 << 7);
    /// It means nothing in a script.
    pub const NOSCRIPT: Flags = Flags(1 << 8);
    /// It may be called before a password was given.
    pub const NO_AUTH: Flags = Flags(1 << 9);
    /// It cannot be one of several that MULTI collects.
    pub const NO_MULTI: Flags = Flags(1 << 10);
    /// Which of its words are keys depends on the others.
    pub const MOVABLE_KEYS: Flags = Flags(1 << 11);

    const NAMES: [(Flags, &'static str); 12] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::MOVABLE_KEYS, "movablekeys"),
    ];

    /// These and those.
    ///
    /// The [module](crate::command) has an example of a session.
    #[must_use]
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of the others are among these.
    ///
    /// The [module](crate::command) has an example of a session.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names, in Redis's order.
    ///
    /// ```
    /// let get = brasa::command::find(b"get").unwrap();
    /// assert!(get.flags.names().eq(["readonly", "fast"]));
    /// ```
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Which of a command's words are keys; the name is word 0.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPositions {
    /// The first key; 0 where there are none.
    pub first: i16,
    /// The last key; -1 is the last word.
    pub last: i16,
    /// How far it is from one key to the next.
    pub step: i16,
}

impl KeyPositions {
    /// It takes no keys.
    pub const NONE: KeyPositions = KeyPositions::new(0, 0, 0);
    /// The word behind the name is its only key.
    pub const FIRST: KeyPositions = KeyPositions::new(1, 1, 1);
    /// Every word behind the name is a key.
    pub const ALL: KeyPositions = KeyPositions::new(1, -1, 1);
    /// Every other word is a key, beginning behind the name.
    pub const PAIRS: KeyPositions = KeyPositions::new(1, -1, 2);

    pub(super) const fn new(first: i16, last: i16, step: i16) -> KeyPositions {
        KeyPositions { first, last, step }
    }
}

/// The chapter of Redis's documentation that a command belongs to.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Strings.
    String,
    /// Hashes.
    Hash,
    /// Strings as rows of bits.
    Bitmap,
    /// Keys of either type.
    Generic,
    /// The conversation itself.
    Connection,
    /// All data at once.
    Server,
    /// Several commands as one.
    Transactions,
    /// Messages between clients.
    PubSub,
    /// Programs that run beside the data.
    Scripting,
}

impl Group {
    /// Its name, as in COMMAND DOCS.
    ///
    /// The [module](crate::command) has an example of a session.
    pub const fn name(self) -> &'static str {
        match self {
            Group::String => "string",
            Group::Hash => "hash",
            Group::Bitmap => "bitmap",
            Group::Generic => "generic",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
        }
    }
}

/// The parts of the table; a new group of commands is named here once.
static PARTS: &[&[Command]] = &[
    bitfield::COMMANDS,
    bits::COMMANDS,
    conditional::COMMANDS,
    connection::COMMANDS,
    dump::COMMANDS,
    expiry::COMMANDS,
    fields::COMMANDS,
    hashes::COMMANDS,
    introspection::COMMANDS,
    keys::COMMANDS,
    object::COMMANDS,
    places::COMMANDS,
    pubsub::COMMANDS,
    ranges::COMMANDS,
    scan::COMMANDS,
    server::COMMANDS,
    settings::COMMANDS,
    strings::COMMANDS,
    transactions::COMMANDS,
];

static TABLE: LazyLock<Vec<&'static Command>> = LazyLock::new(|| {
    let mut table: Vec<&Command> = PARTS.iter().copied().flatten().collect();
    table.sort_unstable_by_key(|command| command.name);
    table
});

/// Longer than any name, so that a longer word is none.
pub(super) const MAX_NAME_BYTES: usize = 32;

/// Every command, sorted by name.
///
/// ```
/// for command in brasa::command::commands() {
///     println!("{} {}: {}", command.name, command.syntax, command.summary);
/// }
/// ```
pub fn commands() -> &'static [&'static Command] {
    &TABLE
}

/// The command of this name, in upper or lower case.
///
/// ```
/// use brasa::command::{Flags, find};
/// assert_eq!(find(b"HSet").unwrap().name, "hset");
/// assert!(find(b"HSET").unwrap().flags.contains(Flags::WRITE));
/// assert!(find(b"HSETTER").is_none());
/// ```
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut buffer = [0; MAX_NAME_BYTES];
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let places = &*PLACES;
    let mut place = place_of(lower);
    loop {
        // The places outnumber the commands, so that some are free.
        let number = usize::from(places[place]).checked_sub(1)?;
        let command = TABLE.get(number)?;
        if command.name.as_bytes() == lower {
            return Some(command);
        }
        place = (place + 1) % PLACE_COUNT;
    }
}

/// Four times as many as there are commands, or more.
const PLACE_COUNT: usize = 1024;

/// Where each command stands in [`TABLE`], plus one, at the place that its name has or behind it: each request looks for one.
static PLACES: LazyLock<[u16; PLACE_COUNT]> = LazyLock::new(|| {
    let mut places = [0; PLACE_COUNT];
    for (number, command) in (1..).zip(TABLE.iter()) {
        let mut place = place_of(command.name.as_bytes());
        while places[place] != 0 {
            place = (place + 1) % PLACE_COUNT;
        }
        places[place] = number;
    }
    places
});

/// The place of a name: FNV-1a (Fowler, Noll and Vo).
fn place_of(name: &[u8]) -> usize {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 16) as usize % PLACE_COUNT
}

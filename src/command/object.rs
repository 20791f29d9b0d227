//! Commands that inspect keys: OBJECT, DEBUG, WAIT.

use std::borrow::Cow;
use std::time::Duration;

use super::arguments::{integer, is};
use super::error::Failure;
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::KeyType;
use crate::db::parse_integer;
use crate::sync::thread;

/// The longest string that Redis keeps beside its header, and calls `embstr`.
const EMBEDDED_BYTES: usize = 44;

/// `hash-max-listpack-entries` and `hash-max-listpack-value` of Redis: smaller hashes are a `listpack` to it.
const SMALL_HASH_FIELDS: u64 = 128;
const SMALL_FIELD_BYTES: usize = 64;

/// The longest that DEBUG SLEEP sleeps.
const MAX_SLEEP: Duration = Duration::from_secs(60);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "object", -2, object)
        .subcommands(&[
            ("ENCODING", 3),
            ("FREQ", 3),
            ("HELP", 2),
            ("IDLETIME", 3),
            ("REFCOUNT", 3),
        ])
        .keys(KeyPositions::NONE)
        .flags(Flags::READONLY)
        .help(
            "subcommand [key]",
            "Returns the encoding that Redis would use for a key, and its other metadata",
        ),
    Command::new(Group::Server, "debug", -2, debug)
        .flags(
            Flags::ADMIN
                .and(Flags::NOSCRIPT)
                .and(Flags::LOADING)
                .and(Flags::STALE),
        )
        .help("subcommand [argument ...]", "Supports the tests of clients"),
    Command::new(Group::Generic, "wait", 3, wait)
        .flags(Flags::NOSCRIPT)
        .help(
            "numreplicas timeout",
            "Returns the number of replicas that have acknowledged the writes, always 0",
        ),
    Command::new(Group::Generic, "waitaof", 4, waitaof)
        .flags(Flags::NOSCRIPT)
        .help(
            "numlocal numreplicas timeout",
            "Waits until the writes of the connection are on the device",
        ),
];

fn object(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let (name, key) = match arguments {
        [name] if is(name, "HELP") => {
            let lines = [
                "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "ENCODING <key>",
                "    Return the encoding that Redis would choose for the key.",
                "FREQ <key>",
                "    Return an error: brasa does not count how often a key is used.",
                "IDLETIME <key>",
                "    Return 0: brasa does not record when a key was used.",
                "REFCOUNT <key>",
                "    Return 1.",
                "HELP",
                "    Print this help.",
            ];
            let lines = lines.map(|line| Reply::Status(Cow::Borrowed(line)));
            return Ok(Reply::Array(lines.into()));
        }
        [name, key] => (name, key),
        [name, ..] => return Err(Failure::subcommand("object", name)),
        [] => return Err(Failure::Arity),
    };
    let is_known = ["ENCODING", "FREQ", "IDLETIME", "REFCOUNT"]
        .iter()
        .any(|known| is(name, known));
    if !is_known {
        return Err(Failure::subcommand("object", name));
    }
    let Some(key_type) = session.db().key_type(key)? else {
        return Ok(Reply::Nil);
    };
    if is(name, "ENCODING") {
        return Ok(Reply::bulk(encoding(session, key, key_type)?));
    }
    if is(name, "FREQ") {
        return Err(Failure::text(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    Ok(Reply::Integer(i64::from(is(name, "REFCOUNT"))))
}

/// What Redis 7.0 would say of such a string or hash that was set as a whole.
fn encoding(session: &Session, key: &[u8], key_type: KeyType) -> Result<&'static str, Failure> {
    match key_type {
        KeyType::String => {
            let value = session.db().get(key)?;
            let value: &[u8] = value.as_deref().unwrap_or_default();
            Ok(match value {
                value if value.len() <= 20 && parse_integer(value).is_some() => "int",
                value if value.len() <= EMBEDDED_BYTES => "embstr",
                _ => "raw",
            })
        }
        KeyType::Hash => {
            if session.db().hlen(key)? > SMALL_HASH_FIELDS {
                return Ok("hashtable");
            }
            let fields = session.db().hgetall(key)?;
            let is_small = fields.iter().all(|(field, value)| {
                field.len() <= SMALL_FIELD_BYTES && value.len() <= SMALL_FIELD_BYTES
            });
            Ok(if is_small { "listpack" } else { "hashtable" })
        }
    }
}

fn debug(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        // Deadlines are looked at when a key is.
        [name, on] if is(name, "SET-ACTIVE-EXPIRE") => {
            integer(on)?;
            Ok(Reply::OK)
        }
        [name, seconds] if is(name, "SLEEP") => {
            let seconds = str::from_utf8(seconds)
                .ok()
                .and_then(|text| text.parse().ok());
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let time = time.ok_or(Failure::text("value is not a valid float"))?;
            let time = time.min(MAX_SLEEP);
            if !session.pending.puts_off_sleep(time) {
                thread::sleep(time);
            }
            Ok(Reply::OK)
        }
        [name, key] if is(name, "OBJECT") => {
            let Some(key_type) = session.db().key_type(key)? else {
                return Err(Failure::text("no such key"));
            };
            let bytes = match key_type {
                KeyType::String => session.db().strlen(key)?,
                // Of a hash it is about that.
                KeyType::Hash => session.db().live_bytes(key)?.unwrap_or(0),
            };
            let encoding = encoding(session, key, key_type)?;
            let text = format!(
                "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:0 lru_seconds_idle:0"
            );
            Ok(Reply::Status(Cow::Owned(text)))
        }
        [name, ..] => Err(Failure::subcommand("debug", name)),
        [] => Err(Failure::Arity),
    }
}

/// Never waits: no replica will come.
fn wait(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [replicas, timeout] = arguments else {
        return Err(Failure::Arity);
    };
    integer(replicas)?;
    check_timeout(timeout)?;
    Ok(Reply::Integer(0))
}

fn check_timeout(timeout: &[u8]) -> Result<(), Failure> {
    let timeout =
        integer(timeout).map_err(|_| Failure::text("timeout is not an integer or out of range"))?;
    match timeout < 0 {
        true => Err(Failure::text("timeout is negative")),
        false => Ok(()),
    }
}

/// Does not wait for replicas, which do not exist; the sync takes its time. In the middle of a commit it waits for nothing, and what was
/// written is not on the device yet.
fn waitaof(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [local, replicas, timeout] = arguments else {
        return Err(Failure::Arity);
    };
    let local = integer(local)?;
    if !(0..=1).contains(&local) || integer(replicas)? < 0 {
        return Err(Failure::text("value is out of range, must be positive"));
    }
    check_timeout(timeout)?;
    if session.pending.is_executing() {
        return Ok(Reply::Array(vec![Reply::Integer(0), Reply::Integer(0)]));
    }
    if local == 1 {
        session.db().sync()?;
    }
    Ok(Reply::Array(vec![Reply::Integer(local), Reply::Integer(0)]))
}

//! Commands for administrators: INFO, CONFIG, MEMORY, SLOWLOG and the like.

use std::fmt::Write as _;

use super::arguments::{integer, is, pairs};
use super::error::Failure;
use super::host::{Host, InfoLine};
use super::table::{Command, Flags, Group};
use super::{Reply, Session};
use crate::glob::Pattern;
use crate::limits::DATABASE_COUNT;
use crate::sync::Arc;
use crate::{Db, Result as DbResult, Ttl};

/// The version of Redis that these commands and answers follow.
pub const REDIS_VERSION: &str = "7.4.0";

/// Keys that `avg_ttl` is an average of, at most.
const SAMPLED_KEYS: usize = 32;

const ADMIN: Flags = Flags::ADMIN
    .and(Flags::NOSCRIPT)
    .and(Flags::LOADING)
    .and(Flags::STALE);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Server, "info", -1, info)
        .flags(Flags::LOADING.and(Flags::STALE))
        .help(
            "[section [section ...]]",
            "Describes the file and the server",
        ),
    Command::new(Group::Server, "config", -2, config)
        .subcommands(&[
            ("GET", -3),
            ("HELP", 2),
            ("RESETSTAT", 2),
            ("REWRITE", 2),
            ("SET", -4),
        ])
        .help("subcommand [argument ...]", "Reads and changes settings"),
    Command::new(Group::Server, "memory", -2, memory)
        .subcommands(&[
            ("DOCTOR", 2),
            ("HELP", 2),
            ("MALLOC-STATS", 2),
            ("PURGE", 2),
            ("STATS", 2),
            ("USAGE", -3),
        ])
        .help(
            "subcommand [argument ...]",
            "Returns the number of bytes that a key takes",
        ),
    Command::new(Group::Server, "slowlog", -2, slowlog)
        .subcommands(&[("GET", -2), ("HELP", 2), ("LEN", 2), ("RESET", 2)])
        .help(
            "subcommand [argument ...]",
            "Lists slow commands; brasa records none",
        ),
    Command::new(Group::Server, "latency", -2, latency)
        .subcommands(&[
            ("DOCTOR", 2),
            ("HELP", 2),
            ("HISTORY", 3),
            ("LATEST", 2),
            ("RESET", -2),
        ])
        .help(
            "subcommand [argument ...]",
            "Lists latency events; brasa records none",
        ),
    Command::new(
        Group::Server,
        "module",
        -2,
        |_, arguments| match arguments {
            [name] if is(name, "LIST") => Ok(Reply::Array(Vec::new())),
            [name, ..] => Err(Failure::subcommand("module", name)),
            [] => Err(Failure::Arity),
        },
    )
    .subcommands(&[("HELP", 2), ("LIST", 2)])
    .help("subcommand [argument ...]", "Lists modules; brasa has none"),
    Command::new(Group::Scripting, "function", -2, function)
        .subcommands(&[("FLUSH", -2), ("HELP", 2), ("LIST", -2)])
        .help(
            "subcommand [argument ...]",
            "Lists and removes functions; brasa has none",
        ),
    Command::new(Group::Server, "lastsave", 1, lastsave)
        .flags(Flags::LOADING.and(Flags::STALE).and(Flags::FAST))
        .help("", "Returns the time of the last sync, in Unix seconds"),
    Command::new(Group::Server, "save", 1, |session, _| {
        session.db().sync()?;
        Ok(Reply::OK)
    })
    .flags(Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_MULTI))
    .help("", "Syncs all writes to the device"),
    Command::new(Group::Server, "bgsave", -1, bgsave)
        .flags(Flags::ADMIN.and(Flags::NOSCRIPT))
        .help("[SCHEDULE]", "Syncs all writes to the device, like SAVE"),
    Command::new(Group::Server, "bgrewriteaof", 1, bgrewriteaof)
        .flags(Flags::ADMIN.and(Flags::NOSCRIPT))
        .help("", "Compacts the file"),
    Command::new(Group::Server, "shutdown", -1, shutdown)
        .flags(ADMIN.and(Flags::NO_MULTI))
        .help(
            "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
            "Stops the server, after a sync of all writes",
        ),
    Command::new(Group::Server, "monitor", 1, monitor)
        .flags(ADMIN)
        .help("", "Prints each command that the server executes"),
];

fn bgsave(session: &mut Session, options: &[&[u8]]) -> Result<Reply, Failure> {
    if !matches!(options, [] | [_]) || options.iter().any(|option| !is(option, "SCHEDULE")) {
        return Err(Failure::SYNTAX);
    }
    if session.pending.puts_off_sync() {
        return Ok(Reply::Status("Background saving scheduled".into()));
    }
    session.db().sync()?;
    Ok(Reply::Status("Background saving started".into()))
}

fn bgrewriteaof(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    if session.pending.puts_off_compaction() {
        let text = "Background append only file rewriting scheduled";
        return Ok(Reply::Status(text.into()));
    }
    session.db().compact()?;
    let text = "Background append only file rewriting started";
    Ok(Reply::Status(text.into()))
}

/// Ends the server, which syncs whatever the words are: they are only checked.
fn shutdown(session: &mut Session, options: &[&[u8]]) -> Result<Reply, Failure> {
    let has = |name| options.iter().any(|option| is(option, name));
    let is_known = |option: &&[u8]| {
        let mut known = ["NOSAVE", "SAVE", "NOW", "FORCE"].into_iter();
        known.any(|name| is(option, name))
    };
    if !options.is_empty() && options.iter().all(|option| is(option, "ABORT")) {
        return Err(Failure::text("No shutdown in progress."));
    }
    if !options.iter().all(is_known) || (has("SAVE") && has("NOSAVE")) {
        return Err(Failure::SYNTAX);
    }
    let host = session.client.host.clone();
    let host = host.ok_or(Failure::text(
        "SHUTDOWN needs a server: this is a session of the command line or the library",
    ))?;
    host.shut_down();
    session.client.is_leaving = true;
    Ok(Reply::Several(Vec::new()))
}

fn monitor(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    if session.pending.is_executing() {
        return Err(Failure::text(
            "MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    let host = session.client.host.clone();
    let host = host.ok_or(Failure::text(
        "MONITOR needs a server: use `brasa tail` to see the changes of a file",
    ))?;
    host.monitor(session.client.id);
    session.client.is_monitoring = true;
    Ok(Reply::OK)
}

/// Every section of INFO that there is, in order.
const SECTIONS: [&str; 8] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "keyspace",
];

fn info(session: &mut Session, wanted: &[&[u8]]) -> Result<Reply, Failure> {
    let wants = |section: &str| {
        let is_meant = |word: &&[u8]| {
            is(word, section) || is(word, "all") || is(word, "everything") || is(word, "default")
        };
        wanted.is_empty() || wanted.iter().any(is_meant)
    };
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| wants(section)) {
        let (first, rest) = section.split_at(1);
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "# {}{rest}\r\n", first.to_ascii_uppercase());
        let own = own_lines(session.db(), section)?;
        let host = session.client.host.as_ref();
        let of_host = host.map_or_else(Vec::new, |host| host.info(section));
        for (name, value) in own.into_iter().chain(of_host) {
            let _ = write!(text, "{name}:{value}\r\n");
        }
        if section == "keyspace" {
            text.push_str(&keyspace(session.db())?);
        }
    }
    Ok(Reply::Verbatim(text.into()))
}

/// The facts that the file itself gives. Unknown facts are omitted: a tool must not be told that
/// writes succeed if that is not known.
fn own_lines(db: &Db, section: &str) -> DbResult<Vec<InfoLine>> {
    Ok(match section {
        "server" => vec![
            ("redis_version", REDIS_VERSION.to_owned()),
            ("redis_mode", "standalone".to_owned()),
            ("brasa_version", env!("CARGO_PKG_VERSION").to_owned()),
            (
                "os",
                format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            ),
            ("arch_bits", "64".to_owned()),
            ("process_id", std::process::id().to_string()),
            ("brasa_file", db.path().display().to_string()),
        ],
        "memory" => {
            let stats = db.stats()?;
            let policy = "noeviction".to_owned();
            vec![
                ("used_memory", stats.index_bytes.to_string()),
                ("used_memory_human", human(stats.index_bytes)),
                ("used_memory_dataset", stats.live_bytes.to_string()),
                ("maxmemory", "0".to_owned()),
                ("maxmemory_human", "0B".to_owned()),
                ("maxmemory_policy", policy),
                ("brasa_index_bytes", stats.index_bytes.to_string()),
                (
                    "brasa_index_bytes_per_key",
                    stats.index_bytes_per_key().to_string(),
                ),
            ]
        }
        "persistence" => {
            let stats = db.stats()?;
            vec![
                ("loading", "0".to_owned()),
                ("async_loading", "0".to_owned()),
                ("rdb_bgsave_in_progress", "0".to_owned()),
                ("aof_enabled", "1".to_owned()),
                (
                    "aof_last_write_status",
                    match stats.poisoned {
                        None => "ok".to_owned(),
                        Some(_) => "err".to_owned(),
                    },
                ),
                ("aof_current_size", stats.file_bytes.to_string()),
                ("brasa_log_bytes", stats.log_bytes.to_string()),
                ("brasa_live_bytes", stats.live_bytes.to_string()),
                ("brasa_dead_bytes", stats.dead_bytes.to_string()),
                ("brasa_checkpoint_bytes", stats.checkpoint_bytes.to_string()),
            ]
        }
        "replication" => vec![
            ("role", "master".to_owned()),
            ("connected_slaves", "0".to_owned()),
        ],
        _ => Vec::new(),
    })
}

/// A line for each database that holds something.
fn keyspace(db: &Db) -> DbResult<String> {
    let mut text = String::new();
    for number in 0..DATABASE_COUNT {
        let database = db.database(number)?;
        let keys = database.len()?;
        if keys == 0 {
            continue;
        }
        let expires = database.expiring_count()?;
        let _ = write!(
            text,
            "db{number}:keys={keys},expires={expires},avg_ttl={}\r\n",
            match expires {
                0 => 0,
                _ => average_ttl_ms(&database)?,
            }
        );
    }
    Ok(text)
}

/// The average time that a few keys still live, of those that have a deadline.
fn average_ttl_ms(database: &Db) -> DbResult<u128> {
    let (mut sum, mut count) = (0, 0);
    for key in database.keys().take(SAMPLED_KEYS) {
        if let Ttl::Remaining(time) = database.ttl(key?)? {
            sum += time.as_millis();
            count += 1;
        }
    }
    Ok(sum / u128::max(count, 1))
}

/// A number of bytes as Redis shows it.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut rest = bytes;
    let mut unit = 0;
    while rest >= 1 << 20 && unit < UNITS.len() - 2 {
        rest >>= 10;
        unit += 1;
    }
    match rest {
        0..1024 => format!("{rest}{}", UNITS[unit]),
        // Hundredths, without floating point.
        _ => format!(
            "{}.{:02}{}",
            rest >> 10,
            ((rest & 1023) * 100) >> 10,
            UNITS[unit + 1]
        ),
    }
}

/// Settings that are what they are, with or without a server.
const FIXED_SETTINGS: [(&str, &str); 17] = [
    ("save", ""),
    ("appendonly", "yes"),
    ("databases", "16"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("proto-max-bulk-len", "536870912"),
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "128"),
    ("hash-max-ziplist-value", "64"),
    ("slowlog-log-slower-than", "-1"),
    ("slowlog-max-len", "0"),
    ("latency-monitor-threshold", "0"),
    ("cluster-enabled", "no"),
    ("replica-read-only", "yes"),
    ("activedefrag", "no"),
];

fn config(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let host = session.client.host.as_ref();
    match arguments {
        [name, patterns @ ..] if is(name, "GET") && !patterns.is_empty() => {
            let mut settings: Vec<(&str, String)> =
                host.map_or_else(Vec::new, |host| host.settings());
            for (name, value) in FIXED_SETTINGS {
                if !settings.iter().any(|(known, _)| *known == name) {
                    settings.push((name, value.to_owned()));
                }
            }
            let patterns: Vec<Vec<u8>> = patterns
                .iter()
                .map(|pattern| pattern.to_ascii_lowercase())
                .collect();
            let is_wanted = |name: &str| {
                let mut patterns = patterns.iter();
                patterns.any(|pattern| Pattern::new(pattern).matches(name.as_bytes()))
            };
            let settings = settings.into_iter().filter(|(name, _)| is_wanted(name));
            Ok(Reply::Map(
                settings
                    .map(|(name, value)| (Reply::bulk(name), Reply::bulk(value)))
                    .collect(),
            ))
        }
        [name, words @ ..] if is(name, "SET") => {
            let pairs = pairs(words).ok_or(Failure::SYNTAX)?;
            change_settings(host, pairs)
                .map_err(|wrong| Failure::Text(wrong.into_bytes().into()))?;
            Ok(Reply::OK)
        }
        [name] if is(name, "RESETSTAT") => {
            if let Some(host) = host {
                host.reset_counters();
            }
            Ok(Reply::OK)
        }
        [name] if is(name, "REWRITE") => {
            Err(Failure::text("The server is running without a config file"))
        }
        [name, ..] => Err(Failure::subcommand("config", name)),
        [] => Err(Failure::Arity),
    }
}

/// Changes all of the settings or, where one of them cannot be changed so, none.
fn change_settings(host: Option<&Arc<dyn Host>>, pairs: &[[&[u8]; 2]]) -> Result<(), String> {
    let of_host = host.map_or_else(Vec::new, |host| host.settings());
    let mut changes: Vec<(String, &[u8])> = Vec::new();
    for [given, value] in pairs {
        let given = String::from_utf8_lossy(given);
        let name = given.to_ascii_lowercase();
        let wrong = |why| {
            Err(format!(
                "CONFIG SET failed (possibly related to argument '{given}') - {why}"
            ))
        };
        if changes.iter().any(|(known, _)| *known == name) {
            return wrong("duplicate parameter");
        }
        if !of_host.iter().any(|(known, _)| *known == name) {
            if FIXED_SETTINGS.iter().any(|(known, _)| *known == name) {
                return wrong("can't set immutable config");
            }
            return Err(format!(
                "Unknown option or number of arguments for CONFIG SET - '{given}'"
            ));
        }
        changes.push((name, value));
    }
    host.map_or(Ok(()), |host| host.change_settings(&changes))
}

fn memory(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [name, key, options @ ..] if is(name, "USAGE") => {
            let mut options = options.iter();
            while let Some(option) = options.next() {
                let count = options.next().filter(|_| is(option, "SAMPLES"));
                if integer(count.ok_or(Failure::SYNTAX)?)? < 0 {
                    return Err(Failure::SYNTAX);
                }
            }
            let bytes = session.db().live_bytes(key)?;
            Ok(bytes.map_or(Reply::Nil, Reply::count))
        }
        [name] if is(name, "DOCTOR") => Ok(Reply::Verbatim(
            "Keys and values are in the file. The memory is used by the index.".into(),
        )),
        [name] if is(name, "STATS") => {
            let stats = session.db().stats()?;
            Ok(Reply::Map(vec![
                (Reply::bulk("keys.count"), Reply::count(stats.key_count)),
                (
                    Reply::bulk("keys.bytes-per-key"),
                    Reply::count(stats.index_bytes_per_key()),
                ),
                (Reply::bulk("dataset.bytes"), Reply::count(stats.live_bytes)),
                (
                    Reply::bulk("total.allocated"),
                    Reply::count(stats.index_bytes),
                ),
            ]))
        }
        [name] if is(name, "PURGE") => {
            if let Some(host) = &session.client.host {
                host.purge_memory();
            }
            Ok(Reply::OK)
        }
        [name] if is(name, "MALLOC-STATS") => Ok(Reply::Verbatim("not known".into())),
        [name, ..] => Err(Failure::subcommand("memory", name)),
        [] => Err(Failure::Arity),
    }
}

fn function(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [name] if is(name, "FLUSH") => Ok(Reply::OK),
        [name, mode] if is(name, "FLUSH") => match is(mode, "SYNC") || is(mode, "ASYNC") {
            true => Ok(Reply::OK),
            false => Err(Failure::text(
                "FUNCTION FLUSH only supports SYNC|ASYNC option",
            )),
        },
        [name, _, _, ..] if is(name, "FLUSH") => {
            Err(Failure::subcommand_or_arity("function", name))
        }
        [name, options @ ..] if is(name, "LIST") => {
            check_list_options(options)?;
            Ok(Reply::Array(Vec::new()))
        }
        [name, ..] => Err(Failure::subcommand("function", name)),
        [] => Err(Failure::Arity),
    }
}

/// Each of the options of FUNCTION LIST may be there once.
fn check_list_options(options: &[&[u8]]) -> Result<(), Failure> {
    let (mut has_code, mut has_name) = (false, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "WITHCODE") && !has_code {
            has_code = true;
        } else if is(option, "LIBRARYNAME") && !has_name {
            let name = options.next();
            name.ok_or(Failure::text("library name argument was not given"))?;
            has_name = true;
        } else {
            let text = [b"Unknown argument ", *option].concat();
            return Err(Failure::Text(text.into()));
        }
    }
    Ok(())
}

fn slowlog(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [name] if is(name, "GET") => Ok(Reply::Array(Vec::new())),
        [name, count] if is(name, "GET") => match integer(count) {
            Ok(-1..) => Ok(Reply::Array(Vec::new())),
            _ => Err(Failure::text("count should be greater than or equal to -1")),
        },
        [name, ..] if is(name, "GET") => Err(Failure::subcommand_or_arity("slowlog", name)),
        [name] if is(name, "LEN") => Ok(Reply::Integer(0)),
        [name] if is(name, "RESET") => Ok(Reply::OK),
        [name, ..] => Err(Failure::subcommand("slowlog", name)),
        [] => Err(Failure::Arity),
    }
}

fn latency(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [name, ..] if is(name, "LATEST") || is(name, "HISTORY") => Ok(Reply::Array(Vec::new())),
        [name, ..] if is(name, "RESET") => Ok(Reply::Integer(0)),
        [name] if is(name, "DOCTOR") => {
            Ok(Reply::Verbatim("brasa records no latency events.".into()))
        }
        [name, ..] => Err(Failure::subcommand("latency", name)),
        [] => Err(Failure::Arity),
    }
}

fn lastsave(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    let host = session.client.host.as_ref();
    Ok(Reply::count(host.map_or_else(
        || session.db().now_ms() / 1_000,
        |host| host.last_sync_seconds(),
    )))
}

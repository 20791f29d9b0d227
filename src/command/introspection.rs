//! COMMAND: the description of the command table.

use std::borrow::Cow;

use super::arguments::is;
use super::error::Failure;
use super::syntax::{self, Argument, Kind};
use super::table::{Command, Flags, Group, KeyPositions, commands, find};
use super::{Reply, Session};
use crate::glob::Pattern;

pub(super) static COMMANDS: &[Command] = &[Command::new(Group::Server, "command", -1, command)
    .subcommands(&[
        ("COUNT", 2),
        ("DOCS", -2),
        ("GETKEYS", -4),
        ("GETKEYSANDFLAGS", -4),
        ("HELP", 2),
        ("INFO", -2),
        ("LIST", -2),
    ])
    .flags(Flags::LOADING.and(Flags::STALE))
    .help("[subcommand [argument ...]]", "Describes the commands")];

fn command(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [] => Ok(Reply::Array(
            commands().iter().map(|command| info(command)).collect(),
        )),
        [name] if is(name, "COUNT") => Ok(Reply::count(commands().len() as u64)),
        [name, names @ ..] if is(name, "INFO") => Ok(infos(names)),
        [name, names @ ..] if is(name, "DOCS") => Ok(docs(names)),
        [name, options @ ..] if is(name, "LIST") => list(options),
        [name, words @ ..] if is(name, "GETKEYS") && !words.is_empty() => keys_of(words, false),
        [name, words @ ..] if is(name, "GETKEYSANDFLAGS") && !words.is_empty() => {
            keys_of(words, true)
        }
        [name] if is(name, "HELP") => Ok(help()),
        [name, ..] => Err(Failure::subcommand("command", name)),
    }
}

fn status(text: &'static str) -> Reply {
    Reply::Status(Cow::Borrowed(text))
}

fn infos(names: &[&[u8]]) -> Reply {
    if names.is_empty() {
        return Reply::Array(commands().iter().map(|command| info(command)).collect());
    }
    let found = names.iter().map(|name| find(name));
    Reply::Array(
        found
            .map(|command| command.map_or(Reply::Nil, info))
            .collect(),
    )
}

/// The ten parts of a command's description, as in Redis 7.
fn info(command: &Command) -> Reply {
    let flags = command.flags.names().map(status).collect();
    let categories = categories(command)
        .into_iter()
        .map(|category| Reply::Status(Cow::Owned(format!("@{category}"))));
    Reply::Array(vec![
        Reply::bulk(command.name),
        Reply::Integer(command.arity.into()),
        Reply::Array(flags),
        Reply::Integer(command.keys.first.into()),
        Reply::Integer(command.keys.last.into()),
        Reply::Integer(command.keys.step.into()),
        Reply::Array(categories.collect()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

/// The categories of Redis's access control that a command would be in.
fn categories(command: &Command) -> Vec<&'static str> {
    let mut categories = Vec::new();
    if command.flags.contains(Flags::WRITE) {
        categories.push("write");
    }
    if command.flags.contains(Flags::READONLY) {
        categories.push("read");
    }
    categories.push(match command.group {
        Group::Generic => "keyspace",
        Group::Server if command.flags.contains(Flags::ADMIN) => "admin",
        Group::Server => "keyspace",
        Group::Transactions => "transaction",
        group => group.name(),
    });
    if command.flags.contains(Flags::ADMIN) {
        categories.push("dangerous");
    }
    categories.push(match command.flags.contains(Flags::FAST) {
        true => "fast",
        false => "slow",
    });
    categories.dedup();
    categories
}

fn docs(names: &[&[u8]]) -> Reply {
    let chosen: Vec<&Command> = match names {
        [] => commands().to_vec(),
        names => names.iter().filter_map(|name| find(name)).collect(),
    };
    Reply::Map(
        chosen
            .into_iter()
            .map(|command| (Reply::bulk(command.name), doc(command)))
            .collect(),
    )
}

fn doc(command: &Command) -> Reply {
    let mut parts = vec![
        (Reply::bulk("summary"), Reply::bulk(command.summary)),
        (Reply::bulk("since"), Reply::bulk("0.1.0")),
        (Reply::bulk("group"), Reply::bulk(command.group.name())),
        (Reply::bulk("arity"), Reply::Integer(command.arity.into())),
    ];
    let arguments = syntax::arguments(command.syntax);
    if !arguments.is_empty() {
        parts.push((Reply::bulk("arguments"), argument_docs(&arguments)));
    }
    Reply::Map(parts)
}

fn argument_docs(arguments: &[Argument]) -> Reply {
    Reply::Array(arguments.iter().map(argument_doc).collect())
}

fn argument_doc(argument: &Argument) -> Reply {
    let mut parts = vec![
        (Reply::bulk("name"), Reply::bulk(argument.name())),
        (Reply::bulk("type"), Reply::bulk(argument.type_name())),
    ];
    match &argument.kind {
        Kind::Value(name) => parts.push((Reply::bulk("display_text"), Reply::bulk(*name))),
        Kind::Word(word) => {
            parts.push((Reply::bulk("display_text"), Reply::bulk(*word)));
            parts.push((Reply::bulk("token"), Reply::bulk(*word)));
        }
        Kind::OneOf(of) | Kind::Block(of) => {
            parts.push((Reply::bulk("arguments"), argument_docs(of)));
        }
    }
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
    let flags: Vec<Reply> = flags.map(|(_, flag)| status(flag)).collect();
    if !flags.is_empty() {
        parts.push((Reply::bulk("flags"), Reply::Array(flags)));
    }
    Reply::Map(parts)
}

fn list(options: &[&[u8]]) -> Result<Reply, Failure> {
    let chosen = |allows: &dyn Fn(&Command) -> bool| {
        let chosen = commands().iter().filter(|command| allows(command));
        Ok(Reply::Array(
            chosen.map(|command| Reply::bulk(command.name)).collect(),
        ))
    };
    match options {
        [] => chosen(&|_| true),
        [by, of, what] if is(by, "FILTERBY") => match of {
            of if is(of, "MODULE") => chosen(&|_| false),
            of if is(of, "ACLCAT") => chosen(&|command| {
                let mut categories = categories(command).into_iter();
                categories.any(|category| is(what, category))
            }),
            of if is(of, "PATTERN") => {
                let pattern = Pattern::new(what);
                chosen(&|command| pattern.matches(command.name.as_bytes()))
            }
            _ => Err(Failure::SYNTAX),
        },
        _ => Err(Failure::SYNTAX),
    }
}

fn keys_of(words: &[&[u8]], with_flags: bool) -> Result<Reply, Failure> {
    let command = words.first().and_then(|name| find(name));
    let subcommand = words.get(1).copied().unwrap_or_default();
    let has_subcommand = |command: &&Command| {
        let mut known = command.subcommands.iter();
        command.subcommands.is_empty() || known.any(|(known, _)| is(subcommand, known))
    };
    let command = command.filter(has_subcommand);
    let command = command.ok_or(Failure::text("Invalid command specified"))?;
    // The table says of commands alone which words are keys.
    let is_third = match command.name {
        "object" => !is(subcommand, "HELP"),
        "memory" => is(subcommand, "USAGE"),
        _ => false,
    };
    let is_movable = command.flags.contains(Flags::MOVABLE_KEYS);
    if !is_third && !is_movable && command.keys == KeyPositions::NONE {
        return Err(Failure::text("The command has no key arguments"));
    }
    if !command.takes(words.len()) || command.check_subcommand(words).is_err() {
        return Err(Failure::text(
            "Invalid number of arguments specified for command",
        ));
    }
    let keys = match is_third {
        true => words.get(2..=2).unwrap_or_default().to_vec(),
        false => command.key_words(words),
    };
    let flag = match command.flags.contains(Flags::WRITE) {
        true => "RW",
        false => "RO",
    };
    let keys = keys.into_iter().map(|key| match with_flags {
        false => Reply::bulk(key),
        true => Reply::Array(vec![Reply::bulk(key), Reply::Array(vec![status(flag)])]),
    });
    Ok(Reply::Array(keys.collect()))
}

fn help() -> Reply {
    let lines = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands.",
        "LIST [FILTERBY (MODULE <module>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Return the names of commands.",
        "INFO [<command-name> ...]",
        "    Return details about commands, all of them by default.",
        "DOCS [<command-name> ...]",
        "    Return documentation about commands, all of them by default.",
        "GETKEYS <full-command>",
        "    Return the keys of a full command.",
        "GETKEYSANDFLAGS <full-command>",
        "    Return the keys of a full command and how it uses them.",
        "HELP",
        "    Print this help.",
    ];
    Reply::Array(lines.into_iter().map(status).collect())
}

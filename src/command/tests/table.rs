//! The table of the commands, against that of Redis and against what the commands do.

use super::*;

#[test]
fn the_table_is_sorted_and_each_command_well_described() {
    assert!(
        commands().is_sorted_by(|a, b| a.name < b.name),
        "names are unique"
    );
    for Command {
        name,
        arity,
        syntax,
        summary,
        ..
    } in commands()
    {
        assert!(name.len() <= MAX_NAME_BYTES, "{name}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        assert_ne!(*arity, 0, "{name}");
        assert!(
            summary.starts_with(|c: char| c.is_ascii_uppercase()),
            "{name}"
        );
        assert!(!summary.ends_with('.'), "{name}");
        // What is not in brackets must be given, and what is may be left out.
        let mut depth = 0;
        let required: String = syntax
            .chars()
            .filter(|c| {
                depth += i32::from(*c == '[');
                let is_outside = depth == 0;
                depth -= i32::from(*c == ']');
                is_outside
            })
            .collect();
        let least = required.split_whitespace().count() + 1;
        assert_eq!(usize::from(arity.unsigned_abs()), least, "{name}");
        assert_eq!(*arity < 0, syntax.contains('['), "{name}");
    }
}

/// Name, arity, flags and key positions of each command, as COMMAND of Redis 7.0.15 gave them, with those flags that this table knows.
const REDIS_TABLE: &str = include_str!("redis-7.0.15.txt");

/// What is newer than 7.0.15, or Valkey's.
const NEWER: [&str; 17] = [
    "delex",
    "delifeq",
    "digest",
    "hexpire",
    "hexpireat",
    "hexpiretime",
    "hgetdel",
    "hgetex",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hpexpiretime",
    "hpttl",
    "hsetex",
    "httl",
    "msetex",
    "waitaof",
];

#[test]
fn the_table_is_that_of_redis() {
    let mut differences = Vec::new();
    for command in commands() {
        let KeyPositions { first, last, step } = command.keys;
        let mut flags: Vec<&str> = command.flags.names().collect();
        if command.name == "object" {
            // Here it stands for its subcommands.
            flags.retain(|flag| *flag != "readonly");
        }
        // A sharded channel is a key to a cluster, and to nobody here.
        let is_channel = ["spublish", "ssubscribe", "sunsubscribe"].contains(&command.name);
        if is_channel {
            continue;
        }
        let flags = flags.join(" ");
        let (name, arity) = (command.name, command.arity);
        let line = format!("{name} {arity} {flags} {first} {last} {step}");
        let expected = REDIS_TABLE
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        match expected {
            Some(expected) if line == expected => {}
            Some(expected) => differences.push(format!("{line}, and Redis has {expected}")),
            None if NEWER.contains(&name) => {}
            None => differences.push(line),
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn keys_stand_where_the_table_says() {
    for command in commands() {
        let KeyPositions { first, last, step } = command.keys;
        let name = command.name;
        if first == 0 {
            assert_eq!(command.keys, KeyPositions::NONE, "{name}");
            let names_key = command.syntax.split(' ').any(|word| word == "key");
            assert!(!names_key, "{name}");
            continue;
        }
        assert!(step > 0 && (last == -1 || last >= first), "{name}");
        assert!(
            first.unsigned_abs() < command.arity.unsigned_abs(),
            "{name}"
        );
        let words: Vec<&str> = command.syntax.split(' ').collect();
        if name != "bitop" {
            assert!(
                words[first.unsigned_abs() as usize - 1].starts_with("key"),
                "{name}"
            );
        }
        assert_eq!(last == -1, command.syntax.contains("[key"), "{name}");
    }
}

#[test]
fn a_command_reads_or_writes_where_it_has_keys() {
    for command in commands() {
        let (reads, writes) = (
            command.flags.contains(Flags::READONLY),
            command.flags.contains(Flags::WRITE),
        );
        assert!(!(reads && writes), "{}", command.name);
        if command.keys != KeyPositions::NONE && command.name != "watch" {
            assert!(reads || writes, "{}", command.name);
        }
        if command.group == Group::Connection {
            assert!(!reads && !writes, "{}", command.name);
        }
        if command.flags.contains(Flags::DENYOOM) {
            assert!(writes, "{}", command.name);
        }
    }
}

#[test]
fn a_command_that_only_reads_leaves_the_log_alone() {
    let mut talk = Talk::new();
    // Words that each writing command could do something with.
    talk.say("SET s 1");
    talk.say("HSET h 0 1");
    let log_bytes = talk.session.db().stats().unwrap().log_bytes;
    for command in commands() {
        if command.flags.contains(Flags::WRITE) {
            continue;
        }
        for key in ["s", "h", "nobody"] {
            let mut words = vec!["0"; usize::from(command.arity.unsigned_abs())];
            words[0] = command.name;
            if let Some(word) = words.get_mut(1) {
                *word = key;
            }
            talk.session.execute(&words);
        }
        assert_eq!(
            talk.session.db().stats().unwrap().log_bytes,
            log_bytes,
            "{}",
            command.name
        );
    }
}

#[test]
fn a_name_is_found_in_either_case_and_never_by_a_part() {
    for command in commands() {
        assert_eq!(
            find(command.name.to_uppercase().as_bytes()).unwrap().name,
            command.name
        );
    }
    for name in ["", "ge", "gett", "get ", "get\0", "géť"] {
        assert!(find(name.as_bytes()).is_none(), "{name:?}");
    }
    assert!(find(&[b'a'; 1000]).is_none());
}

//! INFO, SLOWLOG, FUNCTION, COMMAND: what tools ask of a server.

use super::{SYNTAX, Talk};

#[test]
fn info_says_nothing_that_is_not_known() {
    let text = Talk::new().say("INFO");
    let lines: Vec<&str> = text.lines().collect();
    let has = |name: &str| {
        let name = format!("{name}:");
        lines.iter().any(|line| line.starts_with(&name))
    };
    // What clients and GUIs look for.
    for known in [
        "redis_version",
        "redis_mode",
        "os",
        "process_id",
        "used_memory",
        "used_memory_human",
        "maxmemory",
        "maxmemory_policy",
        "loading",
        "async_loading",
        "aof_enabled",
        "aof_last_write_status",
        "aof_current_size",
        "role",
        "connected_slaves",
    ] {
        assert!(has(known), "{known}");
    }
    for invented in [
        "mem_fragmentation_ratio",
        "aof_rewrite_in_progress",
        "rdb_changes_since_last_save",
    ] {
        assert!(!has(invented), "{invented}");
    }
}

#[test]
fn words_that_are_not_taken_are_refused_as_in_redis() {
    let count = "ERR count should be greater than or equal to -1";
    Talk::new().hold(&[
        ("BGSAVE FOO", SYNTAX),
        ("BGSAVE SCHEDULE FOO", SYNTAX),
        ("BGSAVE schedule", "Background saving started"),
        (
            "FUNCTION FLUSH FOO",
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        ),
        ("FUNCTION FLUSH", "OK"),
        ("FUNCTION FLUSH async", "OK"),
        ("FUNCTION FLUSH SYNC", "OK"),
        (
            "FUNCTION FLUSH SYNC ASYNC",
            "ERR unknown subcommand or wrong number of arguments for 'FLUSH'. Try FUNCTION HELP.",
        ),
        ("FUNCTION LIST LIBRARYNAME a WITHCODE", "[]"),
        ("FUNCTION LIST FOO", "ERR Unknown argument FOO"),
        (
            "FUNCTION LIST WITHCODE WITHCODE",
            "ERR Unknown argument WITHCODE",
        ),
        (
            "FUNCTION LIST LIBRARYNAME",
            "ERR library name argument was not given",
        ),
        ("SLOWLOG GET", "[]"),
        ("SLOWLOG GET -1", "[]"),
        ("SLOWLOG GET a", count),
        ("SLOWLOG GET -2", count),
        (
            "SLOWLOG GET 1 2",
            "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
        ),
    ]);
}

#[test]
fn a_command_that_there_is_not_is_nil_and_no_list() {
    use crate::command::Reply;
    let reply = Talk::new().session.execute(&["COMMAND", "INFO", "nosuch"]);
    assert_eq!(reply, Reply::Array(vec![Reply::Nil]));
}

#[test]
fn the_keys_of_a_command_are_told_or_why_not() {
    let arity = "ERR wrong number of arguments for 'command|getkeys' command";
    let (invalid, none) = (
        "ERR Invalid command specified",
        "ERR The command has no key arguments",
    );
    let number = "ERR Invalid number of arguments specified for command";
    let mut talk = Talk::new();
    for (words, expected) in [
        ("GET", arity),
        ("nosuch", arity),
        ("nosuch a", invalid),
        ("GET a", "[\"a\"]"),
        ("GET a b", number),
        ("MSET a", number),
        ("MSET a b c", "[\"a\" \"c\"]"),
        ("PING a", none),
        ("DBSIZE x", none),
        ("CONFIG GET a", none),
        ("CONFIG NOSUCH a", invalid),
        ("OBJECT ENCODING k", "[\"k\"]"),
        ("OBJECT ENCODING", number),
        ("OBJECT NOSUCH k", invalid),
        ("MEMORY USAGE k", "[\"k\"]"),
        ("MEMORY USAGE", number),
    ] {
        talk.hold(&[(&format!("COMMAND GETKEYS {words}"), expected)]);
    }
}

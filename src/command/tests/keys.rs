//! Keys that go elsewhere, are looked at from the side, or are kept as bytes.

use super::{NOT_AN_INTEGER, SYNTAX, Talk, bytes, elements};
use crate::command::Reply;

#[test]
fn keys_get_other_names_and_databases() {
    let same = "ERR source and destination objects are the same";
    Talk::new().hold(&[
        ("SET a 1 PX 1000", "OK"),
        ("RENAME a b", "OK"),
        ("PTTL b", "1000"),
        ("RENAME a b", "ERR no such key"),
        ("RENAME b b", "OK"),
        ("SET c 2", "OK"),
        ("RENAMENX b c", "0"),
        ("RENAMENX b d", "1"),
        ("RENAMENX b d", "ERR no such key"),
        ("COPY d c", "0"),
        ("COPY d c REPLACE", "1"),
        ("PTTL c", "1000"),
        ("COPY d d", same),
        ("COPY d d DB 1", "1"),
        ("COPY d d DB 99", "ERR DB index is out of range"),
        ("COPY nobody x", "0"),
        ("MOVE c 1", "1"),
        ("MOVE c 1", "0"),
        ("MOVE d 0", same),
        ("SELECT 1", "OK"),
        ("GET c", "\"1\""),
        ("SWAPDB 0 1", "OK"),
        ("EXISTS c", "0"),
        ("SWAPDB a 1", "ERR invalid first DB index"),
        ("SWAPDB 0 b", "ERR invalid second DB index"),
        ("SWAPDB 0 99", "ERR DB index is out of range"),
        ("TOUCH d c nobody", "1"),
        ("FLUSHALL", "OK"),
        ("RANDOMKEY", "nil"),
        ("SET k v", "OK"),
        ("RANDOMKEY", "\"k\""),
    ]);
}

#[test]
fn the_times_of_deadlines() {
    Talk::new().hold(&[
        ("SET k v PX 1500", "OK"),
        ("EXPIRETIME k", "1700000002"),
        ("PEXPIRETIME k", "1700000001500"),
        ("PERSIST k", "1"),
        ("EXPIRETIME k", "-1"),
        ("PEXPIRETIME nobody", "-2"),
    ]);
}

#[test]
fn what_was_dumped_is_restored() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("SET s \"\\x00\\xff\"", "OK"),
        ("HSET h a 1 b 2", "2"),
        ("HPEXPIRE h 5000 FIELDS 1 a", "[1]"),
        ("DUMP nobody", "nil"),
    ]);
    for key in ["s", "h"] {
        let dumped = talk.session.execute(&["DUMP", key]);
        let payload = bytes(&dumped).to_vec();
        let restore = |talk: &mut Talk, words: &[&[u8]]| super::show(&talk.session.execute(words));
        assert_eq!(
            restore(&mut talk, &[b"RESTORE", key.as_bytes(), b"0", &payload]),
            "BUSYKEY Target key name already exists."
        );
        assert_eq!(
            restore(
                &mut talk,
                &[b"RESTORE", b"new", b"7000", &payload, b"REPLACE"]
            ),
            "OK"
        );
        talk.hold(&[("PTTL new", "7000")]);
        for at in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] ^= 0x10;
            assert_eq!(
                restore(&mut talk, &[b"RESTORE", b"other", b"0", &damaged]),
                "ERR DUMP payload version or checksum are wrong"
            );
        }
        for len in 0..payload.len() {
            let cut = restore(&mut talk, &[b"RESTORE", b"other", b"0", &payload[..len]]);
            assert_eq!(cut, "ERR DUMP payload version or checksum are wrong");
        }
        assert_eq!(
            restore(&mut talk, &[b"RESTORE", b"other", b"-1", &payload]),
            "ERR Invalid TTL value, must be >= 0"
        );
    }
    talk.hold(&[
        ("HGETALL new", "{\"a\": \"1\", \"b\": \"2\"}"),
        ("HPTTL new FIELDS 2 a b", "[5000 -1]"),
        ("EXISTS other", "0"),
    ]);
}

#[test]
fn what_is_restored_until_a_moment_that_has_passed_is_only_removed() {
    let mut talk = Talk::new();
    talk.hold(&[("SET s v", "OK")]);
    let dumped = talk.session.execute(&["DUMP", "s"]);
    for (key, done) in [("nobody", "[]"), ("s", "nil")] {
        talk.hold(&[(&format!("WATCH {key}"), "OK")]);
        let words: [&[u8]; 6] = [
            b"RESTORE",
            key.as_bytes(),
            b"1",
            bytes(&dumped),
            b"ABSTTL",
            b"REPLACE",
        ];
        assert_eq!(talk.session.execute(&words), Reply::OK);
        talk.hold(&[
            (&format!("EXISTS {key}"), "0"),
            ("MULTI", "OK"),
            ("EXEC", done),
        ]);
    }
}

#[test]
fn keys_are_looked_at_from_the_side() {
    let long = "x".repeat(45);
    let mut talk = Talk::new();
    talk.session.execute(&["SET", "long", &long]);
    talk.session.execute(&["HSET", "big", "f", &"x".repeat(65)]);
    talk.hold(&[
        ("SET n 12", "OK"),
        ("SET s text", "OK"),
        ("HSET h f v", "1"),
        ("OBJECT ENCODING n", "\"int\""),
        ("OBJECT ENCODING s", "\"embstr\""),
        ("OBJECT ENCODING long", "\"raw\""),
        ("OBJECT ENCODING h", "\"listpack\""),
        ("OBJECT ENCODING big", "\"hashtable\""),
        ("OBJECT ENCODING nobody", "nil"),
        ("OBJECT REFCOUNT s", "1"),
        ("OBJECT IDLETIME s", "0"),
        (
            "OBJECT FOO s",
            "ERR unknown subcommand 'FOO'. Try OBJECT HELP.",
        ),
        ("DEBUG SET-ACTIVE-EXPIRE 0", "OK"),
        ("DEBUG SLEEP 0", "OK"),
        ("WAIT 0 0", "0"),
        ("WAIT 1 -1", "ERR timeout is negative"),
        ("WAITAOF 1 0 0", "[1 0]"),
    ]);
}

#[test]
fn the_table_describes_itself() {
    let mut talk = Talk::new();
    let count = crate::command::commands().len().to_string();
    talk.hold(&[
        ("COMMAND COUNT", &count),
        ("COMMAND GETKEYS SET k v", "[\"k\"]"),
        ("COMMAND GETKEYS MSET a 1 b 2", "[\"a\" \"b\"]"),
        ("COMMAND GETKEYS MSETEX 2 a 1 b 2 NX", "[\"a\" \"b\"]"),
        ("COMMAND GETKEYS BITOP AND d a b", "[\"d\" \"a\" \"b\"]"),
        ("COMMAND GETKEYSANDFLAGS GET k", "[[\"k\" [RO]]]"),
        (
            "COMMAND GETKEYS PING a",
            "ERR The command has no key arguments",
        ),
        ("COMMAND GETKEYS FOO a", "ERR Invalid command specified"),
        (
            "COMMAND FOO",
            "ERR unknown subcommand 'FOO'. Try COMMAND HELP.",
        ),
        (
            "COMMAND LIST FILTERBY PATTERN hget*",
            "[\"hget\" \"hgetall\" \"hgetdel\" \"hgetex\"]",
        ),
        ("COMMAND LIST FILTERBY MODULE x", "[]"),
        ("COMMAND LIST FOO", SYNTAX),
        (
            "COMMAND INFO get nobody",
            "[[\"get\" 2 [readonly fast] 1 1 1 [@read @string @fast] [] [] []] nil]",
        ),
    ]);
    let docs = talk.session.execute(&["COMMAND", "DOCS"]);
    assert!(matches!(docs, Reply::Map(docs) if docs.len().to_string() == count));
    let all = talk.session.execute(&["COMMAND"]);
    assert_eq!(elements(all).len().to_string(), count);
}

#[test]
fn samples_are_read_one_after_another() {
    Talk::new().hold(&[
        ("MEMORY USAGE nobody SAMPLES 5 samples 0", "nil"),
        ("MEMORY USAGE nobody SAMPLES a SAMPLES", NOT_AN_INTEGER),
        ("MEMORY USAGE nobody SAMPLES -1 SAMPLES a", SYNTAX),
        ("MEMORY USAGE nobody SAMPLES 1 OTHER a", SYNTAX),
    ]);
}

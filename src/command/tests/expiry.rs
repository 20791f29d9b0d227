//! Deadlines of keys: EXPIRE and its kin.

use super::*;

#[test]
fn a_deadline_is_set_asked_for_and_taken_away() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("TTL k", "-2"),
        ("PTTL k", "-2"),
        ("EXPIRE k 10", "0"),
        ("PERSIST k", "0"),
        ("SET k v", "OK"),
        ("TTL k", "-1"),
        ("PTTL k", "-1"),
        ("PERSIST k", "0"),
        ("EXPIRE k 10", "1"),
        ("TTL k", "10"),
        ("PERSIST k", "1"),
        ("TTL k", "-1"),
        ("PEXPIRE k 1499", "1"),
        ("TTL k", "1"),
        ("PEXPIRE k 1500", "1"),
        ("TTL k", "2"),
        ("EXPIREAT k 1700000007", "1"),
        ("PTTL k", "7000"),
        ("PEXPIREAT k 1700000000008", "1"),
        ("PTTL k", "8"),
        ("TTL k", "0"),
        ("HSET h f v", "1"),
        ("EXPIRE h 1", "1"),
    ]);
    talk.clock.advance(Duration::from_millis(8));
    talk.hold(&[("TTL k", "-2"), ("EXISTS k h", "1")]);
    talk.clock.advance(Duration::from_secs(1));
    talk.hold(&[("HGETALL h", "{}"), ("TYPE h", "none"), ("DBSIZE", "0")]);
}

#[test]
fn a_deadline_that_has_passed_deletes() {
    for line in [
        "EXPIRE k 0",
        "EXPIRE k -1",
        "PEXPIRE k -9223372036854775808",
        "EXPIREAT k 1",
        "EXPIREAT k -1",
        "PEXPIREAT k 1700000000000",
        "PEXPIREAT k -9223372036854775808",
    ] {
        let mut talk = Talk::new();
        talk.hold(&[
            (line, "0"),
            ("SET k v", "OK"),
            (line, "1"),
            ("EXISTS k", "0"),
        ]);
    }
}

#[test]
fn a_deadline_beyond_64_bits_is_refused() {
    let mut talk = Talk::new();
    talk.say("SET k v");
    for (verb, time) in [
        ("expire", "9223372036854775807"),
        ("expire", "9223372036854775"),
        ("expire", "-9223372036854775808"),
        ("pexpire", "9223372036854775807"),
        ("expireat", "9223372036854776"),
    ] {
        let expected = format!("ERR invalid expire time in '{verb}' command");
        assert_eq!(talk.say(&format!("{verb} k {time}")), expected);
        // As in Redis, the number is judged before the key is looked for.
        assert_eq!(talk.say(&format!("{verb} nobody {time}")), expected);
    }
    talk.hold(&[
        ("TTL k", "-1"),
        ("EXPIRE nobody ten", NOT_AN_INTEGER),
        ("PEXPIREAT k 9223372036854775807", "1"),
        ("TTL k", "9223370336854776"),
    ]);
}

#[test]
fn a_deadline_is_changed_on_conditions() {
    Talk::new().hold(&[
        ("EXPIRE k 10 NX", "0"),
        ("SET k v", "OK"),
        ("EXPIRE k 10 XX", "0"),
        ("EXPIRE k 10 GT", "0"),
        ("EXPIRE k 10 XX GT", "0"),
        ("EXPIRE k 10 XX LT", "0"),
        ("TTL k", "-1"),
        ("EXPIRE k 10 NX", "1"),
        ("EXPIRE k 20 nx", "0"),
        ("EXPIRE k 10 gt", "0"),
        ("EXPIRE k 20 GT", "1"),
        ("EXPIRE k 20 LT", "0"),
        ("EXPIRE k 15 lt", "1"),
        ("EXPIRE k 30 XX LT", "0"),
        ("EXPIRE k 5 LT XX", "1"),
        ("EXPIRE k 4 XX GT", "0"),
        ("EXPIRE k 6 XX XX", "1"),
        ("TTL k", "6"),
        ("PEXPIREAT k 1 GT", "0"),
        ("PERSIST k", "1"),
        ("EXPIRE k 100 LT", "1"),
        ("TTL k", "100"),
        ("EXPIRE k -1 LT", "1"),
        ("EXISTS k", "0"),
    ]);
}

#[test]
fn conditions_that_contradict_each_other_are_refused() {
    let nx = "ERR NX and XX, GT or LT options at the same time are not compatible";
    let mut talk = Talk::new();
    for verb in ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"] {
        for (options, expected) in [
            ("NX XX", nx),
            ("NX GT", nx),
            ("LT NX", nx),
            (
                "GT LT",
                "ERR GT and LT options at the same time are not compatible",
            ),
            ("FOO", "ERR Unsupported option FOO"),
            ("NX \"a\\nb\"", "ERR Unsupported option a b"),
        ] {
            assert_eq!(talk.say(&format!("{verb} k ten {options}")), expected);
        }
    }
}

//! What each command answers, with the replies of Redis 7.0.15 as the measure.

mod bits;
mod hashes;
mod help;
mod keys;
mod strings;
mod transactions;

use std::time::Duration;

use super::table::MAX_NAME_BYTES;
use super::{
    Command, Flags, Group, KeyPositions, Reply, Session, commands, find, refusal, split_words,
};
use crate::limits::{MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::{Db, ManualClock};

const NOW_MS: u64 = 1_700_000_000_000;
const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";

/// A session on a fresh database, with a clock that the test moves.
struct Talk {
    session: Session,
    clock: ManualClock,
}

impl Talk {
    fn new() -> Self {
        let clock = ManualClock::new(NOW_MS);
        let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
        Self {
            session: Session::new(db),
            clock,
        }
    }

    fn say(&mut self, line: &str) -> String {
        let words = split_words(line.as_bytes()).unwrap();
        show(&self.session.execute(&words))
    }

    /// Each line with what must be answered to it.
    #[track_caller]
    fn hold(&mut self, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            assert_eq!(self.say(line), *expected, "{line}");
        }
    }
}

/// A reply in a line: a status and a number as they are, bytes quoted, errors as their text.
fn show(reply: &Reply) -> String {
    let list = |replies: &[Reply]| replies.iter().map(show).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Status(text) => text.to_string(),
        Reply::Error(error) => error.to_string(),
        Reply::Verbatim(text) => text.to_string(),
        Reply::Push(replies) => format!(">[{}]", list(replies)),
        Reply::Several(replies) => list(replies),
        Reply::Integer(number) => number.to_string(),
        Reply::Double(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Array(replies) => format!("[{}]", list(replies)),
        Reply::Pairs(pairs) => {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(one, other)| format!("({} {})", show(one), show(other)));
            format!("[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        Reply::Map(entries) => {
            let mut entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", show(key), show(value)))
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[track_caller]
fn elements(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(replies) => replies,
        other => unreachable!("{other:?} is no array"),
    }
}

#[track_caller]
fn bytes(reply: &Reply) -> &[u8] {
    match reply {
        Reply::Bulk(bytes) => bytes,
        other => unreachable!("{other:?} is no bulk"),
    }
}

/// A cursor and what was found, of SCAN and its kin.
#[track_caller]
fn page(reply: Reply) -> (String, Vec<Reply>) {
    let [cursor, found] = elements(reply).try_into().unwrap();
    let cursor = String::from_utf8(bytes(&cursor).to_vec()).unwrap();
    (cursor, elements(found))
}

/// Replies as texts, sorted.
fn sorted(replies: &[Reply]) -> Vec<String> {
    let mut texts: Vec<String> = replies.iter().map(show).collect();
    texts.sort();
    texts
}

#[test]
fn set_and_get_a_string() {
    Talk::new().hold(&[
        ("GET k", "nil"),
        ("SET k v", "OK"),
        ("get k", "\"v\""),
        ("SeT k \"\\x00\\xff\"", "OK"),
        ("GET k", r#""\x00\xff""#),
        ("SET \"\" \"\"", "OK"),
        ("GET \"\"", "\"\""),
        ("STRLEN k", "2"),
        ("STRLEN nobody", "0"),
    ]);
}

#[test]
fn set_obeys_its_conditions() {
    Talk::new().hold(&[
        ("SET k 1 XX", "nil"),
        ("EXISTS k", "0"),
        ("SET k 1 NX", "OK"),
        ("SET k 2 nx", "nil"),
        ("GET k", "\"1\""),
        ("SET k 2 xx", "OK"),
        ("SET k 3 GET", "\"2\""),
        ("SET k 4 NX GET", "\"3\""),
        ("GET k", "\"3\""),
        ("SET new 1 NX GET", "nil"),
        ("GET new", "\"1\""),
        ("SET k 4 XX GET", "\"3\""),
        ("SET absent 4 XX GET", "nil"),
        ("EXISTS absent", "0"),
        ("HSET h f v", "1"),
        ("SET h v GET", WRONGTYPE),
        ("TYPE h", "hash"),
        ("SET h v", "OK"),
        ("TYPE h", "string"),
    ]);
}

#[test]
fn set_takes_a_deadline_in_four_ways() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("SET a v EX 10", "OK"),
        ("SET b v PX 10500", "OK"),
        ("SET c v EXAT 1700000020", "OK"),
        ("SET d v PXAT 1700000000001", "OK"),
        ("SET e v EX 1 ex 30", "OK"),
        ("PTTL a", "10000"),
        ("PTTL b", "10500"),
        ("PTTL c", "20000"),
        ("PTTL d", "1"),
        ("PTTL e", "30000"),
        ("SET a w KEEPTTL", "OK"),
        ("PTTL a", "10000"),
        ("SET a w", "OK"),
        ("PTTL a", "-1"),
        ("SET past v EXAT 1", "OK"),
        ("EXISTS past", "0"),
    ]);
    talk.clock.advance(Duration::from_millis(1));
    talk.hold(&[("GET d", "nil"), ("GET b", "\"v\"")]);
}

#[test]
fn set_refuses_what_it_cannot_mean() {
    let bad_time = "ERR invalid expire time in 'set' command";
    let mut talk = Talk::new();
    talk.hold(&[
        ("SET k v FOO", SYNTAX),
        ("SET k v EX", SYNTAX),
        ("SET k v EX 10 PX 10", SYNTAX),
        ("SET k v EX 10 EXAT 10", SYNTAX),
        ("SET k v EX 10 KEEPTTL", SYNTAX),
        ("SET k v KEEPTTL PXAT 10", SYNTAX),
        ("SET k v NX XX", SYNTAX),
        ("SET k v EX ten FOO", SYNTAX),
        ("SET k v EX ten", NOT_AN_INTEGER),
        ("SET k v EX 1.5", NOT_AN_INTEGER),
        ("SET k v EX 0", bad_time),
        ("SET k v PX -1", bad_time),
        ("SET k v EXAT 0", bad_time),
        ("SET k v PXAT -5", bad_time),
        ("SET k v EX 9223372036854775807", bad_time),
        ("SET k v EX 9223372036854775", bad_time),
        ("SET k v PX 9223372036854775807", bad_time),
        ("SET k v EXAT 9223372036854776", bad_time),
        ("EXISTS k", "0"),
        ("SET k v PXAT 9223372036854775807", "OK"),
        ("PTTL k", "9223370336854775807"),
    ]);
}

#[test]
fn the_old_ways_to_set() {
    Talk::new().hold(&[
        ("SETEX k 10 v", "OK"),
        ("PTTL k", "10000"),
        ("PSETEX k 1500 v", "OK"),
        ("PTTL k", "1500"),
        ("SETEX k 0 v", "ERR invalid expire time in 'setex' command"),
        (
            "PSETEX k -1 v",
            "ERR invalid expire time in 'psetex' command",
        ),
        ("SETEX k ten v", NOT_AN_INTEGER),
        ("SETNX k w", "0"),
        ("SETNX n w", "1"),
        ("GETSET k w", "\"v\""),
        ("PTTL k", "-1"),
        ("GETSET nobody w", "nil"),
        ("HSET h f v", "1"),
        ("GETSET h w", WRONGTYPE),
        ("SETNX h w", "0"),
    ]);
}

#[test]
fn several_strings_at_once() {
    Talk::new().hold(&[
        ("MSET a 1 b 2 a 3", "OK"),
        ("HSET h f v", "1"),
        ("MGET a b nobody h a", r#"["3" "2" nil nil "3"]"#),
        ("SETEX a 10 v", "OK"),
        ("MSET a 1", "OK"),
        ("TTL a", "-1"),
        ("MSET h 1", "OK"),
        ("GET h", "\"1\""),
    ]);
}

#[test]
fn counting_up_and_down() {
    let overflow = "ERR increment or decrement would overflow";
    Talk::new().hold(&[
        ("INCR n", "1"),
        ("INCRBY n 41", "42"),
        ("DECR n", "41"),
        ("DECRBY n 42", "-1"),
        ("INCRBY n -1", "-2"),
        ("SETEX n 10 5", "OK"),
        ("INCR n", "6"),
        ("PTTL n", "10000"),
        ("INCRBY n 1x", NOT_AN_INTEGER),
        ("INCRBY n +1", NOT_AN_INTEGER),
        ("INCRBY n \" 1\"", NOT_AN_INTEGER),
        ("INCRBY n 9223372036854775808", NOT_AN_INTEGER),
        ("SET n 9223372036854775807", "OK"),
        ("INCR n", overflow),
        ("SET n -9223372036854775808", "OK"),
        ("DECR n", overflow),
        (
            "DECRBY n -9223372036854775808",
            "ERR decrement would overflow",
        ),
        ("SET n 01", "OK"),
        ("INCR n", NOT_AN_INTEGER),
        ("SET n \"\"", "OK"),
        ("DECR n", NOT_AN_INTEGER),
        ("HSET h f v", "1"),
        ("INCR h", WRONGTYPE),
    ]);
}

#[test]
fn append_makes_and_prolongs_a_string() {
    Talk::new().hold(&[
        ("APPEND k Relou", "5"),
        ("PEXPIRE k 100", "1"),
        ("APPEND k \" Uourdi\"", "12"),
        ("GET k", "\"Relou Uourdi\""),
        ("PTTL k", "100"),
        ("HSET h f v", "1"),
        ("APPEND h x", WRONGTYPE),
        ("STRLEN h", WRONGTYPE),
        ("GET h", WRONGTYPE),
    ]);
}

#[test]
fn hashes_field_by_field() {
    Talk::new().hold(&[
        ("HSET h nome thailan idade 29", "2"),
        ("HSET h idade 30 city Recife", "1"),
        ("HGET h idade", "\"30\""),
        ("HGET h nobody", "nil"),
        ("HGET nobody f", "nil"),
        ("HMGET h nome x city", r#"["thailan" nil "Recife"]"#),
        ("HMGET nobody a b", "[nil nil]"),
        ("HLEN h", "3"),
        ("HLEN nobody", "0"),
        ("HEXISTS h nome", "1"),
        ("HEXISTS h nobody", "0"),
        ("HEXISTS nobody f", "0"),
        (
            "HGETALL h",
            r#"{"city": "Recife", "idade": "30", "nome": "thailan"}"#,
        ),
        ("HGETALL nobody", "{}"),
        ("HKEYS nobody", "[]"),
        ("HVALS nobody", "[]"),
        ("HSETNX h nome outro", "0"),
        ("HSETNX h novo 1", "1"),
        ("HMSET h a 1 b 2", "OK"),
        ("HDEL h a b nobody a", "2"),
        ("HDEL nobody f", "0"),
        ("HDEL h nome idade city novo", "4"),
        ("EXISTS h", "0"),
        ("HSET h \"\" \"\"", "1"),
        ("HGETALL h", r#"{"": ""}"#),
    ]);
}

#[test]
fn names_and_values_of_a_hash_come_in_the_same_order() {
    let mut talk = Talk::new();
    talk.say("HSET h a 1 b 2 c 3");
    let names = elements(talk.session.execute(&["HKEYS", "h"]));
    let values = elements(talk.session.execute(&["HVALS", "h"]));
    assert_eq!((names.len(), values.len()), (3, 3));
    for (name, value) in names.iter().zip(&values) {
        let found = talk.session.execute(&[b"HGET", &b"h"[..], bytes(name)]);
        assert_eq!(&found, value);
    }
}

#[test]
fn counting_in_a_field() {
    Talk::new().hold(&[
        ("HINCRBY h n 30", "30"),
        ("HINCRBY h n -31", "-1"),
        ("HSET h n x", "0"),
        ("HINCRBY h n 1", "ERR hash value is not an integer"),
        ("HINCRBY h n x", NOT_AN_INTEGER),
        ("HSET h n 9223372036854775807", "0"),
        ("HINCRBY h n 1", "ERR increment or decrement would overflow"),
    ]);
}

#[test]
fn a_string_is_no_hash() {
    let mut talk = Talk::new();
    talk.say("SET s v");
    for line in [
        "HSET s f v",
        "HMSET s f v",
        "HSETNX s f v",
        "HGET s f",
        "HMGET s f",
        "HGETALL s",
        "HKEYS s",
        "HVALS s",
        "HLEN s",
        "HEXISTS s f",
        "HDEL s f",
        "HINCRBY s f 1",
        "HSCAN s 0",
    ] {
        assert_eq!(talk.say(line), WRONGTYPE, "{line}");
    }
    assert_eq!(talk.say("GET s"), "\"v\"");
}

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

#[test]
fn keys_of_either_type() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("TYPE k", "none"),
        ("SET k v", "OK"),
        ("HSET h f v", "1"),
        ("TYPE k", "string"),
        ("TYPE h", "hash"),
        ("EXISTS k h nobody k", "3"),
        ("DBSIZE", "2"),
        ("DEL k nobody k", "1"),
        ("UNLINK h nobody", "1"),
        ("EXISTS k h", "0"),
        ("DBSIZE", "0"),
    ]);
}

#[test]
fn keys_lists_what_fits_the_pattern() {
    let mut talk = Talk::new();
    talk.say("MSET user:1 a user:2 b page:1 c \"\" d");
    let mut list = |pattern: &str| sorted(&elements(talk.session.execute(&["KEYS", pattern])));
    assert_eq!(list("user:*"), ["\"user:1\"", "\"user:2\""]);
    assert_eq!(list("*:1"), ["\"page:1\"", "\"user:1\""]);
    assert_eq!(list("*").len(), 4);
    assert_eq!(list("nobody"), [""; 0]);
    assert_eq!(list(""), ["\"\""]);
}

/// Follows the cursor to the end.
fn scan_all(talk: &mut Talk, options: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let words = split_words(format!("SCAN {cursor} {options}").as_bytes()).unwrap();
        let (next, keys) = page(talk.session.execute(&words));
        found.extend(keys);
        cursor = next;
        if cursor == "0" {
            return sorted(&found);
        }
    }
}

#[test]
fn scan_comes_by_every_key() {
    let mut talk = Talk::new();
    let mut expected = Vec::new();
    for number in 0..500 {
        talk.say(&format!("SET key:{number} v"));
        expected.push(format!("\"key:{number}\""));
    }
    talk.say("HSET h f v");
    expected.push("\"h\"".to_owned());
    expected.sort();
    for options in [
        "",
        "COUNT 1",
        "COUNT 7",
        "count 10000",
        "MATCH *",
        "COUNT 9223372036854775807",
    ] {
        assert_eq!(scan_all(&mut talk, options), expected, "{options}");
    }
    assert_eq!(scan_all(&mut talk, "TYPE hash"), ["\"h\""]);
    assert_eq!(scan_all(&mut talk, "type HASH MATCH k*"), [""; 0]);
    assert_eq!(scan_all(&mut talk, "MATCH key:49? TYPE string").len(), 10);
    assert_eq!(scan_all(&mut talk, "TYPE zset"), [""; 0]);
}

#[test]
fn scan_takes_any_cursor_and_refuses_what_is_none() {
    let mut talk = Talk::new();
    talk.say("SET k v");
    for cursor in [
        "x",
        "1x",
        "\" 1\"",
        "1.0",
        "99999999999999999999",
        "-",
        "+-1",
        "0x1",
    ] {
        for line in [format!("SCAN {cursor}"), format!("HSCAN nobody {cursor}")] {
            assert_eq!(talk.say(&line), "ERR invalid cursor", "{line}");
        }
    }
    for cursor in [
        "00",
        "+0",
        "-0",
        "\"\"",
        "-1",
        "18446744073709551615",
        "123456789",
    ] {
        let reply = talk.say(&format!("SCAN {cursor} COUNT 1000"));
        assert!(reply.starts_with("[\"0\" ["), "{cursor}: {reply}");
    }
    assert_eq!(talk.say("SCAN \"\""), "[\"0\" [\"k\"]]");
    talk.hold(&[
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT -1", SYNTAX),
        ("SCAN 0 COUNT ten", NOT_AN_INTEGER),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 MATCH", SYNTAX),
        ("SCAN 0 FOO 1", SYNTAX),
        ("SCAN x COUNT 0", "ERR invalid cursor"),
    ]);
}

#[test]
fn hscan_comes_by_every_field() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("HSET h a 1", "1"),
        ("HSCAN h 0", r#"["0" ["a" "1"]]"#),
        ("HSCAN h 0 MATCH b*", r#"["0" []]"#),
        ("HSCAN h 0 match a* COUNT 5", r#"["0" ["a" "1"]]"#),
        ("HSCAN h 0 TYPE string", SYNTAX),
        ("HSCAN h 0 COUNT 0", SYNTAX),
        ("HSCAN nobody 0", r#"["0" []]"#),
        ("HSCAN nobody 0 FOO", r#"["0" []]"#),
    ]);
    for number in 0..100 {
        talk.say(&format!("HSET h field:{number} v"));
    }
    let (mut cursor, mut seen) = ("0".to_owned(), 0);
    loop {
        let reply = talk.session.execute(&["HSCAN", "h", &cursor, "COUNT", "9"]);
        let (next, pairs) = page(reply);
        seen += pairs.len() / 2;
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 101);
}

#[test]
fn the_sixteen_databases_are_apart() {
    let no_such = "ERR DB index is out of range";
    Talk::new().hold(&[
        ("SET k zero", "OK"),
        ("SELECT 15", "OK"),
        ("GET k", "nil"),
        ("SET k fifteen", "OK"),
        ("SELECT 16", no_such),
        ("SELECT -1", no_such),
        ("SELECT one", NOT_AN_INTEGER),
        (
            "SELECT 99999999999",
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ),
        ("GET k", "\"fifteen\""),
        ("FLUSHDB", "OK"),
        ("DBSIZE", "0"),
        ("SELECT 0", "OK"),
        ("GET k", "\"zero\""),
        ("SELECT 3", "OK"),
        ("SET k three", "OK"),
        ("FLUSHALL", "OK"),
        ("DBSIZE", "0"),
        ("SELECT 0", "OK"),
        ("DBSIZE", "0"),
    ]);
}

#[test]
fn clearing_takes_a_mode_and_nothing_else() {
    for verb in ["FLUSHDB", "FLUSHALL"] {
        for (options, expected) in [
            ("FOO", SYNTAX),
            ("ASYNC SYNC", SYNTAX),
            ("async", "OK"),
            ("SYNC", "OK"),
        ] {
            assert_eq!(Talk::new().say(&format!("{verb} {options}")), expected);
        }
    }
}

#[test]
fn small_talk() {
    Talk::new().hold(&[
        ("PING", "PONG"),
        ("PING hello", "\"hello\""),
        (
            "PING a b",
            "ERR wrong number of arguments for 'ping' command",
        ),
        ("ECHO \"\\xff\"", r#""\xff""#),
        ("TIME", r#"["1700000000" "0"]"#),
    ]);
    let mut talk = Talk::new();
    talk.clock.advance(Duration::from_millis(7));
    talk.hold(&[("TIME", r#"["1700000000" "7000"]"#)]);
}

#[test]
fn an_odd_word_is_the_wrong_number_of_arguments() {
    Talk::new().hold(&[
        (
            "MSET a 1 b",
            "ERR wrong number of arguments for 'mset' command",
        ),
        (
            "HSET h f v g",
            "ERR wrong number of arguments for 'hset' command",
        ),
        (
            "hmset h f v g",
            "ERR wrong number of arguments for 'hmset' command",
        ),
        ("DBSIZE", "0"),
    ]);
}

#[test]
fn each_command_refuses_too_few_and_too_many_words() {
    let mut talk = Talk::new();
    for command in commands() {
        let arity = usize::from(command.arity.unsigned_abs());
        let mut counts = vec![arity - 1];
        if command.arity > 0 {
            counts.push(arity + 1);
        }
        for count in counts.into_iter().filter(|count| *count > 0) {
            let mut words = vec!["1"; count];
            words[0] = command.name;
            let expected = format!(
                "ERR wrong number of arguments for '{}' command",
                command.name
            );
            // To a session it is the end of a transaction, too.
            let said = match command.name {
                "exec" => expected.replace("ERR", "EXECABORT Transaction discarded because of:"),
                _ => expected.clone(),
            };
            assert_eq!(show(&talk.session.execute(&words)), said);
            assert_eq!(refusal(&words).unwrap().to_string(), expected);
        }
    }
}

#[test]
fn an_unknown_command_is_quoted_up_to_a_limit() {
    let mut talk = Talk::new();
    talk.hold(&[
        (
            "FOO a b",
            "ERR unknown command 'FOO', with args beginning with: 'a' 'b' ",
        ),
        (
            "foo",
            "ERR unknown command 'foo', with args beginning with: ",
        ),
        (
            "\"fo\\no\" \"a\\r\\nb\\x00c\"",
            "ERR unknown command 'fo o', with args beginning with: 'a  b' ",
        ),
        ("\"\"", "ERR unknown command '', with args beginning with: "),
    ]);
    let long = "x".repeat(200);
    let reply = talk.session.execute(&[&long, "y", &long, &long]);
    let expected = format!(
        "ERR unknown command '{}', with args beginning with: 'y' '{}' ",
        &long[..128],
        &long[..124]
    );
    assert_eq!(show(&reply), expected);
    assert_eq!(
        show(&talk.session.execute(&[""; 0])),
        "ERR no command given"
    );
}

#[test]
fn words_over_their_limit_are_refused() {
    let mut talk = Talk::new();
    let (key, field) = ("k".repeat(MAX_KEY_BYTES), "f".repeat(MAX_FIELD_BYTES));
    let (long_key, long_field) = (key.clone() + "k", field.clone() + "f");
    let mut say = |words: &[&str]| show(&talk.session.execute(words));
    assert_eq!(say(&["SET", &key, "v"]), "OK");
    assert_eq!(say(&["HSET", "h", &field, "v"]), "1");
    let refused = say(&["SET", &long_key, "v"]);
    assert!(refused.starts_with("ERR a key of 65536 bytes"), "{refused}");
    let refused = say(&["HSET", "h", &long_field, "v"]);
    assert!(
        refused.starts_with("ERR a field of 65536 bytes"),
        "{refused}"
    );
    // What cannot be there is not there.
    assert_eq!(say(&["GET", &long_key]), "nil");
    assert_eq!(say(&["DEL", &key]), "1");
}

#[test]
fn a_string_over_its_limit_is_refused() {
    let mut talk = Talk::new();
    let half = vec![b'v'; MAX_VALUE_BYTES / 2 + 1];
    let key: &[u8] = b"k";
    talk.session.execute(&[b"SET", key, &half]);
    assert_eq!(
        show(&talk.session.execute(&[b"APPEND", key, &half])),
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    );
}

#[test]
fn a_command_on_several_names_sees_no_half_of_a_commit() {
    // Names between the two that change together, so that there is time in between.
    let between: Vec<String> = (0..50).map(|number| format!("between:{number}")).collect();
    let words = |verb: &[&'static str], first: &'static str, last: &'static str| -> Vec<String> {
        let verb = verb.iter().chain([&first]).map(|word| (*word).to_owned());
        verb.chain(between.clone())
            .chain([last.to_owned()])
            .collect()
    };
    let hmget = words(&["HMGET", "h"], "a", "b");
    let mget = words(&["MGET"], "x", "y");
    let exists = words(&["EXISTS"], "here", "there");

    let mut reading = Talk::new();
    reading.say("HSET h a 0 b 0");
    reading.say("MSET x 0 y 0 here 1");
    let db = reading.session.db().clone();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut writing = Session::new(db.clone());
            for number in 0..20_000 {
                let (gone, here) = if number % 2 == 0 {
                    ("here", "there")
                } else {
                    ("there", "here")
                };
                let number = number.to_string();
                writing.execute(&["HSET", "h", "a", &number, "b", &number]);
                writing.execute(&["MSET", "x", &number, "y", &number]);
                db.batch(|batch| {
                    batch.del(gone);
                    batch.set(here, "1");
                })
                .unwrap();
            }
        });
        while !writer.is_finished() {
            for words in [&hmget, &mget] {
                let values = elements(reading.session.execute(words));
                assert_eq!(values.first(), values.last(), "{}", words[0]);
            }
            assert_eq!(show(&reading.session.execute(&exists)), "1");
        }
    });
}

#[test]
fn no_word_makes_a_command_panic() {
    let mut talk = Talk::new();
    let odd: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\xff",
        b"-1",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"NX",
        b"EX",
        b"[",
    ];
    for command in commands() {
        for first in odd {
            for second in odd {
                let words = [command.name.as_bytes(), first, second, first, second, b"1"];
                for count in 1..=words.len() {
                    talk.session.execute(&words[..count]);
                }
            }
        }
    }
}

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

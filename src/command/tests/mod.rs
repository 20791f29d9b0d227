//! What each command answers, with the replies of Redis 7.0.15 as the measure.

mod bits;
mod collected;
mod expiry;
mod hashes;
mod help;
mod keys;
mod options;
mod scan;
mod served;
mod settings;
mod strings;
mod table;
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
    crate::sync::thread::scope(|scope| {
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

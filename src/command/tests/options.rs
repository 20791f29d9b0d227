//! Words that no option parser knows.
//!
//! A parser that ignores an unknown word, or takes it for another one, changes data that its caller
//! did not mean to change. So each command with options is called with an unknown word at every
//! place behind its required words.

use super::served::served;
use super::*;
use crate::command::syntax::{Argument, Kind, arguments};

/// The word that no command knows.
const UNKNOWN: &str = "BOGUS";

/// Stands for what DUMP gives of the key `s`.
const PAYLOAD: &str = "PAYLOAD";

/// Calls that succeed: the number of required words, with the name, and all words.
const CALLS: &[(usize, &str)] = &[
    (2, "BITCOUNT s 0 -1 BYTE"),
    (2, "BITCOUNT s 0 -1 BIT"),
    (2, "BITFIELD n GET u8 0 OVERFLOW WRAP SET u8 0 1"),
    (
        2,
        "BITFIELD n OVERFLOW SAT INCRBY u8 0 1 OVERFLOW FAIL SET u8 8 1",
    ),
    (2, "BITFIELD_RO n GET u8 0 GET u8 8"),
    (3, "BITPOS s 1 0 -1 BYTE"),
    (3, "BITPOS s 1 0 -1 BIT"),
    (1, "BGSAVE SCHEDULE"),
    (2, "CLIENT KILL ID 99 SKIPME YES"),
    (2, "CLIENT KILL TYPE normal SKIPME NO LADDR 127.0.0.1:1"),
    (2, "CLIENT KILL ADDR 127.0.0.1:1 USER default"),
    (2, "CLIENT LIST ID 7"),
    (2, "CLIENT LIST TYPE pubsub"),
    (2, "COMMAND LIST FILTERBY PATTERN g*"),
    (2, "COMMAND LIST FILTERBY ACLCAT read"),
    (3, "COPY s copied DB 1 REPLACE"),
    (3, "COPY s copied REPLACE"),
    (2, "DELEX s IFEQ abc"),
    (2, "DELEX s IFNE x"),
    (2, "DELEX s IFDEQ 0000000000000000"),
    (2, "DELEX s IFDNE 0000000000000000"),
    (3, "EXPIRE s 10 NX"),
    (3, "EXPIRE t 10 XX LT"),
    (3, "PEXPIRE t 10000 GT"),
    (3, "EXPIREAT t 1800000000 XX GT"),
    (3, "PEXPIREAT t 1800000000000 LT"),
    (1, "FLUSHALL ASYNC"),
    (1, "FLUSHALL SYNC"),
    (1, "FLUSHDB ASYNC"),
    (1, "FLUSHDB SYNC"),
    (2, "FUNCTION FLUSH ASYNC"),
    (2, "FUNCTION LIST LIBRARYNAME x WITHCODE"),
    (2, "GETEX s"),
    (2, "GETEX s EX 10"),
    (2, "GETEX s PX 10"),
    (2, "GETEX s EXAT 1800000000 EXAT 1800000001"),
    (2, "GETEX s PXAT 1800000000000"),
    (2, "GETEX t PERSIST"),
    (3, "HEXPIRE h 10 NX FIELDS 1 f"),
    (3, "HPEXPIRE h 10000 LT FIELDS 2 f g"),
    (3, "HEXPIREAT h 1800000000 GT FIELDS 1 f"),
    (3, "HPEXPIREAT h 1800000000000 XX FIELDS 1 f"),
    (2, "HGETDEL h FIELDS 1 f"),
    (2, "HGETEX h EX 10 FIELDS 1 f"),
    (2, "HGETEX h PXAT 1800000000000 FIELDS 2 f g"),
    (2, "HGETEX h PERSIST FIELDS 1 f"),
    (2, "HPERSIST h FIELDS 1 f"),
    (2, "HSETEX h FNX EX 10 FIELDS 1 new 1"),
    (2, "HSETEX h FXX KEEPTTL FIELDS 1 f 1"),
    (2, "HTTL h FIELDS 1 f"),
    (2, "HPTTL h FIELDS 1 f"),
    (2, "HEXPIRETIME h FIELDS 1 f"),
    (2, "HPEXPIRETIME h FIELDS 1 f"),
    (2, "HRANDFIELD h 1 WITHVALUES"),
    (3, "HSCAN h 0 MATCH * COUNT 10 NOVALUES"),
    (1, "HELLO 3 AUTH default x SETNAME name"),
    (3, "LCS s t LEN"),
    (3, "LCS s t IDX MINMATCHLEN 1 WITHMATCHLEN"),
    (3, "MEMORY USAGE s SAMPLES 5"),
    (4, "MSETEX 1 m 1 NX EX 10"),
    (4, "MSETEX 1 s 1 XX KEEPTTL"),
    (4, "MSETEX 1 m 1 PXAT 1800000000000"),
    (4, "RESTORE r 0 PAYLOAD REPLACE ABSTTL IDLETIME 1"),
    (4, "RESTORE r 0 PAYLOAD FREQ 1"),
    (2, "SCAN 0 MATCH * COUNT 10 TYPE string"),
    (3, "SET s 1 NX GET EX 10"),
    (3, "SET s 1 XX PX 10"),
    (3, "SET s 1 GET KEEPTTL"),
    (3, "SET s 1 IFEQ abc EXAT 1800000000"),
    (3, "SET s 1 IFNE x PXAT 1800000000000"),
    (3, "SET s 1 IFDEQ 0000000000000000"),
    (3, "SET s 1 IFDNE 0000000000000000"),
    (1, "SHUTDOWN NOSAVE NOW FORCE"),
];

/// A served session with a string, one with a deadline, an integer and a hash; and the call's words.
fn prepared(line: &str) -> (Talk, Vec<Vec<u8>>) {
    let (mut talk, _) = served();
    talk.hold(&[
        ("SET s abc", "OK"),
        ("SET t abd EX 100", "OK"),
        ("SET n 12", "OK"),
        ("HSET h f 1 g 2", "2"),
        ("HEXPIRE h 100 FIELDS 1 f", "[1]"),
    ]);
    let dumped = talk.session.execute(&[b"DUMP".to_vec(), b"s".to_vec()]);
    let words = line.split(' ').map(|word| match word {
        PAYLOAD => bytes(&dumped).to_vec(),
        word => word.as_bytes().to_vec(),
    });
    (talk, words.collect())
}

#[test]
fn an_unknown_word_is_refused_at_every_place_and_changes_nothing() {
    for (required, line) in CALLS {
        let (mut talk, words) = prepared(line);
        let reply = talk.session.execute(&words);
        assert!(
            !matches!(reply, Reply::Error(_)),
            "{line}: {}",
            show(&reply)
        );
        for place in *required..=words.len() {
            let (mut talk, mut words) = prepared(line);
            let log_bytes = talk.session.db().stats().unwrap().log_bytes;
            words.insert(place, UNKNOWN.into());
            let reply = talk.session.execute(&words);
            let told = format!("{line} with {UNKNOWN} as word {place}: {}", show(&reply));
            assert!(matches!(reply, Reply::Error(_)), "{told}");
            let stats = talk.session.db().stats().unwrap();
            assert_eq!(stats.log_bytes, log_bytes, "{told}");
        }
    }
}

#[test]
fn an_unknown_word_in_place_of_an_option_is_refused_and_changes_nothing() {
    for (required, line) in CALLS {
        for place in *required..prepared(line).1.len() {
            let (mut talk, mut words) = prepared(line);
            let is_option = words[place].iter().all(u8::is_ascii_uppercase);
            if !is_option {
                continue;
            }
            let log_bytes = talk.session.db().stats().unwrap().log_bytes;
            words[place] = UNKNOWN.into();
            let reply = talk.session.execute(&words);
            let told = format!("{line} with {UNKNOWN} as word {place}: {}", show(&reply));
            assert!(matches!(reply, Reply::Error(_)), "{told}");
            let stats = talk.session.db().stats().unwrap();
            assert_eq!(stats.log_bytes, log_bytes, "{told}");
        }
    }
}

/// Adds the literal words of a usage line.
fn collect_literals(arguments: &[Argument], literals: &mut Vec<&'static str>) {
    for argument in arguments {
        match &argument.kind {
            Kind::Value(_) => {}
            Kind::Word(word) => literals.push(word),
            Kind::OneOf(inner) | Kind::Block(inner) => collect_literals(inner, literals),
        }
    }
}

/// A new command, or a new option of an old one, must join the calls above.
#[test]
fn every_literal_word_of_every_usage_line_is_among_the_calls() {
    for command in commands() {
        let mut literals = Vec::new();
        collect_literals(&arguments(command.syntax), &mut literals);
        let calls: Vec<_> = CALLS
            .iter()
            .map(|(_, line)| line.split(' ').collect::<Vec<_>>())
            .filter(|words| words[0].eq_ignore_ascii_case(command.name))
            .collect();
        for literal in literals {
            // Four commands share the parser of each of these: not each has every word.
            let is_shared = command.name.contains("expire")
                || ["delex", "msetex", "hgetex", "hsetex", "shutdown"].contains(&command.name);
            let has = |words: &Vec<&str>| words.contains(&literal);
            let is_called = match is_shared {
                true => !calls.is_empty(),
                false => calls.iter().any(has),
            };
            assert!(is_called, "no call of {} has {literal}", command.name);
        }
    }
}

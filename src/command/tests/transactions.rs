//! MULTI, EXEC, WATCH.

use std::time::Duration;

use super::{NOW_MS, Talk, WRONGTYPE, commands, show};
use crate::command::{Reply, Session};
use crate::limits::MAX_WATCHED_BYTES;
use crate::{Db, ManualClock};

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

#[test]
fn commands_are_collected_and_executed_as_one() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("MULTI", "OK"),
        ("SET a 1", "QUEUED"),
        ("INCR a", "QUEUED"),
        ("GET a", "QUEUED"),
        ("HSET h f v", "QUEUED"),
        ("DBSIZE", "QUEUED"),
    ]);
    let records = || {
        let watch = talk.session.db().watch_from(0).unwrap();
        watch.count()
    };
    assert_eq!(records(), 0, "nothing was done yet");
    talk.hold(&[
        ("EXEC", "[OK 2 \"2\" 1 2]"),
        ("GET a", "\"2\""),
        ("EXEC", "ERR EXEC without MULTI"),
        ("MULTI", "OK"),
        ("EXEC", "[]"),
    ]);
}

#[test]
fn a_command_that_fails_has_no_effect_and_the_others_have() {
    Talk::new().hold(&[
        ("SET s v", "OK"),
        ("MULTI", "OK"),
        ("SET a 1", "QUEUED"),
        ("HSET s f v", "QUEUED"),
        ("INCR s", "QUEUED"),
        ("SET b 2", "QUEUED"),
        (
            "EXEC",
            "[OK WRONGTYPE Operation against a key holding the wrong kind of value ERR value is not an integer or out of range OK]",
        ),
        ("MGET a b s", "[\"1\" \"2\" \"v\"]"),
    ]);
}

#[test]
fn what_is_refused_while_collecting_lets_exec_do_nothing() {
    Talk::new().hold(&[
        ("MULTI", "OK"),
        ("SET a 1", "QUEUED"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("EXEC", ABORTED),
        ("EXISTS a", "0"),
        ("MULTI", "OK"),
        (
            "FOO",
            "ERR unknown command 'FOO', with args beginning with: ",
        ),
        ("EXEC", ABORTED),
        ("MULTI", "OK"),
        ("MULTI", "ERR MULTI calls can not be nested"),
        ("WATCH a", "ERR WATCH inside MULTI is not allowed"),
        ("SET a 1", "QUEUED"),
        ("EXEC", "[OK]"),
        ("DISCARD", "ERR DISCARD without MULTI"),
        ("MULTI", "OK"),
        ("SET a 2", "QUEUED"),
        ("DISCARD", "OK"),
        ("GET a", "\"1\""),
    ]);
}

#[test]
fn a_transaction_goes_from_database_to_database() {
    Talk::new().hold(&[
        ("MULTI", "OK"),
        ("SET a 0", "QUEUED"),
        ("SELECT 1", "QUEUED"),
        ("SET a 1", "QUEUED"),
        ("GET a", "QUEUED"),
        ("EXEC", "[OK OK OK \"1\"]"),
        ("GET a", "\"1\""),
        ("SELECT 0", "OK"),
        ("GET a", "\"0\""),
    ]);
}

/// Two sessions on one file.
fn two() -> (Talk, Session) {
    let talk = Talk::new();
    let other = Session::new(talk.session.db().clone());
    (talk, other)
}

#[test]
fn exec_does_nothing_where_a_watched_key_was_touched() {
    for (touch, is_touched) in [
        ("SET k 2", true),
        ("SET k 1", true),
        ("EXPIRE k 100", true),
        ("DEL k", true),
        ("FLUSHDB", true),
        ("FLUSHALL", true),
        ("APPEND k x", true),
        ("RENAME k l", true),
        ("RENAME other k", true),
        ("SWAPDB 0 1", true),
        ("SET other 2", false),
        ("DEL nobody", false),
        ("GET k", false),
        ("PERSIST k", false),
    ] {
        let (mut talk, mut other) = two();
        talk.hold(&[("SET k 1", "OK"), ("SET other 1", "OK"), ("WATCH k", "OK")]);
        other.execute(&touch.split(' ').collect::<Vec<_>>());
        let expected = if is_touched { "nil" } else { "[OK]" };
        talk.hold(&[
            ("MULTI", "OK"),
            ("SET done 1", "QUEUED"),
            ("EXEC", expected),
        ]);
        let done = u8::from(!is_touched).to_string();
        talk.hold(&[("EXISTS done", &done)]);
        // It watches no longer.
        other.execute(&["SET", "k", "3"]);
        talk.hold(&[("MULTI", "OK"), ("SET done 2", "QUEUED"), ("EXEC", "[OK]")]);
    }
}

#[test]
fn a_key_that_is_not_there_can_be_watched() {
    for (touch, expected) in [
        (&["SET k 1"][..], "nil"),
        (&["SET k 1", "DEL k"], "nil"),
        (&["HSET k f v"], "nil"),
        (&["DEL k", "EXPIRE k 10", "FLUSHALL"], "[OK]"),
    ] {
        let (mut talk, mut other) = two();
        talk.hold(&[("WATCH k", "OK")]);
        for touch in touch {
            other.execute(&touch.split(' ').collect::<Vec<_>>());
        }
        talk.hold(&[
            ("MULTI", "OK"),
            ("SET done 1", "QUEUED"),
            ("EXEC", expected),
        ]);
    }
}

#[test]
fn a_watched_key_that_expires_is_touched() {
    let mut talk = Talk::new();
    talk.hold(&[("SET k 1 PX 100", "OK"), ("WATCH k", "OK")]);
    talk.clock.advance(Duration::from_millis(100));
    talk.hold(&[
        ("MULTI", "OK"),
        ("SET done 1", "QUEUED"),
        ("EXEC", "nil"),
        ("WATCH k", "OK"),
        ("MULTI", "OK"),
        ("SET done 1", "QUEUED"),
        ("EXEC", "[OK]"),
    ]);
}

#[test]
fn bits_that_stay_as_they_are_touch_nothing() {
    let mut talk = Talk::new();
    talk.hold(&[("SET k aaa", "OK")]);
    for (command, done) in [
        ("SETBIT k 1 1", "[]"),
        ("BITFIELD k SET u8 0 97", "[]"),
        ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 200", "[]"),
        ("SETBIT k 0 1", "nil"),
        ("SETBIT k 30 0", "nil"),
        ("BITFIELD k INCRBY u8 8 1", "nil"),
        ("SETBIT new 1 0", "nil"),
    ] {
        talk.hold(&[("WATCH k new", "OK")]);
        talk.say(command);
        talk.hold(&[("MULTI", "OK"), ("EXEC", done)]);
    }
}

#[test]
fn what_was_done_before_a_key_was_watched_does_not_count() {
    let (mut talk, mut other) = two();
    talk.hold(&[("WATCH a", "OK")]);
    other.execute(&["SET", "b", "1"]);
    talk.hold(&[
        ("WATCH b", "OK"),
        ("MULTI", "OK"),
        ("GET b", "QUEUED"),
        ("EXEC", "[\"1\"]"),
        ("WATCH b", "OK"),
        ("SET b 2", "OK"),
        ("UNWATCH", "OK"),
        ("MULTI", "OK"),
        ("EXEC", "[]"),
    ]);
}

/// WATCH holds between processes: here, between two handles on one file.
#[test]
fn another_handle_and_a_compaction_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.brasa");
    let options = || Db::options().clock(ManualClock::new(NOW_MS));
    for (touches, expected) in [
        (true, Reply::NilArray),
        (false, Reply::Array(vec![Reply::OK])),
    ] {
        let mut session = Session::new(options().open(&path).unwrap());
        let other = options().open(&path).unwrap();
        other.set("k", "1").unwrap();
        assert_eq!(session.execute(&["WATCH", "k"]), Reply::OK);
        if touches {
            other.set("k", "2").unwrap();
        }
        other.compact().unwrap();
        other.set("other", "1").unwrap();
        session.execute(&["MULTI"]);
        session.execute(&["SET", "done", "1"]);
        assert_eq!(session.execute(&["EXEC"]), expected);
    }
}

/// The handle reads on for its sessions each time that it follows a compaction.
#[test]
fn watch_gives_the_right_answer_after_any_number_of_compactions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.brasa");
    for compacts_itself in [true, false] {
        for touched_in in [None, Some(0), Some(1), Some(2)] {
            let db = Db::open(&path).unwrap();
            let other = Db::open(&path).unwrap();
            db.set("k", "1").unwrap();
            let mut session = Session::new(db.clone());
            assert_eq!(session.execute(&["WATCH", "k"]), Reply::OK);
            for round in 0..3 {
                let writer = if round == 1 { &db } else { &other };
                writer.set("other", "1").unwrap();
                if touched_in == Some(round) {
                    writer.set("k", "2").unwrap();
                }
                let compacting = if compacts_itself { &db } else { &other };
                compacting.compact().unwrap();
                // The handle notices with its next call.
                db.get("other").unwrap();
            }
            session.execute(&["MULTI"]);
            session.execute(&["SET", "done", "1"]);
            let expected = match touched_in {
                Some(_) => Reply::NilArray,
                None => Reply::Array(vec![Reply::OK]),
            };
            assert_eq!(session.execute(&["EXEC"]), expected, "{touched_in:?}");
        }
    }
}

/// What was touched between them is nowhere any longer.
#[test]
fn after_two_compactions_that_the_handle_missed_exec_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.brasa");
    let (db, other) = (Db::open(&path).unwrap(), Db::open(&path).unwrap());
    db.set("k", "1").unwrap();
    let mut session = Session::new(db.clone());
    assert_eq!(session.execute(&["WATCH", "k"]), Reply::OK);
    for number in ["1", "2"] {
        other.set("other", number).unwrap();
        other.compact().unwrap();
    }
    session.execute(&["MULTI"]);
    session.execute(&["SET", "done", "1"]);
    assert_eq!(session.execute(&["EXEC"]), Reply::NilArray);
}

#[test]
fn a_file_that_can_only_be_read_has_transactions_of_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.brasa");
    Db::open(&path).unwrap().set("k", "1").unwrap();
    let db = Db::options().read_only(true).open(&path).unwrap();
    let mut session = Session::new(db);
    for words in [&["WATCH", "k"][..], &["MULTI"], &["GET", "k"]] {
        session.execute(words);
    }
    let replies = session.execute(&["EXEC"]);
    assert_eq!(replies, Reply::Array(vec![Reply::bulk("1")]));
}

#[test]
fn a_wrong_type_is_told_in_the_place_of_its_command() {
    let mut talk = Talk::new();
    talk.hold(&[("HSET h f v", "1"), ("MULTI", "OK"), ("GET h", "QUEUED")]);
    assert_eq!(talk.say("EXEC"), format!("[{WRONGTYPE}]"));
}

#[test]
fn what_is_done_to_the_whole_file_is_done_after_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path().join("file.brasa")).unwrap();
    for number in 0..100 {
        db.set("k", vec![number; 1000]).unwrap();
    }
    let dead_bytes = || db.stats().unwrap().dead_bytes;
    let mut session = Session::new(db.clone());
    let before = (dead_bytes(), db.stats().unwrap().synced_upto);
    for (command, reply) in [
        ("BGSAVE", "Background saving scheduled"),
        ("WAITAOF 1 0 0", "[0 0]"),
        (
            "BGREWRITEAOF",
            "Background append only file rewriting scheduled",
        ),
    ] {
        session.execute(&["MULTI"]);
        session.execute(&["SET", "k", command]);
        session.execute(&command.split(' ').collect::<Vec<_>>());
        let replies = show(&session.execute(&["EXEC"]));
        assert_eq!(replies, format!("[OK {reply}]"));
        assert_eq!(&*db.get("k").unwrap().unwrap(), command.as_bytes());
        if command == "BGSAVE" {
            let stats = db.stats().unwrap();
            assert!(stats.synced_upto > before.1 && dead_bytes() >= before.0);
        }
    }
    assert!(dead_bytes() < before.0, "it was compacted");
    // Outside, as ever.
    let replies = show(&session.execute(&["BGSAVE"]));
    assert_eq!(replies, "Background saving started");
    let replies = show(&session.execute(&["WAITAOF", "1", "0", "0"]));
    assert_eq!(replies, "[1 0]");
}

#[test]
fn what_cannot_be_collected_lets_exec_do_nothing() {
    for command in ["SAVE", "SHUTDOWN", "SHUTDOWN FOO"] {
        Talk::new().hold(&[
            ("MULTI", "OK"),
            (command, "ERR Command not allowed inside a transaction"),
            ("EXEC", ABORTED),
        ]);
    }
}

/// Whatever a library says to who writes from within a write is nothing for a client.
#[test]
fn no_command_fails_for_being_in_a_transaction() {
    for command in commands() {
        let mut talk = Talk::new();
        talk.hold(&[("MULTI", "OK")]);
        let count = usize::from(command.arity.unsigned_abs());
        let words = vec!["1"; count - 1].join(" ");
        talk.say(&format!("{} {words}", command.name));
        let replies = talk.say("EXEC");
        assert!(!replies.contains("within"), "{}: {replies}", command.name);
    }
}

#[test]
fn the_names_of_watched_keys_have_a_limit() {
    // Each counts 64 KiB.
    let name = |number: u64| format!("{number:065520}");
    let most = MAX_WATCHED_BYTES / 65_536;
    let watch = |numbers: std::ops::Range<u64>| {
        let names = numbers.map(name);
        let words = std::iter::once("WATCH".to_owned()).chain(names);
        words.collect::<Vec<_>>()
    };
    let refused =
        "ERR the names of the watched keys would exceed 64 MiB: UNWATCH, or watch fewer keys";
    let mut talk = Talk::new();
    let all = talk.session.execute(&watch(0..most + 1));
    assert_eq!(show(&all), refused);
    assert_eq!(talk.session.pending.watched_count(), 0);
    for half in [watch(0..most / 2), watch(most / 2..most)] {
        assert_eq!(talk.session.execute(&half), Reply::OK);
    }
    talk.hold(&[("WATCH \"\"", refused), ("SELECT 1", "OK")]);
    talk.hold(&[("WATCH \"\"", refused), ("SELECT 0", "OK")]);
    // Known ones take no more.
    assert_eq!(talk.session.execute(&watch(0..most)), Reply::OK);
    talk.hold(&[("UNWATCH", "OK"), ("WATCH \"\"", "OK")]);
    talk.hold(&[("MULTI", "OK"), ("EXEC", "[]")]);
    assert_eq!(talk.session.execute(&watch(0..most)), Reply::OK);
}

#[test]
fn a_watched_hash_whose_field_has_expired_is_touched() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("HSET h a 1 b 2 c 3", "3"),
        ("HPEXPIRE h 100 FIELDS 1 a", "[1]"),
        ("HPEXPIRE h 200 FIELDS 1 b", "[1]"),
        ("WATCH h", "OK"),
    ]);
    for (passes_ms, expected) in [
        (99, "[OK]"),
        (1, "nil"),
        (99, "[OK]"),
        (1, "nil"),
        (1, "[OK]"),
    ] {
        talk.clock.advance(Duration::from_millis(passes_ms));
        talk.hold(&[
            ("MULTI", "OK"),
            ("SET done 1", "QUEUED"),
            ("EXEC", expected),
            ("WATCH h", "OK"),
        ]);
    }
}

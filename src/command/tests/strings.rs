//! Strings.

use super::*;

#[test]
fn a_string_is_given_and_removed_or_renewed() {
    Talk::new().hold(&[
        ("SET k v", "OK"),
        ("GETEX k", "\"v\""),
        ("PTTL k", "-1"),
        ("GETEX k EX 10", "\"v\""),
        ("PTTL k", "10000"),
        ("GETEX k PERSIST", "\"v\""),
        ("PTTL k", "-1"),
        ("GETEX k PXAT 1700000000500", "\"v\""),
        ("PTTL k", "500"),
        ("GETEX k EX 0", "ERR invalid expire time in 'getex' command"),
        ("GETEX k EX", SYNTAX),
        ("GETEX k EX 10 PERSIST", SYNTAX),
        ("GETEX nobody PERSIST PERSIST", "nil"),
        ("GETEX k EX 10 EX 20", "\"v\""),
        ("PTTL k", "20000"),
        ("GETEX k PXAT 1", "\"v\""),
        ("EXISTS k", "0"),
        ("SET k v", "OK"),
        ("GETDEL k", "\"v\""),
        ("GETDEL k", "nil"),
        ("HSET h f v", "1"),
        ("GETDEL h", WRONGTYPE),
        ("GETEX h", WRONGTYPE),
    ]);
}

#[test]
fn parts_of_a_string() {
    Talk::new().hold(&[
        ("SET k \"Hello World\"", "OK"),
        ("GETRANGE k 0 4", "\"Hello\""),
        ("GETRANGE k -5 -1", "\"World\""),
        ("GETRANGE k 0 -1", "\"Hello World\""),
        ("GETRANGE k 5 3", "\"\""),
        ("GETRANGE k -1 -5", "\"\""),
        ("GETRANGE k -100 2", "\"Hel\""),
        ("SUBSTR k 6 100", "\"World\""),
        ("GETRANGE nobody 0 -1", "\"\""),
        ("GETRANGE k a 1", NOT_AN_INTEGER),
        ("SETRANGE k 6 Redis", "11"),
        ("GET k", "\"Hello Redis\""),
        ("SETRANGE k 13 !", "14"),
        ("GET k", r#""Hello Redis\x00\x00!""#),
        ("SETRANGE k -1 x", "ERR offset is out of range"),
        ("SETRANGE nobody 10 \"\"", "0"),
        ("EXISTS nobody", "0"),
        (
            "SETRANGE k 536870911 ab",
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
    ]);
}

#[test]
fn several_strings_are_set_if_none_is_there() {
    Talk::new().hold(&[
        ("MSETNX a 1 b 2", "1"),
        ("MSETNX b 3 c 4", "0"),
        ("MGET a b c", "[\"1\" \"2\" nil]"),
        (
            "MSETNX a",
            "ERR wrong number of arguments for 'msetnx' command",
        ),
        ("MSETEX 2 a 5 b 6 XX EX 10", "1"),
        ("PTTL a", "10000"),
        ("MSETEX 2 a 7 c 8 NX", "0"),
        ("MSETEX 2 a 7 c 8 XX", "0"),
        ("MSETEX 1 a 7 KEEPTTL", "1"),
        ("PTTL a", "10000"),
        ("MSETEX 0 a 7", "ERR invalid numkeys value"),
        ("MSETEX 2 a 7", "ERR wrong number of key-value pairs"),
    ]);
}

#[test]
fn numbers_with_a_point() {
    Talk::new().hold(&[
        ("INCRBYFLOAT k 10.5", "\"10.5\""),
        ("INCRBYFLOAT k 0.1", "\"10.6\""),
        ("INCRBYFLOAT k -10.6", "\"0\""),
        ("INCRBYFLOAT k 5.0e3", "\"5000\""),
        ("SET k 3.0", "OK"),
        ("INCRBYFLOAT k 1.2", "\"4.2\""),
        ("INCRBYFLOAT k x", "ERR value is not a valid float"),
        (
            "INCRBYFLOAT k inf",
            "ERR increment would produce NaN or Infinity",
        ),
        ("SET k \" 1\"", "OK"),
        ("INCRBYFLOAT k 1", "ERR value is not a valid float"),
    ]);
}

#[test]
fn a_string_is_set_or_removed_only_if_it_is_this_one() {
    Talk::new().hold(&[
        ("SET k a", "OK"),
        ("SET k b IFEQ x", "nil"),
        ("SET k b IFEQ a", "OK"),
        ("SET k c IFNE b", "nil"),
        ("SET k c IFNE x GET", "\"b\""),
        ("SET k d IFEQ x GET", "\"c\""),
        ("GET k", "\"c\""),
        ("SET n v IFEQ v", "nil"),
        ("SET n v IFNE v", "OK"),
        ("SET k d NX IFEQ c", SYNTAX),
        ("SET k a", "OK"),
        // XXH3 of "a", as the reference implementation has it.
        ("DIGEST k", "\"e6c632b61e964e1f\""),
        ("SET k b IFDEQ e6c632b61e964e1f", "OK"),
        ("SET k c IFDNE e6c632b61e964e1f", "OK"),
        ("DELEX k IFEQ x", "0"),
        ("DELEX k IFEQ c", "1"),
        ("DELEX k IFNE c", "0"),
        ("DELIFEQ n x", "0"),
        ("DELIFEQ n v", "1"),
        ("SET k v", "OK"),
        ("DELEX k", "1"),
        ("DIGEST k", "nil"),
    ]);
}

#[test]
fn what_two_strings_have_in_common() {
    Talk::new().hold(&[
        ("MSET key1 ohmytext key2 mynewtext", "OK"),
        ("LCS key1 key2", "\"mytext\""),
        ("LCS key1 key2 LEN", "6"),
        (
            "LCS key1 key2 IDX",
            "{\"len\": 6, \"matches\": [[[4 7] [5 8]] [[2 3] [0 1]]]}",
        ),
        (
            "LCS key1 key2 IDX MINMATCHLEN 4 WITHMATCHLEN",
            "{\"len\": 6, \"matches\": [[[4 7] [5 8] 4]]}",
        ),
        ("LCS key1 nobody", "\"\""),
        (
            "LCS key1 key2 IDX LEN",
            "ERR If you want both the length and indexes, please just use IDX.",
        ),
        ("HSET h f v", "1"),
        (
            "LCS h key1",
            "ERR The specified keys must contain string values",
        ),
    ]);
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

//! What strings can do beyond SET and GET.

use super::{NOT_AN_INTEGER, SYNTAX, Talk, WRONGTYPE};

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

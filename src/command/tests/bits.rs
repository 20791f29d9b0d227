//! Strings as bits.

use super::{NOT_AN_INTEGER, SYNTAX, Talk, WRONGTYPE};

const BAD_OFFSET: &str = "ERR bit offset is not an integer or out of range";

#[test]
fn single_bits_are_set_and_read() {
    Talk::new().hold(&[
        ("SETBIT k 7 1", "0"),
        ("GET k", r#""\x01""#),
        ("SETBIT k 0 1", "0"),
        ("SETBIT k 0 1", "1"),
        ("GETBIT k 0", "1"),
        ("GETBIT k 1", "0"),
        ("GETBIT k 100", "0"),
        ("GETBIT nobody 0", "0"),
        ("SETBIT k 16 0", "0"),
        ("STRLEN k", "3"),
        ("SETBIT k -1 1", BAD_OFFSET),
        ("SETBIT k 4294967296 1", BAD_OFFSET),
        ("SETBIT k 0 2", "ERR bit is not an integer or out of range"),
        ("HSET h f v", "1"),
        ("SETBIT h 0 1", WRONGTYPE),
    ]);
}

#[test]
fn a_changed_bit_keeps_the_deadline() {
    Talk::new().hold(&[
        ("SET k a PX 1000", "OK"),
        ("SETBIT k 0 1", "0"),
        ("BITFIELD k SET u8 0 7", "[225]"),
        ("PTTL k", "1000"),
        ("BITOP NOT k k", "1"),
        ("PTTL k", "-1"),
    ]);
}

#[test]
fn bits_are_counted_and_found() {
    Talk::new().hold(&[
        ("SET k foobar", "OK"),
        ("BITCOUNT k", "26"),
        ("BITCOUNT k 0 0", "4"),
        ("BITCOUNT k 1 1", "6"),
        ("BITCOUNT k 5 30 BIT", "17"),
        ("BITCOUNT k -2 -1", "7"),
        ("BITCOUNT k 3 1", "0"),
        ("BITCOUNT nobody", "0"),
        ("BITCOUNT k 0", SYNTAX),
        ("BITCOUNT k 0 1 WORD", SYNTAX),
        ("BITCOUNT k a 1", NOT_AN_INTEGER),
        ("SET p \"\\xff\\xf0\\x00\"", "OK"),
        ("BITPOS p 0", "12"),
        ("BITPOS p 1", "0"),
        ("BITPOS p 1 2", "-1"),
        ("BITPOS p 0 0 0", "-1"),
        ("BITPOS p 0 8 15 BIT", "12"),
        ("SET full \"\\xff\"", "OK"),
        ("BITPOS full 0", "8"),
        ("BITPOS full 0 0 -1", "-1"),
        ("BITPOS full 1 -1 -9223372036854775808", "0"),
        ("BITPOS nobody 0", "0"),
        ("BITPOS nobody 1", "-1"),
        ("BITPOS p 2", "ERR The bit argument must be 1 or 0."),
    ]);
}

#[test]
fn strings_are_combined() {
    Talk::new().hold(&[
        ("SET a \"\\xf0\\xff\"", "OK"),
        ("SET b \"\\x0f\"", "OK"),
        ("BITOP AND d a b", "2"),
        ("GET d", r#""\x00\x00""#),
        ("BITOP OR d a b", "2"),
        ("GET d", r#""\xff\xff""#),
        ("BITOP XOR d a a", "2"),
        ("GET d", r#""\x00\x00""#),
        ("BITOP NOT d b", "1"),
        ("GET d", r#""\xf0""#),
        (
            "BITOP NOT d a b",
            "ERR BITOP NOT must be called with a single source key.",
        ),
        ("BITOP AND d nobody", "0"),
        ("EXISTS d", "0"),
        ("BITOP NAND d a b", SYNTAX),
    ]);
}

#[test]
fn integers_of_any_width_are_read_and_changed() {
    Talk::new().hold(&[
        ("BITFIELD k SET u8 0 255 GET u8 0 GET i8 0 GET u4 4", "[0 255 -1 15]"),
        ("BITFIELD k INCRBY u8 0 1", "[0]"),
        ("BITFIELD k OVERFLOW SAT INCRBY u8 0 300", "[255]"),
        ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 1", "[nil]"),
        ("BITFIELD k OVERFLOW SAT INCRBY i8 0 -300", "[-128]"),
        ("BITFIELD k SET i64 #1 -1 GET i64 #1", "[0 -1]"),
        ("BITFIELD k INCRBY i64 #1 9223372036854775807", "[9223372036854775806]"),
        ("BITFIELD k INCRBY i64 #1 2", "[-9223372036854775808]"),
        ("BITFIELD k SET u63 64 -1 GET u63 64", "[4611686018427387904 9223372036854775807]"),
        ("BITFIELD n OVERFLOW SAT SET u8 0 -1 GET u8 0", "[0 255]"),
        ("BITFIELD n OVERFLOW FAIL SET u8 0 -1", "[nil]"),
        ("BITFIELD k", "[]"),
        (
            "BITFIELD k GET u64 0",
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ),
        ("BITFIELD k GET u8 -1", BAD_OFFSET),
        ("BITFIELD k GET u8", SYNTAX),
        ("BITFIELD k OVERFLOW MAYBE GET u8 0", "ERR Invalid OVERFLOW type specified"),
        ("BITFIELD_RO k SET u8 0 1", "ERR BITFIELD_RO only supports the GET subcommand"),
        ("BITFIELD_RO nobody GET u8 0", "[0]"),
        ("EXISTS nobody", "0"),
    ]);
}

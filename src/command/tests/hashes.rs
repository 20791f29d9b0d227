//! Hashes, and deadlines of their fields.

use super::*;

#[test]
fn fields_have_deadlines_of_their_own() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("HSET h a 1 b 2 c 3", "3"),
        ("HEXPIRE h 10 FIELDS 2 a x", "[1 -2]"),
        ("HTTL h FIELDS 3 a b x", "[10 -1 -2]"),
        ("HPTTL h FIELDS 1 a", "[10000]"),
        ("HEXPIRETIME h FIELDS 1 a", "[1700000010]"),
        ("HPEXPIRETIME h FIELDS 1 a", "[1700000010000]"),
        ("HEXPIRE h 20 NX FIELDS 2 a b", "[0 1]"),
        ("HPEXPIRE h 5 GT FIELDS 1 a", "[0]"),
        ("HPEXPIRE h 5 LT FIELDS 2 a c", "[1 1]"),
        ("HPERSIST h FIELDS 3 b c x", "[1 1 -2]"),
        ("HPERSIST h FIELDS 1 b", "[-1]"),
        ("HEXPIREAT h 1 FIELDS 1 c", "[2]"),
        ("HLEN h", "2"),
        ("HTTL nobody FIELDS 1 a", "[-2]"),
        ("HEXPIRE nobody 10 FIELDS 1 a", "[-2]"),
    ]);
    talk.clock.advance(Duration::from_millis(5));
    talk.hold(&[("HGETALL h", "{\"b\": \"2\"}"), ("HEXISTS h a", "0")]);
}

#[test]
fn a_deadline_of_a_field_is_refused_where_it_means_nothing() {
    let missing = "ERR Mandatory argument FIELDS is missing or not at the right position";
    Talk::new().hold(&[
        ("HSET h a 1", "1"),
        ("SET s v", "OK"),
        ("HEXPIRE s 10 FIELDS 1 a", WRONGTYPE),
        ("HTTL s FIELDS 1 a", WRONGTYPE),
        (
            "HEXPIRE h -1 FIELDS 1 a",
            "ERR invalid expire time, must be >= 0",
        ),
        ("HEXPIRE h 10 NX XX FIELDS 1 a", missing),
        ("HEXPIRE h 10 NOTHING 1 a b", missing),
        (
            "HEXPIRE h 10 FIELDS 0 a",
            "ERR Parameter `numFields` should be greater than 0",
        ),
        (
            "HEXPIRE h 10 FIELDS 2 a",
            "ERR The `numfields` parameter must match the number of arguments",
        ),
        ("HTTL h FOO 1 a", missing),
    ]);
}

#[test]
fn fields_are_read_set_and_removed_with_their_deadlines() {
    Talk::new().hold(&[
        ("HSETEX h EX 10 FIELDS 2 a 1 b 2", "1"),
        ("HTTL h FIELDS 2 a b", "[10 10]"),
        ("HSETEX h FNX FIELDS 1 a 9", "0"),
        ("HSETEX h FXX KEEPTTL FIELDS 1 a 9", "1"),
        ("HTTL h FIELDS 1 a", "[10]"),
        ("HSETEX h FIELDS 1 a 9", "1"),
        ("HTTL h FIELDS 1 a", "[-1]"),
        ("HSETEX h FNX FXX FIELDS 1 a 9", SYNTAX),
        ("HGETEX h PX 500 FIELDS 2 a x", "[\"9\" nil]"),
        ("HPTTL h FIELDS 1 a", "[500]"),
        ("HGETEX h PERSIST FIELDS 1 a", "[\"9\"]"),
        ("HTTL h FIELDS 1 a", "[-1]"),
        ("HGETDEL h FIELDS 2 a b", "[\"9\" \"2\"]"),
        ("EXISTS h", "0"),
        ("HGETDEL h FIELDS 1 a", "[nil]"),
    ]);
}

#[test]
fn numbers_lengths_and_pages_without_values() {
    Talk::new().hold(&[
        ("HINCRBYFLOAT h f 10.5", "\"10.5\""),
        ("HINCRBYFLOAT h f -5", "\"5.5\""),
        ("HINCRBYFLOAT h f inf", "ERR value is NaN or Infinity"),
        ("HSTRLEN h f", "3"),
        ("HSTRLEN h x", "0"),
        ("HSET h s text", "1"),
        ("HINCRBYFLOAT h s 1", "ERR hash value is not a float"),
        ("HDEL h s", "1"),
        ("HSCAN h 0 NOVALUES", "[\"0\" [\"f\"]]"),
        ("HSCAN h 0", "[\"0\" [\"f\" \"5.5\"]]"),
    ]);
}

#[test]
fn fields_are_drawn_at_random() {
    let mut talk = Talk::new();
    talk.hold(&[
        ("HRANDFIELD nobody", "nil"),
        ("HRANDFIELD nobody 3", "[]"),
        ("HSET h a 1 b 2 c 3", "3"),
        ("HRANDFIELD h 0", "[]"),
        ("HRANDFIELD h 3 VALUES", SYNTAX),
        (
            "HRANDFIELD h -9223372036854775807",
            "ERR value is out of range",
        ),
        // As many as there are: none.
        ("HRANDFIELD nobody -9223372036854775807", "[]"),
        // A value that cannot be is said before a word that is none, and whether it is too large for pairs after that.
        (
            "HRANDFIELD h -9223372036854775808 VALUES",
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("HRANDFIELD h many VALUES", super::NOT_AN_INTEGER),
        ("HRANDFIELD h -9223372036854775807 VALUES", SYNTAX),
        (
            "HRANDFIELD h 9223372036854775807 WITHVALUES",
            "ERR value is out of range",
        ),
        (
            "HRANDFIELD nobody -9223372036854775807 WITHVALUES",
            "ERR value is out of range",
        ),
        ("SET s v", "OK"),
        ("HRANDFIELD s -9223372036854775807", WRONGTYPE),
    ]);
    let count = |reply: Reply| {
        let mut drawn: Vec<String> = elements(reply).iter().map(super::show).collect();
        let all = drawn.len();
        drawn.sort();
        drawn.dedup();
        (all, drawn.len())
    };
    assert_eq!(
        count(talk.session.execute(&["HRANDFIELD", "h", "10"])),
        (3, 3)
    );
    let (all, different) = count(talk.session.execute(&["HRANDFIELD", "h", "-50"]));
    assert!(all == 50 && different <= 3);
    let pairs = talk
        .session
        .execute(&["HRANDFIELD", "h", "2", "WITHVALUES"]);
    assert!(matches!(pairs, Reply::Pairs(pairs) if pairs.len() == 2));
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

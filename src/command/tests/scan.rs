//! Which keys there are: KEYS, SCAN, HSCAN and what of a key does not depend on its type.

use super::*;

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

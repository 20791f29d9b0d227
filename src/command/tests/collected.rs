//! Commands that MULTI has collected, against the same commands one by one.
//!
//! Both sessions begin with the same strings and hashes in the file, so that a transaction changes
//! keys that it has not written. Replies and contents must be the same.

use std::time::Duration;

use super::{Reply, Talk, show, sorted};

/// Numbers that look random and are the same each time: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }
}

const KEYS: [&str; 6] = ["h1", "h2", "h3", "s1", "s2", "none"];

/// Commands with a place for a key (K, or L for another one), a field (F, or G) and a number (N).
const COMMANDS: [&str; 30] = [
    "HSET K F N",
    "HSET K F N G N",
    "HSETNX K F N",
    "HDEL K F",
    "HDEL K F G",
    "HINCRBY K F N",
    "HGET K F",
    "HLEN K",
    "HEXISTS K F",
    "HPEXPIRE K N FIELDS 1 F",
    "HPERSIST K FIELDS 1 F",
    "HPTTL K FIELDS 2 F G",
    "HGETDEL K FIELDS 1 F",
    "HSETEX K PX N FIELDS 1 F N",
    "SET K N",
    "SET K N NX GET",
    "SET K N XX KEEPTTL",
    "SETRANGE K 2 N",
    "APPEND K N",
    "INCRBY K N",
    "GETEX K PX N",
    "GETDEL K",
    "GET K",
    "STRLEN K",
    "DEL K L",
    "PEXPIRE K N",
    "PERSIST K",
    "PTTL K",
    "RENAME K L",
    "COPY K L REPLACE",
];

fn drawn(random: &mut Random) -> String {
    let pattern = random.of(&COMMANDS);
    let number = 1 + random.below(9);
    let words = pattern.split(' ').map(|word| match word {
        "K" | "L" => random.of(&KEYS).to_owned(),
        "F" | "G" => random.of(&["a", "b", "c", "d"]).to_owned(),
        "N" => number.to_string(),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A session whose file has three hashes and two strings, some of them with deadlines.
fn prepared() -> Talk {
    let mut talk = Talk::new();
    talk.hold(&[
        ("HSET h1 a 1 b 2 c 3", "3"),
        ("HSET h2 a 4", "1"),
        ("HSET h3 a 5 b 6", "2"),
        ("HPEXPIRE h1 5 FIELDS 1 b", "[1]"),
        ("HPEXPIRE h3 2 FIELDS 1 a", "[1]"),
        ("PEXPIRE h3 3", "1"),
        ("SET s1 7", "OK"),
        ("SET s2 8 PX 4", "OK"),
    ]);
    talk
}

/// What all keys contain, with their deadlines.
fn contents(talk: &mut Talk) -> Vec<String> {
    let mut lines = Vec::new();
    for key in KEYS {
        let words = |verb| [verb, key];
        lines.push(format!(
            "{key}: {}",
            show(&talk.session.execute(&words("GET")))
        ));
        lines.push(show(&talk.session.execute(&words("PEXPIRETIME"))));
        if let Reply::Map(fields) = talk.session.execute(&words("HGETALL")) {
            let fields = fields.into_iter().map(|(name, value)| {
                let line = format!("HPEXPIRETIME {key} FIELDS 1 {}", show(&name));
                Reply::bulk(format!("{} {}", show(&value), talk.say(&line)))
            });
            lines.extend(sorted(&fields.collect::<Vec<_>>()));
        }
    }
    lines.push(talk.say("DBSIZE"));
    lines
}

#[test]
fn collected_commands_reply_and_change_as_commands_one_by_one() {
    for seed in 0..3_000 {
        let mut random = Random(seed);
        // Commands happen at one time; some deadlines have passed by then.
        let passed = Duration::from_millis(random.below(6));
        let lines: Vec<_> = (0..=1 + random.below(11))
            .map(|_| drawn(&mut random))
            .collect();
        let (mut single, mut collected) = (prepared(), prepared());
        for talk in [&mut single, &mut collected] {
            talk.clock.advance(passed);
        }
        let expected: Vec<_> = lines.iter().map(|line| single.say(line)).collect();
        assert_eq!(collected.say("MULTI"), "OK");
        for line in &lines {
            assert_eq!(collected.say(line), "QUEUED");
        }
        let told = format!("seed {seed}, {passed:?}: {lines:#?}");
        let replies = collected.say("EXEC");
        assert_eq!(replies, format!("[{}]", expected.join(" ")), "{told}");
        assert_eq!(contents(&mut collected), contents(&mut single), "{told}");
    }
}

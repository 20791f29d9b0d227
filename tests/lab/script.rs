//! What the laboratory's subjects do: a line of steps, separated by semicolons.

use std::time::Duration;

use brasa::{Db, Durability, SetOptions};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Set(String, String),
    SetFor(String, String, Duration),
    Append(String, String),
    Incr(String),
    HSet(String, String, String),
    HDel(String, String),
    Del(String),
    Expire(String, Duration),
    Persist(String),
    Batch(Vec<Step>),
    Clear,
    /// Steps on another database.
    In(u8, Box<Step>),
    Sync,
    /// Closes and opens.
    Reopen,
    /// Is killed, and opens.
    Kill,
    /// Time passes.
    Advance(Duration),
    /// Is killed, and opens with another durability.
    Durability(Durability),
}

impl Step {
    /// Whether it writes to the log.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Step::Sync | Step::Reopen | Step::Kill | Step::Advance(_) | Step::Durability(_)
        )
    }

    /// Takes a step that writes to the log.
    pub fn apply(&self, db: &Db) -> brasa::Result<()> {
        match self {
            Step::Set(key, value) => db.set(key, value),
            Step::SetFor(key, value, ttl) => {
                let options = SetOptions::new().ttl(*ttl);
                db.set_with(key, value, options).map(drop)
            }
            Step::Append(key, suffix) => db.append(key, suffix).map(drop),
            Step::Incr(key) => db.incr_by(key, 1).map(drop),
            Step::HSet(key, field, value) => db.hset(key, field, value).map(drop),
            Step::HDel(key, field) => db.hdel(key, field).map(drop),
            Step::Del(key) => db.del(key).map(drop),
            Step::Expire(key, ttl) => db.expire(key, *ttl).map(drop),
            Step::Persist(key) => db.persist(key).map(drop),
            Step::Clear => db.clear(),
            Step::In(database, step) => step.apply(&db.database(*database)?),
            Step::Batch(steps) => db.batch(|batch| {
                for step in steps {
                    match step {
                        Step::Set(key, value) => batch.set(key, value),
                        Step::HSet(key, field, value) => batch.hset(key, field, value),
                        Step::HDel(key, field) => batch.hdel(key, field),
                        Step::Del(key) => batch.del(key),
                        Step::Expire(key, ttl) => batch.expire(key, *ttl),
                        Step::Clear => batch.clear(),
                        other => panic!("{other:?} has no place in a batch"),
                    };
                }
            }),
            Step::Sync => db.sync(),
            other => panic!("{other:?} is the runner's"),
        }
    }

    fn parse(text: &str) -> Result<Step, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let owned = |word: &&str| (*word).to_owned();
        let millis = |word: &str| {
            let parsed = word.parse().map(Duration::from_millis);
            parsed.map_err(|_| format!("{word:?} is no number of milliseconds"))
        };
        Ok(match words.as_slice() {
            ["set", key, value] => Step::Set(owned(key), long(value)),
            ["set", key, value, ttl] => Step::SetFor(owned(key), long(value), millis(ttl)?),
            ["append", key, suffix] => Step::Append(owned(key), owned(suffix)),
            ["incr", key] => Step::Incr(owned(key)),
            ["hset", key, field, value] => Step::HSet(owned(key), owned(field), long(value)),
            ["hdel", key, field] => Step::HDel(owned(key), owned(field)),
            ["del", key] => Step::Del(owned(key)),
            ["expire", key, ttl] => Step::Expire(owned(key), millis(ttl)?),
            ["persist", key] => Step::Persist(owned(key)),
            ["clear"] => Step::Clear,
            ["sync"] => Step::Sync,
            ["reopen"] => Step::Reopen,
            ["kill"] => Step::Kill,
            ["advance", by] => Step::Advance(millis(by)?),
            ["always"] => Step::Durability(Durability::Always),
            ["os"] => Step::Durability(Durability::Os),
            ["in", database, ..] => {
                let number = database
                    .parse()
                    .map_err(|_| format!("{database:?} is no database"))?;
                Step::In(number, Box::new(Step::parse(&words[2..].join(" "))?))
            }
            ["batch", ..] => {
                let steps = text.trim_start().trim_start_matches("batch").split(',');
                Step::Batch(steps.map(Step::parse).collect::<Result<_, _>>()?)
            }
            _ => return Err(format!("{text:?} is no step")),
        })
    }
}

/// `x*100` stands for a hundred times x.
fn long(value: &str) -> String {
    match value.split_once('*') {
        Some((part, count)) => part.repeat(count.parse().unwrap_or(1)),
        None => value.to_owned(),
    }
}

/// Steps, with the text they were written as.
#[derive(Debug, Clone)]
pub struct Script {
    pub text: String,
    pub steps: Vec<Step>,
}

impl Script {
    pub fn parse(text: &str) -> Result<Script, String> {
        let steps = text.split(';').map(Step::parse).collect::<Result<_, _>>()?;
        Ok(Script {
            text: text.to_owned(),
            steps,
        })
    }
}

/// What programs do with a small file, each in one line.
pub const SCRIPTS: [&str; 56] = [
    // Creation, and the first change of each kind.
    "set a 1",
    "hset h f 1",
    "batch set a 1, set b 2",
    "set a 1; sync",
    "set a 1; reopen",
    "set a 1; kill",
    "kill; set a 1; sync",
    "os; kill; always; set a 1; set b 2",
    "os; set a 1; always; set b 2; os; set c 3",
    "reopen; reopen; set a 1",
    // One after another.
    "set a 1; set b 2; set c 3",
    "set a 1; set a 2; set a 3",
    "set a 1; set a 1; set a 1",
    "set a 1; sync; set a 2; set a 3",
    "set a 1; sync; set a 1; sync; set a 1",
    "set a 1; set b 2; sync; set c 3; set d 4",
    "incr n; incr n; incr n; incr n",
    "append s ab; append s cd; append s ef",
    // Deletion.
    "set a 1; del a",
    "set a 1; sync; del a",
    "set a 1; del a; set a 2",
    "set a 1; set b 2; del a; sync; del b",
    "set a 1; set b 2; clear",
    "set a 1; sync; clear; set b 2",
    "clear; set a 1; clear",
    // Hashes.
    "hset h f 1; hset h g 2",
    "hset h f 1; hset h f 2; hdel h f",
    "hset h f 1; hset h g 2; hdel h f; hdel h g",
    "hset h f 1; sync; hdel h f; hset h g 2",
    "hset h f 1; set h 2; del h; hset h g 3",
    "hset h f 1; del h; hset h f 2; sync",
    // Deadlines.
    "set a 1 50",
    "set a 1 50; set a 2",
    "set a 1; expire a 50; persist a",
    "set a 1 50; sync; expire a 90; expire a 70",
    "hset h f 1; expire h 50; hset h g 2",
    "hset h f 1; expire h 50; advance 60; hset h g 2",
    "hset h f 1; expire h 50; sync; advance 60; hset h g 2; sync",
    "set a 1 50; advance 60; set a 2; advance 60",
    "set n 5 50; incr n; advance 60; incr n",
    // Commits of several records.
    "batch set a 1, set b 2, set c 3, hset h f 1",
    "set a 1; sync; batch set a 2, set b 2; batch set a 3, set b 3",
    "batch set a 1, del a, set a 2, del b",
    "set b 1; batch del b, hset b f 1, hset b g 2",
    "hset h f 1; expire h 50; advance 60; batch hset h g 1, hset h k 2",
    "set a 1; set b 2; batch clear, set c 3; sync",
    "batch set a x*600, set b y*600",
    // Databases.
    "set a 1; in 1 set a 2; in 15 hset h f 1",
    "in 1 set a 1; in 2 set a 2; in 1 clear; sync",
    // Sizes: across sectors, pages, and reserved space.
    "set a x*500; set b y*500; set c z*500",
    "set a x*5000; sync; set b y*5000",
    "set a x*5000; set b 1; set c y*9000; del a",
    "set a x*40000; set b 1; sync; set c 2",
    // Several lives.
    "set a 1; reopen; set b 2; reopen; set c 3",
    "set a 1; kill; set b 2; kill; set c 3",
    "set a 1; sync; set b 2; kill; batch set c 3, set d 4; reopen; del a",
];

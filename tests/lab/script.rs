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
    HExpire(String, String, Duration),
    HPersist(String, String),
    Batch(Vec<Step>),
    /// As a batch, but each step sees what those before it have done.
    Transaction(Vec<Step>),
    Clear,
    /// Steps on another database.
    In(u8, Box<Step>),
    Sync,
    /// Rewrites the file to what it holds.
    Compact,
    /// Writes the index into the log.
    Checkpoint,
    /// Closes and opens.
    Reopen,
    /// Closes and opens, and closing compacts: the handle in which the steps before it are taken is opened so.
    Close,
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
            Step::Sync
                | Step::Compact
                | Step::Checkpoint
                | Step::Reopen
                | Step::Close
                | Step::Kill
                | Step::Advance(_)
                | Step::Durability(_)
        )
    }

    /// Whether the steps after it are taken in another handle.
    pub fn ends_the_handle(&self) -> bool {
        matches!(
            self,
            Step::Reopen | Step::Close | Step::Kill | Step::Durability(_)
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
            Step::HExpire(key, field, ttl) => db.hexpire(key, field, *ttl).map(drop),
            Step::HPersist(key, field) => db.hpersist(key, &[field]).map(drop),
            Step::Transaction(steps) => {
                db.transaction(|tx| steps.iter().try_for_each(|step| step.apply(tx)))
            }
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
            Step::Compact => db.compact().map(drop),
            Step::Checkpoint => db.checkpoint(),
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
            ["hexpire", key, field, ttl] => Step::HExpire(owned(key), owned(field), millis(ttl)?),
            ["hpersist", key, field] => Step::HPersist(owned(key), owned(field)),
            ["clear"] => Step::Clear,
            ["sync"] => Step::Sync,
            ["compact"] => Step::Compact,
            ["checkpoint"] => Step::Checkpoint,
            ["reopen"] => Step::Reopen,
            ["close"] => Step::Close,
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
            ["batch", ..] => Step::Batch(Step::parse_list(text, "batch")?),
            ["transaction", ..] => Step::Transaction(Step::parse_list(text, "transaction")?),
            _ => return Err(format!("{text:?} is no step")),
        })
    }

    /// What stands behind a word, separated by commas.
    fn parse_list(text: &str, word: &str) -> Result<Vec<Step>, String> {
        let steps = text.trim_start().trim_start_matches(word).split(',');
        steps.map(Step::parse).collect()
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

    /// Whether it compacts the file.
    pub fn compacts(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Compact | Step::Close))
    }

    /// Whether it writes checkpoints.
    pub fn checkpoints(&self) -> bool {
        self.steps.contains(&Step::Checkpoint)
    }

    /// Whether the handle compacts when it closes that takes the step of this number.
    pub fn closing_compacts(&self, number: usize) -> bool {
        let mut rest = self.steps.iter().skip(number);
        rest.find(|step| step.ends_the_handle()) == Some(&Step::Close)
    }
}

/// What programs do with a small file, each in one line.
pub const SCRIPTS: [&str; 103] = [
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
    "transaction set a 1, append a 2, incr n, incr n, hset h f 1, hdel h f; sync; transaction del a, set a 3, persist a",
    "hset h f 1; expire h 50; advance 60; transaction hset h g 1, expire h 90, hdel h g, hset h k 2; sync",
    // Deadlines of fields.
    "hset h f 1; hset h g 2; hexpire h f 50; sync; advance 60; hset h g 3; hset h f 4",
    "hset h f 1; hexpire h f 50; hpersist h f; hexpire h f 70; hset h f 2; hexpire h f 50; advance 60; hset h k 3",
    "transaction hset h f 1, hset h g 2, hexpire h f 50, hexpire h g 70; sync; advance 60; hdel h g; advance 60; hset h f 3",
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
    // Compaction: of each kind, of nothing, and with writes around it.
    "compact",
    "set a 1; compact",
    "set a 1; set a 2; set b 3; del b; compact; set a 4; set c 5",
    "set a 1; sync; set a 2; compact; compact; set a 3; compact",
    "hset h f 1; hset h f 2; hset h g 3; hdel h g; compact; hset h k 4; hdel h f",
    "hset h f 1; expire h 50; hset h g 2; hdel h f; compact; hset h k 3",
    "set a 1 50; set b 2; hset h f 1; expire h 50; advance 60; compact; set a 3; hset h g 4",
    "set a 1 50; expire a 90; set b 1 50; persist b; advance 60; compact; reopen; expire a 70",
    "set a 1; in 1 set a 2; in 15 hset h f 1; in 1 set a 3; compact; in 1 clear; in 15 del h; compact",
    "batch set a 1, set a 2, set b 3, del b, hset h f 1; compact; batch set a 4, hset h g 2",
    "os; set a 1; set a 2; compact; always; set b 3; compact; kill; compact",
    "set a x*5000; set b y*5000; set a 1; compact; set c z*9000; compact",
    "set a 1; compact; reopen; clear; compact; set a 2",
    "hset h f 1; hset h g 2; hexpire h f 50; hexpire h g 90; compact; advance 60; compact; hset h k 3; advance 60; hpersist h k; compact",
    // By closing.
    "set a 1; set a 2; close; set a 3; close; set b 4",
    "set a 1; hset h f 1; expire h 50; set a 2; close; kill; hset h g 2; close",
    // By closing again and again, with writes between.
    "set a a*500; set b b*500; set c c*500; set d d*500; reopen; set a 1; close; set b 2; \
     close; del c; close; set e 3; close",
    "set a a*700; set b b*700; set c c*700; reopen; del a; close; clear; close; set c 1; \
     close; set d 2; close",
    "hset h f f*700; hset h g g*700; hset h k k*700; expire h 50; reopen; hdel h f; close; hset h l 1; \
     close; hdel h g; close; expire h 70; close",
    "hset h f f*700; expire h 50; set a a*700; set b b*700; reopen; del a; close; advance 60; set c 1; \
     close; set d 1; close",
    "set a a*700 50; set b b*700 50; set c c*700; reopen; expire a 90; close; advance 60; del c; \
     close; expire a 80; close; set a 1; close",
    "hset h f f*700; set a a*700; set b b*700; reopen; set a 1; close; del h; close; hset h g 1; \
     close; hset h f 2; close",
    "set a a*700; in 1 set a b*700; in 2 hset a f c*700; reopen; in 1 del a; close; in 2 hset a g 1; \
     close; in 1 set a 2; in 2 hdel a f; close; in 2 clear; close",
    "set a a*700; set b b*700; hset h f 1; expire h 50; reopen; set a 1; close; batch hset h g 2, hdel h f; \
     close; set c 3; close; set d 4; close",
    "hset h f f*700; hset h g g*700; hset h k k*700; hexpire h f 50; reopen; hexpire h g 50; close; advance 60; \
     hset h l 1; close; hpersist h k; close; hset h g 2; close",
    // Killed between closings.
    "os; set a a*700; set b b*700; set c c*700; reopen; set a 1; close; set b 2; kill; set b 3; close; \
     set d 4; kill; set c 5; close; close",
    "set a a*700; set b b*700; set c c*700; reopen; set a 1; close; kill; set b 2; compact; set c 3; \
     compact; set d 4",
    "set a a*700; set b b*700; reopen; set a 1; close; batch set c 1, hset h f 1, del b; close; \
     expire h 50; close; hset h g 2; hdel h f; close",
    // Checkpoints: of nothing, of each kind, one upon the other, and taken up into one.
    "checkpoint; set a 1",
    "set a 1; checkpoint; set a 2; set b 3",
    "set a 1; checkpoint; reopen; del a; set b 2; checkpoint; reopen; set a 3; del b",
    "set a 1; hset h f 1; hset h g 2; checkpoint; kill; hdel h f; set b 3; checkpoint; hdel h g; del a",
    "hset h f 1; expire h 50; hset h g 2; checkpoint; reopen; advance 60; hset h k 3; checkpoint; reopen; hset h f 4",
    "set a 1 50; checkpoint; reopen; expire a 90; checkpoint; reopen; advance 60; persist a; checkpoint; reopen; del a",
    "set a 1; checkpoint; set a 2; checkpoint; del a; checkpoint; set a 3; checkpoint; reopen; set b 4; checkpoint",
    "set a 1; set b 2; checkpoint; reopen; del a; checkpoint; reopen; hset h f 1; checkpoint; reopen; set c 3; \
     checkpoint; reopen; hdel h f; checkpoint; reopen; del c",
    "hset h f 1; hset h g 2; hexpire h f 50; checkpoint; reopen; hexpire h g 90; checkpoint; reopen; advance 60; hset h f 3; checkpoint; reopen; hpersist h g",
    "batch set a 1, hset h f 1; in 3 set x 1; checkpoint; reopen; batch del a, hset h g 2; clear; checkpoint; reopen; set a 3",
    "set a 1; in 3 set x 1; checkpoint; reopen; in 3 clear; checkpoint; reopen; in 3 set y 1; checkpoint; kill; in 3 del y",
    "os; set a 1; checkpoint; set b 2; kill; set c 3; always; checkpoint; set d 4; kill; set e 5",
    "set a x*5000; checkpoint; set b y*5000; checkpoint; kill; del a; checkpoint; set c z*9000",
    "set a 1; checkpoint; set a 2; compact; checkpoint; reopen; del a; set b 2; checkpoint; compact; set c 3",
];

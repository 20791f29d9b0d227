//! Kills a writing process at random moments, many times, on one and the same file: what was
//! acknowledged is there, no batch is there in part, and nothing else is.
//!
//! The test runs its own program again as the child. Each of the child's threads makes the calls
//! of a script that follows from the seed alone, and says so on standard output after each call
//! has returned. So the parent knows what must be there: after `n` acknowledgments exactly what
//! `n` calls leave, or `n + 1`, since the next one may have taken effect before the kill. There
//! is no third possibility, and half a batch is neither.
//!
//! In every other round the child compacts all the while, and whoever closes the file leaves a compaction half
//! done, for the next child to go on with and be killed in.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use brasa::{Db, Durability, Error, KeyType, Options, inspect};

const ROUNDS: usize = 80;

/// Threads of the child, each with its own keys and its own script.
const WRITERS: usize = 2;

/// Tells the program that it is the child, and what to do.
const CHILD: &str = "BRASA_KILL_CHILD";

/// Repeats a run: the seed that a failed one has printed.
const SEED: &str = "BRASA_KILL_SEED";

const DURABILITIES: [Durability; 3] = [
    Durability::Always,
    Durability::Interval(Duration::from_millis(2)),
    Durability::Os,
];

#[test]
fn a_killed_process_takes_no_acknowledged_write_and_leaves_no_half_batch() {
    if let Ok(orders) = std::env::var(CHILD) {
        return write_until_killed(&orders);
    }
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::hash::RandomState::new().build_hasher().finish(),
    };
    println!("{SEED}={seed}");

    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let mut scripts: [Script; WRITERS] = std::array::from_fn(|writer| Script::new(seed, writer));
    let (mut acknowledged, mut unfinished) = (0, 0);
    for round in 0..ROUNDS {
        let durability = random.below(DURABILITIES.len());
        let orders = Orders {
            path: path.to_str().unwrap().to_owned(),
            compacts: round % 2 == 1,
            durability,
            seed,
            done: scripts.each_ref().map(|script| script.done),
        };
        let counts = run_and_kill(&orders, &mut random);
        acknowledged += counts.iter().sum::<u64>();

        // What stands there now can be read without being mended, and it can be mended.
        let db = if random.below(2) == 0 {
            Db::options().read_only(true).open(&path)
        } else {
            options(&orders).open(&path)
        };
        let db = match db {
            Ok(db) => db,
            // Killed before there was a file.
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && acknowledged == 0 =>
            {
                continue;
            }
            Err(error) => panic!("round {round}: {error}"),
        };
        let found = contents(&db);
        let mut expected = BTreeMap::new();
        for (script, count) in scripts.iter_mut().zip(counts) {
            for _ in 0..count {
                script.next();
            }
            let of_writer = script.of_writer(&found);
            if of_writer != script.holds {
                script.next();
                unfinished += 1;
            }
            assert_eq!(
                of_writer, script.holds,
                "round {round}: after {} calls under {:?}",
                script.done, DURABILITIES[durability]
            );
            expected.extend(script.holds.clone());
        }
        assert_eq!(found, expected, "round {round}: something else is there");
        // Without a write closing has no share in the compaction.
        match db.del("closing") {
            Err(Error::ReadOnly { .. }) => {}
            _ => {
                db.set("closing", round.to_string()).unwrap();
                db.del("closing").unwrap();
            }
        }
        db.close().unwrap();
        assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
    }
    println!("{acknowledged} acknowledged writes, {unfinished} that were not, in {ROUNDS} rounds");
    // A compaction removes the files of compactions that were killed.
    Db::open(&path).unwrap().compact().unwrap();
    let names: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["cache.brasa"]);
    // Else nothing was tested.
    assert!(acknowledged > 1_000);
}

/// What the parent tells the child.
struct Orders {
    path: String,
    compacts: bool,
    durability: usize,
    seed: u64,
    /// How many calls each writer has made in earlier lives.
    done: [u64; WRITERS],
}

impl Orders {
    fn encode(&self) -> String {
        let done = self.done.map(|done| done.to_string()).join(" ");
        let compacts = u8::from(self.compacts);
        format!(
            "{} {} {done} {compacts} {}",
            self.durability, self.seed, self.path
        )
    }

    fn decode(text: &str) -> Orders {
        let mut words = text.splitn(4 + WRITERS, ' ');
        let mut word = || words.next().unwrap();
        Orders {
            durability: word().parse().unwrap(),
            seed: word().parse().unwrap(),
            done: std::array::from_fn(|_| word().parse().unwrap()),
            compacts: word() == "1",
            path: word().to_owned(),
        }
    }
}

fn options(orders: &Orders) -> Options {
    Db::options()
        .durability(DURABILITIES[orders.durability])
        .auto_compact(orders.compacts)
        .compact_floor_bytes(0)
        // The file outgrows its mapping again and again.
        .mapping_step_bytes(4096)
}

/// The child: never returns.
fn write_until_killed(orders: &str) {
    let orders = Orders::decode(orders);
    let db = options(&orders).open(&orders.path).unwrap();
    thread::scope(|scope| {
        if orders.compacts {
            scope.spawn(|| {
                loop {
                    if let Err(error) = db.compact() {
                        // Who has killed this process would not hear of a panic.
                        let mut output = std::io::stdout().lock();
                        writeln!(output, "\nfailed {error}").unwrap();
                        output.flush().unwrap();
                        return;
                    }
                }
            });
        }
        for (writer, done) in orders.done.into_iter().enumerate() {
            let db = &db;
            scope.spawn(move || {
                let mut script = Script::new(orders.seed, writer);
                while script.done < done {
                    script.next();
                }
                loop {
                    let call = script.next();
                    call.make(db).unwrap();
                    let mut output = std::io::stdout().lock();
                    writeln!(output, "\nacknowledged {writer}").unwrap();
                    output.flush().unwrap();
                }
            });
        }
    });
}

/// Lets the child write, and kills it, after a number of acknowledgments or after a time,
/// whichever is first; gives back how many calls of each writer were acknowledged.
fn run_and_kill(orders: &Orders, random: &mut Random) -> [u64; WRITERS] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_takes_no_acknowledged_write_and_leaves_no_half_batch",
            "--nocapture",
        ])
        .env(CHILD, orders.encode())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let enough = 1 + random.below(600) as u64;
    // Sometimes while it is still starting, or opening the file.
    let patience = Duration::from_micros(random.below(150_000) as u64);
    let mut counts = [0; WRITERS];
    thread::scope(|scope| {
        let (kill, asked) = std::sync::mpsc::channel::<()>();
        let killer = scope.spawn(move || {
            let _ = asked.recv_timeout(patience);
            kill_and_wait(&mut child);
        });
        // To the end of what it wrote, which was written before it died.
        for line in output.lines() {
            let line = line.unwrap();
            if let Some(error) = line.strip_prefix("failed ") {
                panic!("a compaction failed: {error}");
            }
            if let Some(writer) = line.strip_prefix("acknowledged ") {
                counts[writer.parse::<usize>().unwrap()] += 1;
            }
            if counts.iter().sum::<u64>() == enough {
                let _ = kill.send(());
            }
        }
        killer.join().unwrap();
    });
    counts
}

fn kill_and_wait(child: &mut Child) {
    // SIGKILL, on every Unix.
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What a key holds: under the empty field a string, else a hash.
type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn contents(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for key in db.keys() {
        let key = key.unwrap();
        let held = if db.key_type(&key).unwrap() == Some(KeyType::Hash) {
            let fields = db.hgetall(&key).unwrap().into_iter();
            fields
                .map(|(field, value)| (field.to_vec(), value.to_vec()))
                .collect()
        } else {
            let value = db.get(&key).unwrap().unwrap();
            BTreeMap::from([(Vec::new(), value.to_vec())])
        };
        contents.insert(key.to_vec(), held);
    }
    contents
}

/// A call that a writer makes.
enum Call {
    Set(Vec<u8>, Vec<u8>),
    Append(Vec<u8>, Vec<u8>),
    Del(Vec<u8>),
    Hset(Vec<u8>, Vec<u8>, Vec<u8>),
    Hdel(Vec<u8>, Vec<u8>),
    /// Sets several strings, and a field of a hash in another key, to the same value.
    Batch(Vec<Vec<u8>>, Vec<u8>, Vec<u8>),
}

impl Call {
    fn make(&self, db: &Db) -> brasa::Result<()> {
        match self {
            Call::Set(key, value) => db.set(key, value),
            Call::Append(key, suffix) => db.append(key, suffix).map(drop),
            Call::Del(key) => db.del(key).map(drop),
            Call::Hset(key, field, value) => db.hset(key, field, value).map(drop),
            Call::Hdel(key, field) => db.hdel(key, field).map(drop),
            Call::Batch(keys, hash, value) => db.batch(|batch| {
                for key in keys {
                    batch.set(key, value);
                }
                batch.hset(hash, "last", value);
            }),
        }
    }

    /// What the call leaves of what was there.
    fn apply(&self, contents: &mut Contents) {
        let string = |value: &Vec<u8>| BTreeMap::from([(Vec::new(), value.clone())]);
        match self {
            Call::Set(key, value) => {
                contents.insert(key.clone(), string(value));
            }
            Call::Append(key, suffix) => {
                let held = contents.entry(key.clone()).or_default();
                held.entry(Vec::new()).or_default().extend(suffix);
            }
            Call::Del(key) => {
                contents.remove(key);
            }
            Call::Hset(key, field, value) => {
                let held = contents.entry(key.clone()).or_default();
                held.insert(field.clone(), value.clone());
            }
            Call::Hdel(key, field) => {
                if let Some(held) = contents.get_mut(key) {
                    held.remove(field);
                }
                contents.retain(|_, held| !held.is_empty());
            }
            Call::Batch(keys, hash, value) => {
                for key in keys {
                    contents.insert(key.clone(), string(value));
                }
                let held = contents.entry(hash.clone()).or_default();
                held.insert(b"last".to_vec(), value.clone());
            }
        }
    }
}

/// The calls of one writer, and what they have left so far.
struct Script {
    writer: usize,
    random: Random,
    done: u64,
    holds: Contents,
}

impl Script {
    fn new(seed: u64, writer: usize) -> Script {
        Script {
            writer,
            random: Random(seed ^ (writer as u64 + 1) << 32),
            done: 0,
            holds: Contents::new(),
        }
    }

    fn key(&self, kind: &str, number: usize) -> Vec<u8> {
        format!("{}:{kind}:{number}", self.writer).into_bytes()
    }

    /// The part of a file's contents that this writer is responsible for.
    fn of_writer(&self, contents: &Contents) -> Contents {
        let prefix = format!("{}:", self.writer).into_bytes();
        let mut contents = contents.clone();
        contents.retain(|key, _| key.starts_with(&prefix));
        contents
    }

    /// The next call, counted as made.
    fn next(&mut self) -> Call {
        let number = self.random.below(6);
        let field = format!("field{}", self.random.below(4)).into_bytes();
        // The number of the call, and something behind it: as a rule little, sometimes pages.
        let len = match self.random.below(12) {
            0 => self.random.below(20_000),
            _ => self.random.below(100),
        };
        let mut value = format!("{} ", self.done).into_bytes();
        value.resize(value.len() + len, b'.');
        let call = match self.random.below(10) {
            0..=2 => Call::Set(self.key("string", number), value),
            3 => Call::Append(self.key("appended", number), vec![b'+']),
            4 => Call::Del(self.key("string", number)),
            5 => Call::Hset(self.key("hash", number), field, value),
            6 => Call::Hdel(self.key("hash", number), field),
            _ => {
                let keys = (0..=number).map(|number| self.key("batch", number));
                Call::Batch(keys.collect(), self.key("batches", 0), value)
            }
        };
        call.apply(&mut self.holds);
        self.done += 1;
        call
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers for the same seed, in parent and
/// child.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from(self.next() % limit).unwrap()
    }
}

/// The kernel's signal for a file that grows beyond the limit would end the process.
#[test]
fn a_limit_for_the_size_of_files_is_an_error_and_no_signal() {
    const LIMITED: &str = "BRASA_LIMITED_FILE";
    if let Ok(path) = std::env::var(LIMITED) {
        for mapped in [true, false] {
            let options = Db::options()
                .durability(Durability::Os)
                .mapped_append(mapped);
            let db = options.open(&path).unwrap();
            let refused =
                (0..10_000).find_map(|number: u32| db.set(number.to_string(), [7; 1_000]).err());
            let refused = refused.expect("the limit was not reached").to_string();
            assert!(refused.contains("large"), "{refused}");
            assert_eq!(db.get("0").unwrap().unwrap(), [7; 1_000]);
            db.del("0").unwrap();
            db.set("0", [7; 1_000]).unwrap_err();
            db.clear().unwrap();
            db.compact().unwrap();
            db.set("0", [7; 1_000]).unwrap();
            db.clear().unwrap();
            db.close().unwrap();
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-c", "ulimit -f 1000; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("a_limit_for_the_size_of_files_is_an_error_and_no_signal")
        .env(LIMITED, directory.path().join("cache.brasa"))
        .status()
        .unwrap();
    assert!(status.success(), "{status:?}");
}

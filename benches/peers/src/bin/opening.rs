//! What a short program pays for one key: the whole process, from `exec` to its end. brasa, SQLite, LMDB, redb, and a process that
//! opens nothing.
//!
//! `cargo run --release --bin opening` in `benches/peers`. Each run starts a process that opens the file as a command line tool would,
//! gets one key at random, prints the value and ends; the clock runs from before it is started until it was waited for, and the value is
//! checked. Keys of 16 bytes, values of 100, written before the clock starts. Engines and sizes take turns, run by run, so
//! that noise hits all alike; one round before the first is not counted.
//!
//! - `--sizes 1000,100000,1000000`: how many keys (10,000,000 takes 5 GB of disk, 14 with `--all`). The peers are measured at
//!   1,000,000, or at the largest size where that is smaller; with `--all` at each.
//! - `--runs N`: 200, or 30 with `--cold`.
//! - `--engines brasa,LMDB,SQLite,redb,nothing`: only these.
//! - `--directory DIR`: where the files go, in a directory of their own that is removed at the end; `.` by default.
//! - `--cold`: before each run the page cache is dropped, that of the program itself too, which needs root. What maps its file
//!   then pays for the device's read-ahead (`read_ahead_kb` in `/sys/block/*/queue`) at each page it touches.
//!
//! It prints a table: the engine, how many keys the file has, median and 90th percentile in milliseconds, and the median as a multiple of brasa's
//! at the smallest size. `after a kill` is the first opening of a file whose last writer was killed after 100,000 further sets, one by
//! one, of keys that were not there; `second opening` is the one after that. Each has a fresh copy of the file, on the device before the clock
//! starts, and so there are only some 20 runs of them.
//!
//! Then how many records per second opening replays where nothing but the log helps, and what machine it was.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use brasa::Db;
use redb::ReadableDatabase;

const PEERS: [&str; 3] = ["LMDB", "SQLite", "redb"];
/// The keys of the peers' file.
const PEER_KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;
/// What is written before the kill.
const FURTHER_KEYS: u64 = 100_000;
const KILLED_RUNS: u64 = 20;
const REPLAYED_RECORDS: u64 = 1_000_000;
const REPLAYS: usize = 5;
/// Of a B-tree, which is slow to fill at random with small ones.
const TRANSACTION_KEYS: u64 = 1_000_000;
const BATCH_KEYS: u64 = 1_000;
/// Addresses, not memory.
const MAP_BYTES: usize = 16 << 30;
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("kv");

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[1..] {
        ["get", engine, path, key] => println!("{}", get(engine, Path::new(path), key)),
        ["fill", engine, path, keys] => fill(engine, Path::new(path), keys.parse().unwrap()),
        ["write", path, from] => write_until_killed(Path::new(path), from.parse().unwrap()),
        _ => measure(&Choices::parse(&words[1..])),
    }
}

struct Choices {
    sizes: Vec<u64>,
    runs: u64,
    engines: Vec<String>,
    directory: PathBuf,
    all: bool,
    cold: bool,
}

impl Choices {
    fn parse(words: &[&str]) -> Choices {
        let mut sizes = "1000,100000,1000000";
        let mut engines = "brasa,LMDB,SQLite,redb,nothing";
        let mut runs = None;
        let mut directory = ".";
        let (mut all, mut cold) = (false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || *words.next().expect("an option lacks its value");
            match *word {
                "--sizes" => sizes = value(),
                "--engines" => engines = value(),
                "--runs" => runs = Some(value().parse().unwrap()),
                "--directory" => directory = value(),
                "--all" => all = true,
                "--cold" => cold = true,
                other => panic!("there is no option {other}"),
            }
        }
        let mut sizes: Vec<u64> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let engines: Vec<String> = engines.split(',').map(str::to_owned).collect();
        for engine in &engines {
            let known = ["brasa", "nothing"].contains(&engine.as_str());
            assert!(
                known || PEERS.contains(&engine.as_str()),
                "there is no {engine}"
            );
        }
        let runs = runs.unwrap_or(if cold { 30 } else { 200 });
        assert!(runs > 0 && sizes[0] > 0, "nothing to measure");
        Choices {
            sizes,
            runs,
            engines,
            directory: directory.into(),
            all,
            cold,
        }
    }

    fn has(&self, engine: &str) -> bool {
        self.engines.iter().any(|chosen| chosen == engine)
    }
}

/// One file and one way to open it.
struct Subject {
    engine: &'static str,
    keys: u64,
    path: PathBuf,
    times: Vec<Duration>,
    after_kill: Option<AfterKill>,
}

/// For a file that is put back before each run, into the place of the subject's.
struct AfterKill {
    killed: PathBuf,
    second_times: Vec<Duration>,
}

fn measure(choices: &Choices) {
    if choices.cold
        && let Err(error) = drop_caches()
    {
        println!("SKIPPED: no cold runs, since {DROP_CACHES} cannot be written: {error}");
        return;
    }
    let directory = tempfile::tempdir_in(&choices.directory).unwrap();
    let root = directory.path();
    let mut subjects = prepare(choices, root);
    let killed_step = (choices.runs / KILLED_RUNS).max(1);
    let mut random = Random(1);
    for round in 0..=choices.runs {
        for subject in &mut subjects {
            let counted = round > 0;
            let number = random.below(subject.keys.max(1));
            let Some(after_kill) = &mut subject.after_kill else {
                let time = run(choices, subject.engine, &subject.path, number);
                if counted {
                    subject.times.push(time);
                }
                continue;
            };
            if !counted || !(round - 1).is_multiple_of(killed_step) {
                continue;
            }
            copy(&after_kill.killed, &subject.path);
            // What was written last must be there, too.
            let number = match round {
                1 => subject.keys + FURTHER_KEYS - 1,
                _ => random.below(subject.keys + FURTHER_KEYS),
            };
            let first = run(choices, subject.engine, &subject.path, number);
            subject.times.push(first);
            let second = run(choices, subject.engine, &subject.path, number);
            after_kill.second_times.push(second);
        }
    }
    print_table(choices, &mut subjects);
    if choices.has("brasa") {
        println!();
        print_replay(root, "each in a commit of its own", 1);
        print_replay(root, "in batches of 1000", BATCH_KEYS);
    }
    println!();
    print_machine();
}

fn prepare(choices: &Choices, root: &Path) -> Vec<Subject> {
    let largest = *choices.sizes.last().unwrap();
    let peer_sizes = match choices.all {
        true => choices.sizes.clone(),
        false => vec![largest.min(PEER_KEYS)],
    };
    let mut subjects = Vec::new();
    let mut add = |engine, keys, path: &Path, killed: Option<PathBuf>| {
        subjects.push(Subject {
            engine,
            keys,
            path: path.to_owned(),
            times: Vec::new(),
            after_kill: killed.map(|killed| AfterKill {
                killed,
                second_times: Vec::new(),
            }),
        });
    };
    if choices.has("nothing") {
        add("nothing", 0, root, None);
    }
    if choices.has("brasa") {
        for &keys in &choices.sizes {
            let path = filled("brasa", root, keys);
            let killed = root.join(format!("killed-{keys}"));
            copy(&path, &killed);
            kill_a_writer(&killed, keys);
            add("brasa", keys, &path, None);
            add("brasa, read only", keys, &path, None);
            let again = root.join(format!("opened-{keys}"));
            add("brasa", keys, &again, Some(killed));
        }
    }
    for engine in PEERS.into_iter().filter(|engine| choices.has(engine)) {
        for &keys in &peer_sizes {
            add(engine, keys, &filled(engine, root, keys), None);
        }
    }
    // What was written to prepare it is not to be written while others are measured.
    sync_all();
    subjects
}

/// A file with the keys; filled by another process, so that this one stays small.
fn filled(engine: &str, root: &Path, keys: u64) -> PathBuf {
    let path = root.join(format!("{engine}-{keys}"));
    let mut command = this_program();
    command.args(["fill", engine]).arg(&path);
    let status = command.arg(keys.to_string()).status().unwrap();
    assert!(status.success(), "{engine} was not filled");
    path
}

fn kill_a_writer(path: &Path, keys: u64) {
    let mut command = this_program();
    command.arg("write").arg(path).arg(keys.to_string());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "written\n", "the writer failed");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A whole process, and its answer.
fn run(choices: &Choices, engine: &str, path: &Path, number: u64) -> Duration {
    let key = key(number);
    let mut command = this_program();
    command.args(["get", engine]).arg(path).arg(&key);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let mut expected = match engine {
        "nothing" => constant(),
        _ => value(&key, VALUE_BYTES),
    };
    expected.push('\n');
    if choices.cold {
        drop_caches().unwrap();
    }
    let begun = Instant::now();
    let output = command.output().unwrap();
    let time = begun.elapsed();
    assert!(output.status.success(), "{engine} failed");
    assert_eq!(
        output.stdout,
        expected.as_bytes(),
        "{engine}: another value"
    );
    time
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn drop_caches() -> std::io::Result<()> {
    sync_all();
    File::options()
        .write(true)
        .open(DROP_CACHES)?
        .write_all(b"3")
}

fn sync_all() {
    assert!(Command::new("sync").status().unwrap().success());
}

/// On the device when it returns: whoever syncs the copy next has only its own writes to wait for.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    File::open(to).unwrap().sync_all().unwrap();
}

/// 16 bytes that are in no order.
fn key(number: u64) -> String {
    // Each step can be undone, so that no two numbers have the same key.
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    format!("{:016x}", mixed ^ (mixed >> 32))
}

fn value(key: &str, bytes: usize) -> String {
    let mut value = key.repeat(bytes.div_ceil(key.len()));
    value.truncate(bytes);
    value
}

fn constant() -> String {
    value("nothing", VALUE_BYTES)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a short program does: opens the file with what it takes by default, reads, and lets go of it in good order.
fn get(engine: &str, path: &Path, key: &str) -> String {
    let found = match engine {
        "nothing" => return constant(),
        "brasa" => {
            let db = Db::open(path).unwrap();
            db.get(key).unwrap().unwrap().to_vec()
        }
        "brasa, read only" => {
            let db = Db::options().read_only(true).open(path).unwrap();
            db.get(key).unwrap().unwrap().to_vec()
        }
        "LMDB" => {
            let env = open_lmdb(path, heed::EnvFlags::empty());
            let transaction = env.read_txn().unwrap();
            let db: Lmdb = env.open_database(&transaction, None).unwrap().unwrap();
            let found = db.get(&transaction, key.as_bytes()).unwrap().unwrap();
            found.to_vec()
        }
        "SQLite" => {
            let connection = rusqlite::Connection::open(path).unwrap();
            let query = "select v from kv where k = ?";
            connection
                .query_row(query, [key.as_bytes()], |row| row.get(0))
                .unwrap()
        }
        "redb" => {
            let db = redb::Database::open(path).unwrap();
            let table = db.begin_read().unwrap().open_table(TABLE).unwrap();
            let found = table.get(key.as_bytes()).unwrap().unwrap();
            found.value().to_vec()
        }
        other => panic!("there is no {other}"),
    };
    String::from_utf8(found).unwrap()
}

type Lmdb = heed::Database<heed::types::Bytes, heed::types::Bytes>;

fn open_lmdb(path: &Path, flags: heed::EnvFlags) -> heed::Env {
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(MAP_BYTES);
    // SAFETY: a process opens it once, and nobody else changes the file.
    unsafe {
        options.flags(heed::EnvFlags::NO_SUB_DIR | flags);
        options.open(path).unwrap()
    }
}

/// Creates the file with that many keys, and closes it properly.
fn fill(engine: &str, path: &Path, keys: u64) {
    match engine {
        "brasa" => fill_brasa(path, keys, VALUE_BYTES, BATCH_KEYS),
        "LMDB" => {
            let env = open_lmdb(path, heed::EnvFlags::NO_SYNC);
            let mut transaction = env.write_txn().unwrap();
            let db: Lmdb = env.create_database(&mut transaction, None).unwrap();
            transaction.commit().unwrap();
            for numbers in parts(keys, TRANSACTION_KEYS) {
                let mut transaction = env.write_txn().unwrap();
                for key in numbers.map(key) {
                    let value = value(&key, VALUE_BYTES);
                    db.put(&mut transaction, key.as_bytes(), value.as_bytes())
                        .unwrap();
                }
                transaction.commit().unwrap();
            }
            env.force_sync().unwrap();
        }
        "SQLite" => {
            let mut connection = rusqlite::Connection::open(path).unwrap();
            // The first stays with the file; the others are for filling it.
            for (name, value) in [
                ("journal_mode", "wal"),
                ("synchronous", "normal"),
                ("cache_size", "-2000000"),
            ] {
                connection.pragma_update(None, name, value).unwrap();
            }
            let create = "create table kv(k blob primary key, v blob) without rowid";
            connection.execute(create, []).unwrap();
            for numbers in parts(keys, TRANSACTION_KEYS) {
                let transaction = connection.transaction().unwrap();
                let mut put = transaction.prepare("insert into kv values (?, ?)").unwrap();
                for key in numbers.map(key) {
                    let value = value(&key, VALUE_BYTES);
                    put.execute((key.as_bytes(), value.as_bytes())).unwrap();
                }
                drop(put);
                transaction.commit().unwrap();
            }
            connection.close().unwrap();
        }
        "redb" => {
            let db = redb::Database::create(path).unwrap();
            for numbers in parts(keys, TRANSACTION_KEYS) {
                let transaction = db.begin_write().unwrap();
                let mut table = transaction.open_table(TABLE).unwrap();
                for key in numbers.map(key) {
                    let value = value(&key, VALUE_BYTES);
                    table.insert(key.as_bytes(), value.as_bytes()).unwrap();
                }
                drop(table);
                transaction.commit().unwrap();
            }
        }
        other => panic!("there is no {other}"),
    }
}

fn fill_brasa(path: &Path, keys: u64, value_bytes: usize, batch_keys: u64) {
    let db = Db::open(path).unwrap();
    for numbers in parts(keys, batch_keys) {
        let changed = db.batch(|batch| {
            for key in numbers.map(key) {
                let value = value(&key, value_bytes);
                batch.set(key, value);
            }
        });
        changed.unwrap();
    }
    db.close().unwrap();
}

fn parts(keys: u64, step: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let starts = (0..keys).step_by(usize::try_from(step).unwrap());
    starts.map(move |start| start..(start + step).min(keys))
}

/// Sets keys that are not there, says so, and never ends by itself.
fn write_until_killed(path: &Path, from: u64) {
    let db = Db::open(path).unwrap();
    for key in (from..from + FURTHER_KEYS).map(key) {
        let value = value(&key, VALUE_BYTES);
        db.set(key, value).unwrap();
    }
    println!("written");
    loop {
        std::thread::park();
    }
}

fn print_table(choices: &Choices, subjects: &mut [Subject]) {
    let mut rows: Vec<(String, u64, &mut Vec<Duration>)> = Vec::new();
    for subject in subjects {
        let Subject { engine, keys, .. } = *subject;
        match &mut subject.after_kill {
            None => rows.push((engine.to_owned(), keys, &mut subject.times)),
            Some(after_kill) => {
                let label = format!("{engine}, after a kill");
                rows.push((label, keys, &mut subject.times));
                let label = format!("{engine}, second opening after it");
                rows.push((label, keys, &mut after_kill.second_times));
            }
        }
    }
    for (_, _, times) in &mut rows {
        times.sort_unstable();
    }
    let base = rows
        .iter()
        .find(|(label, ..)| label == "brasa")
        .map(|(_, _, times)| percentile_ms(times, 50));
    let smallest = choices.sizes[0];
    println!("| engine | keys | median ms | p90 ms | ratio to brasa at {smallest} |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (label, keys, times) in &rows {
        let median = percentile_ms(times, 50);
        let p90 = percentile_ms(times, 90);
        let ratio = base.map_or("-".to_owned(), |base| format!("{:.2}", median / base));
        println!("| {label} | {keys} | {median:.2} | {p90:.2} | {ratio} |");
    }
    let how = match choices.cold {
        true => "with nothing in the page cache",
        false => "with a warm page cache",
    };
    print!("\n{} runs each, {how}", choices.runs);
    let killed = rows
        .iter()
        .find(|(label, ..)| label.ends_with("after a kill"));
    match killed {
        Some((_, _, times)) => println!("; {} after a kill.", times.len()),
        None => println!("."),
    }
}

/// Of times that are in order.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

/// Opens a log of small records again and again.
fn print_replay(root: &Path, how: &str, batch_keys: u64) {
    let path = root.join(format!("small-{batch_keys}"));
    fill_brasa(&path, REPLAYED_RECORDS, 16, batch_keys);
    let copied = root.join("replayed");
    let mut times = Vec::new();
    for _ in 0..REPLAYS {
        copy(&path, &copied);
        let db = replay_options().open(&copied).unwrap();
        let recovery = db.recovery();
        let record_count = recovery.record_count;
        // Those of the checkpoint are replayed as well.
        assert!((REPLAYED_RECORDS..REPLAYED_RECORDS * 101 / 100).contains(&record_count));
        times.push(recovery.duration);
        db.close().unwrap();
    }
    times.sort_unstable();
    let median_ms = percentile_ms(&times, 50);
    println!(
        "Replay of {REPLAYED_RECORDS} records of 16 + 16 bytes, {how}: {median_ms:.0} ms, {:.0} records/s (median of {REPLAYS}).",
        REPLAYED_RECORDS as f64 / median_ms * 1e3
    );
}

fn replay_options() -> brasa::Options {
    Db::options().ignore_checkpoints(true)
}

fn print_machine() {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{model}, {cores} cores, kernel {}.", kernel.trim());
}

//! What the short ways cost, in numbers that do not depend on the machine: pieces of memory asked for, and system calls.
//!
//! System calls are counted by strace(1): a test runs itself again under it, and looks at what was called between two marks. Where there is no
//! strace it says loudly that it did not run; `.ci/run` installs it.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use allocation_counter::measure;
use brasa::{Db, Durability};

const KEYS: u32 = 2_000;
const VALUE: [u8; 100] = [b'v'; 100];

fn key(number: u32) -> String {
    format!("key:{number:012}")
}

fn keys() -> Vec<String> {
    (0..KEYS).map(key).collect()
}

/// A file with all keys, and a hash with as many fields; so many that appending has found its way.
fn filled(path: &Path, exclusive: bool) -> Db {
    let db = Db::options()
        .durability(Durability::Os)
        .exclusive(exclusive)
        .auto_compact(false)
        .open(path)
        .unwrap();
    for key in keys() {
        db.set(&key, VALUE).unwrap();
        db.hset("hash", &key, VALUE).unwrap();
    }
    db
}

#[test]
fn a_read_asks_for_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let keys = keys();
    for exclusive in [true, false] {
        let db = filled(&directory.path().join(exclusive.to_string()), exclusive);
        let read = measure(|| {
            for key in &keys {
                assert_eq!(db.get(key).unwrap().unwrap().len(), 100);
                assert_eq!(db.hget("hash", key).unwrap().unwrap().len(), 100);
                assert!(db.exists(key).unwrap());
            }
            assert!(db.get("nobody").unwrap().is_none());
        });
        assert_eq!(read.count_total, 0, "exclusive: {exclusive}");
    }
}

#[test]
fn setting_a_string_that_is_there_asks_for_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let keys = keys();
    for exclusive in [true, false] {
        let db = filled(&directory.path().join(exclusive.to_string()), exclusive);
        let written = measure(|| {
            for key in &keys {
                db.set(key, VALUE).unwrap();
            }
        });
        // Windows and the mapping grow with the log. A shared handle that is suspended for a
        // millisecond loses its lease, and takes the lock anew: that asks for memory, too.
        let most = if exclusive { 8 } else { 100 };
        assert!(
            written.count_total <= most,
            "{} pieces of memory for {KEYS} writes, exclusive: {exclusive}",
            written.count_total
        );
    }
}

#[test]
fn setting_new_strings_asks_for_memory_only_as_tables_grow() {
    let directory = tempfile::tempdir().unwrap();
    let db = filled(&directory.path().join("file"), true);
    let new: Vec<String> = (KEYS..2 * KEYS).map(key).collect();
    let written = measure(|| {
        for key in &new {
            db.set(key, VALUE).unwrap();
        }
    });
    // Each of the 64 shards grows by a half two or three times as the keys double: the hash key of a
    // file is random.
    let most = 4 * 64;
    assert!(
        written.count_total <= most,
        "{} pieces of memory",
        written.count_total
    );
}

/// Not by `eprintln!`, which a passing test keeps to itself.
fn say_not_run(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
}

/// What runs under strace.
const WORK: &str = "BRASA_TEST_COSTS_OF";

/// A line in the trace.
fn mark(name: &str) {
    std::io::stdout()
        .write_all(format!("MARK {name}\n").as_bytes())
        .unwrap();
    std::io::stdout().flush().unwrap();
}

/// Does the work that the other tests count the calls of; on its own it only says that it can be done.
#[test]
fn work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let keys = keys();
    let name = std::env::var(WORK).unwrap_or_default();
    let db = filled(&path, name != "get shared");
    match &*name {
        "set" => {
            mark("begin");
            for key in &keys {
                db.set(key, VALUE).unwrap();
            }
        }
        "open" => {
            drop(db);
            mark("begin");
            let db = Db::open(&path).unwrap();
            assert_eq!(db.get(&keys[7]).unwrap().unwrap(), VALUE);
            drop(db);
        }
        _ => {
            mark("begin");
            for key in &keys {
                assert!(db.get(key).unwrap().is_some());
                assert!(db.hget("hash", key).unwrap().is_some());
            }
        }
    }
    mark("end");
}

/// The system calls that the thread made in this work; `None`, and loudly, where they cannot be counted.
fn calls_of(work: &str) -> Option<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let run = Command::new("strace")
        // Other threads, as those that sync, have their own costs: only the marks' thread is looked at.
        .args(["-f", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "work", "--nocapture", "--test-threads", "1"])
        .env(WORK, work)
        .output();
    let lines = match run {
        Ok(run) if run.status.success() => std::fs::read_to_string(&trace).unwrap(),
        failed => {
            say_not_run(&format!(
                "the system calls of {work}: needs strace: {failed:?}"
            ));
            return None;
        }
    };
    let is_mark = |line: &str, name: &str| line.contains("write(1") && line.contains(name);
    let thread = lines
        .lines()
        .find(|line| is_mark(line, "MARK begin"))
        .and_then(|line| line.split_whitespace().next())
        .expect("the mark is in the trace")
        .to_owned();
    let calls = lines
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(&*thread))
        .skip_while(|line| !is_mark(line, "MARK begin"))
        .skip(1)
        .take_while(|line| !is_mark(line, "MARK end"))
        .filter(|line| !line.contains("resumed>"))
        .map(str::to_owned)
        .collect();
    Some(calls)
}

#[test]
fn a_read_makes_no_system_call() {
    for work in ["get", "get shared"] {
        if let Some(calls) = calls_of(work) {
            assert!(calls.is_empty(), "{work}: {calls:#?}");
        }
    }
}

/// Whether the file system of temporary files is one on which commits are appended through a window; says it loudly where it is not.
fn has_windows() -> bool {
    let directory = std::env::temp_dir();
    let run = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(&directory)
        .output()
        .unwrap();
    let kind = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    let known = ["ext2/ext3", "tmpfs"].contains(&&*kind);
    if !known {
        let place = directory.display();
        say_not_run(&format!("the system calls of set: {place} is on {kind}"));
    }
    known
}

/// Growth is a window every 256 KiB, and space every so often: of 2,000 records of 152 bytes, two windows or three, of five calls each.
#[test]
fn setting_a_string_makes_no_system_call_apart_from_growth() {
    if has_windows()
        && let Some(calls) = calls_of("set")
    {
        assert!(calls.len() <= 32, "{calls:#?}");
        let writes = calls
            .iter()
            .filter(|call| call.contains("pwrite64("))
            .count();
        assert_eq!(writes, 0, "{calls:#?}");
    }
}

/// Opening a file by its checkpoint, one look into it, and closing it.
#[test]
fn opening_a_file_takes_a_few_dozen_system_calls() {
    if let Some(calls) = calls_of("open") {
        assert!(calls.len() <= 45, "{} calls: {calls:#?}", calls.len());
    }
}

/// HRANDFIELD and MEMORY USAGE loaded the whole hash, and LCS took four bytes for each pair of bytes.
#[test]
fn command_that_returns_little_asks_for_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let db = filled(&directory.path().join("file"), true);
    for name in ["one", "other"] {
        let letters = name.bytes().cycle().take(4_000);
        db.set(name, letters.collect::<Vec<u8>>()).unwrap();
    }
    let mut session = brasa::command::Session::new(db);
    for (line, limit) in [
        ("HRANDFIELD hash", 8 << 10),
        ("HRANDFIELD hash -5 WITHVALUES", 16 << 10),
        ("HRANDFIELD hash 5", 16 << 10),
        ("MEMORY USAGE hash", 8 << 10),
        ("DEBUG OBJECT hash", 8 << 10),
        ("OBJECT ENCODING hash", 8 << 10),
        ("HLEN hash", 8 << 10),
        ("RANDOMKEY", 16 << 10),
        ("LCS one other IDX", 3 << 20),
        ("LCS one other LEN", 64 << 10),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let asked = measure(|| drop(session.execute(&words)));
        assert!(asked.bytes_max < limit, "{line}: {asked:?}");
    }
}

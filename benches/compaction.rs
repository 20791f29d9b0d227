//! How fast compaction is, against a plain copy of the same bytes, and what it does to a writer.
//!
//! `cargo bench --bench compaction` (a few minutes; `-- --mib 1024` is the size of the log, half of it dead). It prints
//!
//! - the speed of a compaction in MB of log a second, and of `std::fs::copy` with a sync of the same file, in turn, median of three;
//! - for a writer that writes all the time: how long its `set`s take alone, and while a compaction runs.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brasa::{Db, Durability, Options};

const VALUE_BYTES: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --all-targets` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let at = arguments.iter().position(|argument| argument == "--mib");
    let mib: usize = at.map_or(1_024, |at| arguments[at + 1].parse().unwrap());
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("bench.brasa");
    let records = (mib << 20) / (VALUE_BYTES + 48);
    speed(&path, records);
    stalls(&path, records);
}

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

/// A file of so many records, every key of them written twice.
fn fill(path: &Path, records: usize) -> Db {
    let _ = std::fs::remove_file(path);
    let db = options().open(path).unwrap();
    let keys = records / 2;
    for round in 0..2_u8 {
        for first in (0..keys).step_by(1_000) {
            db.batch(|b| {
                for number in first..keys.min(first + 1_000) {
                    b.set(key(number), [round; VALUE_BYTES]);
                }
            })
            .unwrap();
        }
    }
    db.sync().unwrap();
    db
}

fn key(number: usize) -> String {
    format!("key:{number:012}")
}

fn speed(path: &Path, records: usize) {
    let copy_path = path.with_extension("copy");
    let mut compactions = Vec::new();
    let mut copies = Vec::new();
    let mut log_bytes = 0;
    for _ in 0..3 {
        let db = fill(path, records);
        log_bytes = db.stats().unwrap().log_bytes;
        let begun = Instant::now();
        std::fs::copy(path, &copy_path).unwrap();
        File::open(&copy_path).unwrap().sync_all().unwrap();
        copies.push(begun.elapsed());
        std::fs::remove_file(&copy_path).unwrap();
        let report = db.compact().unwrap();
        compactions.push(report.duration);
    }
    let [compaction, copy] = [&mut compactions, &mut copies].map(|times| {
        times.sort();
        log_bytes as f64 / 1e6 / times[times.len() / 2].as_secs_f64()
    });
    println!(
        "log of {} MB, half of it live, values of {VALUE_BYTES} bytes",
        log_bytes / 1_000_000
    );
    println!("compaction           {compaction:>8.0} MB of log a second");
    println!("plain copy and sync  {copy:>8.0} MB a second");
    println!("ratio                {:>8.2}", compaction / copy);
}

fn stalls(path: &Path, records: usize) {
    let db = fill(path, records);
    let is_over = AtomicBool::new(false);
    let write = |for_how_long: &dyn Fn() -> bool| {
        let mut times = Vec::new();
        let mut number = 0;
        while for_how_long() {
            // A program that does something else besides: otherwise it measures how fast the log grows.
            std::thread::sleep(Duration::from_micros(20));
            number += 1;
            let begun = Instant::now();
            db.set(format!("writer:{}", number % 10_000), [1; 100])
                .unwrap();
            times.push(begun.elapsed());
        }
        times
    };
    let begun = Instant::now();
    let alone = write(&|| begun.elapsed() < Duration::from_secs(3));
    let (beside, report) = std::thread::scope(|scope| {
        let compactor = scope.spawn(|| {
            let report = db.compact().unwrap();
            is_over.store(true, Ordering::Release);
            report
        });
        let beside = write(&|| !is_over.load(Ordering::Acquire));
        (beside, compactor.join().unwrap())
    });
    println!("\na writer's set, in microseconds");
    println!("| | sets | p50 | p99 | p99.9 | longest |");
    println!("| --- | --- | --- | --- | --- | --- |");
    row("alone", alone);
    row(
        &format!(
            "beside a compaction of {:.1} s",
            report.duration.as_secs_f64()
        ),
        beside,
    );
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| {
        let index = ((times.len() - 1) as f64 * share) as usize;
        times[index].as_secs_f64() * 1e6
    };
    println!(
        "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.0} |",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

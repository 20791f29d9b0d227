//! 1, 2, 4 and 8 processes that write to the same file as fast as they can: brasa, SQLite, LMDB, redb and Python's diskcache.
//!
//! `cargo run --release --bin processes` in `benches/peers` (two minutes; `--seconds N` for each run, `--python PATH` for an
//! interpreter that has `diskcache`). Each process sets random keys of its own: 10,000 keys of 16 bytes, values of 100 bytes. Each write is safe against a kill of the
//! process; against a power loss only redb's are, which cannot do without.
//!
//! Columns: writes a second of all processes together; what a single write took, in microseconds; the writes of the process that got least, of
//! those of the one that got most.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KEYS: u64 = 10_000;
const VALUE: [u8; 100] = [7; 100];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, engine, path, number, seconds] = arguments.as_slice()
        && word == "worker"
    {
        return work(
            engine,
            Path::new(path),
            number.parse().unwrap(),
            seconds.parse().unwrap(),
        );
    }
    let value_of = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let seconds = value_of("--seconds").unwrap_or("3".to_owned());
    let python = value_of("--python");
    let only = value_of("--only");
    let target = std::env::current_exe().unwrap();
    println!("| | processes | writes/s | p50 us | p99 us | longest us | least/most |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for count in [1, 2, 4, 8] {
        for engine in [
            "brasa",
            "brasa, exclusive",
            "brasa, never compacted",
            "SQLite",
            "LMDB",
            "redb",
            "diskcache",
        ] {
            if only
                .as_ref()
                .is_some_and(|only| !engine.starts_with(only.as_str()))
            {
                continue;
            }
            if engine == "brasa, exclusive" && count > 1
                || engine == "diskcache" && python.is_none()
            {
                continue;
            }
            let directory = tempfile::tempdir_in(target.parent().unwrap()).unwrap();
            let path = directory.path().join("file");
            // What is there before they begin is the same for each.
            let workers: Vec<_> = (0..count)
                .map(|number: u32| {
                    let mut command = match engine {
                        "diskcache" => {
                            let mut command = Command::new(python.as_ref().unwrap());
                            command.arg(concat!(
                                env!("CARGO_MANIFEST_DIR"),
                                "/src/diskcache_worker.py"
                            ));
                            command.arg(&path).arg(number.to_string()).arg(&seconds);
                            command
                        }
                        _ => {
                            let mut command = Command::new(&target);
                            command.arg("worker").arg(engine).arg(&path);
                            command.arg(number.to_string()).arg(&seconds);
                            command
                        }
                    };
                    let mut child = command
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap();
                    let mut output = BufReader::new(child.stdout.take().unwrap());
                    let mut ready = String::new();
                    output.read_line(&mut ready).unwrap();
                    (child, output)
                })
                .collect();
            let mut inputs: Vec<_> = workers
                .into_iter()
                .map(|(mut child, output)| (child.stdin.take().unwrap(), child, output))
                .collect();
            for (input, _, _) in &mut inputs {
                writeln!(input, "go").unwrap();
            }
            let mut all = Histogram::default();
            let mut counts = Vec::new();
            for (_, mut child, mut output) in inputs {
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                assert!(child.wait().unwrap().success(), "{engine} failed");
                let one = Histogram::parse(&line);
                counts.push(one.count());
                all.add(&one);
            }
            let rate = all.count() as f64 / seconds.parse::<f64>().unwrap();
            let least = *counts.iter().min().unwrap() as f64 / *counts.iter().max().unwrap() as f64;
            println!(
                "| {engine} | {count} | {rate:.0} | {:.1} | {:.1} | {:.0} | {least:.2} |",
                all.percentile(0.5),
                all.percentile(0.99),
                all.longest_ns as f64 / 1e3
            );
        }
    }
}

/// One process: says that it is ready, waits for the word, writes, and tells how long each write took.
fn work(engine: &str, path: &Path, number: u64, seconds: f64) {
    let mut write = open(engine, path);
    let mut random = number + 1;
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut histogram = Histogram::default();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let key = format!("{number}:{:014}", (random >> 33) % KEYS);
        let begun = Instant::now();
        write(key.as_bytes());
        histogram.note(begun.elapsed());
    }
    println!("{}", histogram.print());
}

type Write_ = Box<dyn FnMut(&[u8])>;

fn open(engine: &str, path: &Path) -> Write_ {
    match engine {
        "brasa" | "brasa, exclusive" | "brasa, never compacted" => {
            let options = brasa::Db::options().durability(brasa::Durability::Os);
            let options = options.lock_timeout(Duration::from_secs(60));
            let db = options
                .exclusive(engine == "brasa, exclusive")
                .auto_compact(engine != "brasa, never compacted")
                .open(path)
                .unwrap();
            Box::new(move |key| db.set(key, VALUE).unwrap())
        }
        "SQLite" => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            // Several that begin at once may find it busy here, whatever the timeout.
            while connection
                .pragma_update(None, "journal_mode", "wal")
                .is_err()
            {}
            connection
                .pragma_update(None, "synchronous", "off")
                .unwrap();
            let create = "create table if not exists t (k blob primary key, v blob) without rowid";
            while connection.execute(create, []).is_err() {}
            Box::new(move |key| {
                let mut put = connection
                    .prepare_cached("insert or replace into t values (?, ?)")
                    .unwrap();
                put.execute((key, &VALUE[..])).unwrap();
            })
        }
        "LMDB" => {
            let directory = path.with_extension("lmdb");
            std::fs::create_dir_all(&directory).unwrap();
            let mut options = heed::EnvOpenOptions::new();
            options.map_size(4 << 30);
            // SAFETY: each process opens it once; with these flags a kill is harmless.
            let env = unsafe {
                options.flags(heed::EnvFlags::NO_SYNC | heed::EnvFlags::WRITE_MAP);
                options.open(directory).unwrap()
            };
            let mut transaction = env.write_txn().unwrap();
            let db: heed::Database<heed::types::Bytes, heed::types::Bytes> =
                env.create_database(&mut transaction, None).unwrap();
            transaction.commit().unwrap();
            Box::new(move |key| {
                let mut transaction = env.write_txn().unwrap();
                db.put(&mut transaction, key, &VALUE).unwrap();
                transaction.commit().unwrap();
            })
        }
        "redb" => {
            const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("t");
            let mut builder = redb::Database::builder();
            builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
            let db = builder.create(path).unwrap();
            Box::new(move |key| {
                let transaction = db.begin_write().unwrap();
                transaction
                    .open_table(TABLE)
                    .unwrap()
                    .insert(key, &VALUE[..])
                    .unwrap();
                transaction.commit().unwrap();
            })
        }
        other => panic!("there is no {other}"),
    }
}

/// Times in steps of a sixteenth of a power of two.
struct Histogram {
    counts: Vec<u64>,
    longest_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; 64 * 16],
            longest_ns: 0,
        }
    }
}

impl Histogram {
    fn note(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap().max(16);
        let power = ns.ilog2();
        let part = (ns >> (power - 4)) & 15;
        self.counts[(power * 16) as usize + part as usize] += 1;
        self.longest_ns = self.longest_ns.max(ns);
    }

    fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In microseconds.
    fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.count() as f64 * share) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > wanted {
                let (power, part) = (index as u32 / 16, index as u64 % 16);
                return ((16 + part) << power.saturating_sub(4)) as f64 / 1e3;
            }
        }
        0.0
    }

    fn print(&self) -> String {
        let mut line = self.longest_ns.to_string();
        for (index, count) in self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            line += &format!(" {index}:{count}");
        }
        line
    }

    fn parse(line: &str) -> Histogram {
        let mut histogram = Histogram::default();
        let mut words = line.split_whitespace();
        histogram.longest_ns = words.next().unwrap().parse().unwrap();
        for word in words {
            let (index, count) = word.split_once(':').unwrap();
            histogram.counts[index.parse::<usize>().unwrap()] = count.parse().unwrap();
        }
        histogram
    }
}

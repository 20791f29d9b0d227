//! A cache in front of something that takes 200 ms: brasa's `Cache`, Python's diskcache with `memoize_stampede`, and the ten lines that
//! people write around SQLite.
//!
//! `cargo run --release --bin cache` in `benches/peers` (a minute; `--seconds N` for each run of hits, `--rounds N` of stampedes, `--python PATH` for an interpreter that has `diskcache`).
//! Hits: one process, and then 8 at once, each with one thread, ask for random ones of 10,000 keys with values of 100 bytes and an hour to live. Stampede: 8 processes with 8 threads each miss
//! the same key at once; again with another key in each round.
//!
//! Columns: hits a second of one process, and of 8 together; computations in each round, at least and at most, of 64 that ask; what those that did not compute waited, in
//! milliseconds.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use brasa::{Cache, Value};

const KEYS: u64 = 10_000;
const PROCESSES: usize = 8;
const THREADS: usize = 8;
const VALUE: [u8; 100] = [7; 100];
const HOUR: Duration = Duration::from_secs(3_600);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, engine, path, seconds] = arguments.as_slice()
        && word == "worker"
    {
        return work(engine, Path::new(path), seconds.parse().unwrap());
    }
    let value_of = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let seconds = value_of("--seconds").unwrap_or("3".to_owned());
    let rounds: usize = value_of("--rounds").map_or(10, |rounds| rounds.parse().unwrap());
    let python = value_of("--python");
    println!(
        "| | hits/s, 1 process | hits/s, 8 processes | computations of a stampede | waiting p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for engine in ["brasa", "SQLite", "diskcache"] {
        if engine == "diskcache" && python.is_none() {
            continue;
        }
        let target = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(target.parent().unwrap()).unwrap();
        let path = directory.path().join("file");
        let mut workers: Vec<Worker> = (0..PROCESSES)
            .map(|_| Worker::start(engine, &path, &seconds, python.as_deref()))
            .collect();
        workers[0].say(&format!("fill {KEYS}"));
        workers[0].hear();
        let rate = |workers: &mut [Worker]| {
            for worker in &mut *workers {
                worker.say(&format!("hits {KEYS}"));
            }
            let counts = workers
                .iter_mut()
                .map(|worker| worker.hear().parse::<u64>().unwrap());
            counts.sum::<u64>() as f64 / seconds.parse::<f64>().unwrap()
        };
        let alone = rate(&mut workers[..1]);
        let together = rate(&mut workers);
        let mut computations = Vec::new();
        let mut waits = Vec::new();
        for round in 0..rounds {
            for worker in &mut workers {
                worker.say(&format!("miss stampede-{round}"));
            }
            let told: Vec<String> = workers.iter_mut().map(Worker::hear).collect();
            let told = told.iter().flat_map(|line| line.split_whitespace());
            let mut computed = 0;
            for answer in told {
                let (what, micros) = answer.split_at(1);
                match what {
                    "c" => computed += 1,
                    _ => waits.push(micros.parse::<u64>().unwrap()),
                }
            }
            computations.push(computed);
        }
        waits.sort_unstable();
        let percentile = |share: f64| match waits.len() {
            0 => "-".to_owned(),
            len => {
                let at = ((len as f64 * share) as usize).min(len - 1);
                format!("{:.1}", waits[at] as f64 / 1e3)
            }
        };
        let (least, most) = (
            computations.iter().min().unwrap(),
            computations.iter().max().unwrap(),
        );
        let computations = match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        println!(
            "| {engine} | {alone:.0} | {together:.0} | {computations} | {} | {} |",
            percentile(0.5),
            percentile(0.99)
        );
    }
}

/// A process that does what it is told, line by line.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(engine: &str, path: &Path, seconds: &str, python: Option<&str>) -> Worker {
        let mut command = match (engine, python) {
            ("diskcache", Some(python)) => {
                let mut command = Command::new(python);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cache_worker.py"));
                command.arg(path).arg(THREADS.to_string()).arg(seconds);
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.arg("worker").arg(engine).arg(path).arg(seconds);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut worker = Worker {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(worker.hear(), "ready");
        worker
    }

    fn say(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks in the cache, else computes and stores.
type Ask = dyn Fn(&str, &dyn Fn() -> Vec<u8>) + Send + Sync;

fn work(engine: &str, path: &Path, seconds: f64) {
    let ask = open(engine, path);
    println!("ready");
    let mut random = u64::from(std::process::id());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (order, argument) = line.split_once(' ').unwrap();
        match order {
            "fill" => {
                for number in 0..argument.parse::<u64>().unwrap() {
                    ask(&format!("user:{number:011}"), &|| VALUE.to_vec());
                }
                println!("filled");
            }
            "hits" => {
                let (keys, mut count) = (argument.parse::<u64>().unwrap(), 0_u64);
                let end = Instant::now() + Duration::from_secs_f64(seconds);
                while Instant::now() < end {
                    for _ in 0..64 {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let key = format!("user:{:011}", (random >> 33) % keys);
                        ask(&key, &|| panic!("{key} is gone"));
                    }
                    count += 64;
                }
                println!("{count}");
            }
            _ => println!("{}", miss(&*ask, argument)),
        }
    }
}

/// All threads miss one key at once; gives back who computed and who waited, and for how many microseconds.
fn miss(ask: &Ask, key: &str) -> String {
    let (all, told) = (Barrier::new(THREADS), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let computed = Cell::new(false);
                all.wait();
                let begun = Instant::now();
                ask(key, &|| {
                    computed.set(true);
                    thread::sleep(Duration::from_millis(200));
                    VALUE.to_vec()
                });
                let what = if computed.get() { 'c' } else { 'w' };
                let micros = begun.elapsed().as_micros();
                told.lock().unwrap().push(format!("{what}{micros}"));
            });
        }
    });
    told.into_inner().unwrap().join(" ")
}

fn open(engine: &str, path: &Path) -> Box<Ask> {
    match engine {
        "brasa" => {
            let cache = Cache::options()
                .strict(true)
                .timeout(Duration::from_secs(60));
            let cache = cache.open(path).unwrap().ttl(HOUR);
            Box::new(move |key, compute| {
                let computed = || Ok::<_, std::convert::Infallible>(Value::from(compute()));
                let value = cache.get_or_insert_with(key, computed).unwrap();
                assert_eq!(value.len(), VALUE.len());
            })
        }
        "SQLite" => {
            let path = path.with_extension("sqlite");
            let create = "create table if not exists t (k text primary key, v blob, ends integer) without rowid";
            while sqlite(&path).execute(create, []).is_err() {}
            thread_local! {
                static CONNECTION: std::cell::OnceCell<rusqlite::Connection> = const { std::cell::OnceCell::new() };
            }
            Box::new(move |key, compute| {
                CONNECTION.with(|connection| {
                    let connection = connection.get_or_init(|| sqlite(&path));
                    let now = SystemTime::now()
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .unwrap();
                    let mut select = connection
                        .prepare_cached("select v from t where k = ? and ends > ?")
                        .unwrap();
                    let found: Result<Vec<u8>, _> =
                        select.query_row((key, now.as_millis() as i64), |row| row.get(0));
                    if let Ok(value) = found {
                        return assert_eq!(value.len(), VALUE.len());
                    }
                    let value = compute();
                    let mut insert = connection
                        .prepare_cached("insert or replace into t values (?, ?, ?)")
                        .unwrap();
                    let ends = (now + HOUR).as_millis() as i64;
                    insert.execute((key, &value[..], ends)).unwrap();
                })
            })
        }
        other => panic!("there is no {other}"),
    }
}

fn sqlite(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    while connection
        .pragma_update(None, "journal_mode", "wal")
        .is_err()
    {}
    connection
        .pragma_update(None, "synchronous", "off")
        .unwrap();
    connection
}

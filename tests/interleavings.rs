//! What several processes do to one file, in every order of their steps, and with a kill at every step.
//!
//! `cargo test --all-features --test interleavings -- --nocapture` prints how many orders were tried. `BRASA_INTERRUPTIONS=3` tries
//! more, for as long as it takes.
#![cfg(feature = "simulation")]

#[path = "interleavings/explorer.rs"]
mod explorer;
#[path = "support/spread.rs"]
mod spread;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::simulation::{Mutation, SimulatedDisk, with_mutation};
use brasa::{Db, Durability, Error, ManualClock, Options, inspect};
use explorer::{Bounds, Explorer, next_prefix};
use spread::spread;

const PATH: &str = "cache.brasa";

/// What a process does once it has the file open, and what it knows to have been done.
type Process = fn(&Db, &Known);

/// What was acknowledged to any process.
#[derive(Default)]
struct Known {
    /// How often a counter was counted up for sure, and how often perhaps.
    counted: AtomicU64,
    tried: AtomicU64,
    /// Keys that were set, each by one process and once.
    keys: Mutex<Vec<String>>,
    /// What a process saw that cannot be.
    wrong: Mutex<Vec<String>>,
}

struct Scenario {
    name: &'static str,
    processes: &'static [Process],
    /// Whether the handles are closed at the end, as a part of the scenario.
    closes: bool,
}

fn count(db: &Db, known: &Known) {
    for _ in 0..2 {
        known.tried.fetch_add(1, Ordering::Relaxed);
        match db.incr_by("counter", 1) {
            Ok(_) => _ = known.counted.fetch_add(1, Ordering::Relaxed),
            Err(error) => known.doubt(error),
        }
    }
}

fn set_keys(db: &Db, known: &Known) {
    // Every process has names of its own.
    let own = known.keys.lock().unwrap().len();
    for number in 0..2 {
        let key = format!("{own}:{number}:{:?}", std::thread::current().id());
        // More than a page, so that cutting it off would show.
        match db.set(&key, [7; 5_000]) {
            Ok(()) => known.keys.lock().unwrap().push(key),
            Err(error) => known.doubt(error),
        }
    }
}

fn write_batches(db: &Db, known: &Known) {
    for number in 0..2 {
        let written = db.batch(|b| {
            b.set("left", number.to_string());
            b.set("right", number.to_string());
        });
        if let Err(error) = written {
            known.doubt(error);
        }
    }
}

fn read_batches(db: &Db, known: &Known) {
    let mut last = None;
    for _ in 0..3 {
        // Reading is no operation on the disk; this is one, so that reads come at every moment.
        let _ = db.stats();
        match db.get_many(&["left", "right"]) {
            Ok(both) if both[0] != both[1] => known.say("half a batch"),
            Ok(both) if both[0].is_none() && last.is_some() => known.say("a batch is gone"),
            Ok(both) => last = both[0].clone().or(last),
            Err(error) => known.doubt(error),
        }
    }
}

/// The only field that is left was set after a compaction may have begun.
fn replace_field(db: &Db, known: &Known) {
    let replaced = db
        .hset("mortal", "new", "1")
        .and_then(|_| db.hdel("mortal", "old"));
    if let Err(error) = replaced {
        known.doubt(error);
    }
}

fn compact(db: &Db, known: &Known) {
    if let Err(error) = db.compact() {
        known.doubt(error);
    }
}

/// The second finds that its own index is not the newest checkpoint's any more, and reads the file once more.
fn write_checkpoints(db: &Db, known: &Known) {
    for _ in 0..2 {
        if let Err(error) = db.checkpoint() {
            known.doubt(error);
        }
    }
}

fn nothing(_: &Db, _: &Known) {}

impl Known {
    fn say(&self, what: impl Into<String>) {
        self.wrong.lock().unwrap().push(what.into());
    }

    /// An error is right for who was killed, and for nobody else.
    fn doubt(&self, error: Error) {
        let text = error.to_string();
        if !text.contains("the process was killed") {
            self.say(text);
        }
    }
}

const SCENARIOS: [Scenario; 13] = [
    Scenario {
        name: "two count",
        processes: &[count, count],
        closes: false,
    },
    Scenario {
        name: "a batch and a reader",
        processes: &[write_batches, read_batches],
        closes: false,
    },
    Scenario {
        name: "one compacts, one writes",
        processes: &[compact, set_keys],
        closes: false,
    },
    Scenario {
        name: "one compacts, one counts",
        processes: &[compact, count],
        closes: false,
    },
    Scenario {
        name: "one compacts, one replaces a field",
        processes: &[compact, replace_field],
        closes: false,
    },
    Scenario {
        name: "one compacts, one reads",
        processes: &[compact, read_batches],
        closes: false,
    },
    Scenario {
        name: "two compact",
        processes: &[compact, compact],
        closes: false,
    },
    Scenario {
        name: "one closes, one writes",
        processes: &[nothing, set_keys],
        closes: true,
    },
    Scenario {
        name: "two write and close",
        processes: &[count, set_keys],
        closes: true,
    },
    Scenario {
        name: "one writes checkpoints, one counts",
        processes: &[write_checkpoints, count],
        closes: false,
    },
    Scenario {
        name: "two write checkpoints and close",
        processes: &[write_checkpoints, write_checkpoints],
        closes: true,
    },
    Scenario {
        name: "one writes checkpoints, one compacts",
        processes: &[write_checkpoints, compact],
        closes: false,
    },
    Scenario {
        name: "one compacts, two count",
        processes: &[compact, count, count],
        closes: false,
    },
];

fn options() -> Options {
    Db::options()
        .durability(Durability::Os)
        .auto_compact(false)
        .mapping_step_bytes(4_096)
        // The real one would let the same choices lead elsewhere.
        .clock(ManualClock::new(1_700_000_000_000))
        // In real time, and long: nobody waits for it but where all wait for each other.
        .lock_timeout(Duration::from_secs(5))
}

/// Runs one order; gives back what is wrong, and the choices that there were.
fn run(
    scenario: &Scenario,
    bounds: Bounds,
    prefix: Vec<usize>,
    mutation: Option<Mutation>,
) -> (Vec<String>, Vec<explorer::Decision>) {
    let disk = SimulatedDisk::new(1);
    let db = options().open_on(&disk, PATH).unwrap();
    db.set("left", "before").unwrap();
    db.set("right", "before").unwrap();
    db.set("dead", "1").unwrap();
    db.del("dead").unwrap();
    db.hset("mortal", "old", "1").unwrap();
    db.expire("mortal", Duration::from_secs(3600)).unwrap();
    db.close().unwrap();
    let explorer = Explorer::new(&disk, scenario.processes.len(), bounds, prefix);
    let known = Arc::new(Known::default());
    // Opened one after another, by the threads that go on with them.
    let opening = Mutex::new(());
    let survivors: Vec<Option<Db>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(scenario.processes)
            .map(|(number, process)| {
                let (disk, known, explorer, opening) = (&disk, &known, &explorer, &opening);
                scope.spawn(move || {
                    let body = || {
                        let db = {
                            let _one = opening.lock().unwrap();
                            options().open_on(disk, PATH).unwrap()
                        };
                        explorer.begin(number);
                        process(&db, known);
                        let mut left = Some(db);
                        if scenario.closes
                            && let Err(error) = left.take().map_or(Ok(()), Db::close)
                        {
                            known.doubt(error);
                        }
                        if explorer.is_killed(number) {
                            // While it still counts as killed: dropping it must do nothing to the disk.
                            left = None;
                        }
                        explorer.end(number);
                        left
                    };
                    match mutation {
                        Some(mutation) => with_mutation(mutation, body),
                        None => body(),
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut wrong = known.wrong.lock().unwrap().clone();
    for db in survivors.iter().flatten() {
        wrong.extend(check(db, &known, "a handle that was there"));
    }
    disk.kill_all();
    match options().ignore_checkpoints(true).open_on(&disk, PATH) {
        Ok(db) => wrong.extend(check(&db, &known, "a handle that replays everything")),
        Err(error) => wrong.push(error.to_string()),
    }
    match options().open_on(&disk, PATH) {
        Ok(db) => {
            wrong.extend(check(&db, &known, "a handle opened later"));
            if let Err(error) = db.set("goes on", "1") {
                wrong.push(error.to_string());
            }
        }
        Err(error) => wrong.push(error.to_string()),
    }
    drop(survivors);
    let image = disk.killed_image(disk.operation_count());
    let bytes = image.file(PATH).unwrap_or_default();
    if !inspect::check_bytes(bytes).is_ok_and(|report| report.is_sound()) {
        wrong.push("the file is damaged".to_owned());
    }
    explorer.release();
    (wrong, explorer.decisions())
}

/// What a handle shows must hold all that was acknowledged, and no half of anything.
fn check(db: &Db, known: &Known, who: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let found = db
        .get("counter")
        .map(|value| value.map_or(0, |value| value.to_str().unwrap().parse::<u64>().unwrap()));
    let (counted, tried) = (
        known.counted.load(Ordering::Relaxed),
        known.tried.load(Ordering::Relaxed),
    );
    match found {
        Ok(found) if (counted..=tried).contains(&found) => {}
        Ok(found) => wrong.push(format!(
            "{who} counts {found}, and it was {counted} to {tried}"
        )),
        Err(error) => wrong.push(error.to_string()),
    }
    for key in known.keys.lock().unwrap().iter() {
        match db.exists(key) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{who} does not find {key}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    match db.deadline_ms("mortal") {
        Ok(Some(deadline_ms)) if deadline_ms > 0 => {}
        Ok(found) => wrong.push(format!("{who} finds a hash with the deadline {found:?}")),
        Err(error) => wrong.push(error.to_string()),
    }
    match db.get_many(&["left", "right"]) {
        Ok(both) if both[0] == both[1] && both[0].is_some() => {}
        Ok(both) => wrong.push(format!("{who} finds half a batch: {both:?}")),
        Err(error) => wrong.push(error.to_string()),
    }
    wrong
}

/// Tries every order within the bounds; gives back the first that is wrong, and how many there were.
fn explore(
    scenario: &Scenario,
    bounds: Bounds,
    mutation: Option<Mutation>,
) -> (u64, Option<String>) {
    let mut prefix = Vec::new();
    let mut orders = 0;
    loop {
        let (wrong, decisions) = run(scenario, bounds, prefix.clone(), mutation);
        orders += 1;
        if !wrong.is_empty() {
            return (
                orders,
                Some(format!("{wrong:?} with the choices {prefix:?}")),
            );
        }
        match next_prefix(&decisions) {
            Some(next) if orders < bounds.orders => prefix = next,
            _ => return (orders, None),
        }
    }
}

/// Finds nothing wrong in any scenario.
fn explore_all(bounds: impl Fn(&Scenario) -> Bounds + Sync) {
    let total = AtomicU64::new(0);
    spread(&SCENARIOS, |scenario| {
        let (orders, wrong) = explore(scenario, bounds(scenario), None);
        println!("{}: {orders} orders", scenario.name);
        assert_eq!(wrong, None, "{}", scenario.name);
        total.fetch_add(orders, Ordering::Relaxed);
    });
    println!("{} orders", total.into_inner());
}

fn interruptions() -> usize {
    std::env::var("BRASA_INTERRUPTIONS").map_or(2, |text| text.parse().unwrap())
}

#[test]
fn every_order_of_steps_keeps_what_was_acknowledged() {
    explore_all(|scenario| Bounds {
        // Three processes have many times as many orders.
        interruptions: interruptions() - scenario.processes.len().saturating_sub(2),
        kills: 0,
        orders: u64::MAX,
    });
}

#[test]
fn a_kill_at_every_step_loses_nothing_that_was_acknowledged() {
    explore_all(|_| Bounds {
        interruptions: interruptions() - 1,
        kills: 1,
        orders: u64::MAX,
    });
}

#[test]
fn each_way_to_get_sharing_wrong_is_noticed() {
    spread(&Mutation::OF_SHARING, |mutation| {
        let bounds = Bounds {
            interruptions: 2,
            kills: 0,
            orders: 20_000,
        };
        let found = SCENARIOS.iter().find_map(|scenario| {
            Some((scenario.name, explore(scenario, bounds, Some(*mutation)).1?))
        });
        let (name, wrong) = found.unwrap_or_else(|| panic!("{mutation:?} was not noticed"));
        println!(
            "{mutation:?}, {name}: {}",
            wrong.chars().take(160).collect::<String>()
        );
    });
}

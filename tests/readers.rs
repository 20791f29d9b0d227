//! Threads of one handle that read while another writes, compacts or takes a checkpoint: before each operation on the disk everything is
//! read, through the writer's own handle and through another one, and is what it was before or what it is after. And the position that a watch
//! has then is one that can be gone on from.
#![cfg(feature = "simulation")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::simulation::{Schedule, SimulatedDisk, Step};
use brasa::{ChangeKind, Db, Durability, Options, Watch};
use support::SplitMix;
use support::contents::{Contents, contents};

const PATH: &str = "cache.brasa";
const STEPS: usize = 60;

struct Readers {
    db: Db,
    others: Db,
    state: Mutex<State>,
}

struct State {
    watches: [Watch; 2],
    /// What the writer's handle and the other one have shown since the step began, each only once in a row.
    seen: [Vec<Contents>; 2],
    /// Where the watches stood since then.
    positions: Vec<u64>,
}

impl State {
    fn forget(&mut self) {
        self.seen.iter_mut().for_each(Vec::clear);
        self.positions.clear();
    }
}

impl Schedule for Readers {
    fn step(&self, _: Step) -> io::Result<()> {
        // What reading does to the disk goes on.
        let Ok(mut state) = self.state.try_lock() else {
            return Ok(());
        };
        let state = &mut *state;
        for (db, seen) in [&self.db, &self.others].into_iter().zip(&mut state.seen) {
            let now = contents(db);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        for watch in &mut state.watches {
            let mut changes = watch.by_ref().map(Result::unwrap);
            assert!(changes.all(|change| change.kind != ChangeKind::Gap));
            drop(changes);
            state.positions.push(Watch::position(watch));
        }
        Ok(())
    }
}

fn options() -> Options {
    Db::options()
        .durability(Durability::Os)
        .auto_compact(false)
        .mapping_step_bytes(4_096)
}

fn act(db: &Db, random: &mut SplitMix) {
    let key = format!("key {}", random.below(6));
    let value = vec![b'v'; random.below(3_000)];
    match random.below(12) {
        0..4 => db.set(&key, value).unwrap(),
        4 | 5 => {
            let hash = format!("hash {}", random.below(2));
            let field = format!("field {}", random.below(9));
            db.hset(hash, field, value).unwrap();
        }
        6 => {
            db.del(&key).unwrap();
        }
        7 => {
            db.expire(&key, Duration::from_secs(1_000)).unwrap();
        }
        8 => db
            .transaction(|tx| {
                tx.set("one", &value)?;
                tx.set("other", &value)
            })
            .unwrap(),
        9 => db.sync().unwrap(),
        10 => db.checkpoint().unwrap(),
        _ => {
            db.compact().unwrap();
        }
    }
}

fn run(seed: u64) -> usize {
    let disk = SimulatedDisk::new(seed);
    let db = options().open_on(&disk, PATH).unwrap();
    let others = options().open_on(&disk, PATH).unwrap();
    let watches = [&db, &others].map(|db| db.watch().unwrap());
    let readers = Arc::new(Readers {
        db: db.clone(),
        others,
        state: Mutex::new(State {
            watches,
            seen: [Vec::new(), Vec::new()],
            positions: Vec::new(),
        }),
    });
    disk.schedule(Arc::clone(&readers) as Arc<dyn Schedule>);
    let mut random = SplitMix(seed);
    let mut looks = 0;
    for step in 0..STEPS {
        let before = contents(&db);
        readers.state.lock().unwrap().forget();
        act(&db, &mut random);
        let after = contents(&db);
        let mut state = readers.state.lock().unwrap();
        for seen in &state.seen {
            looks += seen.len();
            let allowed = [vec![], vec![&before], vec![&after], vec![&before, &after]];
            let shown: Vec<&Contents> = seen.iter().collect();
            assert!(
                allowed.contains(&shown),
                "seed {seed}, step {step}: between {before:?} and {after:?} there was {seen:?}"
            );
        }
        let positions = std::mem::take(&mut state.positions);
        drop(state);
        db.set("mark", "1").unwrap();
        for position in positions {
            let mut changes = db.watch_from(position).unwrap().map(Result::unwrap);
            let last = changes.by_ref().last().expect("the mark was missed");
            assert_eq!(last.key, b"mark", "seed {seed}, step {step}");
            let mut changes = db.watch_from(position).unwrap().map(Result::unwrap);
            let is_whole = changes.all(|change| change.kind != ChangeKind::Gap);
            assert!(is_whole, "seed {seed}, step {step}: {position} is no more");
        }
    }
    looks
}

#[test]
fn what_is_read_in_the_middle_is_what_was_there_before_or_after() {
    for seed in 0..200 {
        assert!(run(seed) > 2 * STEPS, "seed {seed}: nobody has looked");
    }
}

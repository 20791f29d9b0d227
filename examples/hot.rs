//! One operation again and again, for a profiler: `hot set|get|hget|hit COUNT`.
//!
//! The instructions of one call are the difference of two runs with counts that differ, through their difference: nothing but the calls
//! differs then.
//!
//! ```text
//! cargo build --release --example hot
//! for count in 100000 200000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/hot get $count 2>&1 | grep Collected
//! done
//! ```

use std::hint::black_box;

use brasa::{Cache, Db, Durability, Value};

const KEYS: usize = 10_000;
const FIELDS: usize = 1_000;
const VALUE: [u8; 100] = [b'v'; 100];

/// Every key in an order that no cache foresees: a step that has no factor in common with their number.
fn key(number: usize) -> String {
    format!("key:{:012}", number * 7_919 % KEYS)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, count] = &words[..] else {
        return Err("usage: hot set|get|hget|hit COUNT".into());
    };
    let count: usize = count.parse()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("hot.brasa");
    let options = Db::options().durability(Durability::Os).exclusive(true);
    let db = options.auto_compact(false).open(&path)?;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let fields: Vec<String> = (0..FIELDS)
        .map(|number| format!("field:{number:06}"))
        .collect();
    for key in &keys {
        db.set(key, VALUE)?;
    }
    for field in &fields {
        db.hset("hash", field, VALUE)?;
    }
    let calls = 0..count;
    match what.as_str() {
        "set" => calls
            .into_iter()
            .try_for_each(|call| db.set(&keys[call % KEYS], VALUE))?,
        "get" => {
            for call in calls {
                black_box(db.get(&keys[call % KEYS])?);
            }
        }
        "hget" => {
            for call in calls {
                black_box(db.hget("hash", &fields[call % FIELDS])?);
            }
        }
        "hit" => {
            let cache = Cache::options().over_db(db)?;
            for key in &keys {
                cache.insert(key, &VALUE.to_vec())?;
            }
            for call in calls {
                let found =
                    cache.get_or_insert_with(&keys[call % KEYS], || Err::<Value, _>("it is there"));
                black_box(found?);
            }
        }
        _ => return Err(format!("{what}: set, get, hget or hit").into()),
    }
    Ok(())
}

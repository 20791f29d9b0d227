//! Measures brasa's own parts, one by one: `cargo bench [-- NAME]` in this folder, a minute in all.
//!
//! Unless a benchmark says otherwise it works on 100,000 keys of 16 bytes with values of 100 bytes,
//! which about fills the caches of a CPU. Peers, and a million keys and more, are in
//! `benches/peers`.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use brasa::{Db, Durability, Options};
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

const COUNT: usize = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];

fn main() {
    divan::main();
}

fn options() -> Options {
    Db::options()
        .durability(Durability::Os)
        .exclusive(true)
        .auto_compact(false)
        .checkpoint_after(u64::MAX)
}

/// Keys in an order that no prefetching foresees; the same each time.
fn keys() -> &'static [[u8; 16]] {
    static KEYS: OnceLock<Vec<[u8; 16]>> = OnceLock::new();
    KEYS.get_or_init(|| {
        // A step that is prime to their number comes to each.
        let numbers = (0..COUNT).map(|index| index * 61_803 % COUNT);
        let key = |number: usize| format!("key:{number:012}").into_bytes().try_into();
        numbers.map(|number| key(number).unwrap()).collect()
    })
}

/// The next key, each time.
fn next() -> &'static [u8; 16] {
    static AT: AtomicUsize = AtomicUsize::new(0);
    &keys()[AT.fetch_add(1, Ordering::Relaxed) % COUNT]
}

/// A file of its own, that goes with it.
struct File {
    _directory: TempDir,
    path: PathBuf,
}

fn file() -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    File {
        _directory: directory,
        path,
    }
}

fn filled(options: Options) -> (File, Db) {
    let file = file();
    let db = options.open(&file.path).unwrap();
    for key in keys() {
        db.set(key, VALUE).unwrap();
    }
    (file, db)
}

/// Setting a string that is there.
#[divan::bench_group(sample_size = 10_000, sample_count = 30)]
mod append {
    use super::*;

    #[divan::bench]
    fn mapped(bencher: Bencher<'_, '_>) {
        let (_file, db) = filled(options());
        bencher.bench_local(|| db.set(next(), VALUE).unwrap());
    }

    #[divan::bench]
    fn pwrite(bencher: Bencher<'_, '_>) {
        let (_file, db) = filled(options().mapped_append(false));
        bencher.bench_local(|| db.set(next(), VALUE).unwrap());
    }

    /// With a lock between processes that is kept while the handle is busy.
    #[divan::bench]
    fn shared(bencher: Bencher<'_, '_>) {
        let (_file, db) = filled(options().exclusive(false));
        bencher.bench_local(|| db.set(next(), VALUE).unwrap());
    }

    /// Encoding, checksums and the index, without a file.
    #[divan::bench]
    fn in_memory(bencher: Bencher<'_, '_>) {
        let db = options().open_in_memory().unwrap();
        bencher.bench_local(|| db.set(next(), VALUE).unwrap());
    }
}

/// Bulk loading: a thousand new strings in one commit.
#[divan::bench(sample_size = 10, sample_count = 10)]
fn batch_of_1_000(bencher: Bencher<'_, '_>) {
    let file = file();
    let db = options().open(&file.path).unwrap();
    let mut number = 0_u64;
    bencher
        .counter(ItemsCount::new(1_000_usize))
        .bench_local(|| {
            db.batch(|batch| {
                for _ in 0..1_000 {
                    number += 1;
                    batch.set(number.to_le_bytes(), VALUE);
                }
            })
            .unwrap();
        });
}

#[divan::bench_group(sample_size = 10_000, sample_count = 30)]
mod lookup {
    use super::*;

    #[divan::bench]
    fn hit(bencher: Bencher<'_, '_>) {
        let (_file, db) = filled(options());
        bencher.bench_local(|| black_box(db.get(next()).unwrap().unwrap().len()));
    }

    #[divan::bench]
    fn miss(bencher: Bencher<'_, '_>) {
        let (_file, db) = filled(options());
        bencher.bench_local(|| db.get(&next()[1..]).unwrap().is_none());
    }

    #[divan::bench]
    fn field(bencher: Bencher<'_, '_>) {
        let file = file();
        let db = options().open(&file.path).unwrap();
        for key in keys() {
            db.hset("hash", key, VALUE).unwrap();
        }
        bencher.bench_local(|| black_box(db.hget("hash", next()).unwrap().unwrap().len()));
    }

    /// In a file that was just opened: through the checkpoint, which is checked where it is touched for the first time.
    #[divan::bench]
    fn hit_by_checkpoint(bencher: Bencher<'_, '_>) {
        let (file, db) = filled(options());
        db.checkpoint().unwrap();
        drop(db);
        let db = options().open(&file.path).unwrap();
        bencher.bench_local(|| black_box(db.get(next()).unwrap().unwrap().len()));
    }
}

/// All keys, by pages.
#[divan::bench(sample_size = 1, sample_count = 20)]
fn scan(bencher: Bencher<'_, '_>) {
    let (_file, db) = filled(options());
    bencher
        .counter(ItemsCount::new(COUNT))
        .bench_local(|| assert_eq!(db.keys().count(), COUNT));
}

#[divan::bench_group(sample_size = 1, sample_count = 20)]
mod open {
    use super::*;

    #[divan::bench]
    fn by_replay(bencher: Bencher<'_, '_>) {
        let (file, db) = filled(options());
        drop(db);
        bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
            let db = options().open(&file.path).unwrap();
            assert_eq!(db.recovery().record_count, COUNT as u64);
        });
    }

    #[divan::bench]
    fn by_checkpoint(bencher: Bencher<'_, '_>) {
        let (file, db) = filled(options());
        db.checkpoint().unwrap();
        drop(db);
        bencher.bench_local(|| {
            let db = options().open(&file.path).unwrap();
            assert_eq!(db.recovery().record_count, 0);
        });
    }
}

/// Writing the index of all keys into the log, and syncing it.
#[divan::bench(sample_size = 1, sample_count = 10)]
fn checkpoint(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| filled(options()))
        .bench_local_refs(|(_file, db)| db.checkpoint().unwrap());
}

/// Rewriting a file of which half is dead, and syncing it.
#[divan::bench(sample_size = 1, sample_count = 10)]
fn compaction(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| {
            let (file, db) = filled(options());
            for key in keys() {
                db.set(key, VALUE).unwrap();
            }
            (file, db)
        })
        .bench_local_refs(|(_file, db)| {
            let report = db.compact().unwrap();
            assert!(report.after_bytes < report.before_bytes * 6 / 10);
        });
}

/// Writes that are on the device when they return: threads share one sync.
#[divan::bench(threads = [1, 2, 8], sample_size = 20, sample_count = 20)]
fn group_commit(bencher: Bencher<'_, '_>) {
    let file = file();
    let db = options()
        .durability(Durability::Always)
        .open(&file.path)
        .unwrap();
    bencher
        .counter(ItemsCount::new(1_usize))
        .bench(|| db.set(next(), VALUE).unwrap());
}

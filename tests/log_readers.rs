//! Readers of the log verify each record before they hand it out, and pass over damaged pages of checkpoints: watch, eviction,
//! backup, compaction and inspection, on files whose checkpoint spares them the replay.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use brasa::{Change, ChangeKind, Db, Durability, Error, Options, SetOptions, inspect};
use support::format::{LOG_START, Log, kind};
use support::scratch_directory;

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

/// Writes a file whose checkpoint covers records of every kind of key; returns its bytes, and the position of the first record.
fn file_with_checkpoint(path: &Path) -> (Vec<u8>, u64) {
    let db = options().open(path).unwrap();
    let position = db.watch().unwrap().position();
    db.set("plain", "value").unwrap();
    let ttl = SetOptions::new().ttl(Duration::from_secs(86_400));
    db.set_with("dated", "value", ttl).unwrap();
    db.hset("hash", "field", "value").unwrap();
    db.expire("hash", Duration::from_secs(86_400)).unwrap();
    db.batch(|batch| {
        batch.set("first of two", "1").set("second of two", "2");
    })
    .unwrap();
    db.set("gone", "value").unwrap();
    db.del("gone").unwrap();
    db.set("last", "value").unwrap();
    db.checkpoint().unwrap();
    db.close().unwrap();
    (fs::read(path).unwrap(), position)
}

/// The changes up to the first error, and that error.
fn watched(db: &Db, position: u64) -> (Vec<Change>, Option<Error>) {
    let mut seen = Vec::new();
    for change in db.watch_from(position).unwrap() {
        match change {
            Ok(change) => seen.push(change),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

/// Where a `Corrupt` says that the damage is.
fn damaged_at(error: &Error) -> u64 {
    match error {
        Error::Corrupt { offset, .. } => *offset,
        other => panic!("{other:?}"),
    }
}

/// Start and length of each record of data.
fn data_records(file: &[u8]) -> Vec<(usize, usize)> {
    let log = Log::read(file);
    let records = log.records();
    records
        .filter(|found| found.kind < kind::PAGE)
        .map(|found| (found.start, found.end - found.start))
        .collect()
}

#[test]
fn watch_from_reports_every_flipped_bit_below_the_checkpoint() {
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let (file, position) = file_with_checkpoint(&path);
    let db = options().open(&path).unwrap();
    assert_eq!(db.recovery().record_count, 0, "nothing is replayed");
    let (expected, error) = watched(&db, position);
    assert!(error.is_none());
    db.close().unwrap();
    let records = data_records(&file);
    assert_eq!(expected.len(), records.len());
    for verify_on_read in [false, true] {
        for (number, (start, size)) in records.iter().enumerate() {
            for bit in 0..size * 8 {
                let mut damaged = file.clone();
                damaged[start + bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &damaged).unwrap();
                let options = options().verify_on_read(verify_on_read).read_only(true);
                let db = options.open(&path).unwrap();
                let (seen, error) = watched(&db, position);
                assert_eq!(seen, expected[..number], "bit {bit} of record {number}");
                let error = error.expect("the damage is reported");
                assert_eq!(damaged_at(&error), *start as u64, "{error}");
            }
        }
    }
}

#[test]
fn watch_from_a_damaged_record_reports_a_gap_and_then_the_damage() {
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let (mut file, position) = file_with_checkpoint(&path);
    let records = data_records(&file);
    let (third, _) = records[2];
    let third_position = position + (third - records[0].0) as u64;
    file[third + 33] ^= 1;
    fs::write(&path, &file).unwrap();
    let db = options().open(&path).unwrap();
    let (seen, error) = watched(&db, third_position);
    let kinds: Vec<_> = seen.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Gap, ChangeKind::Set, ChangeKind::Set]);
    assert_eq!(damaged_at(&error.unwrap()), third as u64);
}

#[test]
fn with_verify_on_read_a_watch_reports_a_replayed_record_that_rots_later() {
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let db = options().verify_on_read(true).open(&path).unwrap();
    let position = db.watch().unwrap().position();
    db.set("key", "value").unwrap();
    let file = fs::read(&path).unwrap();
    let (start, _) = data_records(&file)[0];
    flip_in_place(&path, start + 33);
    let (seen, error) = watched(&db, position);
    assert_eq!(seen, []);
    assert_eq!(damaged_at(&error.unwrap()), start as u64);
    let listed = db.keys().collect::<brasa::Result<Vec<_>>>();
    assert_eq!(damaged_at(&listed.unwrap_err()), start as u64);
}

/// Flips a bit in the file that others have mapped.
fn flip_in_place(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

#[test]
fn backup_compaction_and_inspection_report_a_flipped_bit_below_the_checkpoint() {
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let (file, _) = file_with_checkpoint(&path);
    for (number, (start, size)) in data_records(&file).into_iter().enumerate() {
        // Length, kind, key length, checksum, previous, database, deadline, key, and the last byte.
        for at in [0, 4, 6, 8, 12, 22, 24, 32, size - 1] {
            let mut damaged = file.clone();
            damaged[start + at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let what = format!("byte {at} of record {number}");
            let db = options().open(&path).unwrap();
            let target = directory.path().join("backup.brasa");
            let refused = db.backup(&target).expect_err(&what);
            assert_eq!(damaged_at(&refused), start as u64, "{what}");
            let said = refused.to_string();
            assert!(
                said.contains("cache.brasa"),
                "the source is damaged: {said}"
            );
            assert!(!target.exists(), "{what}");
            let refused = db.compact().expect_err(&what);
            assert_eq!(damaged_at(&refused), start as u64, "{what}");
            drop(db);
            assert!(
                fs::read(&path).unwrap()[LOG_START..] == damaged[LOG_START..],
                "{what}"
            );
            let last = inspect::records(&path).unwrap().last().unwrap();
            assert_eq!(damaged_at(&last.expect_err(&what)), start as u64, "{what}");
            let report = inspect::check(&path, |_, _| {}).unwrap();
            assert_eq!(report.damaged[0].damage_offset, start as u64, "{what}");
        }
    }
}

#[test]
fn eviction_never_acts_on_a_damaged_record() {
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let (file, _) = file_with_checkpoint(&path);
    for (number, (start, size)) in data_records(&file).into_iter().enumerate() {
        for bit in (0..size * 8).step_by(5) {
            let mut damaged = file.clone();
            damaged[start + bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            let what = format!("bit {bit} of record {number}");
            let db = options().max_bytes(200).open(&path).unwrap();
            let refused = db.set("new", [0; 120]).expect_err(&what);
            assert_eq!(damaged_at(&refused), start as u64, "{what}");
            assert_eq!(db.stats().unwrap().evicted_keys, 0, "{what}");
            drop(db);
            assert!(
                fs::read(&path).unwrap()[LOG_START..file.len()] == damaged[LOG_START..],
                "{what}"
            );
        }
    }
}

#[test]
fn readers_of_the_log_pass_over_a_damaged_page() {
    /// So many that their entries take pages of their own.
    const KEYS: usize = 20_000;
    let directory = scratch_directory();
    let path = directory.path().join("cache.brasa");
    let db = options().open(&path).unwrap();
    let position = db.watch().unwrap().position();
    db.batch(|batch| {
        for number in 0..KEYS {
            batch.set(format!("before:{number}"), "value");
        }
    })
    .unwrap();
    db.checkpoint().unwrap();
    for number in 0..10 {
        db.set(format!("behind:{number}"), "value").unwrap();
    }
    db.close().unwrap();
    let file = fs::read(&path).unwrap();
    let log = Log::read(&file);
    let pages: Vec<_> = log
        .records()
        .filter(|found| matches!(found.kind, kind::PAGE | kind::CHECKPOINT))
        .map(|found| (found.start, found.end - found.start))
        .collect();
    assert!(pages.len() > 2);
    // The first page, one in the middle, and the closing record.
    for (start, size) in [pages[0], pages[pages.len() / 2], pages[pages.len() - 1]] {
        let mut damaged = file.clone();
        damaged[start + size - 9] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let report = inspect::check(&path, |_, _| {}).unwrap();
        assert!(report.is_sound());
        let named: Vec<_> = report
            .damaged_pages
            .iter()
            .map(|page| page.offset)
            .collect();
        assert_eq!(named, [start as u64]);
        assert_eq!(report.damaged_pages[0].bytes, size as u64);
        let records = inspect::records(&path).unwrap().map(Result::unwrap);
        assert_eq!(
            records.filter(|record| record.kind == "set").count(),
            KEYS + 10
        );
        for verify_on_read in [false, true] {
            let options = options().verify_on_read(verify_on_read);
            let db = options.read_only(true).open(&path).unwrap();
            let (seen, error) = watched(&db, position);
            assert_eq!(
                (seen.len(), error.map(|error| error.to_string())),
                (KEYS + 10, None)
            );
            let behind = position + (start - data_records(&file)[0].0) as u64;
            let (seen, error) = watched(&db, behind);
            assert_eq!(
                (seen.len(), error.map(|error| error.to_string())),
                (10, None)
            );
        }
        let db = options().open(&path).unwrap();
        let target = directory.path().join("backup.brasa");
        db.backup(&target).unwrap();
        assert_eq!(Db::open(&target).unwrap().len().unwrap(), KEYS as u64 + 10);
        fs::remove_file(&target).unwrap();
        drop(db);
        for repair in [|db: &Db| db.checkpoint(), |db: &Db| db.compact().map(drop)] {
            fs::write(&path, &damaged).unwrap();
            let db = options().open(&path).unwrap();
            repair(&db).unwrap();
            assert_eq!(db.len().unwrap(), KEYS as u64 + 10);
        }
    }
}

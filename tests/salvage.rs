//! Damage of every kind to a small file, and what a repair saves of it.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges of damaged bytes, often of one"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brasa::inspect::{self, LogEnd, RepairOptions, RepairReport, repair, salvage_bytes};
use brasa::{Db, Durability, Error, KeyType};

const LOG_START: usize = 12_288;

/// A commit: what one call to the database writes.
type Operation = fn(&Db);

/// Keys are written more than once, so that older values can be seen to come back.
const OPERATIONS: [Operation; 9] = [
    |db| db.set("chave_1", "first").unwrap(),
    |db| db.set("chave_2", vec![b'x'; 100]).unwrap(),
    |db| {
        db.batch(|batch| {
            batch.set("batch_1", "a");
            batch.set("chave_1", "in the batch");
            batch.hset("meu_hash", "nome", "thailan");
            batch.set("batch_2", "b");
        })
        .unwrap();
    },
    |db| {
        db.hset("meu_hash", "idade", "29").unwrap();
    },
    |db| {
        db.del("chave_2").unwrap();
    },
    |db| {
        db.batch(|batch| {
            batch.set("batch_1", "again");
            batch.set("", "the empty key");
        })
        .unwrap();
    },
    |db| {
        let later = brasa::SetOptions::new().deadline_ms(4_102_444_800_000);
        db.set_with("later", "x", later).unwrap();
    },
    |db| db.set("chave_1", "last").unwrap(),
    |db| db.set("chave_3", "three").unwrap(),
];

/// A sound file with these operations, and where each of its commits begins and ends.
struct Sample {
    bytes: Vec<u8>,
    commits: Vec<(usize, usize)>,
}

fn sample() -> Sample {
    sample_of(&OPERATIONS)
}

fn sample_of(operations: &[Operation]) -> Sample {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let db = Db::open(&path).unwrap();
    for operation in operations {
        operation(&db);
    }
    db.close().unwrap();
    let mut commits = Vec::new();
    let mut start = LOG_START;
    for record in inspect::records(&path).unwrap() {
        let record = record.unwrap();
        if !record.more {
            let end = usize::try_from(record.offset + record.size_bytes).unwrap();
            commits.push((start, end));
            start = end;
        }
    }
    assert_eq!(commits.len(), operations.len());
    Sample {
        bytes: std::fs::read(&path).unwrap(),
        commits,
    }
}

impl Sample {
    /// Which commits have none of these bytes.
    fn whole_without(&self, damaged: &[std::ops::Range<usize>]) -> Vec<usize> {
        (0..self.commits.len())
            .filter(|number| {
                let (start, end) = self.commits[*number];
                damaged
                    .iter()
                    .all(|range| range.end <= start || range.start >= end)
            })
            .collect()
    }
}

/// Everything in a database: strings, fields, deadlines.
type Contents = BTreeMap<(Vec<u8>, Vec<u8>), (Vec<u8>, Option<u64>)>;

fn contents(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for key in db.keys() {
        let key = key.unwrap();
        let deadline_ms = db.deadline_ms(&key).unwrap();
        match db.key_type(&key).unwrap().unwrap() {
            KeyType::Hash => {
                for (field, value) in db.hgetall(&key).unwrap() {
                    let name = (key.to_vec(), field.to_vec());
                    contents.insert(name, (value.to_vec(), deadline_ms));
                }
            }
            _ => {
                let value = db.get(&key).unwrap().unwrap();
                contents.insert((key.to_vec(), Vec::new()), (value.to_vec(), deadline_ms));
            }
        }
    }
    contents
}

/// What is there when only these of the operations happened.
fn contents_after(operations: &[Operation], kept: &[usize]) -> Contents {
    let db = Db::in_memory().unwrap();
    for number in kept {
        operations[*number](&db);
    }
    contents(&db)
}

fn contents_of(bytes: &[u8]) -> Contents {
    thread_local! {
        // Thousands of directories would take longer than the rest of the test.
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    DIRECTORY.with(|directory| {
        let path = directory.path().join("file");
        // A file that is cut and written again is flushed by ext4 when it is closed.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        contents(&Db::options().read_only(true).open(&path).unwrap())
    })
}

/// Repairs, and asserts that exactly these commits were kept; gives back the report.
#[track_caller]
fn assert_keeps(damaged: &[u8], kept: &[usize], what: &str) -> RepairReport {
    let (report, salvaged) =
        salvage_bytes(damaged).unwrap_or_else(|error| panic!("{what}: {error}"));
    let salvaged = salvaged.unwrap_or_else(|| panic!("{what}: nothing was done"));
    let checked = inspect::check_bytes(&salvaged).unwrap();
    assert!(
        checked.is_sound() && matches!(checked.end, LogEnd::Clean),
        "{what}: {checked:?}"
    );
    assert_eq!(checked.commit_count, report.kept_commit_count, "{what}");
    assert_eq!(
        report.kept_commit_count,
        kept.len() as u64,
        "{what}: {report:#?}"
    );
    assert_eq!(
        checked.synced_upto - LOG_START as u64,
        report.kept_bytes,
        "{what}"
    );
    assert!(!report.damaged.is_empty(), "{what}");
    let expected = contents_after(&OPERATIONS, kept);
    assert_eq!(contents_of(&salvaged), expected, "{what}");
    report
}

#[test]
fn a_sound_file_is_left_alone() {
    let sample = sample();
    let (report, salvaged) = salvage_bytes(&sample.bytes).unwrap();
    assert!(report.nothing_to_do());
    assert_eq!(report.output, None);
    assert!(salvaged.is_none());
    assert!(inspect::check_bytes(&sample.bytes).unwrap().is_sound());
}

/// The damaged commit is lost whole, and nothing else.
#[test]
fn every_flipped_bit_of_the_log_costs_its_own_commit_alone() {
    let sample = sample();
    let end = sample.commits.last().unwrap().1;
    for bit in LOG_START * 8..end * 8 {
        let at = bit / 8;
        let mut damaged = sample.bytes.clone();
        damaged[at] ^= 1 << (bit % 8);
        let kept = sample.whole_without(&[at..at + 1]);
        let report = assert_keeps(&damaged, &kept, &format!("bit {} of byte {at}", bit % 8));
        let [range] = report.damaged.as_slice() else {
            panic!("{:#?}", report.damaged);
        };
        let lost = sample.commits.iter().find(|(_, end)| at < *end).unwrap();
        assert_eq!(range.offset, lost.0 as u64);
        assert_eq!(range.bytes, (lost.1 - lost.0) as u64);
    }
}

#[test]
fn every_byte_of_the_log_that_becomes_another_costs_its_own_commit_alone() {
    let sample = sample();
    let end = sample.commits.last().unwrap().1;
    for at in LOG_START..end {
        for byte in [0, 1, 0xff, sample.bytes[at].wrapping_add(1)] {
            if sample.bytes[at] == byte {
                continue;
            }
            let mut damaged = sample.bytes.clone();
            damaged[at] = byte;
            let kept = sample.whole_without(&[at..at + 1]);
            assert_keeps(&damaged, &kept, &format!("byte {at} becomes {byte}"));
        }
    }
}

#[test]
fn a_file_that_was_cut_keeps_what_is_whole() {
    let sample = sample();
    let end = sample.commits.last().unwrap().1;
    for len in LOG_START..end {
        let kept = sample.whole_without(&[len..end]);
        let damaged = &sample.bytes[..len];
        if kept.is_empty() {
            assert!(matches!(salvage_bytes(damaged), Err(Error::Corrupt { .. })));
        } else {
            let report = assert_keeps(damaged, &kept, &format!("cut to {len}"));
            let lost_from = sample.commits[kept.len()].0;
            assert_eq!(report.lost_bytes(), (end - lost_from) as u64);
        }
    }
    for len in [0, 1, 4095, 4096, 8192, LOG_START - 1] {
        assert!(salvage_bytes(&sample.bytes[..len]).is_err(), "cut to {len}");
    }
}

/// Where words are wiped, it cannot always be told whether the next record begins a commit.
#[test]
fn a_wiped_stretch_costs_what_it_touches_and_at_most_the_next_commit() {
    let sample = sample();
    let end = sample.commits.last().unwrap().1;
    for width in [8, 16, 64, 120] {
        for start in (LOG_START..end).step_by(8) {
            for byte in [0, 0xa5] {
                let wiped = start..(start + width).min(end);
                let mut damaged = sample.bytes.clone();
                damaged[wiped.clone()].fill(byte);
                let what = format!("{wiped:?} become {byte}");
                if damaged == sample.bytes {
                    continue;
                }
                let mut kept = sample.whole_without(&[wiped]);
                let (report, _) = salvage_bytes(&damaged).unwrap();
                if report.kept_commit_count + 1 == kept.len() as u64 {
                    let first_lost = (0..)
                        .find(|number| kept.get(*number) != Some(number))
                        .unwrap();
                    kept.remove(first_lost);
                }
                assert_keeps(&damaged, &kept, &what);
            }
        }
    }
}

#[test]
fn several_damaged_places_are_named_one_by_one() {
    let sample = sample();
    let mut damaged = sample.bytes.clone();
    let places = [1, 3, 7].map(|number| sample.commits[number].0 + 40);
    for at in places {
        damaged[at] ^= 0x10;
    }
    let ranges = places.map(|at| at..at + 1);
    let report = assert_keeps(&damaged, &sample.whole_without(&ranges), "three places");
    let offsets: Vec<u64> = report.damaged.iter().map(|range| range.offset).collect();
    assert_eq!(
        offsets,
        [1, 3, 7].map(|number| sample.commits[number].0 as u64)
    );
    let checked = inspect::check_bytes(&damaged).unwrap();
    assert_eq!(checked.damaged, report.damaged);
    assert!(!checked.is_sound());
}

#[test]
fn a_batch_with_damage_in_it_is_lost_whole_and_its_keys_are_named() {
    let sample = sample();
    let (start, _) = sample.commits[2];
    let mut damaged = sample.bytes.clone();
    // The value of the second record: the first is 32 bytes of envelope, 7 + 1 of key and value.
    let second = start + 40;
    damaged[second + 32 + 8] ^= 1;
    let kept = sample.whole_without(&[second..second + 1]);
    let report = assert_keeps(&damaged, &kept, "a batch");
    let lost: Vec<(&[u8], bool)> = report.damaged[0]
        .lost
        .iter()
        .map(|record| (record.key.as_slice(), record.certain))
        .collect();
    let expected: [(&[u8], bool); 4] = [
        (b"batch_1", true),
        (b"chave_1", false),
        (b"meu_hash", true),
        (b"batch_2", true),
    ];
    assert_eq!(lost, expected);
    assert_eq!(report.damaged[0].lost[2].field, b"nome");
    assert_eq!(report.damaged[0].lost[2].kind, "hash set");
    assert_eq!(report.damaged[0].damage_offset, second as u64);
}

/// Even the salt comes back: the first record has it too.
#[test]
fn every_flipped_bit_of_the_header_costs_nothing() {
    let sample = sample();
    let all: Vec<usize> = (0..OPERATIONS.len()).collect();
    for bit in 0..4096 * 8_usize {
        // The zeros between are all alike.
        if (64..4092).contains(&(bit / 8)) && !bit.is_multiple_of(509) {
            continue;
        }
        let mut damaged = sample.bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let report = assert_keeps(&damaged, &all, &format!("bit {bit}"));
        assert_eq!(report.damaged[0].offset, 0);
        assert_eq!(report.damaged[0].bytes, 4096);
    }
    // Several bytes of the magic, the first sector, and the whole page: a valid slot says that the file is ours.
    for wiped in [0..3, 0..8, 2..16, 0..512, 0..4_096] {
        for filler in [0, 0xff] {
            let mut damaged = sample.bytes.clone();
            damaged[wiped.clone()].fill(filler);
            let report = assert_keeps(&damaged, &all, &format!("{wiped:?} of {filler}"));
            assert_eq!(report.damaged[0].offset, 0);
        }
    }
    let mut foreign = sample.bytes;
    foreign[..LOG_START].fill(1);
    let refused = salvage_bytes(&foreign).unwrap_err();
    assert!(matches!(refused, Error::NotABrasaFile { .. }), "{refused}");
}

#[test]
fn without_a_slot_the_log_counts_up_to_the_first_damage() {
    let sample = sample();
    let all: Vec<usize> = (0..OPERATIONS.len()).collect();
    let mut damaged = sample.bytes.clone();
    damaged[4096..4096 + 64].fill(0xee);
    damaged[8192..8192 + 64].fill(0xee);
    let report = assert_keeps(&damaged, &all, "no slots");
    assert_eq!(report.damaged[0].offset, 4096);
    assert_eq!(report.damaged[0].bytes, 8192);

    let (start, end) = sample.commits[4];
    damaged[start + 8] ^= 1;
    let report = assert_keeps(&damaged, &all[..4], "no slots, and damage");
    assert!(report.torn_bytes > (end - start) as u64);
    // Where the salt is gone from both its places, nothing validates.
    damaged[12] ^= 1;
    damaged[LOG_START + 12] ^= 2;
    let refused = salvage_bytes(&damaged).unwrap_err();
    assert!(refused.to_string().contains("nothing to save"), "{refused}");
}

/// What is synced ends at `synced_upto`; behind it a record that is valid by itself may be a stranded one.
#[test]
fn nothing_is_looked_for_behind_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let db = Db::options()
        .durability(Durability::Os)
        .open(&path)
        .unwrap();
    let mut ends = Vec::new();
    for number in 0..6 {
        db.set(format!("key {number}"), "value").unwrap();
        ends.push(LOG_START + usize::try_from(db.stats().unwrap().log_bytes).unwrap());
        if number == 2 {
            db.sync().unwrap();
        }
    }
    // As a killed process leaves it.
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        inspect::check_bytes(&bytes).unwrap().synced_upto,
        ends[2] as u64
    );
    drop(db);

    let kept_of = |at: usize| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let (report, salvaged) = salvage_bytes(&damaged).unwrap();
        salvaged.map(|salvaged| (contents_of(&salvaged).len(), report.torn_bytes))
    };
    // Behind a synced commit that is damaged the chain is found again, over the boundary too: the
    // record there knows the checksum of the damaged one.
    assert_eq!(kept_of(ends[0] + 40), Some((5, 0)));
    assert_eq!(kept_of(ends[1] + 40), Some((5, 0)));
    // But not where that is gone as well.
    let mut damaged = bytes.clone();
    damaged[ends[1]..ends[1] + 16].fill(0);
    let (report, salvaged) = salvage_bytes(&damaged).unwrap();
    assert_eq!(contents_of(&salvaged.unwrap()).len(), 2);
    assert!(report.torn_bytes > 0);
    // And behind the boundary damage is the end of the log, and no damage.
    assert_eq!(kept_of(ends[3] + 40), None);
}

#[test]
fn a_log_that_was_stored_as_a_value_is_not_salvaged_as_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let inner = sample();
    let db = Db::open(&path).unwrap();
    db.set("kept", "1").unwrap();
    for shift in 0..8 {
        // In every alignment, and the log alone as well as the file.
        let mut value = vec![b'.'; shift];
        value.extend_from_slice(&inner.bytes);
        db.set(format!("file {shift}"), &value).unwrap();
        value.drain(shift..shift + LOG_START);
        db.set(format!("log {shift}"), &value).unwrap();
    }
    db.set("kept too", "2").unwrap();
    db.close().unwrap();
    let offsets: Vec<usize> = inspect::records(&path)
        .unwrap()
        .map(|record| usize::try_from(record.unwrap().offset).unwrap())
        .collect();
    let mut damaged = std::fs::read(&path).unwrap();
    for at in &offsets[1..17] {
        damaged[at + 34] ^= 1;
    }
    let (report, salvaged) = salvage_bytes(&damaged).unwrap();
    let keys: Vec<Vec<u8>> = contents_of(&salvaged.unwrap())
        .into_keys()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, [b"kept".to_vec(), b"kept too".to_vec()]);
    assert_eq!(report.kept_record_count, 2);
}

/// A file whose third commit is damaged.
fn damaged_file(directory: &Path) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let sample = sample();
    let path = directory.join("cache.brasa");
    let at = sample.commits[3].0 + 33;
    let mut damaged = sample.bytes.clone();
    damaged[at] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let kept = sample.whole_without(&[at..at + 1]);
    (path, damaged, kept)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = directory
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_new_file_stands_beside_and_the_original_is_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let (path, damaged, kept) = damaged_file(directory.path());
    let report = repair(&path, &RepairOptions::new()).unwrap();
    assert_eq!(
        names(directory.path()),
        ["cache.brasa", "cache.brasa.repaired"]
    );
    assert!(std::fs::read(&path).unwrap() == damaged);
    let output = report.output.unwrap();
    let salvaged = std::fs::read(&output).unwrap();
    assert_eq!(contents_of(&salvaged), contents_after(&OPERATIONS, &kept));

    // There is one now: it is not overwritten.
    let refused = repair(&path, &RepairOptions::new()).unwrap_err();
    assert!(
        refused.to_string().contains("cache.brasa.repaired"),
        "{refused}"
    );
    assert!(std::fs::read(&output).unwrap() == salvaged);
    let elsewhere = directory.path().join("elsewhere");
    let report = repair(&path, &RepairOptions::new().output(&elsewhere)).unwrap();
    assert_eq!(report.output.unwrap().file_name(), elsewhere.file_name());
    assert!(elsewhere.exists());
}

#[test]
fn a_repair_in_place_keeps_the_original_under_the_first_free_name() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let (path, damaged, kept) = damaged_file(directory.path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(directory.path().join("cache.brasa.damaged-0"), "not ours").unwrap();
    let in_place = RepairOptions::new().in_place(true);
    let report = repair(&path, &in_place).unwrap();
    assert_eq!(
        names(directory.path()),
        [
            "cache.brasa",
            "cache.brasa.damaged-0",
            "cache.brasa.damaged-1"
        ]
    );
    let original = report.original.unwrap();
    assert!(original.ends_with("cache.brasa.damaged-1"));
    assert!(std::fs::read(&original).unwrap() == damaged);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );

    // Once more finds nothing to do.
    let before = std::fs::read(&path).unwrap();
    assert!(repair(&path, &in_place).unwrap().nothing_to_do());
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(names(directory.path()).len(), 3);

    let db = Db::open(&path).unwrap();
    assert_eq!(contents(&db), contents_after(&OPERATIONS, &kept));
    db.set("written", "after").unwrap();
    db.close().unwrap();
}

/// The original already had its further name when the first attempt died.
#[test]
fn a_repair_in_place_that_died_is_done_again_without_a_further_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, damaged, _) = damaged_file(directory.path());
    let kept = directory.path().join("cache.brasa.damaged-0");
    std::fs::hard_link(&path, &kept).unwrap();
    let report = repair(&path, &RepairOptions::new().in_place(true)).unwrap();
    assert!(report.original.unwrap().ends_with("cache.brasa.damaged-0"));
    assert_eq!(names(directory.path()).len(), 2);
    assert!(std::fs::read(&kept).unwrap() == damaged);
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
}

#[test]
fn a_file_that_somebody_writes_is_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = Db::options().exclusive(true).open(&path).unwrap();
    for in_place in [false, true] {
        let options = RepairOptions::new()
            .in_place(in_place)
            .lock_timeout(std::time::Duration::from_millis(1));
        let refused = repair(&path, &options).unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    }
    db.close().unwrap();
}

#[test]
fn a_poisoned_file_is_sound_and_its_repair_takes_writes_again() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1-poisoned.brasa");
    let bytes = std::fs::read(golden).unwrap();
    let checked = inspect::check_bytes(&bytes).unwrap();
    assert!(checked.is_sound());
    assert_eq!(checked.poisoned.as_deref(), Some("Input/output error"));
    let (report, salvaged) = salvage_bytes(&bytes).unwrap();
    assert_eq!(report.poisoned.as_deref(), Some("Input/output error"));
    assert!(report.damaged.is_empty());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, salvaged.unwrap()).unwrap();
    let db = Db::open(&path).unwrap();
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    db.set("chave_1", "again").unwrap();
}

#[test]
fn checkpoints_and_other_records_about_the_old_log_are_not_copied() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1-every-kind.brasa");
    let mut bytes = std::fs::read(golden).unwrap();
    bytes[100] ^= 1;
    let (_, salvaged) = salvage_bytes(&bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, salvaged.unwrap()).unwrap();
    let kinds: Vec<&str> = inspect::records(&path)
        .unwrap()
        .map(|record| record.unwrap().kind)
        .collect();
    assert!(kinds.contains(&"swap databases"));
    for kind in ["page", "checkpoint", "moved", "padding"] {
        assert!(!kinds.contains(&kind), "{kinds:?}");
    }
}

/// A name of 255 bytes leaves no room for a suffix.
#[test]
fn file_with_the_longest_name_is_compacted_and_repaired() {
    use brasa::inspect::{RepairOptions, repair};

    let directory = tempfile::tempdir().unwrap();
    for name in ["n".repeat(255), format!("{}x", "é".repeat(127))] {
        let path = directory.path().join(name);
        let db = brasa::Db::open(&path).unwrap();
        db.set("first", "1").unwrap();
        db.set("second", "2").unwrap();
        db.compact().unwrap();
        db.checkpoint().unwrap();
        db.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12_288 + 32] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let beside = repair(&path, &RepairOptions::new()).unwrap();
        let saved = brasa::Db::open(beside.output.unwrap()).unwrap();
        assert!(saved.exists("second").unwrap());
        drop(saved);
        repair(&path, &RepairOptions::new().in_place(true)).unwrap();
        assert!(brasa::Db::open(&path).unwrap().exists("second").unwrap());
    }
}

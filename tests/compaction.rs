//! Compaction: the file is rewritten to what it holds, while others read and write, and nothing is lost
//! whatever goes wrong.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::{Db, Durability, Error, ManualClock, Options, SetOptions, inspect};
use support::contents::contents;

const START_MS: u64 = 1_700_000_000_000;

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

/// Nothing happens unless it is asked for.
fn by_hand() -> Options {
    Db::options().auto_compact(false).durability(Durability::Os)
}

/// The names in the file's directory.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Something of every kind, most of it written more than once.
fn fill(db: &Db, clock: &ManualClock) {
    for round in 0..3 {
        for number in 0..50 {
            db.set(format!("string:{number}"), format!("{number}.{round}"))
                .unwrap();
            db.hset("hash", format!("field:{number}"), round.to_string())
                .unwrap();
        }
    }
    let ttl = |ms| SetOptions::new().ttl(Duration::from_millis(ms));
    db.set_with("soon", "gone", ttl(10)).unwrap();
    db.set_with("later", "there", ttl(100_000)).unwrap();
    db.set_with("moved", "there", ttl(10)).unwrap();
    db.expire("moved", Duration::from_secs(50)).unwrap();
    db.set_with("kept", "there", ttl(10)).unwrap();
    db.persist("kept").unwrap();
    db.hset("dated", "a", "1").unwrap();
    db.expire("dated", Duration::from_secs(70)).unwrap();
    // The only field that is left was set after the deadline.
    db.hset("dated", "b", "2").unwrap();
    db.hdel("dated", "a").unwrap();
    db.hset("gone", "f", "1").unwrap();
    db.expire("gone", Duration::from_millis(5)).unwrap();
    let other = db.database(7).unwrap();
    other.set("string:1", "in seven").unwrap();
    other.hset("hash", "f", "in seven").unwrap();
    other.set("deleted", "x").unwrap();
    other.del("deleted").unwrap();
    clock.advance(Duration::from_millis(20));
}

#[test]
fn a_compacted_file_holds_the_same_in_fewer_bytes_and_goes_on_being_used() {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let open = || by_hand().clock(clock.clone()).open(&path).unwrap();
    let db = open();
    fill(&db, &clock);
    let before = contents(&db);
    let value = db.get("string:7").unwrap().unwrap();
    let report = db.compact().unwrap();
    assert_eq!(&value, "7.2", "a value that was handed out stays");
    assert_eq!(contents(&db), before);
    let stats = db.stats().unwrap();
    assert_eq!(stats.dead_bytes, 0);
    assert_eq!(stats.live_bytes, stats.log_bytes);
    assert_eq!(stats.file_bytes, report.after_bytes);
    assert!(report.after_bytes < report.before_bytes, "{report:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), report.after_bytes);
    assert_eq!(names(&path), ["cache.brasa"]);

    db.set("after", "1").unwrap();
    db.hset("dated", "c", "3").unwrap();
    let after = contents(&db);
    db.close().unwrap();
    let db = open();
    assert_eq!(contents(&db), after);
    db.compact().unwrap();
    db.compact().unwrap();
    assert_eq!(contents(&db), after);
    db.close().unwrap();
    assert_eq!(contents(&open()), after);
    let report = inspect::check(&path, |_, _| {}).unwrap();
    assert!(report.is_sound());
}

#[test]
fn a_compaction_keeps_the_order_of_the_log() {
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    for key in ["c", "a", "d", "b"] {
        db.set(key, "1").unwrap();
    }
    db.set("a", "2").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    let records = inspect::records(&path).unwrap();
    let keys: Vec<_> = records.map(|record| record.unwrap().key).collect();
    assert_eq!(keys, [b"c", b"d", b"b", b"a"]);
}

#[test]
fn what_has_expired_counts_as_dead_without_being_touched_and_is_left_out() {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let db = by_hand().clock(clock.clone()).open(&path).unwrap();
    let ttl = SetOptions::new().ttl(Duration::from_secs(1));
    for number in 0..100 {
        db.set_with(format!("key:{number}"), [0; 100], ttl).unwrap();
    }
    assert_eq!(db.stats().unwrap().dead_bytes, 0);
    clock.advance(Duration::from_secs(2));
    let stats = db.stats().unwrap();
    assert_eq!((stats.live_bytes, stats.dead_bytes), (0, stats.log_bytes));
    db.compact().unwrap();
    assert_eq!(db.stats().unwrap().log_bytes, 0);
}

/// The writer and the readers never stop, and compactions come one after another.
#[test]
fn reads_and_writes_go_on_during_compactions() {
    const KEYS: u64 = 500;
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    for number in 0..KEYS {
        db.set(number.to_string(), "0").unwrap();
    }
    let done = AtomicBool::new(false);
    let oldest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u64;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                for number in 0..KEYS {
                    db.set(number.to_string(), round.to_string()).unwrap();
                    if number % 7 == 0 {
                        db.hset("hash", number.to_string(), round.to_string())
                            .unwrap();
                        db.expire("hash", Duration::from_secs(round + 1_000))
                            .unwrap();
                    }
                    if number % 11 == 0 {
                        db.batch(|b| {
                            b.set("left", round.to_string());
                            b.set("right", round.to_string());
                        })
                        .unwrap();
                    }
                }
                oldest.store(round, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let at_least = oldest.load(Ordering::Acquire);
                for number in 0..KEYS {
                    let value = db.get(number.to_string()).unwrap().unwrap();
                    let value: u64 = value.to_str().unwrap().parse().unwrap();
                    assert!(
                        value >= at_least,
                        "{number}: {value} is older than {at_least}"
                    );
                }
                let both = db.get_many(&["left", "right"]).unwrap();
                assert_eq!(both[0], both[1], "half a batch");
            }
        });
        for _ in 0..10 {
            let report = db.compact().unwrap();
            assert!(report.after_bytes < report.before_bytes + (1 << 20));
        }
        done.store(true, Ordering::Relaxed);
    });
    let before = contents(&db);
    db.close().unwrap();
    let db = by_hand().open(&path).unwrap();
    assert_eq!(contents(&db), before);
    assert!(db.deadline_ms("hash").unwrap().is_some());
}

/// What automatic compactions have told.
type Told = Arc<Mutex<Vec<Result<(u64, u64), String>>>>;

fn listening(options: Options) -> (Options, Told) {
    let told = Told::default();
    let listener = Arc::clone(&told);
    let options = options.on_compaction(move |outcome| {
        let outcome = match outcome {
            Ok(report) => Ok((report.before_bytes, report.after_bytes)),
            Err(error) => Err(error.to_string()),
        };
        listener.lock().unwrap().push(outcome);
    });
    (options, told)
}

#[test]
fn a_file_that_is_written_to_for_long_is_compacted_without_being_asked() {
    let (_directory, path) = temporary();
    let (options, told) = listening(Db::options().durability(Durability::Os));
    let db = options.open(&path).unwrap();
    let value = [7; 1_000];
    // How much is written while a thread starts and compacts is the scheduler's to say: no size is asserted.
    for _ in 0..100_000 {
        for number in 0..100 {
            db.set(format!("key:{number}"), value).unwrap();
        }
        if told.lock().unwrap().len() > 2 {
            break;
        }
    }
    db.close().unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() > 2, "{told:?}");
    for outcome in told.iter() {
        let (before, after) = outcome.clone().unwrap();
        assert!(after < before, "{told:?}");
    }
}

/// Overwrites keys in many runs that each do little, and gives back the largest size of the file, and
/// how many runs have compacted it.
fn largest_of_many_short_programs(share_bytes: u64) -> (u64, u64, usize) {
    const LIVE: usize = 600;
    const FLOOR_BYTES: u64 = 32 << 10;
    let (_directory, path) = temporary();
    let told = Arc::new(AtomicU64::new(0));
    let open = || {
        let counter = Arc::clone(&told);
        let options = Db::options().durability(Durability::Os);
        let options = options
            .compact_floor_bytes(FLOOR_BYTES)
            .compact_share_bytes(share_bytes)
            .on_compaction(move |outcome| {
                outcome.as_ref().unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
            });
        options.open(&path).unwrap()
    };
    let mut model = BTreeMap::new();
    let db = open();
    for number in 0..LIVE {
        let value = vec![1; 500];
        db.set(format!("key:{number}"), &value).unwrap();
        model.insert(number, value);
    }
    let live_bytes = db.stats().unwrap().live_bytes;
    db.close().unwrap();
    let mut largest = 0;
    for run in 0..3_000_usize {
        let db = open();
        for step in 0..2 {
            let number = (run * 7 + step * 331) % LIVE;
            let value = vec![u8::try_from(run % 251).unwrap(); 500];
            db.set(format!("key:{number}"), &value).unwrap();
            model.insert(number, value);
        }
        db.close().unwrap();
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
        assert_eq!(names(&path), ["cache.brasa"], "nothing is left half done");
    }
    let db = open();
    assert_eq!(db.len().unwrap(), LIVE as u64);
    for (number, value) in &model {
        assert_eq!(&db.get(format!("key:{number}")).unwrap().unwrap(), value);
    }
    let compactions = usize::try_from(told.load(Ordering::Relaxed)).unwrap();
    (
        largest - FLOOR_BYTES - 12_288 - 4_096,
        live_bytes,
        compactions,
    )
}

#[test]
fn short_programs_keep_a_small_file_below_twice_its_live_data() {
    let (largest, live_bytes, compactions) = largest_of_many_short_programs(1 << 20);
    assert!(largest <= live_bytes * 21 / 10, "{largest}, {live_bytes}");
    // Each appended byte pays for one copied byte at most.
    assert!(compactions <= 3_000 * 2 / 600, "{compactions}");
}

#[test]
fn short_programs_keep_a_large_file_below_four_times_its_live_data_with_fewer_pauses() {
    let (largest, live_bytes, compactions) = largest_of_many_short_programs(0);
    assert!(largest <= live_bytes * 41 / 10, "{largest}, {live_bytes}");
    assert!(
        (1..=3_000 * 2 / 600 / 3).contains(&compactions),
        "{compactions}"
    );
}

#[test]
fn a_burst_of_overwrites_never_outgrows_its_bound_and_ends_small() {
    const VALUE_BYTES: u64 = 1 << 20;
    let (_directory, path) = temporary();
    let options = Db::options().durability(Durability::Os);
    let db = options.open(&path).unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    let mut largest = 0;
    for round in 0..300_u32 {
        db.set("key", vec![round.to_le_bytes()[0]; 1 << 20])
            .unwrap();
        largest = largest.max(size());
    }
    // Four times the live data and the floor, one value, and what is reserved.
    assert!(largest <= 14 * VALUE_BYTES, "{largest}");
    // A hang limit, and no more.
    for _ in 0..600 {
        if size() <= 4 * VALUE_BYTES {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("a quiet file stays at {} bytes", size());
}

/// The writes come from the listener of the first compaction: its thread is still running then, so
/// that no later write starts another one.
#[test]
fn writes_during_a_compaction_make_the_next_one_follow_by_itself() {
    let (_directory, path) = temporary();
    let (sender, compactions) = std::sync::mpsc::channel();
    let writer: Arc<Mutex<Option<Db>>> = Arc::default();
    let listener = Arc::clone(&writer);
    let options = Db::options()
        .durability(Durability::Os)
        .compact_floor_bytes(64 << 10)
        .on_compaction(move |outcome| {
            outcome.as_ref().unwrap();
            // Not held while the writes compact, which calls this listener again.
            let db = listener.lock().unwrap().take();
            if let Some(db) = db {
                (0..12).for_each(|_| db.set("key", vec![7; 16 << 10]).unwrap());
            }
            let _ = sender.send(());
        });
    let db = options.open(&path).unwrap();
    *writer.lock().unwrap() = Some(db.clone());
    while writer.lock().unwrap().is_some() {
        db.set("key", vec![7; 16 << 10]).unwrap();
    }
    // A hang limit, and no more.
    for compaction in ["the first", "the second"] {
        let outcome = compactions.recv_timeout(Duration::from_secs(30));
        assert!(outcome.is_ok(), "{compaction} compaction is missing");
    }
}

/// A few small records make much of the log dead: less than what makes a handle look at a log that
/// grows.
#[test]
fn few_small_records_that_make_large_ones_dead_make_a_compaction_due() {
    type Shrink = fn(&Db, u32);
    let ways: [(&str, Shrink); 4] = [
        ("deletes", |db, key| {
            assert!(db.del(key.to_string()).unwrap())
        }),
        ("overwrites", |db, key| db.set(key.to_string(), "").unwrap()),
        ("deletes of fields", |db, key| {
            assert!(db.hdel("hash", key.to_string()).unwrap());
        }),
        ("clears", |db, _| db.clear().unwrap()),
    ];
    for (name, shrink) in ways {
        let (_directory, path) = temporary();
        let db = Db::options()
            .durability(Durability::Os)
            .open(&path)
            .unwrap();
        let large = vec![7; 100_000];
        for key in 0..40 {
            match name {
                "deletes of fields" => assert!(db.hset("hash", key.to_string(), &large).unwrap()),
                _ => db.set(key.to_string(), &large).unwrap(),
            }
        }
        (0..36).for_each(|key| shrink(&db, key));
        let size = || std::fs::metadata(&path).unwrap().len();
        // Twice the live data and the floor, and what is reserved. A hang limit, and no more.
        let is_small = (0..300).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            size() <= 2_500_000
        });
        assert!(is_small, "{name}: a quiet file stays at {} bytes", size());
    }
}

#[cfg(feature = "simulation")]
#[test]
fn a_handle_without_threads_compacts_before_it_writes_beyond_the_bound() {
    let disk = brasa::simulation::SimulatedDisk::new(1);
    let options = Db::options().durability(Durability::Os);
    let db = options
        .compact_floor_bytes(64 << 10)
        .open_on(&disk, "cache.brasa")
        .unwrap();
    for round in 0..400_u32 {
        db.hset("hash", "field", vec![round.to_le_bytes()[0]; 16 << 10])
            .unwrap();
        let file_bytes = db.stats().unwrap().file_bytes;
        assert!(file_bytes <= 1 << 20, "{round}: {file_bytes}");
    }
}

/// Without live data and with a floor of 0, four times both is 0.
#[cfg(feature = "simulation")]
#[test]
fn write_into_small_file_does_not_compact_it_first() {
    let disk = brasa::simulation::SimulatedDisk::new(1);
    let options = Db::options().durability(Durability::Os);
    let options = options.compact_dead_percent(0).compact_floor_bytes(0);
    let (options, told) = listening(options);
    let db = options.open_on(&disk, "cache.brasa").unwrap();
    db.transaction(|transaction| {
        transaction.set("", "")?;
        transaction.clear()
    })
    .unwrap();
    db.set("", "").unwrap();
    assert!(told.lock().unwrap().is_empty());
    db.close().unwrap();
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[test]
fn who_only_reads_does_not_compact() {
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    for _ in 0..1_000 {
        db.set("key", [0; 100]).unwrap();
    }
    db.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let (options, told) = listening(Db::options().compact_floor_bytes(0));
    let db = options.open(&path).unwrap();
    db.get("key").unwrap();
    db.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn a_file_with_two_names_is_not_compacted() {
    let (directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    db.set("key", "value").unwrap();
    let other = directory.path().join("other");
    std::fs::hard_link(&path, &other).unwrap();
    let refused = db.compact().unwrap_err();
    assert!(matches!(refused, Error::CannotCompact { .. }), "{refused}");
    assert!(refused.to_string().contains("2 hard links"), "{refused}");
    std::fs::remove_file(&other).unwrap();
    db.compact().unwrap();
}

#[test]
fn a_file_that_was_replaced_by_hand_is_left_alone() {
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    db.set("key", "value").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a letter").unwrap();
    let refused = db.compact().unwrap_err();
    assert!(matches!(refused, Error::NotABrasaFile { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter");
    assert_eq!(names(&path), ["cache.brasa"]);
}

#[test]
fn a_new_file_has_the_mode_of_the_options_and_keeps_it_through_compactions() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o600, 0o640, 0o660] {
        let (_directory, path) = temporary();
        let found = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let db = by_hand().mode(mode).open(&path).unwrap();
        assert_eq!(found(), mode);
        db.compact().unwrap();
        assert_eq!(found(), mode);
        db.close().unwrap();
        let db = by_hand().mode(0o666).open(&path).unwrap();
        assert_eq!(found(), mode, "a file that exists is not changed");
        drop(db);
    }
}

#[test]
fn owner_and_mode_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    db.compact().unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

/// The group bits of a file with an access control list are the list's mask: without the list they would let the
/// whole group in.
#[cfg(target_os = "linux")]
#[test]
fn a_compaction_and_a_repair_in_place_keep_access_control_lists_and_user_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    use std::os::unix::fs::PermissionsExt;
    const LIST: &str = "system.posix_acl_access";
    // Version 2; the owner rw-, the user 12345 r--, the group ---, the mask r--, others ---.
    let entry = |tag: u16, rights: u16, id: u32| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&tag.to_le_bytes());
        bytes[2..4].copy_from_slice(&rights.to_le_bytes());
        bytes[4..].copy_from_slice(&id.to_le_bytes());
        bytes
    };
    let nobody = u32::MAX;
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1, 6, nobody),
        (2, 4, 12_345),
        (4, 0, nobody),
        (16, 4, nobody),
        (32, 0, nobody),
    ] {
        list.extend(entry(tag, rights, id));
    }
    let (directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    for round in 0..10 {
        db.set("key", round.to_string()).unwrap();
    }
    db.set("other", "1").unwrap();
    let none = XattrFlags::empty();
    if setxattr(&path, LIST, &list, none).is_err()
        || setxattr(&path, "user.note", b"mine", none).is_err()
    {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "NOT RUN: no access control lists here");
        return;
    }
    let holds = |what: &str| {
        let read = |name| {
            let mut value = [0; 256];
            let length = getxattr(&path, name, &mut value[..]);
            length.map(|length| value[..length].to_vec())
        };
        assert_eq!(read(LIST).as_deref(), Ok(&list[..]), "{what}");
        assert_eq!(read("user.note").as_deref(), Ok(&b"mine"[..]), "{what}");
    };
    db.compact().unwrap();
    holds("compacted");
    db.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[12_288 + 32] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    inspect::repair(&path, &brasa::inspect::RepairOptions::new().in_place(true)).unwrap();
    assert!(names(&path).len() > 1, "the damaged one is kept");
    holds("repaired");
    // A list that the directory gives to new files must not come on top.
    setxattr(directory.path(), "system.posix_acl_default", &list, none).unwrap();
    let other = directory.path().join("other.brasa");
    let db = by_hand().open(&other).unwrap();
    rustix::fs::removexattr(&other, LIST).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o640)).unwrap();
    db.compact().unwrap();
    let mut value = [0; 256];
    let found = getxattr(&other, LIST, &mut value[..]);
    assert_eq!(found, Err(rustix::io::Errno::NODATA));
}

#[test]
fn a_compaction_through_a_symbolic_link_replaces_the_file_and_not_the_link() {
    let (directory, path) = temporary();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("cache.brasa", &link).unwrap();
    let db = by_hand().open(&link).unwrap();
    db.set("key", "value").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(by_hand().open(&path).unwrap().exists("key").unwrap());
}

/// Development builds left half done copies under this name. A link there would let another user who may
/// write to the directory have any file overwritten.
#[test]
fn a_file_that_lies_beside_the_database_is_neither_trusted_nor_touched() {
    let (_directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    db.set("key", "value").unwrap();
    let beside = path.with_file_name(".cache.brasa.compacting");
    std::fs::write(&beside, vec![0xff; 100_000]).unwrap();
    db.compact().unwrap();
    assert_eq!(std::fs::read(&beside).unwrap(), vec![0xff; 100_000]);
    std::fs::remove_file(&beside).unwrap();
    let victim = path.with_file_name("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &beside).unwrap();
    db.compact().unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
}

/// A copy of the file shares its salt and its generation. What a process had begun to copy from one of
/// them took the place of the other.
#[test]
fn a_restored_copy_keeps_what_it_holds_through_the_compactions_that_follow() {
    const KEYS: usize = 600;
    let (_directory, path) = temporary();
    let open = || {
        let options = Db::options().durability(Durability::Os);
        let options = options.compact_floor_bytes(0).compact_share_bytes(8 << 10);
        options.open(&path).unwrap()
    };
    let db = open();
    for number in 0..KEYS {
        db.set(format!("key:{number}"), vec![7; 500]).unwrap();
    }
    db.close().unwrap();
    let backup = path.with_file_name("backup");
    std::fs::copy(&path, &backup).unwrap();
    let delete = |kept: usize| {
        let db = open();
        for number in (0..KEYS).filter(|number| number % 3 != kept) {
            db.del(format!("key:{number}")).unwrap();
        }
        db.close().unwrap();
    };
    delete(0);
    std::fs::rename(&backup, &path).unwrap();
    delete(1);
    for round in 0..60_u8 {
        let db = open();
        db.set("round", [round]).unwrap();
        db.close().unwrap();
    }
    let db = open();
    for number in 0..KEYS {
        let is_there = db.exists(format!("key:{number}")).unwrap();
        assert_eq!(is_there, number % 3 == 1, "key:{number}");
    }
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
}

/// The file that a compaction is writing has no name: `/proc` shows it as this process's descriptor.
#[cfg(target_os = "linux")]
#[test]
fn a_byte_that_rots_in_the_copy_before_it_takes_the_name_leaves_the_sound_file() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let (directory, path) = temporary();
    let db = by_hand().open(&path).unwrap();
    for number in 0..6_000 {
        db.set(format!("key:{number}"), vec![7; 1_000]).unwrap();
    }
    let before = contents(&db);
    let own = std::fs::metadata(&path).unwrap().ino();
    let rot = || {
        for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else {
                continue;
            };
            if !target.starts_with(directory.path()) {
                continue;
            }
            let copy = std::fs::File::options()
                .read(true)
                .write(true)
                .open(entry.path());
            let Ok(copy) = copy else {
                continue;
            };
            let mut byte = [0];
            if copy.metadata().unwrap().ino() != own
                && copy.read_at(&mut byte, 1_000_000).unwrap() == 1
            {
                copy.write_at(&[byte[0] ^ 1], 1_000_000).unwrap();
                return true;
            }
        }
        false
    };
    let mut is_rotten = false;
    let refused = db.compact_with(|_, _| is_rotten = is_rotten || rot());
    assert!(is_rotten, "the copy was not found");
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert!(contents(&db) == before);
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
    db.compact().unwrap();
    assert!(contents(&db) == before);
}

#[test]
fn a_backup_holds_what_was_there_and_takes_no_name_that_is_taken() {
    let (directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let db = by_hand().clock(clock.clone()).open(&path).unwrap();
    fill(&db, &clock);
    let before = contents(&db);
    let copy = directory.path().join("copy.brasa");
    let report = db.backup(&copy).unwrap();
    assert!(report.after_bytes < report.before_bytes);
    let refused = db.backup(&copy).unwrap_err();
    assert!(refused.to_string().contains("exists"), "{refused}");
    db.set("after", "1").unwrap();
    let opened = by_hand().clock(clock.clone()).open(&copy).unwrap();
    assert_eq!(contents(&opened), before);
    assert_eq!(opened.stats().unwrap().dead_bytes, 0);
}

#[test]
fn a_backup_is_one_moment_while_others_write() {
    let (directory, path) = temporary();
    // Compacted meanwhile, or it would grow by hundreds of megabytes.
    let options = Db::options().durability(Durability::Os);
    let db = options.compact_floor_bytes(1 << 20).open(&path).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                db.batch(|b| {
                    for key in ["a", "b", "c", "d"] {
                        b.set(key, round.to_string());
                        b.hset("hash", key, round.to_string());
                    }
                })
                .unwrap();
            }
        });
        for number in 0..40 {
            let copy = directory.path().join(number.to_string());
            db.backup(&copy).unwrap();
            let copy = by_hand().open(&copy).unwrap();
            let values = copy.get_many(&["a", "b", "c", "d"]).unwrap();
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
            for (_, value) in copy.hgetall("hash").unwrap() {
                assert_eq!(Some(value), values[0]);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_plain_copy_taken_at_any_moment_opens_to_a_prefix() {
    let (directory, path) = temporary();
    let db = Db::options()
        .durability(Durability::Interval(Duration::from_millis(1)))
        .compact_floor_bytes(64 << 10)
        .open(&path)
        .unwrap();
    let done = AtomicBool::new(false);
    let (written, copied) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                db.set((number % 50).to_string(), number.to_string())
                    .unwrap();
                db.set("last", number.to_string()).unwrap();
                written.store(number, Ordering::Release);
                // Else it fills the disk while a copy is looked at.
                while number > copied.load(Ordering::Relaxed) + 20_000
                    && !done.load(Ordering::Relaxed)
                {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..200 {
            let name = directory.path().join(number.to_string());
            let at_least = written.load(Ordering::Acquire);
            copied.store(at_least, Ordering::Relaxed);
            std::fs::copy(&path, &name).unwrap();
            let copy = by_hand().open(&name).unwrap();
            std::fs::remove_file(&name).unwrap();
            let Some(last) = copy.get("last").unwrap() else {
                assert_eq!(at_least, 0);
                continue;
            };
            let last: u64 = last.to_str().unwrap().parse().unwrap();
            assert!(last >= at_least, "{last} of {at_least}");
            // Each key holds the newest that it had when `last` was written, or the one write after that.
            for key in 0..50 {
                let newest = (last.saturating_sub(50)..=last)
                    .rev()
                    .find(|number| number % 50 == key && *number > 0);
                let found = copy.get(key.to_string()).unwrap();
                let found: Option<u64> =
                    found.map(|value| value.to_str().unwrap().parse().unwrap());
                let next = (last + 1) % 50 == key;
                assert!(
                    found == newest || (next && found == Some(last + 1)),
                    "{key}: {found:?} instead of {newest:?}, the last is {last}"
                );
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_file_with_one_key_is_small_while_it_is_open_and_afterwards() {
    let (_directory, path) = temporary();
    let size = || std::fs::metadata(&path).unwrap().len();
    let db = Db::open(&path).unwrap();
    db.set("key", "value").unwrap();
    assert!(size() <= 128 << 10, "{}", size());
    db.close().unwrap();
    assert!(size() <= 16 << 10, "{}", size());
}

#[cfg(feature = "simulation")]
mod rot {
    use brasa::simulation::SimulatedDisk;

    use super::*;

    const PATH: &str = "cache.brasa";

    /// More than any copy here takes.
    const MAX_WRITES: u64 = 40;

    fn filled(disk: &SimulatedDisk) -> Db {
        let db = by_hand().open_on(disk, PATH).unwrap();
        for number in 0..20 {
            db.set(format!("key:{number}"), [7; 100]).unwrap();
        }
        db
    }

    /// Lets a bit rot in each write of a copy in turn: of the log, the header and the slots. Returns
    /// how many of these copies were refused.
    fn refusals(copy: impl Fn(&Db) -> brasa::Result<()>, copied_to: &str) -> usize {
        let mut refusals = 0;
        for write in 0..MAX_WRITES {
            let disk = SimulatedDisk::new(1);
            let db = filled(&disk);
            let before = contents(&db);
            disk.rot_unnamed(write);
            match copy(&db) {
                Err(Error::Corrupt { .. }) => refusals += 1,
                Err(other) => panic!("write {write}: {other}"),
                Ok(()) => {
                    let copied = by_hand().open_on(&disk, copied_to).unwrap();
                    assert!(contents(&copied) == before, "write {write}");
                }
            }
            assert!(contents(&db) == before, "write {write}");
            db.close().unwrap();
            let reopened = by_hand().open_on(&disk, PATH).unwrap();
            assert!(contents(&reopened) == before, "write {write}");
        }
        refusals
    }

    #[test]
    fn bit_that_rots_in_any_write_of_a_compaction_leaves_the_sound_file() {
        let compact = |db: &Db| db.compact().map(drop);
        assert!(refusals(compact, PATH) >= 4);
    }

    #[test]
    fn bit_that_rots_in_any_write_of_a_backup_leaves_no_backup() {
        let backup = |db: &Db| db.backup("copy.brasa").map(drop);
        assert!(refusals(backup, "copy.brasa") >= 3);
    }
}

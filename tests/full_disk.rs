//! A disk that is really full: a small mount of its own, filled to the last byte.
//!
//! The simulated disk answers ENOSPC where it is told to. Here the kernel does: on tmpfs, and on
//! ext4, xfs and btrfs over loop devices, which differ in when they notice. The promise: the call fails and
//! says that the disk is full, nothing earlier is lost, reads go on, deletions and `clear` go on
//! within the reserve, and once there is space again everything does.
//!
//! It needs root and the right to mount, and says loudly what did not run for the lack of them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use brasa::{Db, Durability, Error, KeyType, SetOptions};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

/// A small file system that ends with this.
struct SmallDisk {
    file_system: &'static str,
    /// Holds the image and the mount point.
    place: TempDir,
    /// One at a time: a child that another test is just starting has inherited what is open here for a
    /// moment, and a removed file that is open somewhere gives no space back.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl SmallDisk {
    /// `None`, and loudly, where it cannot be had.
    fn mount(file_system: &'static str) -> Option<SmallDisk> {
        SmallDisk::mount_of(file_system, 1)
    }

    /// As [`SmallDisk::mount`], with so much space where it is a tmpfs.
    fn mount_of(file_system: &'static str, mib: u64) -> Option<SmallDisk> {
        let place = tempfile::tempdir().unwrap();
        let image = place.path().join("image");
        let (image_mib, options): (u64, &[&str]) = match file_system {
            "ext4" => (16, &["-q", "-F", "-b", "4096"]),
            "xfs" => (300, &["-q"]),
            "btrfs" => (128, &["-q"]),
            _ => (0, &[]),
        };
        let disk = SmallDisk {
            file_system,
            place,
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        };
        std::fs::create_dir(disk.directory()).unwrap();
        let mounted = if image_mib == 0 {
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "full_disk"])
                .arg(disk.directory()))
        } else {
            // Sparse: what is reserved in it takes no space outside.
            File::create(&image)
                .unwrap()
                .set_len(image_mib << 20)
                .unwrap();
            run(Command::new(format!("mkfs.{file_system}"))
                .args(options)
                .arg(&image))
            .and_then(|()| {
                run(Command::new("mount")
                    .args(["-t", file_system, "-o", "loop"])
                    .args([&image, &disk.directory()]))
            })
        };
        match mounted {
            Ok(()) => Some(disk),
            Err(why) => {
                // Not by `eprintln!`, which a passing test keeps to itself.
                let why = why.lines().next().unwrap_or_default();
                let _ = writeln!(
                    std::io::stderr(),
                    "NOT RUN: a full disk with {file_system}: needs root and mount: {why}"
                );
                None
            }
        }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    fn path(&self) -> PathBuf {
        self.directory().join("cache.brasa")
    }

    /// Takes all the space there is.
    fn fill(&self) {
        let mut ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory().join("ballast"))
            .unwrap();
        for step_bytes in [16u64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            loop {
                let size = ballast.metadata().unwrap().len();
                if fallocate(&ballast, FallocateFlags::empty(), size, step_bytes).is_err() {
                    break;
                }
            }
        }
        // What the file system calls free and cannot give away.
        while ballast.write_all(&[1; 512]).is_ok() {}
        let _ = ballast.sync_all();
    }

    /// Gives it back.
    fn make_space(&self) {
        std::fs::remove_file(self.directory().join("ballast")).unwrap();
        // Some free the blocks of a removed file later.
        run(Command::new("sync").arg("-f").arg(self.directory())).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.directory()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn open(path: &Path, durability: Durability) -> brasa::Result<Db> {
    Db::options().durability(durability).open(path)
}

/// All strings and hashes, as text.
fn contents(db: &Db) -> BTreeMap<String, String> {
    db.keys()
        .map(|key| {
            let key = key.unwrap();
            let held = match db.key_type(&key).unwrap() {
                Some(KeyType::Hash) => {
                    let fields: BTreeMap<Vec<u8>, Vec<u8>> = db
                        .hgetall(&key)
                        .unwrap()
                        .into_iter()
                        .map(|(field, value)| (field.to_vec(), value.to_vec()))
                        .collect();
                    format!("{fields:?}")
                }
                _ => format!("{:?}", db.get(&key).unwrap()),
            };
            let held = format!("{held} until {:?}", db.deadline_ms(&key).unwrap());
            (String::from_utf8_lossy(&key).into_owned(), held)
        })
        .collect()
}

type Operation = (&'static str, fn(&Db) -> brasa::Result<()>);

const HOUR: Duration = Duration::from_secs(3600);

/// Everything that makes the log longer and the file no emptier.
const WRITES: [Operation; 13] = [
    ("set", |db| db.set("new", "v")),
    ("set over an old value", |db| db.set("text", "v")),
    ("set_with", |db| {
        db.set_with("new", "v", brasa::SetOptions::new().ttl(HOUR))
            .map(drop)
    }),
    ("append", |db| db.append("text", "more").map(drop)),
    ("incr_by", |db| db.incr_by("number", 1).map(drop)),
    ("hset", |db| db.hset("hash", "new", "v").map(drop)),
    ("hset_many", |db| {
        db.hset_many("hash", &[("new", "v"), ("newer", "v")])
            .map(drop)
    }),
    ("hset_with", |db| {
        let options = SetOptions::new().only_if_absent();
        db.hset_with("hash", &[("new", "v")], options).map(drop)
    }),
    ("hincr_by", |db| db.hincr_by("hash", "n", 1).map(drop)),
    ("expire", |db| db.expire("text", HOUR).map(drop)),
    ("persist", |db| db.persist("mortal").map(drop)),
    ("batch", |db| {
        db.batch(|batch| {
            // Begins with what would be allowed alone.
            batch.del("text").set("new", "v").set("newer", "v");
        })
    }),
    ("set of a large value", |db| {
        db.set("new", vec![b'v'; 4 << 20])
    }),
];

/// What makes the file emptier, and the keys that are gone then.
const DELETIONS: [(Operation, &[&str]); 4] = [
    (("del", |db| db.del("number").map(drop)), &["number"]),
    (
        ("del_many", |db| db.del_many(&["key-0", "key-1"]).map(drop)),
        &["key-0", "key-1"],
    ),
    (("hdel", |db| db.hdel("short", "f").map(drop)), &["short"]),
    (
        ("batch of deletions", |db| {
            db.batch(|batch| {
                batch.del("key-2").hdel("brief", "f");
            })
        }),
        &["key-2", "brief"],
    ),
];

/// A file with something of everything, on a disk that has just become full: not even the smallest
/// record fits any more.
fn fill_up(disk: &SmallDisk, durability: Durability) -> Db {
    let db = open(&disk.path(), durability).unwrap();
    for number in 0..20 {
        db.set(format!("key-{number}"), vec![b'v'; 100 * number])
            .unwrap();
    }
    db.set("text", "t").unwrap();
    db.set("number", "1").unwrap();
    db.set("mortal", "m").unwrap();
    db.expire("mortal", HOUR).unwrap();
    db.hset("hash", "f", "v").unwrap();
    db.hset("hash", "n", "1").unwrap();
    db.hset("short", "f", "v").unwrap();
    db.hset("brief", "f", "v").unwrap();
    disk.fill();
    let mut number = 0u64;
    let refused = loop {
        match db.set("s", "") {
            Ok(()) => number += 1,
            Err(refused) => break refused,
        }
        assert!(number < 1_000_000, "{}: it is never full", disk.file_system);
    };
    assert_disk_full(disk, "the set that found it full", Err(refused));
    db
}

fn assert_disk_full(disk: &SmallDisk, what: &str, outcome: brasa::Result<()>) {
    let on = disk.file_system;
    match outcome {
        Err(error @ Error::DiskFull { .. }) => {
            let said = error.to_string();
            assert!(said.contains("cache.brasa"), "{on}: {what}: {said}");
        }
        Err(error) => panic!("{on}: {what}: {error:?}"),
        Ok(()) => panic!("{on}: {what} went through on a full disk"),
    }
}

/// The promises, in the order in which a long-running program would meet them.
fn a_full_disk_takes_nothing_and_loses_nothing(file_system: &'static str, durability: Durability) {
    let Some(disk) = SmallDisk::mount(file_system) else {
        return;
    };
    let on = file_system;
    let db = fill_up(&disk, durability);
    let before = contents(&db);
    let log_bytes = db.stats().unwrap().log_bytes;

    for (what, write) in WRITES {
        assert_disk_full(&disk, what, write(&db));
        assert_eq!(contents(&db), before, "{on}: after {what}");
    }
    assert_eq!(db.stats().unwrap().log_bytes, log_bytes, "{on}");
    db.sync().unwrap();
    assert!(
        brasa::inspect::check(disk.path(), |_, _| {})
            .unwrap()
            .is_sound()
    );

    // Deletions work, and so does closing, which writes a slot.
    let mut left = before;
    for (delete, gone) in DELETIONS {
        if deletes(&disk, &db, delete) {
            left.retain(|key, _| !gone.contains(&key.as_str()));
        }
        assert_eq!(contents(&db), left, "{on}: after {}", delete.0);
    }
    db.close().unwrap();

    // Opening needs no space.
    let db = open(&disk.path(), durability).unwrap();
    assert_eq!(contents(&db), left, "{on}: opened again");
    if deletes(&disk, &db, ("del", |db| db.del("key-3").map(drop))) {
        left.remove("key-3");
    }
    assert_eq!(
        contents(&db),
        left,
        "{on}: after a del by who opened it full"
    );

    // With space everything goes on in the same handle.
    disk.make_space();
    for (what, write) in WRITES {
        if !what.contains("large value") {
            write(&db).unwrap_or_else(|error| panic!("{on}: {what} with space again: {error}"));
        }
    }
    assert_eq!(db.get("newer").unwrap().unwrap(), b"v");
    let written = contents(&db);
    db.close().unwrap();
    let db = open(&disk.path(), durability).unwrap();
    assert_eq!(
        contents(&db),
        written,
        "{on}: after the disk had space again"
    );

    // And clear on a disk that is full once more.
    disk.fill();
    while db.set("s", "").is_ok() {}
    assert_disk_full(&disk, "set", db.set("s", ""));
    let mut left = contents(&db);
    if deletes(&disk, &db, ("clear", |db| db.clear())) {
        left.clear();
    }
    assert_eq!(contents(&db), left, "{on}: after clear");
    db.close().unwrap();
    let db = open(&disk.path(), durability).unwrap();
    assert_eq!(contents(&db), left, "{on}: opened after clear");
}

/// Whether the deletion went through, which it must.
///
/// Except on a copy-on-write file system, where no file can hold space back for itself: even a byte that
/// changes in one of its blocks takes a new block. There a deletion may be refused as a write is.
fn deletes(disk: &SmallDisk, db: &Db, (what, delete): Operation) -> bool {
    match delete(db) {
        Ok(()) => true,
        Err(refused) if disk.file_system == "btrfs" => {
            assert_disk_full(disk, what, Err(refused));
            false
        }
        Err(refused) => panic!("{}: {what}: {refused}", disk.file_system),
    }
}

#[test]
fn tmpfs_full_under_always() {
    a_full_disk_takes_nothing_and_loses_nothing("tmpfs", Durability::Always);
}

#[test]
fn tmpfs_full_under_os() {
    a_full_disk_takes_nothing_and_loses_nothing("tmpfs", Durability::Os);
}

#[test]
fn ext4_full_under_always() {
    a_full_disk_takes_nothing_and_loses_nothing("ext4", Durability::Always);
}

#[test]
fn ext4_full_under_os() {
    a_full_disk_takes_nothing_and_loses_nothing("ext4", Durability::Os);
}

#[test]
fn xfs_full_under_always() {
    a_full_disk_takes_nothing_and_loses_nothing("xfs", Durability::Always);
}

#[test]
fn btrfs_full_under_always() {
    a_full_disk_takes_nothing_and_loses_nothing("btrfs", Durability::Always);
}

#[test]
fn btrfs_full_under_os() {
    a_full_disk_takes_nothing_and_loses_nothing("btrfs", Durability::Os);
}

#[test]
fn creating_on_a_full_disk_fails_and_leaves_nothing_behind() {
    for file_system in ["tmpfs", "ext4", "xfs", "btrfs"] {
        let Some(disk) = SmallDisk::mount(file_system) else {
            continue;
        };
        disk.fill();
        let names = || std::fs::read_dir(disk.directory()).unwrap().count();
        let before = names();
        match open(&disk.path(), Durability::Always) {
            Err(error @ Error::DiskFull { .. }) => {
                assert!(error.to_string().contains("cache.brasa"), "{error}");
            }
            other => panic!("{file_system}: {other:?}"),
        }
        assert_eq!(names(), before, "{file_system}: something was left behind");
        disk.make_space();
        let db = open(&disk.path(), Durability::Always).unwrap();
        db.set("k", "v").unwrap();
        db.close().unwrap();
    }
}

/// The space that closing gives back may be gone when the file is opened again. What stays in the file
/// must be enough to delete, wherever in a page the log ends.
#[test]
fn a_program_that_starts_on_a_full_disk_can_delete() {
    let Some(disk) = SmallDisk::mount("tmpfs") else {
        return;
    };
    for value_bytes in (0..4096).step_by(8) {
        let db = open(&disk.path(), Durability::Os).unwrap();
        db.set("k", "v").unwrap();
        db.set("filler", vec![b'v'; value_bytes]).unwrap();
        db.close().unwrap();
        disk.fill();
        let db = open(&disk.path(), Durability::Os).unwrap();
        assert_disk_full(&disk, "set", db.set("large", vec![b'v'; 8192]));
        let deleted = db.del("filler");
        assert!(deleted.is_ok(), "{value_bytes}: {deleted:?}");
        let cleared = db.clear();
        assert!(cleared.is_ok(), "{value_bytes}: {cleared:?}");
        db.close().unwrap();
        std::fs::remove_file(disk.path()).unwrap();
        std::fs::remove_file(disk.directory().join("ballast")).unwrap();
    }
}

/// A batch that does not fit leaves no part of itself, after a kill neither.
#[test]
fn no_part_of_a_batch_gets_onto_a_full_disk() {
    let Some(disk) = SmallDisk::mount("tmpfs") else {
        return;
    };
    let db = fill_up(&disk, Durability::Os);
    let before = contents(&db);
    let refused = db.batch(|batch| {
        for number in 0..1000 {
            batch.set(format!("part-{number}"), "v");
        }
    });
    assert_disk_full(&disk, "batch", refused);
    // As it would be found after a kill at this moment: nobody has closed it.
    let copy = disk.place.path().join("copy.brasa");
    std::fs::copy(disk.path(), &copy).unwrap();
    let found = open(&copy, Durability::Os).unwrap();
    assert_eq!(contents(&found), before);
    assert_eq!(found.recovery().torn_bytes, 0);
}

/// The message must help a person who does not know what ENOSPC is.
#[test]
fn the_error_says_what_to_do() {
    let Some(disk) = SmallDisk::mount("tmpfs") else {
        return;
    };
    let db = fill_up(&disk, Durability::Os);
    let said = db.set("k", "v").unwrap_err().to_string();
    assert!(said.contains("full") && said.contains("free"), "{said}");
}

/// With and without a thread in the background, by each way to write a large value again and again.
#[test]
fn overwrites_of_one_large_value_fit_on_a_small_disk() {
    const VALUE_BYTES: usize = 1 << 20;
    type Write = fn(&Db, u32) -> brasa::Result<()>;
    let ways: [(&str, Write); 3] = [
        ("set", |db, round| {
            db.set("k", vec![round.to_le_bytes()[0]; VALUE_BYTES])
        }),
        ("batch", |db, round| {
            db.batch(|b| {
                b.set("k", vec![round.to_le_bytes()[0]; VALUE_BYTES]);
            })
        }),
        ("append", |db, _| db.append("k", "more").map(drop)),
    ];
    for (way, write) in ways {
        let Some(disk) = SmallDisk::mount_of("tmpfs", 64) else {
            return;
        };
        let db = Db::options()
            .durability(Durability::Os)
            .open(disk.path())
            .unwrap();
        db.set("k", vec![7; 12 * VALUE_BYTES]).unwrap();
        for round in 0..100 {
            write(&db, round).unwrap_or_else(|error| panic!("{way} {round}: {error}"));
        }
        db.close().unwrap();
    }
}

/// The disk is full of live data: deletions go on within the reserve, `clear` always does, and the file gets room
/// again without being asked to.
#[test]
fn deletions_and_clear_lead_out_of_a_full_disk() {
    for file_system in ["tmpfs", "ext4"] {
        let Some(disk) = SmallDisk::mount_of(file_system, 8) else {
            continue;
        };
        let db = Db::options()
            .durability(Durability::Os)
            .open(disk.path())
            .unwrap();
        let mut count = 0;
        while db.set(format!("k{count}"), [7; 200]).is_ok() {
            count += 1;
        }
        let reserve_deletions = (count / 10).min(1_300);
        for number in 0..reserve_deletions {
            db.del(format!("k{number}"))
                .unwrap_or_else(|error| panic!("{file_system}: {number} of {count}: {error}"));
        }
        while db.del(format!("k{}", count - 1)).is_ok() && count > 0 {
            count -= 1;
        }
        db.clear()
            .unwrap_or_else(|error| panic!("{file_system}: {error}"));
        db.set("new", [7; 200])
            .unwrap_or_else(|error| panic!("{file_system}: after clear: {error}"));
        db.close().unwrap();
        assert!(std::fs::metadata(disk.path()).unwrap().len() <= 128 << 10);
    }
}

/// What automatic compactions have told.
type Told = std::sync::Arc<Mutex<Vec<String>>>;

#[test]
fn a_compaction_on_a_full_disk_leaves_the_file_says_so_once_and_works_later() {
    for file_system in ["tmpfs", "ext4", "xfs", "btrfs"] {
        let Some(disk) = SmallDisk::mount(file_system) else {
            continue;
        };
        let told = Told::default();
        let listener = std::sync::Arc::clone(&told);
        let options = || {
            let listener = std::sync::Arc::clone(&listener);
            Db::options()
                .durability(Durability::Os)
                .compact_floor_bytes(1_000)
                .on_compaction(move |outcome| {
                    let said = match outcome {
                        Ok(_) => "done".to_owned(),
                        Err(error) => format!("{error:?}"),
                    };
                    listener.lock().unwrap().push(said);
                })
        };
        let db = options().auto_compact(false).open(disk.path()).unwrap();
        for number in 0..60 {
            // What is live would not fit a second time.
            db.set(format!("key-{}", number % 20), vec![b'v'; 8 << 10])
                .unwrap();
        }
        disk.fill();
        let before = contents(&db);
        assert_disk_full(&disk, "compact", db.compact().map(drop));
        assert_eq!(contents(&db), before, "{file_system}");
        let name_count = || std::fs::read_dir(disk.directory()).unwrap().count();
        let before = name_count();
        assert_disk_full(&disk, "compact", db.compact().map(drop));
        assert_eq!(
            name_count(),
            before,
            "{file_system}: something was left behind"
        );
        db.close().unwrap();
        // As a program that lives for a moment would meet it.
        let db = options().open(disk.path()).unwrap();
        if deletes(&disk, &db, ("del", |db| db.del("key-3").map(drop))) {
            let left = contents(&db);
            db.close().unwrap();
            let said = std::mem::take(&mut *told.lock().unwrap());
            assert_eq!(said.len(), 1, "{file_system}: {said:?}");
            assert!(said[0].contains("DiskFull"), "{file_system}: {said:?}");
            assert_eq!(
                name_count(),
                before,
                "{file_system}: something was left behind"
            );
            disk.make_space();
            let db = options().open(disk.path()).unwrap();
            assert_eq!(contents(&db), left, "{file_system}");
            db.set("key-3", "back").unwrap();
            db.close().unwrap();
            assert_eq!(*told.lock().unwrap(), ["done"], "{file_system}");
        }
    }
}

/// No call follows once another program has freed space.
#[test]
fn compaction_that_lacked_space_starts_by_itself_once_there_is_some() {
    let Some(disk) = SmallDisk::mount("tmpfs") else {
        return;
    };
    let (sender, told) = std::sync::mpsc::channel();
    let options = Db::options()
        .durability(Durability::Os)
        .compact_floor_bytes(1_000)
        .on_compaction(move |outcome| {
            let _ = sender.send(outcome.as_ref().map(drop).map_err(ToString::to_string));
        });
    let db = options.open(disk.path()).unwrap();
    for number in 0..60 {
        db.set(format!("key-{number}"), vec![b'v'; 8 << 10])
            .unwrap();
    }
    disk.fill();
    // The live data is nearly half of the file. A copy of it does not fit.
    (0..32).for_each(|number| assert!(db.del(format!("key-{number}")).unwrap()));
    let next = || told.recv_timeout(Duration::from_secs(60));
    let failure = next().expect("a compaction was due").unwrap_err();
    assert!(failure.contains("is full"), "{failure}");
    disk.make_space();
    assert_eq!(
        next(),
        Ok(Ok(())),
        "told of the full disk once, and then of the success"
    );
    assert!(db.stats().unwrap().dead_bytes < 100_000);
    db.close().unwrap();
}

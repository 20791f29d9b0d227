//! Opening: beside a handle that writes a checkpoint as it closes, an empty file, and one whose magic is damaged.
#![cfg(feature = "simulation")]

mod support;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::inspect::{self, RepairOptions};
use brasa::simulation::{Schedule, SimulatedDisk, Step};
use brasa::{Db, Durability, Error, OnDamage, Options};

const PATH: &str = "cache.brasa";

/// So many that the closing handle keeps others from opening the file while it writes its checkpoint.
const KEYS: usize = 40_000;

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

/// Tries to open the file before each operation on the disk.
struct Opener {
    disk: SimulatedDisk,
    options: Options,
    state: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    /// How often the file was locked.
    refused: usize,
    /// How many records each handle replayed that opened the file after that.
    replayed: Vec<u64>,
}

impl Schedule for Opener {
    fn step(&self, _: Step) -> io::Result<()> {
        // Not while it opens the file itself.
        let Ok(mut state) = self.state.try_lock() else {
            return Ok(());
        };
        match self.options.clone().open_on(&self.disk, PATH) {
            Ok(db) if state.refused > 0 => state.replayed.push(db.recovery().record_count),
            Ok(_) => {}
            Err(Error::Locked { .. }) => state.refused += 1,
            Err(error) => panic!("{error}"),
        }
        Ok(())
    }
}

#[test]
fn an_open_that_waited_for_the_checkpoint_of_a_closing_handle_uses_it() {
    for read_only in [true, false] {
        let disk = SimulatedDisk::new(7);
        let db = options().checkpoint_after(u64::MAX);
        let db = db.open_on(&disk, PATH).unwrap();
        db.batch(|batch| {
            for number in 0..KEYS {
                batch.set(format!("key {number}"), "12345678");
            }
        })
        .unwrap();
        db.close().unwrap();
        let db = options().open_on(&disk, PATH).unwrap();
        assert_eq!(db.recovery().record_count, KEYS as u64);
        let opener = Arc::new(Opener {
            disk: disk.clone(),
            options: options()
                .read_only(read_only)
                .checkpoint_after(u64::MAX)
                .lock_timeout(Duration::ZERO),
            state: Mutex::default(),
        });
        disk.schedule(Arc::clone(&opener) as Arc<dyn Schedule>);
        db.close().unwrap();
        let state = opener.state.lock().unwrap();
        assert!(state.refused > 0, "no other handle had to wait");
        assert!(
            !state.replayed.is_empty(),
            "no other handle opened the file"
        );
        assert!(
            state.replayed.iter().all(|count| *count == 0),
            "{:?}",
            state.replayed
        );
    }
}

#[test]
fn an_empty_file_becomes_a_new_one_and_keeps_its_mode() {
    for exclusive in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PATH);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let db = options().exclusive(exclusive).open(&path).unwrap();
        assert!(db.recovery().created);
        db.set("key", "value").unwrap();
        db.close().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let db = options().open(&path).unwrap();
        assert!(!db.recovery().created);
        assert_eq!(db.get("key").unwrap().unwrap(), b"value");
        let names = fs::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 1);
    }
}

#[test]
fn an_open_that_may_not_create_a_file_refuses_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(PATH);
    fs::write(&path, "").unwrap();
    for refused in [
        options().read_only(true).open(&path).map(drop),
        options().create(false).open(&path).map(drop),
        inspect::check(&path, |_, _| {}).map(drop),
        inspect::records(&path).map(drop),
        inspect::repair(&path, &RepairOptions::new()).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::NotABrasaFile { .. }), "{error}");
        assert!(error.to_string().contains("it is empty"), "{error}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn handles_that_open_an_empty_file_at_once_share_one_new_file() {
    const HANDLES: usize = 8;
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PATH);
        fs::write(&path, "").unwrap();
        let barrier = std::sync::Barrier::new(HANDLES);
        std::thread::scope(|scope| {
            for number in 0..HANDLES {
                let (path, barrier) = (&path, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let db = options().open(path).unwrap();
                    db.set(format!("key {number}"), "value").unwrap();
                    db.close().unwrap();
                });
            }
        });
        let db = options().open(&path).unwrap();
        assert_eq!(db.len().unwrap(), HANDLES as u64);
    }
}

/// A file with one key, in which `damage` was done.
fn damaged(path: &Path, damage: impl Fn(&mut [u8])) {
    let db = options().open(path).unwrap();
    db.set("key", "value").unwrap();
    db.close().unwrap();
    let mut bytes = fs::read(path).unwrap();
    damage(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_magic_is_damage_that_repair_and_salvage_mend() {
    let wipe_magic: fn(&mut [u8]) = |bytes| bytes[..8].fill(0);
    let flip_first: fn(&mut [u8]) = |bytes| bytes[0] ^= 1;
    let text_mode: fn(&mut [u8]) = |bytes| bytes[6] = b'\n';
    for damage in [wipe_magic, flip_first, text_mode] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PATH);
        damaged(&path, damage);
        for refused in [
            options().open(&path).map(drop),
            options().read_only(true).open(&path).map(drop),
            inspect::records(&path).map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Corrupt { offset: 0, .. }), "{error}");
            assert!(error.to_string().contains("brasa\\r\\n"), "{error}");
        }
        let report = inspect::check(&path, |_, _| {}).unwrap();
        assert!(!report.is_sound());
        assert_eq!((report.damaged[0].offset, report.record_count), (0, 1));
        let report = inspect::repair(&path, &RepairOptions::new()).unwrap();
        let db = options().open(report.output.unwrap()).unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), b"value");
        let db = options().on_damage(OnDamage::Salvage).open(&path).unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), b"value");
        assert!(db.recovery().salvaged.is_some());
    }
}

#[test]
fn a_damaged_magic_of_a_newer_version_is_refused_by_the_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(PATH);
    damaged(&path, |bytes| {
        bytes[8] = 2;
        let sealed = support::format::crc32(&[&bytes[..4_092]]).to_le_bytes();
        bytes[4_092..4_096].copy_from_slice(&sealed);
        bytes[0] = 0;
    });
    let refused = options().open(&path).unwrap_err();
    assert!(
        matches!(refused, Error::UnsupportedVersion { .. }),
        "{refused}"
    );
}

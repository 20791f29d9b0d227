//! Opening a damaged file, or one whose place cannot be written, by those who asked for a database
//! rather than an error.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use brasa::{Db, Error, Fallback, OnDamage, inspect};

const LOG_START: usize = 12_288;

/// A file with the keys `a` and `b`, in which the record of `a` is damaged.
fn damaged_file(directory: &Path) -> PathBuf {
    let path = directory.join("cache.brasa");
    let db = Db::open(&path).unwrap();
    db.set("a", "1").unwrap();
    db.set("b", "2").unwrap();
    db.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[LOG_START + 33] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    path
}

fn salvaging() -> brasa::Options {
    Db::options().on_damage(OnDamage::Salvage)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

#[test]
fn damage_is_an_error_unless_salvage_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = damaged_file(directory.path());
    let before = std::fs::read(&path).unwrap();
    let refused = Db::options().fallback(Fallback::Memory).open(&path);
    assert!(matches!(refused, Err(Error::Corrupt { .. })));
    assert!(std::fs::read(&path).unwrap() == before);

    let db = salvaging().open(&path).unwrap();
    assert!(!db.exists("a").unwrap());
    assert_eq!(db.get("b").unwrap().unwrap(), b"2");
    db.set("c", "3").unwrap();
    let report = db.recovery().salvaged.clone().unwrap();
    assert_eq!(report.damaged[0].lost[0].kind, "set");
    assert_eq!(report.kept_record_count, 1);
    assert_eq!(db.recovery().fallback, Fallback::None);
    let original = report.original.unwrap();
    assert!(std::fs::read(original).unwrap() == before);
    db.close().unwrap();

    let db = salvaging().open(&path).unwrap();
    assert!(db.recovery().salvaged.is_none());
    assert_eq!(db.len().unwrap(), 2);
}

#[test]
fn a_file_of_which_nothing_is_left_begins_anew_and_is_kept() {
    for damage in ["log", "header", "short"] {
        let directory = tempfile::tempdir().unwrap();
        let path = damaged_file(directory.path());
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            "log" => bytes[LOG_START..].fill(0xff),
            "header" => bytes[8..].fill(0xff),
            _ => bytes.truncate(100),
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(inspect::repair(&path, &inspect::RepairOptions::new()).is_err());
        let db = salvaging().open(&path).unwrap();
        assert!(db.is_empty().unwrap());
        let report = db.recovery().salvaged.clone().unwrap();
        assert!(report.lost_bytes() > 0, "{damage}");
        let original = report.original.unwrap();
        assert!(std::fs::read(original).unwrap() == bytes, "{damage}");
        db.set("k", "v").unwrap();
        db.close().unwrap();
        assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "not a database").unwrap();
    let refused = salvaging().fallback(Fallback::Memory).open(&path);
    assert!(matches!(refused, Err(Error::NotABrasaFile { .. })));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_poisoned_file_is_copied_into_one_that_takes_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::copy(golden("v1-poisoned.brasa"), &path).unwrap();
    let db = salvaging().open(&path).unwrap();
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    db.set("chave_1", "again").unwrap();
    let report = db.recovery().salvaged.clone().unwrap();
    assert_eq!(report.poisoned.as_deref(), Some("Input/output error"));
    assert!(report.damaged.is_empty());
}

#[test]
fn reading_only_salvages_into_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = damaged_file(directory.path());
    let db = salvaging().read_only(true).open(&path).unwrap();
    assert_eq!(db.get("b").unwrap().unwrap(), b"2");
    assert!(matches!(db.set("b", "3"), Err(Error::ReadOnly { .. })));
    let report = db.recovery().salvaged.clone().unwrap();
    assert_eq!((report.output, report.original), (None, None));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_file_that_somebody_has_is_no_reason_to_fall_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let _db = Db::options().exclusive(true).open(&path).unwrap();
    let refused = salvaging()
        .exclusive(true)
        .fallback(Fallback::Memory)
        .lock_timeout(std::time::Duration::from_millis(1))
        .open(&path);
    assert!(matches!(refused, Err(Error::Locked { .. })));
}

#[test]
fn a_place_that_cannot_be_written_is_fallen_back_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = damaged_file(directory.path());
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(directory.path(), 0o500);
    set_mode(&path, 0o400);
    let is_superuser = std::fs::OpenOptions::new().write(true).open(&path).is_ok();
    if is_superuser {
        eprintln!("SKIPPED: the superuser may write everywhere, run this test as somebody else");
    } else {
        let refused = salvaging().open(&path);
        assert!(matches!(refused, Err(Error::Io { .. })));

        let db = salvaging()
            .fallback(Fallback::ReadOnly)
            .open(&path)
            .unwrap();
        assert_eq!(db.get("b").unwrap().unwrap(), b"2");
        assert!(matches!(db.set("b", "3"), Err(Error::ReadOnly { .. })));
        assert_eq!(db.recovery().fallback, Fallback::ReadOnly);
        assert!(db.recovery().salvaged.is_some());
        drop(db);

        let db = salvaging().fallback(Fallback::Memory).open(&path).unwrap();
        assert!(db.is_empty().unwrap());
        db.set("b", "3").unwrap();
        assert_eq!(db.recovery().fallback, Fallback::Memory);
        let reason = db.recovery().fallback_reason.clone().unwrap();
        assert!(reason.contains("cache.brasa"), "{reason}");

        let missing = directory.path().join("missing");
        let refused = salvaging().fallback(Fallback::ReadOnly).open(&missing);
        assert!(matches!(refused, Err(Error::Io { .. })));
    }
    set_mode(directory.path(), 0o700);
}

#[cfg(feature = "simulation")]
mod simulated {
    use std::io;

    use brasa::Durability;
    use brasa::simulation::{
        Fault, FaultyOperation, Image, Loss, Mutation, SimulatedDisk, with_mutation,
    };

    use super::*;

    const NAME: &str = "cache.brasa";

    /// A disk with a damaged file on it, and that file.
    fn disk() -> (SimulatedDisk, Vec<u8>) {
        let disk = SimulatedDisk::new(3);
        let db = Db::options().open_on(&disk, NAME).unwrap();
        for number in 0..6 {
            db.set(format!("key {number}"), "value").unwrap();
        }
        db.close().unwrap();
        let mut image = disk.killed_image(disk.operation_count());
        let bytes = image.file_mut(NAME).unwrap();
        bytes[LOG_START + 33] ^= 1;
        let bytes = bytes.clone();
        (image.restart(4), bytes)
    }

    fn salvage(disk: &SimulatedDisk) -> brasa::Result<Db> {
        salvaging()
            .durability(Durability::Always)
            .open_on(disk, NAME)
    }

    /// Whenever the power goes, the original is there whole, under one name or another, and
    /// salvage can begin again.
    #[test]
    fn a_power_loss_at_any_point_of_a_salvage_loses_nothing() {
        let tried = lose_power_everywhere().unwrap();
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn a_salvage_that_is_broken_on_purpose_is_noticed() {
        for mutation in [Mutation::NameBeforeSync, Mutation::SkipDirectorySync] {
            let broken = with_mutation(mutation, lose_power_everywhere);
            assert!(broken.is_err(), "{mutation:?}");
        }
    }

    /// How many states were tried, or what is wrong in one.
    fn lose_power_everywhere() -> Result<usize, String> {
        let (disk, original) = disk();
        let db = salvage(&disk).unwrap();
        assert_eq!(db.len().unwrap(), 5);
        db.set("acknowledged", "1").unwrap();
        let end = disk.operation_count();
        std::mem::forget(db);
        let mut tried = 0;
        for upto in 0..=end {
            let crash = disk.crash_at(upto);
            let mut losses = vec![Loss::All, Loss::Nothing, Loss::Data, Loss::Size];
            for index in 0..crash.unsynced_lengths().len() {
                losses.extend([Loss::One(index), Loss::AllBut(index), Loss::From(index)]);
                losses.push(Loss::Torn(index, 16));
            }
            let names = crash.unsynced_names();
            for loss in losses {
                let garbage = [0xa5; 20_000];
                let prefixes = (0..=names).map(|names| crash.image(loss, names, 9, &garbage));
                let others =
                    (0..names).map(|name| crash.image_without_name(loss, name, 9, &garbage));
                for image in prefixes.chain(others) {
                    judge(&image, &original, upto == end)
                        .map_err(|wrong| format!("{wrong} at {upto}, {loss:?}"))?;
                    tried += 1;
                }
            }
        }
        Ok(tried)
    }

    /// Whether what a power loss left is as it must be.
    fn judge(image: &Image, original: &[u8], acknowledged: bool) -> Result<(), String> {
        let kept = (0..9).filter_map(|number| image.file(format!("{NAME}.damaged-{number}")));
        if !kept.chain(image.file(NAME)).any(|file| file == original) {
            return Err("the original is gone".to_owned());
        }
        let db = salvage(&image.restart(5)).map_err(|error| error.to_string())?;
        let is_there = db.exists("acknowledged").unwrap();
        if acknowledged && !is_there {
            return Err("what was acknowledged is gone".to_owned());
        }
        match db.len().unwrap() - u64::from(is_there) {
            5 => Ok(()),
            count => Err(format!("{count} keys are left")),
        }
    }

    /// An error at any operation is reported, and leaves the original where it can be found.
    #[test]
    fn an_error_at_any_point_of_a_salvage_loses_nothing() {
        let mut refused_count = 0;
        for after in 0.. {
            let (disk, original) = disk();
            disk.inject(Fault::new(io::ErrorKind::Other).after(after));
            let opened = salvage(&disk);
            let struck = disk.fault_count() > 0;
            disk.heal();
            refused_count += u32::from(opened.is_err());
            drop(opened);
            let image = disk.killed_image(disk.operation_count());
            let kept = (0..9).filter_map(|number| image.file(format!("{NAME}.damaged-{number}")));
            assert!(
                kept.chain(image.file(NAME)).any(|file| file == original),
                "{after}"
            );
            let db = salvage(&disk).unwrap();
            assert_eq!(db.len().unwrap(), 5, "{after}");
            if !struck {
                break;
            }
        }
        assert!(refused_count > 15, "{refused_count}");
    }

    #[test]
    fn a_full_disk_is_fallen_back_from() {
        for fallback in [Fallback::ReadOnly, Fallback::Memory] {
            let (disk, _) = disk();
            disk.inject(
                Fault::new(io::ErrorKind::StorageFull)
                    .operation(FaultyOperation::Allocate)
                    .lasting(true),
            );
            assert!(salvage(&disk).is_err());
            let db = salvaging().fallback(fallback).open_on(&disk, NAME).unwrap();
            assert_eq!(db.recovery().fallback, fallback);
            let expected = if fallback == Fallback::Memory { 0 } else { 5 };
            assert_eq!(db.len().unwrap(), expected);
        }
    }
}

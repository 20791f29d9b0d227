//! `cp` over a file that handles have open: the inode stays, and everything else is another file's. Every
//! handle says so, and none of them changes a byte of what was copied there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use brasa::{Cache, Db, Durability, Error, Options, inspect};

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

struct Files {
    _directory: tempfile::TempDir,
    path: PathBuf,
    backup: PathBuf,
}

fn files() -> Files {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let backup = directory.path().join("backup.brasa");
    Files {
        _directory: directory,
        path,
        backup,
    }
}

fn is_overwritten<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Overwritten { .. }))
}

/// Writes other bytes over a file, as `cp` does, but without the moment in which the file is empty: a handle that
/// looks at its mapping then is killed by SIGBUS, which is documented.
fn copy_over(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(to).unwrap();
    file.write_all(&bytes).unwrap();
    let len = bytes.len() as u64;
    if file.metadata().unwrap().len() < len {
        file.set_len(len).unwrap();
    }
}

fn fill(db: &Db, value: &str) {
    for number in 0..300 {
        db.set(format!("key {number}"), format!("{value} {number:03}"))
            .unwrap();
    }
}

/// Each way in which a backup may differ from the file that it is copied over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backup {
    /// Another file, with the same keys and lengths of values.
    OtherFileOfTheSameLayout,
    /// Another file, much shorter.
    ShortFile,
    /// An earlier state of the same file, before some syncs.
    EarlierState,
    /// An earlier state of the same file, with the same slots.
    EarlierStateOfTheSameSlots,
    /// What a compaction made of the file.
    CompactedCopy,
}

const BACKUPS: [Backup; 5] = [
    Backup::OtherFileOfTheSameLayout,
    Backup::ShortFile,
    Backup::EarlierState,
    Backup::EarlierStateOfTheSameSlots,
    Backup::CompactedCopy,
];

/// Writes the file and its backup by a handle, lets the readers look, and copies the backup over the file.
fn overwrite(backup: Backup, files: &Files, db: &Db, readers: &[&Db]) {
    let Files {
        path, backup: copy, ..
    } = files;
    match backup {
        Backup::OtherFileOfTheSameLayout => {
            let other = options().open(copy).unwrap();
            fill(&other, "old");
            other.close().unwrap();
            fill(db, "new");
        }
        Backup::ShortFile => {
            let other = options().open(copy).unwrap();
            other.set("key 7", "old 007").unwrap();
            other.close().unwrap();
            fill(db, "new");
        }
        Backup::EarlierState => {
            fill(db, "old");
            fs::copy(path, copy).unwrap();
            for _ in 0..3 {
                db.set("key 7", "new").unwrap();
                db.sync().unwrap();
            }
        }
        Backup::EarlierStateOfTheSameSlots => {
            fill(db, "old");
            db.sync().unwrap();
            fs::copy(path, copy).unwrap();
            db.set("key 7", "new").unwrap();
        }
        Backup::CompactedCopy => {
            fill(db, "old");
            db.backup(copy).unwrap();
            db.set("key 7", "new").unwrap();
        }
    }
    for reader in readers {
        assert!(reader.exists("key 7").unwrap());
    }
    copy_over(copy, path);
}

#[test]
fn a_handle_says_that_its_file_was_overwritten_and_changes_nothing_of_it() {
    for backup in BACKUPS {
        for exclusive in [true, false] {
            let files = files();
            let db = options().exclusive(exclusive).open(&files.path).unwrap();
            overwrite(backup, &files, &db, &[]);
            let before = fs::read(&files.path).unwrap();
            let name = format!("{backup:?}, exclusive {exclusive}");
            assert!(is_overwritten(&db.set("lost", "1")), "{name}");
            assert!(is_overwritten(&db.incr_by("lost", 1)), "{name}");
            assert!(is_overwritten(&db.sync()), "{name}");
            assert!(is_overwritten(&db.checkpoint()), "{name}");
            assert!(is_overwritten(&db.compact()), "{name}");
            assert!(is_overwritten(&db.get("key 7")), "{name}");
            assert!(is_overwritten(&db.len()), "{name}");
            assert!(is_overwritten(&db.stats()), "{name}");
            assert!(is_overwritten(&db.watch().map(drop)), "{name}");
            let copy = files.path.with_extension("copy");
            assert!(is_overwritten(&db.backup(copy)), "{name}");
            let refused = db.set("lost", "1").unwrap_err().to_string();
            assert!(refused.contains("overwritten in place"), "{refused}");
            assert!(is_overwritten(&db.close()), "{name}");
            let after = fs::read(&files.path).unwrap();
            assert!(before == after, "{name}: the file was changed");
            assert!(inspect::check(&files.path, |_, _| {}).unwrap().is_sound());
            let reopened = options().open(&files.path).unwrap();
            assert_eq!(reopened.get("key 7").unwrap().unwrap(), "old 007", "{name}");
            reopened.set("on it goes", "1").unwrap();
        }
    }
}

#[test]
fn a_read_tells_of_a_file_that_was_overwritten_before_anything_was_written() {
    for backup in BACKUPS {
        for read_only in [true, false] {
            let files = files();
            let db = options().open(&files.path).unwrap();
            let reader = options().read_only(read_only).open(&files.path).unwrap();
            let checked = options().read_only(read_only).open(&files.path).unwrap();
            overwrite(backup, &files, &db, &[&reader, &checked]);
            let name = format!("{backup:?}, read only {read_only}");
            assert!(is_overwritten(&reader.get("key 7")), "{name}");
            assert!(is_overwritten(&checked.keys().next().unwrap()), "{name}");
            assert!(is_overwritten(&db.get("key 7")), "{name}");
            // Closing changes nothing either.
            let before = fs::read(&files.path).unwrap();
            drop((db, reader, checked));
            assert!(before == fs::read(&files.path).unwrap(), "{name}");
        }
    }
}

/// Nobody can tell whether the copy is complete, so that it is not opened by itself.
#[test]
fn a_new_handle_sees_the_copy_and_the_old_one_goes_on_to_refuse() {
    let files = files();
    let old = options().open(&files.path).unwrap();
    overwrite(Backup::EarlierState, &files, &old, &[]);
    let new = options().open(&files.path).unwrap();
    assert_eq!(new.get("key 7").unwrap().unwrap(), "old 007");
    for number in 0..100 {
        new.set(format!("new {number}"), [b'n'; 500]).unwrap();
        new.sync().unwrap();
        assert!(is_overwritten(&old.get("key 7")));
        assert!(is_overwritten(&old.set("key 7", "lost")));
    }
    drop(old);
    new.close().unwrap();
    assert_eq!(options().open(&files.path).unwrap().len().unwrap(), 400);
}

/// What others sync and compact is no overwriting.
#[test]
fn slots_that_other_handles_write_are_not_mistaken_for_a_copy() {
    let files = files();
    let (one, other) = (
        options().open(&files.path).unwrap(),
        options().open(&files.path).unwrap(),
    );
    let reader = options().read_only(true).open(&files.path).unwrap();
    for number in 0..50 {
        let (writer, syncs) = if number % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        writer.set("key", number.to_string()).unwrap();
        syncs.sync().unwrap();
        match number % 5 {
            0 => writer.checkpoint().unwrap(),
            1 => _ = syncs.compact().unwrap(),
            _ => {}
        }
        for db in [&one, &other, &reader] {
            assert_eq!(db.get("key").unwrap().unwrap(), number.to_string());
        }
    }
}

/// A thread read the slots, another one wrote two newer ones, and what the first had read was taken for an earlier
/// state of the file.
#[test]
fn slots_that_another_thread_writes_during_a_look_are_not_mistaken_for_a_copy() {
    const SYNCS: usize = 1_000;
    const READERS: usize = 4;
    let files = files();
    let (db, other) = (
        options().open(&files.path).unwrap(),
        options().open(&files.path).unwrap(),
    );
    db.set("key", "0").unwrap();
    let syncing = AtomicUsize::new(2);
    let sync = |db: &Db| -> Result<(), Error> {
        let synced = (0..SYNCS).try_for_each(|number| {
            db.set("key", number.to_string())?;
            db.sync()
        });
        syncing.fetch_sub(1, Ordering::Relaxed);
        synced
    };
    let read = || -> Result<(), Error> {
        while syncing.load(Ordering::Relaxed) > 0 {
            db.get("key")?;
        }
        Ok(())
    };
    let outcomes: Vec<Result<(), Error>> = thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| sync(&db)), scope.spawn(|| sync(&other))];
        threads.extend((0..READERS).map(|_| scope.spawn(read)));
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for outcome in outcomes {
        outcome.unwrap();
    }
}

#[test]
fn a_cache_goes_on_without_its_file() {
    let files = files();
    let cache = Cache::options().open(&files.path).unwrap();
    let other = Cache::options().open(&files.backup).unwrap();
    other.insert("key", &"1".to_owned()).unwrap();
    drop(other);
    cache.insert("key", &"2".to_owned()).unwrap();
    copy_over(&files.backup, &files.path);
    let computed = cache.get_or_insert_with("key", || Ok::<_, Error>("3".to_owned()));
    assert_eq!(computed.unwrap(), "3");
    assert!(cache.insert("key", &"4".to_owned()).is_err());
    drop(cache);
    let reopened = Cache::options().open(&files.path).unwrap();
    assert_eq!(reopened.get::<String>("key").unwrap().as_deref(), Some("1"));
}

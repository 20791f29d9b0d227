use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::clock::Patience;

/// Every property is held by the real disk and by the one in memory.
fn on_each(test: impl Fn(&dyn Storage, PathBuf)) {
    let directory = tempfile::tempdir().unwrap();
    test(&DiskStorage, directory.path().join("file"));
    test(&MemoryStorage::default(), PathBuf::from("file"));
}

fn create(storage: &dyn Storage, path: &Path) -> Arc<dyn StorageFile> {
    let temporary = storage.create_temporary(path).unwrap();
    let file = temporary.file();
    temporary.persist_new(path).unwrap();
    file
}

#[test]
fn a_file_takes_a_name_only_if_it_is_free() {
    on_each(|storage, path| {
        create(storage, &path).write_at(b"first", 0).unwrap();
        let second = storage.create_temporary(&path).unwrap();
        let refused = second.persist_new(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let mut contents = [0; 5];
        let file = storage.open(&path, Access::Read).unwrap();
        assert_eq!(file.read_at(&mut contents, 0).unwrap(), 5);
        assert_eq!(&contents, b"first");
    });
}

#[test]
fn a_file_keeps_a_further_name_when_its_own_is_taken() {
    on_each(|storage, path| {
        let first = create(storage, &path);
        let further = path.with_extension("further");
        storage.link_new(&path, &further).unwrap();
        let refused = storage.link_new(&path, &further).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);

        let second = storage.create_temporary(&path).unwrap();
        let second_id = second.file().id().unwrap();
        second.replace(&path).unwrap();
        let id = |path: &Path| storage.open(path, Access::Read).unwrap().id().unwrap();
        assert_eq!(id(&further), first.id().unwrap());
        assert_eq!(id(&path), second_id);
        assert_ne!(id(&path), id(&further));
    });
}

#[test]
fn a_file_takes_the_mode_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = create(&DiskStorage, &path);
    let own = file.attributes().unwrap().unwrap();
    let wanted = Attributes { mode: 0o640, ..own };
    file.set_attributes(wanted.clone()).unwrap();
    assert_eq!(file.attributes().unwrap(), Some(wanted));
}

#[test]
fn a_temporary_file_that_got_no_name_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    drop(
        DiskStorage
            .create_temporary(&directory.path().join("file"))
            .unwrap(),
    );
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_opened_for_reading_cannot_be_written() {
    on_each(|storage, path| {
        create(storage, &path);
        let file = storage.open(&path, Access::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(storage.open(&path.join("none"), Access::Read).is_err());
    });
}

#[test]
fn a_mapping_shows_what_is_written_later() {
    on_each(|storage, path| {
        let file = create(storage, &path);
        file.allocate(4096).unwrap();
        let mapping = file.map(1 << 20).unwrap();
        assert_eq!(mapping.word(8), Some([0; 8]));
        file.write_at(b"abcdefgh", 8).unwrap();
        assert_eq!(mapping.word(8), Some(*b"abcdefgh"));
        assert_eq!(mapping.bytes(10, 2), Some(&b"cd"[..]));
    });
}

#[test]
fn a_mapping_is_not_read_beyond_the_file() {
    on_each(|storage, path| {
        let file = create(storage, &path);
        file.allocate(4096).unwrap();
        let mapping = file.map(64 << 10).unwrap();
        assert!(mapping.bytes(4090, 6).is_some());
        assert_eq!(mapping.bytes(4090, 7), None);
        assert_eq!(mapping.bytes(u64::MAX, 1), None);
        assert_eq!(mapping.word(4096), None);
        file.allocate(8192).unwrap();
        mapping.set_readable(8192);
        assert_eq!(mapping.word(4096), Some([0; 8]));
    });
}

#[test]
fn an_outgrown_mapping_keeps_its_bytes_and_says_that_it_is_outgrown() {
    on_each(|storage, path| {
        let file = create(storage, &path);
        file.write_at(b"published", 0).unwrap();
        let mapping = file.map(4096).unwrap();
        let kept = mapping.bytes(0, 9).unwrap();
        file.allocate(1 << 20).unwrap();
        file.write_at(b"later", 1 << 19).unwrap();
        assert!(!mapping.covers(1 << 20));
        assert!(file.map(1 << 20).unwrap().covers(1 << 20));
        mapping.rest();
        assert_eq!(kept, b"published");
    });
}

#[test]
fn a_cut_file_reads_as_zeros_when_it_grows_again() {
    on_each(|storage, path| {
        let file = create(storage, &path);
        file.write_at(b"abcdef", 0).unwrap();
        file.truncate(2).unwrap();
        file.allocate(6).unwrap();
        let mut contents = [1; 8];
        assert_eq!(file.read_at(&mut contents, 0).unwrap(), 6);
        assert_eq!(&contents[..6], b"ab\0\0\0\0");
    });
}

#[test]
fn a_lock_excludes_other_handles_and_ends_with_its_own() {
    on_each(|storage, path| {
        let first = create(storage, &path);
        let second = storage.open(&path, Access::ReadWrite).unwrap();
        assert!(
            first
                .try_lock(LockByte::Writer, LockMode::Exclusive)
                .unwrap()
        );
        assert!(
            first
                .try_lock(LockByte::Writer, LockMode::Exclusive)
                .unwrap()
        );
        assert!(
            !second
                .try_lock(LockByte::Writer, LockMode::Exclusive)
                .unwrap()
        );
        assert!(!second.try_lock(LockByte::Writer, LockMode::Shared).unwrap());
        assert!(
            second
                .try_lock(LockByte::Sync, LockMode::Exclusive)
                .unwrap()
        );
        drop(first);
        assert!(
            second
                .try_lock(LockByte::Writer, LockMode::Exclusive)
                .unwrap()
        );
        second.unlock(LockByte::Writer).unwrap();
        let third = storage.open(&path, Access::ReadWrite).unwrap();
        assert!(second.try_lock(LockByte::Users, LockMode::Shared).unwrap());
        assert!(third.try_lock(LockByte::Users, LockMode::Shared).unwrap());
        assert!(
            !third
                .try_lock(LockByte::Users, LockMode::Exclusive)
                .unwrap()
        );
        let waited = acquire(
            &*third,
            LockByte::Users,
            LockMode::Exclusive,
            &mut Patience::new(Duration::from_millis(1)),
        );
        assert!(!waited.unwrap());
    });
}

/// A file of zeros with a window from its second page on, where there are windows: on a file system that is not known to be safe there is none.
#[cfg(target_os = "linux")]
fn with_window(test: impl Fn(&dyn StorageFile, Window)) {
    let directory = tempfile::tempdir().unwrap();
    let file = create(&DiskStorage, &directory.path().join("file"));
    // A hole, as a copy of a file may have one: the window is to fill it.
    file.write_at(&[0], (1 << 20) - 1).unwrap();
    match file.window(4096, 8192) {
        Some(window) => test(&*file, window),
        None => say_there_are_no_windows(directory.path()),
    }
}

#[cfg(target_os = "linux")]
fn say_there_are_no_windows(directory: &Path) {
    use std::io::Write;
    // Not by `eprintln!`, which a passing test keeps to itself.
    let name = directory.display();
    let _ = writeln!(
        io::stderr(),
        "NOT RUN: the file system of {name} has no windows"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_published_through_a_window_is_in_the_file() {
    with_window(|file, window| {
        let mapping = file.map(1 << 20).unwrap();
        let commit: Vec<u8> = (1..=120).collect();
        assert!(window.publish(&commit, 4104));
        assert_eq!(mapping.bytes(4104, 120).unwrap(), commit);
        let mut written = vec![1; 136];
        assert_eq!(file.read_at(&mut written, 4096).unwrap(), 136);
        assert_eq!(written[..8], [0; 8]);
        assert_eq!(written[8..128], commit);
        assert_eq!(written[128..], [0; 8]);
        // One word alone, and the very last one.
        assert!(window.publish(&[7; 8], 4096 + 8192 - 8));
        assert_eq!(mapping.word(4096 + 8192 - 8), Some([7; 8]));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_window_writes_nothing_outside_of_itself() {
    with_window(|file, window| {
        for (offset, len) in [(4088, 16), (4096 + 8192 - 8, 16), (0, 8), (1 << 40, 8)] {
            assert!(!window.publish(&vec![7; len], offset), "{offset} {len}");
        }
        // No whole words, or not at one.
        assert!(!window.publish(&[7; 12], 4096));
        assert!(!window.publish(&[7; 8], 4100));
        assert!(!window.publish(&[], 4096));
        assert!(!window.publish(&[7; 8], u64::MAX - 7));
        let mut contents = vec![1; 1 << 20];
        assert_eq!(file.read_at(&mut contents, 0).unwrap(), 1 << 20);
        assert!(contents.iter().all(|byte| *byte == 0));
    });
}

/// Behind a window there must be space, or a full disk is a SIGBUS: also where the file had a hole.
#[test]
#[cfg(target_os = "linux")]
fn a_window_has_its_space_on_the_device() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = create(&DiskStorage, &path);
    file.write_at(&[0], (1 << 20) - 1).unwrap();
    let blocks = || std::fs::metadata(&path).unwrap().blocks();
    let before = blocks();
    match file.window(0, 512 << 10) {
        Some(_) => assert!(blocks() - before >= (512 << 10) / 512),
        None => say_there_are_no_windows(directory.path()),
    }
}

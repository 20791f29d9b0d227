//! A handle that only reads sees what is written after overlayfs has copied the file to its upper layer.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use brasa::{ChangeKind, Db, Durability, Options};

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).output();
    status.is_ok_and(|output| output.status.success())
}

/// A file in the lower layer of an overlay, which is mounted until this is dropped.
struct Overlay {
    directory: tempfile::TempDir,
}

impl Overlay {
    /// `None`, and a line that says so, where this process may mount no overlay.
    fn with_file(fill: impl FnOnce(&Db)) -> Option<Overlay> {
        let directory = tempfile::tempdir().unwrap();
        let base = &directory.path().to_str().unwrap().to_owned();
        // The upper layer has a file system of its own: an overlay cannot lie upon another one.
        if !run("mount", &["-t", "tmpfs", "none", base]) {
            eprintln!("SKIPPED: this process may mount no tmpfs");
            return None;
        }
        let overlay = Overlay { directory };
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(overlay.directory.path().join(name)).unwrap();
        }
        let layers = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
        fill(&options().open(overlay.join("lower/x.brasa")).unwrap());
        let merged = format!("{base}/merged");
        if !run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &layers, &merged],
        ) {
            eprintln!("SKIPPED: this process may mount no overlay");
            return None;
        }
        Some(overlay)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn path(&self) -> PathBuf {
        self.join("merged/x.brasa")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for mounted in [self.join("merged"), self.directory.path().to_owned()] {
            run("umount", &["--lazy", mounted.to_str().unwrap()]);
        }
    }
}

fn reader(path: &Path) -> Db {
    options().read_only(true).open(path).unwrap()
}

/// Waits until the reader has a value for the key: it looks at intervals.
fn wait_for(reader: &Db, key: &str, value: &[u8]) {
    let begun = Instant::now();
    while reader.get(key).unwrap().as_deref() != Some(value) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{key} stays away"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn reader_sees_commits_after_the_copy_up() {
    let Some(overlay) = Overlay::with_file(|db| db.set("old", "1").unwrap()) else {
        return;
    };
    let reader = reader(&overlay.path());
    assert_eq!(reader.get("old").unwrap().unwrap(), b"1");
    let writer = options().open(overlay.path()).unwrap();
    writer.set("new", "2").unwrap();
    wait_for(&reader, "new", b"2");
    assert_eq!(reader.get("old").unwrap().unwrap(), b"1");
    writer.set("old", "3").unwrap();
    // The mapping shows the upper file by now.
    assert_eq!(reader.get("old").unwrap().unwrap(), b"3");
}

#[test]
fn reader_sees_commits_of_a_file_that_outgrew_the_lower_one() {
    let Some(overlay) = Overlay::with_file(|db| db.set("old", "1").unwrap()) else {
        return;
    };
    let reader = reader(&overlay.path());
    let writer = options().open(overlay.path()).unwrap();
    for round in 0..40 {
        let value = vec![round; 300_000];
        writer.set(format!("key {round}"), &value).unwrap();
        if round % 8 == 0 {
            wait_for(&reader, &format!("key {round}"), &value);
        }
    }
    wait_for(&reader, "key 39", &vec![39; 300_000]);
    assert_eq!(reader.len().unwrap(), 41);
}

#[test]
fn reader_follows_a_compaction_in_the_upper_layer() {
    let Some(overlay) = Overlay::with_file(|db| db.set("old", "1").unwrap()) else {
        return;
    };
    let reader = reader(&overlay.path());
    for round in ["1", "2", "3"] {
        let writer = options().open(overlay.path()).unwrap();
        writer.set("new", round).unwrap();
        writer.compact().unwrap();
        wait_for(&reader, "new", round.as_bytes());
    }
}

#[test]
fn watch_goes_on_across_the_copy_up_without_a_gap() {
    let Some(overlay) = Overlay::with_file(|db| db.set("old", "1").unwrap()) else {
        return;
    };
    let reader = reader(&overlay.path());
    let mut watch = reader.watch().unwrap();
    let writer = options().open(overlay.path()).unwrap();
    for key in ["a", "b"] {
        writer.set(key, "2").unwrap();
        let change = watch.wait(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(
            (change.kind, &*change.key),
            (ChangeKind::Set, key.as_bytes())
        );
    }
    assert!(watch.next().is_none());
}

#[test]
fn lower_file_that_ends_at_the_tail_is_read_although_the_upper_one_has_grown() {
    let Some(overlay) = Overlay::with_file(|db| {
        let room = 8_192 - 200;
        db.set("old", vec![1; room]).unwrap();
    }) else {
        return;
    };
    let lower = overlay.path();
    let reader = reader(&lower);
    let writer = options().open(&lower).unwrap();
    writer.set("new", vec![2; 3_000_000]).unwrap();
    wait_for(&reader, "new", &vec![2; 3_000_000]);
    assert_eq!(reader.get("old").unwrap().unwrap().len(), 8_192 - 200);
}

//! `brasa compact` and `brasa backup`, run as their users run them.
#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use brasa::Db;
use support::program::{Expected, Run, contains, is_empty};

mod support;

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// A directory with a file of which nearly everything is dead.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Db::options().auto_compact(false);
        let db = options.open(directory.path().join("c.brasa")).unwrap();
        for number in 0..1_000 {
            db.set("visits", number.to_string()).unwrap();
        }
        db.close().unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut program = Command::new(env!("CARGO_BIN_EXE_brasa"));
        program
            .current_dir(self.directory.path())
            .env_remove("BRASA_FILE")
            .args(arguments);
        Run::of(program)
    }

    fn size(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).unwrap().len()
    }
}

#[test]
fn compact_gives_space_back_and_says_how_much() {
    let scratch = Scratch::new();
    let before = scratch.size("c.brasa");
    scratch
        .run(&["compact", "c.brasa"])
        .success()
        .stderr(is_empty())
        .stdout(contains(format!("c.brasa: {before} -> 16384 bytes")));
    assert_eq!(scratch.size("c.brasa"), 16_384);
    scratch
        .run(&["-f", "c.brasa", "GET", "visits"])
        .success()
        .stdout("999\n");
}

#[test]
fn backup_writes_a_compacted_copy_and_leaves_the_file_alone() {
    let scratch = Scratch::new();
    let before = fs::read(scratch.path("c.brasa")).unwrap();
    scratch
        .run(&["backup", "c.brasa", "copy.brasa"])
        .success()
        .stdout(contains("c.brasa -> copy.brasa: "));
    assert!(fs::read(scratch.path("c.brasa")).unwrap() == before);
    scratch
        .run(&["-f", "copy.brasa", "GET", "visits"])
        .success()
        .stdout("999\n");
    assert!(scratch.size("copy.brasa") < scratch.size("c.brasa"));
    // With the file as an option; and never over another one.
    scratch
        .run(&["-f", "c.brasa", "backup", "copy.brasa"])
        .code(1)
        .stderr(contains("exists"));
    scratch
        .run(&["-f", "c.brasa", "backup", "other.brasa"])
        .success();
}

#[test]
fn a_file_that_is_missing_is_not_created() {
    let scratch = Scratch::new();
    for arguments in [&["compact", "no.brasa"][..], &["backup", "no.brasa", "x"]] {
        scratch
            .run(arguments)
            .code(1)
            .stderr(contains("no.brasa").and(contains("No such file")));
    }
    assert!(!scratch.path("no.brasa").exists() && !scratch.path("x").exists());
}

#[test]
fn what_cannot_be_compacted_is_named_with_the_reason() {
    let scratch = Scratch::new();
    fs::hard_link(scratch.path("c.brasa"), scratch.path("second")).unwrap();
    scratch
        .run(&["compact", "c.brasa"])
        .code(1)
        .stderr(contains("the file has 2 hard links"));
}

//! `brasa check` and `brasa repair` on damaged files, run as their users run them.
#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use brasa::Db;
use support::program::{Expected, Run, contains, is_empty};

mod support;

const LOG_START: usize = 12_288;

/// A directory with a file in which the first and the third of four commits are damaged.
struct Scratch {
    directory: tempfile::TempDir,
    damaged: Vec<u8>,
    third: usize,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.brasa");
        let db = Db::open(&path).unwrap();
        db.set("chave_1", "Relou Uourdi").unwrap();
        db.set("chave_2", "kept").unwrap();
        let third = LOG_START + usize::try_from(db.stats().unwrap().log_bytes).unwrap();
        db.database(3)
            .unwrap()
            .hset("meu_hash", "nome", "thailan")
            .unwrap();
        db.set("chave_1", "last").unwrap();
        db.close().unwrap();
        let mut damaged = fs::read(&path).unwrap();
        // A byte of the value, and one of the deadline.
        damaged[LOG_START + 40] ^= 1;
        damaged[third + 24] ^= 1;
        fs::write(&path, &damaged).unwrap();
        Self {
            directory,
            damaged,
            third,
        }
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
}

#[test]
fn check_names_each_damaged_range_and_what_was_lost() {
    let scratch = Scratch::new();
    scratch
        .run(&["check", "c.brasa"])
        .code(1)
        .stdout(is_empty())
        .stderr(
            contains(format!("c.brasa: damaged at offset {LOG_START}: "))
                .and(contains(format!(
                    "lost: 56 bytes from offset {LOG_START} on"
                )))
                .and(contains("lost: perhaps set \"chave_1\"\n"))
                .and(contains(format!("damaged at offset {}: ", scratch.third)))
                .and(contains(
                    "lost: perhaps hash set in database 3 \"meu_hash\" \"nome\"\n",
                ))
                .and(contains("undamaged: 2 records in 2 commits")),
        );
    assert!(fs::read(scratch.path("c.brasa")).unwrap() == scratch.damaged);
}

#[test]
fn repair_writes_beside_and_says_what_it_saved() {
    let scratch = Scratch::new();
    scratch
        .run(&["repair", "c.brasa"])
        .success()
        .stderr(is_empty())
        .stdout(
            contains("damaged at offset 12288: ")
                .and(contains("lost: perhaps set \"chave_1\"\n"))
                .and(contains("saved 2 records in 2 commits to "))
                .and(contains("c.brasa.repaired\n")),
        );
    assert!(fs::read(scratch.path("c.brasa")).unwrap() == scratch.damaged);
    let repaired = ["-f", "c.brasa.repaired"];
    scratch
        .run(&[&repaired[..], &["GET", "chave_1"]].concat())
        .success()
        .stdout("last\n");
    scratch.run(&["check", "c.brasa.repaired"]).success();

    // It overwrites nothing.
    scratch
        .run(&["repair", "c.brasa"])
        .code(1)
        .stderr(contains("c.brasa.repaired"));
    scratch
        .run(&["repair", "-f", "c.brasa", "--output", "saved.brasa"])
        .success();
    scratch.run(&["check", "saved.brasa"]).success();
}

#[test]
fn repair_in_place_keeps_the_damaged_file_and_finds_nothing_to_do_the_next_time() {
    let scratch = Scratch::new();
    scratch
        .run(&["repair", "c.brasa", "--in-place"])
        .success()
        .stdout(contains("kept the damaged file as ").and(contains("c.brasa.damaged-0\n")));
    assert!(fs::read(scratch.path("c.brasa.damaged-0")).unwrap() == scratch.damaged);
    scratch.run(&["check", "c.brasa"]).success();
    scratch
        .run(&["repair", "--in-place", "c.brasa"])
        .success()
        .stdout(contains("sound, nothing to repair"));
    assert_eq!(scratch.directory.path().read_dir().unwrap().count(), 2);
}

#[test]
fn repair_is_refused_where_it_cannot_help() {
    let scratch = Scratch::new();
    let mut nothing_left = scratch.damaged.clone();
    nothing_left[LOG_START..].fill(0xff);
    fs::write(scratch.path("gone.brasa"), nothing_left).unwrap();
    scratch
        .run(&["repair", "gone.brasa"])
        .code(1)
        .stderr(contains("nothing to save"));
    assert!(!scratch.path("gone.brasa.repaired").exists());

    fs::write(scratch.path("notes.txt"), "not a database").unwrap();
    scratch
        .run(&["repair", "notes.txt"])
        .code(1)
        .stderr(contains("not a brasa file"));
    scratch
        .run(&["repair", "missing.brasa"])
        .code(1)
        .stderr(contains("missing.brasa"));
    scratch
        .run(&["repair", "c.brasa", "--in-place", "--output", "x"])
        .code(2);
}

#[test]
fn a_file_that_takes_no_more_writes_is_told_and_repaired() {
    let scratch = Scratch::new();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1-poisoned.brasa");
    fs::copy(golden, scratch.path("p.brasa")).unwrap();
    scratch
        .run(&["check", "p.brasa"])
        .success()
        .stdout(contains("the file is poisoned").and(contains("Input/output error")));
    scratch
        .run(&["repair", "--in-place", "p.brasa"])
        .success()
        .stdout(contains("was poisoned: Input/output error"));
    scratch
        .run(&["-f", "p.brasa", "SET", "k", "v"])
        .success()
        .stdout("OK\n");
}

//! `brasa tail`, run as its users run it: in one terminal, while others write.
#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use brasa::Db;

/// Ends with the test, whatever comes of it.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tail_prints_what_others_change_as_they_do_and_across_a_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.brasa");
    let db = Db::open(&path).unwrap();
    db.set("before", "1").unwrap();
    let mut tail = Tail(
        Command::new(env!("CARGO_BIN_EXE_brasa"))
            .arg("tail")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let first = next();
    let position: u64 = first.strip_prefix("OK ").unwrap().parse().unwrap();
    db.set("chave 1", "Relou Uourdi").unwrap();
    assert!(next().ends_with(" [0] \"set\" \"chave 1\""));
    db.compact().unwrap();
    db.database(2).unwrap().hset("h", "f", "1").unwrap();
    assert!(next().ends_with(" [2] \"hset\" \"h\" \"f\""));
    db.database(2).unwrap().clear().unwrap();
    assert!(next().ends_with(" [2] \"flushdb\""));

    // From a position that was compacted away: said so, and gone on with.
    let mut since = Tail(
        Command::new(env!("CARGO_BIN_EXE_brasa"))
            .args(["tail", "--since", &position.to_string()])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(since.0.stdout.take().unwrap()).lines();
    let seen: Vec<String> = lines.skip(1).take(3).map(Result::unwrap).collect();
    assert!(seen[0].contains("changes are missing here"), "{seen:?}");
    assert!(
        seen[1].contains("hset") && seen[2].contains("flushdb"),
        "{seen:?}"
    );
}

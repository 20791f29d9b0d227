//! Both tools give the same answers. Of twenty runs at once, one asks the service with brasa, and
//! nearly all do with rusqlite.

use std::path::Path;
use std::process::{Command, Stdio};

const BRASA: &str = env!("CARGO_BIN_EXE_with_brasa");
const RUSQLITE: &str = env!("CARGO_BIN_EXE_with_rusqlite");

fn command(tool: &str, home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(tool);
    command
        .args(words)
        .env("XDG_CACHE_HOME", home)
        .env("SLOW_LOOKUP_LOG", home.join("log"))
        .stdout(Stdio::piped());
    command
}

fn run(tool: &str, home: &Path, words: &[&str]) -> String {
    let output = command(tool, home, words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn lookups(home: &Path) -> usize {
    let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
    log.lines().count()
}

#[test]
fn tools_remember_answers_until_they_are_cleared() {
    for tool in [BRASA, RUSQLITE] {
        let home = tempfile::tempdir().unwrap();
        let run = |words: &[&str]| run(tool, home.path(), words);
        assert_eq!(run(&["recife"]), "RECIFE\n");
        assert_eq!(run(&["recife"]), "RECIFE\n");
        assert_eq!(lookups(home.path()), 1, "{tool}");
        assert!(run(&["cache", "stats"]).starts_with("1 entries, "));
        assert_eq!(run(&["cache", "clear"]), "");
        assert!(run(&["cache", "stats"]).starts_with("0 entries, "));
        assert_eq!(run(&["recife"]), "RECIFE\n");
        assert_eq!(lookups(home.path()), 2, "{tool}");
    }
}

#[test]
fn of_twenty_runs_at_once_one_asks_with_brasa() {
    let asked = |tool| {
        let home = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..20)
            .map(|_| command(tool, home.path(), &["recife"]).spawn().unwrap())
            .collect();
        for run in runs {
            let output = run.wait_with_output().unwrap();
            assert!(output.status.success());
            assert_eq!(output.stdout, b"RECIFE\n");
        }
        lookups(home.path())
    };
    assert_eq!(asked(BRASA), 1);
    assert!(
        asked(RUSQLITE) > 1,
        "rusqlite has nothing that lets one run wait for another"
    );
}

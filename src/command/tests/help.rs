//! HELP of commands that have subcommands: errors say that there is one.

use super::super::{Reply, Session, commands};
use crate::Db;

fn lines_of(command: &str) -> Vec<String> {
    let mut session = Session::new(Db::in_memory().unwrap());
    match session.execute(&[command, "help"]) {
        Reply::Array(lines) => {
            let text = |line: Reply| match line {
                Reply::Status(line) => line.into_owned(),
                other => unreachable!("{command}: {other:?}"),
            };
            lines.into_iter().map(text).collect()
        }
        other => unreachable!("{command}: {other:?}"),
    }
}

#[test]
fn each_command_with_subcommands_has_it() {
    let commands = commands().iter();
    for command in commands.filter(|command| !command.subcommands.is_empty()) {
        let lines = lines_of(command.name);
        assert!(lines.len() > 2, "{lines:?}");
        assert!(lines[0].starts_with(&command.name.to_ascii_uppercase()));
        assert!(lines.iter().any(|line| line == "HELP"), "{lines:?}");
    }
}

#[test]
fn what_takes_arguments_says_how_many() {
    let expected = [
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <arg> [<arg> ...]",
        "HELP",
        "RESETSTAT",
        "REWRITE",
        "SET <arg> <arg> [<arg> ...]",
    ];
    assert_eq!(lines_of("config"), expected);
}

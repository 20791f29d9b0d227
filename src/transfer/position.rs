//! Where a move is to go on.

use std::fmt;
use std::str::FromStr;

/// The progress of a [`push`](super::push) or [`pull`](super::pull), from which it can be resumed.
/// [`str::parse`] reads its text.
///
/// A position is valid for one run of one server, by the run id of the server. After a restart the
/// server may have lost keys, and a cursor means nothing, so the transfer starts again.
///
/// The [module](crate::transfer) has an example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The file's database.
    pub(super) database: u8,
    /// Which of the servers; the first is 0.
    pub(super) node: usize,
    pub(super) cursor: u64,
    /// Keys that were moved by then.
    pub(super) done: u64,
    /// The server's run id; of a cluster those of its nodes.
    pub(super) run: String,
}

/// What a position's text begins with.
const TAG: &str = "brasa-position-1";

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = match self.run.is_empty() {
            true => "-",
            false => &self.run,
        };
        write!(
            f,
            "{TAG} {} {} {} {} {run}",
            self.database, self.node, self.cursor, self.done
        )
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        let read = || {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [TAG, database, node, cursor, done, run] = words[..] else {
                return None;
            };
            Some(Position {
                database: database.parse().ok()?,
                node: node.parse().ok()?,
                cursor: cursor.parse().ok()?,
                done: done.parse().ok()?,
                run: run.to_owned(),
            })
        };
        read().ok_or_else(|| format!("{text:?} is not a position of a push or pull"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position {
            database: 3,
            node: 2,
            cursor: u64::MAX,
            done: 7,
            run: "abc".to_owned(),
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in [
            "",
            "1 2 3",
            "brasa-position-1 256 0 0 0 -",
            "brasa-position-2 0 0 0 0 -",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}

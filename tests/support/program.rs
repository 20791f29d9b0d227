//! The outcome of a program's run, and expectations about its exit status and output.

use std::fmt::Debug;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// A program that has ended. Each expectation that is not met fails the test and prints the run.
#[derive(Debug)]
pub struct Run {
    command: String,
    output: Output,
}

impl Run {
    /// Runs `command` to its end, with the standard input that it was given.
    pub fn of(mut command: Command) -> Run {
        Run {
            output: command.output().unwrap(),
            command: format!("{command:?}"),
        }
    }

    /// Runs `command` to its end with `input` on its standard input.
    pub fn with_input(mut command: Command, input: impl Into<Vec<u8>>) -> Run {
        let input = input.into();
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A thread of its own: the program may fill its standard output before it reads all of this.
        let writer = std::thread::spawn(move || {
            // A program that ends early does not read the rest.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Run {
            output,
            command: format!("{command:?}"),
        }
    }

    #[track_caller]
    pub fn success(self) -> Run {
        self.code(0)
    }

    /// Expects a failure with any exit status.
    #[track_caller]
    pub fn failure(self) -> Run {
        assert!(!self.output.status.success(), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Run {
        assert_eq!(self.output.status.code(), Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn stdout(self, expected: impl Expected) -> Run {
        let text = String::from_utf8_lossy(&self.output.stdout);
        let is_met = expected.is_met_by(&self.output.stdout);
        assert!(
            is_met,
            "standard output: {text}\nexpected: {expected:?}\n{self:#?}"
        );
        self
    }

    #[track_caller]
    pub fn stderr(self, expected: impl Expected) -> Run {
        let text = String::from_utf8_lossy(&self.output.stderr);
        let is_met = expected.is_met_by(&self.output.stderr);
        assert!(
            is_met,
            "standard error: {text}\nexpected: {expected:?}\n{self:#?}"
        );
        self
    }

    pub fn output(&self) -> &Output {
        &self.output
    }
}

/// What a test expects of an output: bytes that it must equal, or one of the functions below.
pub trait Expected: Debug {
    fn is_met_by(&self, output: &[u8]) -> bool;

    /// Expects both.
    fn and<E: Expected>(self, other: E) -> Both<Self, E>
    where
        Self: Sized,
    {
        Both(self, other)
    }
}

impl<T: AsRef<[u8]> + Debug> Expected for T {
    fn is_met_by(&self, output: &[u8]) -> bool {
        output == self.as_ref()
    }
}

#[derive(Debug)]
pub struct Contains(String);

/// Expects `text` somewhere in the output.
pub fn contains(text: impl Into<String>) -> Contains {
    Contains(text.into())
}

impl Expected for Contains {
    fn is_met_by(&self, output: &[u8]) -> bool {
        String::from_utf8_lossy(output).contains(&self.0)
    }
}

#[derive(Debug)]
pub struct StartsWith(String);

/// Expects `text` at the start of the output.
pub fn starts_with(text: impl Into<String>) -> StartsWith {
    StartsWith(text.into())
}

impl Expected for StartsWith {
    fn is_met_by(&self, output: &[u8]) -> bool {
        output.starts_with(self.0.as_bytes())
    }
}

/// Expects no output.
pub fn is_empty() -> &'static str {
    ""
}

#[derive(Debug)]
pub struct Both<A, B>(A, B);

impl<A: Expected, B: Expected> Expected for Both<A, B> {
    fn is_met_by(&self, output: &[u8]) -> bool {
        self.0.is_met_by(output) && self.1.is_met_by(output)
    }
}

//! `brasa`: the commands of Redis on one file, from the command line.
//!
//! The library executes the commands (`brasa::command`). The program parses its arguments, finds
//! the file, and prints replies in one of two forms.

mod arguments;
mod compaction;
mod conversation;
mod damage;
mod inspection;
mod location;
mod render;
#[cfg(feature = "server")]
mod serve;
mod tail;
#[cfg(feature = "redis")]
mod transfer;

use std::io;
use std::process::ExitCode;

use arguments::{Arguments, Topic, Verb};
use render::Form;

/// Why the program ends early.
enum Failure {
    /// The reader of the output closed the pipe.
    OutputClosed,
    /// An error, with its message.
    Message(String),
    /// Wrong usage, with its message.
    Usage(String),
}

impl From<brasa::Error> for Failure {
    fn from(error: brasa::Error) -> Self {
        Failure::Message(error.to_string())
    }
}

/// Only standard input and output give an `io::Error`: the library reports its own errors.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::OutputClosed;
        }
        Failure::Message(format!(
            "cannot read standard input or write standard output: {error}"
        ))
    }
}

/// Returns the outcome of finished work after its report was printed. A closed pipe does not
/// change the outcome.
fn told(telling: io::Result<()>, outcome: bool) -> Outcome {
    match telling {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(outcome),
    }
}

/// `true` for exit status 0, `false` for 1.
type Outcome = Result<bool, Failure>;

fn main() -> ExitCode {
    let outcome = run(arguments::parse());
    match outcome {
        Ok(true) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Message(message)) => {
            render::complain(&message);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => {
            render::complain(&message);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Outcome {
    let Arguments {
        file,
        mode,
        database,
        raw,
        no_raw,
        verb,
    } = arguments;
    let form = Form::choose(raw, no_raw);
    match verb {
        None => conversation::hold(&location::of_data(file)?, mode, database, form),
        Some(Verb::Redis(words)) => {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_encoded_bytes()).collect();
            if let [name, b"--help"] = words[..] {
                return arguments::print_help(Topic::Redis(name));
            }
            conversation::say(&words, || location::of_data(file), mode, database, form)
        }
        #[cfg(feature = "server")]
        Some(Verb::Serve { path, options }) => {
            let path = location::of_new_file(path, file)?;
            serve::serve(&path, mode, options)
        }
        Some(Verb::Stats { path }) => inspection::stats(&location::of_file(path, file)?),
        Some(Verb::Check { path }) => inspection::check(&location::of_file(path, file)?),
        Some(Verb::Repair {
            in_place,
            output,
            path,
        }) => damage::repair(&location::of_file(path, file)?, in_place, output),
        Some(Verb::Compact { path }) => compaction::compact(&location::of_file(path, file)?),
        Some(Verb::Backup { path, target }) => {
            compaction::backup(&location::of_file(path, file)?, &target)
        }
        Some(Verb::Tail { since, path }) => tail::tail(&location::of_file(path, file)?, since),
        Some(Verb::Log { path, json }) => inspection::log(&location::of_file(path, file)?, json),
        #[cfg(feature = "redis")]
        Some(Verb::Push { path, url, restart }) => {
            transfer::push(&location::of_file(path, file)?, &url, database, restart)
        }
        #[cfg(feature = "redis")]
        Some(Verb::Pull { url, path, restart }) => {
            let path = location::of_new_file(path, file)?;
            transfer::pull(&url, &path, database, restart)
        }
        Some(Verb::Completions { shell }) => arguments::print_completions(shell),
        Some(Verb::Man) => arguments::print_manual(),
        Some(Verb::Help { verb: None }) => arguments::print_help(Topic::Everything),
        Some(Verb::Help { verb: Some(verb) }) => {
            arguments::print_help(Topic::Any(verb.as_encoded_bytes()))
        }
    }
}

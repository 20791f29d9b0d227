//! Commands of Redis: one from the arguments, or many from standard input.

use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use brasa::command::{self, Flags, Reply, Session};
use brasa::{Db, Error};

use super::arguments::{redis_help, usage};
use super::render::{self, Form};
use super::{Failure, Outcome};

/// The length of the largest value with each byte escaped.
const LONGEST_LINE_BYTES: u64 = 4 * brasa::limits::MAX_VALUE_BYTES as u64;

/// Executes one command and prints its reply.
///
/// An unknown or malformed command is refused before the file is opened: a typing error must not
/// create a file.
pub(super) fn say(
    words: &[&[u8]],
    locate: impl FnOnce() -> Result<PathBuf, Failure>,
    mode: u32,
    database: u8,
    form: Form,
) -> Outcome {
    if let Some(refusal) = command::refusal(words) {
        render::error(&refusal, form, "");
        if let Some(hint) = hint(words) {
            render::complain(&hint);
        }
        return Ok(false);
    }
    let reads = words
        .first()
        .and_then(|name| command::find(name))
        .is_some_and(|verb| verb.flags.contains(Flags::READONLY));
    let db = open(&locate()?, mode, reads)?;
    let mut session = Session::new(db.database(database)?);
    drop(db);
    let reply = session.execute(words);
    // The file is closed before the reply is printed: a pager may stop the output for minutes, and
    // no other process should wait for that. The values of the reply stay readable.
    let closed = session.close();
    let mut output = BufWriter::new(io::stdout().lock());
    let shown = show(&reply, form, "", &mut output).and_then(|fine| {
        output.flush()?;
        Ok(fine)
    });
    closed?;
    Ok(shown?)
}

/// Standard output that discards everything after a failed write: commands are executed whether or
/// not their replies can be printed.
struct Output<W: Write> {
    inner: BufWriter<W>,
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    fn new(inner: W) -> Self {
        Output {
            inner: BufWriter::new(inner),
            failed: None,
        }
    }

    /// Returns the error of the first failed write. A closed pipe is no failure.
    fn end(self, outcome: bool) -> Outcome {
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(outcome),
        }
    }

    fn unless_failed<T>(
        &mut self,
        otherwise: T,
        write: impl FnOnce(&mut BufWriter<W>) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.failed.is_none() {
            match write(&mut self.inner) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    self.failed = Some(error);
                }
                done => return done,
            }
        }
        Ok(otherwise)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_failed(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_failed((), BufWriter::flush)
    }
}

/// Executes each line of standard input as a command, even after a failed command or after
/// standard output was closed.
pub(super) fn hold(path: &Path, mode: u32, database: u8, form: Form) -> Outcome {
    let db = open(path, mode, false)?;
    let mut session = Session::new(db.database(database)?);
    drop(db);
    let prompting = io::stdin().is_terminal() && io::stdout().is_terminal();
    let talked = talk(&mut session, prompting, form);
    session.close()?;
    talked
}

fn talk(session: &mut Session, prompting: bool, form: Form) -> Outcome {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = Output::new(io::stdout().lock());
    let mut fine = true;
    let mut line = Vec::new();
    for number in 1_u64.. {
        if prompting {
            prompt(session.db(), &mut output)?;
        }
        line.clear();
        let count = (&mut input)
            .take(LONGEST_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if count as u64 == LONGEST_LINE_BYTES {
            let too_long = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {number} is longer than {LONGEST_LINE_BYTES} bytes"),
            );
            return Err(too_long.into());
        }
        if count == 0 {
            if prompting {
                // Ends the line of the last prompt.
                writeln!(output)?;
            }
            break;
        }
        let place = if prompting {
            String::new()
        } else {
            format!("line {number}: ")
        };
        match execute_line(session, &line, form, &place, &mut output)? {
            Line::Done => {}
            Line::Failed => fine = false,
            Line::Quit => break,
        }
        // The output is flushed once no more input is pending: a program that waits for each reply
        // gets it at once, many lines are answered in bulk.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()?;
    // On a terminal the user has seen the error, so the exit status is 0.
    output.end(fine || prompting)
}

/// The outcome of one line.
enum Line {
    Done,
    Failed,
    Quit,
}

fn execute_line(
    session: &mut Session,
    line: &[u8],
    form: Form,
    place: &str,
    output: &mut impl Write,
) -> Result<Line, Failure> {
    let words = match command::split_words(line) {
        Ok(words) => words,
        Err(error) => {
            output.flush()?;
            render::complain(&format!("{place}{error}"));
            return Ok(Line::Failed);
        }
    };
    match &words[..] {
        [] => Ok(Line::Done),
        [word] if is(word, "quit") || is(word, "exit") => Ok(Line::Quit),
        [word, name] if is(word, "help") => {
            match redis_help(name) {
                Ok(text) => output.write_all(text.as_bytes())?,
                Err(Failure::Usage(message)) => render::complain(&message),
                Err(other) => return Err(other),
            }
            Ok(Line::Done)
        }
        words => match show(&session.execute(words), form, place, output)? {
            true => Ok(Line::Done),
            false => Ok(Line::Failed),
        },
    }
}

fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

/// Prints a reply, or an error on standard error after `place`. Returns `false` for an error.
fn show(reply: &Reply, form: Form, place: &str, output: &mut impl Write) -> io::Result<bool> {
    if let Reply::Error(error) = reply {
        // Earlier replies are printed before the error.
        output.flush()?;
        render::error(error, form, place);
        return Ok(false);
    }
    render::reply(reply, form, output)?;
    Ok(true)
}

fn prompt(db: &Db, output: &mut impl Write) -> io::Result<()> {
    match db.database_number() {
        0 => write!(output, "brasa> ")?,
        number => write!(output, "brasa[{number}]> ")?,
    }
    output.flush()
}

/// Opens the file. A command that only reads needs no write permission.
fn open(path: &Path, mode: u32, only_reads: bool) -> Result<Db, Failure> {
    let opened = Db::options()
        .mode(mode)
        .on_compaction(|outcome| {
            if let Err(error) = outcome {
                render::complain(&format!("automatic compaction failed: {error}"));
            }
        })
        .open(path);
    if let Err(Error::Io { source, .. }) = &opened
        && only_reads
        && forbids_writing(source)
        && let Ok(db) = Db::options().read_only(true).create(false).open(path)
    {
        return Ok(db);
    }
    Ok(opened?)
}

fn forbids_writing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Returns a hint for a refused command.
fn hint(words: &[&[u8]]) -> Option<String> {
    let name = words.first()?;
    match command::find(name) {
        Some(verb) => Some(format!("usage: {}", usage(verb))),
        None => {
            const ABOUT_FILE: [&str; 10] = [
                "stats",
                "check",
                "repair",
                "compact",
                "backup",
                "tail",
                "log",
                "completions",
                "man",
                "help",
            ];
            let meant = ABOUT_FILE.into_iter().find(|verb| is(name, verb));
            Some(match meant {
                Some(verb) => format!("did you mean `brasa {verb}`?"),
                None => "`brasa help` lists the commands".to_owned(),
            })
        }
    }
}

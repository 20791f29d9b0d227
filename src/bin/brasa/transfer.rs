//! `brasa push` and `brasa pull`: everything between a file and a Redis or Valkey server.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use brasa::Db;
use brasa::transfer::{self, Event, Position, Report};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Outcome, told};

/// The interval at which the position is saved.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// Copies the keys of a file to a server.
pub(super) fn push(path: &Path, url: &str, database: u8, restart: bool) -> Outcome {
    let db = Db::options().read_only(true).create(false).open(path)?;
    let db = db.database(database)?;
    let note = Note::of(path, "push", url, database);
    run(note, restart, |from, tell| {
        transfer::push(&db, url, from, tell)
    })
}

/// Copies the keys of a server into a file.
pub(super) fn pull(url: &str, path: &Path, database: u8, restart: bool) -> Outcome {
    let db = Db::open(path)?.database(database)?;
    let note = Note::of(path, "pull", url, database);
    let outcome = run(note, restart, |from, tell| {
        transfer::pull(url, &db, from, tell)
    })?;
    db.close()?;
    Ok(outcome)
}

fn run(
    note: Note,
    restart: bool,
    transfer: impl FnOnce(Option<&Position>, &mut dyn FnMut(Event<'_>)) -> brasa::Result<Report>,
) -> Outcome {
    let from = if restart { None } else { note.read()? };
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} keys {per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    if let Some(from) = &from {
        complain(
            &bar,
            &format!(
                "continuing an interrupted copy at position {from}; --restart starts from the beginning"
            ),
        );
    }
    let mut last = None;
    let mut noted = Instant::now();
    let mut note_failed = None;
    let mut tell = |event: Event<'_>| match event {
        Event::Moved {
            done,
            total,
            position,
        } => {
            show(&bar, "moving", done, total);
            last = Some(position.clone());
            if noted.elapsed() > NOTE_EVERY {
                noted = Instant::now();
                note_failed = note.write(position).err().or(note_failed.take());
            }
        }
        Event::BegunAnew { reason } => {
            complain(&bar, &format!("starting from the beginning: {reason}"))
        }
        Event::Verified { done, total } => show(&bar, "verifying", done, total),
        Event::Refused {
            database,
            key,
            reason,
        } => complain(&bar, &about("refused", database, key, reason)),
        Event::Differs {
            database,
            key,
            reason,
        } => complain(&bar, &about("different", database, key, reason)),
        _ => {}
    };
    let moved = transfer(from.as_ref(), &mut tell);
    bar.finish_and_clear();
    let report = match moved {
        Ok(report) => report,
        Err(error) => {
            let mut message = error.to_string();
            if let Some(last) = last.or(from) {
                note_failed = note.write(&last).err().or(note_failed);
                message += &match note_failed {
                    None => "; run the command again to continue from there".to_owned(),
                    Some(error) => format!(
                        "; the next run starts from the beginning: cannot write {}: {error}",
                        note.path.display()
                    ),
                };
            }
            return Err(Failure::Message(message));
        }
    };
    note.remove()?;
    let mut output = io::stdout().lock();
    let telling = writeln!(output, "{report}").and_then(|()| output.flush());
    told(telling, report.is_complete())
}

fn show(bar: &ProgressBar, what: &'static str, done: u64, total: u64) {
    bar.set_message(what);
    bar.set_length(total);
    bar.set_position(done);
}

fn about(what: &str, database: u8, key: &[u8], reason: &str) -> String {
    format!(
        "{what}: \"{}\" in database {database}: {reason}",
        key.escape_ascii()
    )
}

/// A line on standard error, above the bar.
fn complain(bar: &ProgressBar, line: &str) {
    bar.suspend(|| super::render::complain(line));
}

/// A file beside the copied one, with the position at which an interrupted copy continues.
struct Note {
    path: PathBuf,
}

impl Note {
    fn of(path: &Path, verb: &str, url: &str, database: u8) -> Note {
        // The name depends on the server, but not on the password: a hash would help to guess it.
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in scheme.bytes().chain(place.bytes()).chain([database]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{verb}-{hash:016x}"));
        Note { path: name.into() }
    }

    fn read(&self) -> Result<Option<Position>, Failure> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure("read", &error)),
            // If a crash left the position incomplete, the copy starts from the beginning.
            Ok(text) => Ok(text.trim().parse().ok()),
        }
    }

    /// Replaces the file in one step, so that a crash leaves the old or the new position.
    fn write(&self, position: &Position) -> io::Result<()> {
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        fs::write(&new, format!("{position}\n"))?;
        fs::rename(&new, &self.path)
    }

    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failure("remove", &error))
            }
            _ => Ok(()),
        }
    }

    fn failure(&self, operation: &str, error: &io::Error) -> Failure {
        Failure::Message(format!(
            "cannot {operation} {}: {error}; --restart starts from the beginning",
            self.path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_named_by_the_place_and_not_by_the_password() {
        let name = |url, database| Note::of(Path::new("f"), "push", url, database).path;
        let place = name("redis://host:1", 0);
        assert_eq!(place, name("redis://:secret@host:1", 0));
        assert_eq!(place, name("redis://user:p@ss@host:1", 0));
        for other in [
            name("redis://host:1", 1),
            name("redis://host:2", 0),
            name("rediss://host:1", 0),
        ] {
            assert_ne!(place, other);
        }
    }
}

//! `brasa tail`: prints the changes of a file as they are made.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use brasa::{Change, ChangeKind, Db};

use super::Outcome;
use super::render::quoted;

/// Prints changes until the program is interrupted, or its output is closed.
pub(super) fn tail(path: &Path, since: Option<u64>) -> Outcome {
    let db = Db::options().read_only(true).create(false).open(path)?;
    let mut watch = match since {
        Some(position) => db.watch_from(position)?,
        None => db.watch()?,
    };
    let mut output = BufWriter::new(io::stdout().lock());
    writeln!(output, "OK {}", watch.position())?;
    loop {
        // The output is flushed once no more changes are pending: a single change is printed at
        // once, many are written in bulk.
        for change in &mut watch {
            line(&change?, db.now_ms(), &mut output)?;
        }
        output.flush()?;
        if let Some(change) = watch.wait(Duration::from_secs(60))? {
            line(&change, db.now_ms(), &mut output)?;
        }
    }
}

/// Writes a change as MONITOR prints a command: the time, the database, the command, the key.
fn line(change: &Change, now_ms: u64, output: &mut impl Write) -> io::Result<()> {
    write!(output, "{}.{:03} ", now_ms / 1_000, now_ms % 1_000)?;
    let verb = match change.kind {
        ChangeKind::Set => "set",
        ChangeKind::Delete => "del",
        ChangeKind::Expire => "pexpireat",
        ChangeKind::HashSet => "hset",
        ChangeKind::HashDelete => "hdel",
        ChangeKind::FieldExpire => "hpexpireat",
        ChangeKind::Clear => "flushdb",
        ChangeKind::SwapDatabases => "swapdb",
        _ => {
            return writeln!(
                output,
                "changes are missing here: the file was compacted before they were read"
            );
        }
    };
    write!(output, "[{}] \"{verb}\"", change.database)?;
    let about_key = !matches!(change.kind, ChangeKind::Clear | ChangeKind::SwapDatabases);
    let parts = about_key.then_some(&change.key).into_iter();
    for part in parts.chain(&change.field) {
        output.write_all(b" ")?;
        quoted(part, output)?;
    }
    writeln!(output)
}

//! `brasa stats`, `brasa check` and `brasa log`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use brasa::inspect::{self, CheckReport, LogEnd, RecordInfo};
use brasa::{Db, Error};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::render::{complain, counted, quoted};
use super::{Outcome, damage, told};

/// Prints sizes and counts.
pub(super) fn stats(path: &Path) -> Outcome {
    let db = Db::options().read_only(true).create(false).open(path)?;
    let stats = db.stats()?;
    let mut output = BufWriter::new(io::stdout().lock());
    writeln!(output, "file: {}", path.display())?;
    for (name, value) in [
        ("file_bytes", stats.file_bytes),
        ("log_bytes", stats.log_bytes),
        ("live_bytes", stats.live_bytes),
        ("dead_bytes", stats.dead_bytes),
        ("checkpoint_bytes", stats.checkpoint_bytes),
        ("checkpoint_layers", stats.checkpoint_layers),
        ("synced_upto", stats.synced_upto),
        ("keys", stats.key_count),
    ] {
        writeln!(output, "{name}: {value}")?;
    }
    for (number, keys) in stats.keys_by_database.iter().enumerate() {
        if *keys > 0 {
            writeln!(output, "keys_in_database_{number}: {keys}")?;
        }
    }
    writeln!(output, "index_bytes: {}", stats.index_bytes)?;
    let per_key = stats.index_bytes_per_key();
    writeln!(output, "index_bytes_per_key: {per_key}")?;
    if let Some(reason) = &stats.poisoned {
        writeln!(output, "poisoned: {reason}")?;
    }
    output.flush()?;
    Ok(true)
}

/// Verifies the file, and returns `false` if it is damaged.
pub(super) fn check(path: &Path) -> Outcome {
    let bar = progress_bar();
    let checked = inspect::check(path, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = match checked {
        Err(Error::Corrupt { offset, reason, .. }) => {
            damage::complain_about(path, offset, &reason);
            return Ok(false);
        }
        checked => checked?,
    };
    if !report.is_sound() {
        for range in &report.damaged {
            damage::complain_about(path, range.damage_offset, &range.reason);
            // The exit status reports the damage even if standard error is closed.
            let _ = damage::list_lost(range, &mut io::stderr());
        }
        complain(&format!(
            "{}: undamaged: {}; `brasa repair` copies them into a new file",
            path.display(),
            extent(&report)
        ));
    }
    let telling = summarize(path, &report, &mut io::stdout().lock());
    told(telling, report.is_sound())
}

fn summarize(path: &Path, report: &CheckReport, output: &mut impl Write) -> io::Result<()> {
    if report.is_sound() {
        writeln!(output, "{}: sound: {}", path.display(), extent(report))?;
    }
    for page in &report.damaged_pages {
        writeln!(
            output,
            "a page of a checkpoint is damaged at offset {}, {} long; no data is lost: opening \
             replays the log instead, and `brasa compact` removes the page",
            page.offset,
            counted(page.bytes, "byte")
        )?;
    }
    if let LogEnd::Torn {
        offset,
        torn_bytes,
        reason,
    } = &report.end
        && report.is_sound()
    {
        writeln!(
            output,
            "the tail is torn at offset {offset}: the last {torn_bytes} bytes are an incomplete \
             commit ({reason}), and opening ignores them"
        )?;
    }
    if let Some(reason) = &report.poisoned {
        writeln!(
            output,
            "the file is poisoned: a sync failed ({reason}), so it refuses writes; `brasa repair` \
             copies it into a new file"
        )?;
    }
    output.flush()
}

/// Returns a progress bar in bytes, which is shown only if standard error is a terminal.
pub(super) fn progress_bar() -> ProgressBar {
    ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// Describes the extent of the verified part.
fn extent(report: &CheckReport) -> String {
    format!(
        "{} in {}, {} of log",
        counted(report.record_count, "record"),
        counted(report.commit_count, "commit"),
        counted(report.log_bytes, "byte")
    )
}

/// Prints the records.
pub(super) fn log(path: &Path, as_json: bool) -> Outcome {
    let records = inspect::records(path)?;
    let mut output = BufWriter::new(io::stdout().lock());
    if !as_json {
        writeln!(
            output,
            "{:>12} {:>10} {:<13} {:>2} {:>15} {:>11}  KEY FIELD",
            "OFFSET", "BYTES", "KIND", "DB", "DEADLINE_MS", "VALUE_BYTES"
        )?;
    }
    for record in records {
        match record {
            Ok(record) if as_json => writeln!(output, "{}", object(&record))?,
            Ok(record) => line(&record, &mut output)?,
            Err(error) => {
                // The records before the damage are printed before the error.
                output.flush()?;
                return Err(error.into());
            }
        }
    }
    output.flush()?;
    Ok(true)
}

/// Writes a record as a line, with a plus after its kind if the commit continues.
fn line(record: &RecordInfo, output: &mut impl Write) -> io::Result<()> {
    let kind = if record.more {
        format!("{} +", record.kind)
    } else {
        record.kind.to_owned()
    };
    let deadline = match record.deadline_ms {
        0 => "-".to_owned(),
        deadline_ms => deadline_ms.to_string(),
    };
    write!(
        output,
        "{:>12} {:>10} {kind:<13} {:>2} {deadline:>15} {:>11}  ",
        record.offset, record.size_bytes, record.database, record.value_bytes
    )?;
    quoted(&record.key, output)?;
    if !record.field.is_empty() {
        output.write_all(b" ")?;
        quoted(&record.field, output)?;
    }
    output.write_all(b"\n")
}

fn object(record: &RecordInfo) -> serde_json::Value {
    let mut object = json!({
        "offset": record.offset,
        "size_bytes": record.size_bytes,
        "kind": record.kind,
        "database": record.database,
        "value_bytes": record.value_bytes,
        "deadline_ms": (record.deadline_ms != 0).then_some(record.deadline_ms),
        "more": record.more,
    });
    for (name, bytes) in [("key", &record.key), ("field", &record.field)] {
        match str::from_utf8(bytes) {
            Ok(text) => object[name] = text.into(),
            // JSON has no bytes.
            Err(_) => object[format!("{name}_hex")] = hexadecimal(bytes).into(),
        }
    }
    object
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

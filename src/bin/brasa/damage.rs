//! `brasa repair`, and the report of damaged ranges.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use brasa::inspect::{self, DamagedRange, RepairOptions, RepairReport};

use super::Outcome;
use super::render::{complain, counted, quoted};

/// Repairs the file, and prints the lost records.
pub(super) fn repair(path: &Path, in_place: bool, output: Option<PathBuf>) -> Outcome {
    let mut options = RepairOptions::new().in_place(in_place);
    if let Some(output) = output {
        options = options.output(output);
    }
    let report = inspect::repair(path, &options)?;
    let mut output = BufWriter::new(io::stdout().lock());
    print(path, &report, &mut output)?;
    output.flush()?;
    Ok(true)
}

fn print(path: &Path, report: &RepairReport, output: &mut impl Write) -> io::Result<()> {
    let path = path.display();
    let Some(new_file) = report.output.as_deref().filter(|_| !report.nothing_to_do()) else {
        return writeln!(output, "{path}: sound, nothing to repair");
    };
    for range in &report.damaged {
        let (offset, reason) = (range.damage_offset, &range.reason);
        writeln!(output, "{path}: damaged at offset {offset}: {reason}")?;
        list_lost(range, output)?;
    }
    if let Some(reason) = &report.poisoned {
        writeln!(output, "{path}: was poisoned: {reason}")?;
    }
    if report.torn_bytes > 0 {
        let torn = counted(report.torn_bytes, "byte");
        writeln!(
            output,
            "{torn} after the last commit were left out: an incomplete commit"
        )?;
    }
    writeln!(
        output,
        "saved {} in {} to {}",
        counted(report.kept_record_count, "record"),
        counted(report.kept_commit_count, "commit"),
        new_file.display()
    )?;
    if let Some(original) = &report.original {
        writeln!(output, "kept the damaged file as {}", original.display())?;
    }
    Ok(())
}

/// Reports on standard error that a file is damaged.
pub(super) fn complain_about(path: &Path, offset: u64, reason: &str) {
    let path = path.display();
    complain(&format!("{path}: damaged at offset {offset}: {reason}"));
}

/// Lists the records lost in a damaged range, one a line, and marks the uncertain ones "perhaps".
pub(super) fn list_lost(range: &DamagedRange, output: &mut impl Write) -> io::Result<()> {
    let bytes = counted(range.bytes, "byte");
    writeln!(output, "  lost: {bytes} from offset {} on", range.offset)?;
    for record in &range.lost {
        let perhaps = if record.certain { "" } else { "perhaps " };
        write!(output, "  lost: {perhaps}{}", record.kind)?;
        if record.database != 0 {
            write!(output, " in database {}", record.database)?;
        }
        output.write_all(b" ")?;
        quoted(&record.key, output)?;
        if !record.field.is_empty() {
            output.write_all(b" ")?;
            quoted(&record.field, output)?;
        }
        output.write_all(b"\n")?;
    }
    if range.unlisted_count > 0 {
        let more = counted(range.unlisted_count, "more record");
        writeln!(output, "  lost: {more}")?;
    }
    Ok(())
}

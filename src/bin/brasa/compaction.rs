//! `brasa compact` and `brasa backup`.

use std::io::{self, Write};
use std::path::Path;

use brasa::{CompactionReport, Db};
use indicatif::HumanBytes;

use super::inspection::progress_bar;
use super::{Failure, Outcome};

/// Compacts the file, and prints its size before and after.
pub(super) fn compact(path: &Path) -> Outcome {
    let db = Db::options().create(false).auto_compact(false).open(path)?;
    let bar = progress_bar();
    let compacted = db.compact_with(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = compacted?;
    db.close()?;
    tell(&format!("{}", path.display()), &report)
}

/// Copies the file, compacted.
pub(super) fn backup(path: &Path, target: &Path) -> Outcome {
    let db = Db::options().create(false).read_only(true).open(path)?;
    let bar = progress_bar();
    let copied = db.backup_with(target, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let names = format!("{} -> {}", path.display(), target.display());
    tell(&names, &copied?)
}

fn tell(names: &str, report: &CompactionReport) -> Result<bool, Failure> {
    let mut output = io::stdout().lock();
    writeln!(
        output,
        "{names}: {} -> {} bytes ({} -> {}) in {:.1?}",
        report.before_bytes,
        report.after_bytes,
        HumanBytes(report.before_bytes),
        HumanBytes(report.after_bytes),
        report.duration
    )?;
    output.flush()?;
    Ok(true)
}

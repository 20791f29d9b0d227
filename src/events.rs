//! Emits the events and spans of feature `tracing`; see [`docs::tracing`](crate::docs::tracing).
//!
//! Invariant: outside of the server, this is the only file that names the crate `tracing`.

#![cfg_attr(
    not(feature = "tracing"),
    allow(
        unused_variables,
        reason = "the functions are empty without the feature"
    )
)]

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use crate::{CompactionReport, Fallback, Recovery, Result};

/// A span that ends when it is dropped.
#[must_use]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

macro_rules! emit {
    ($level:ident, $target:literal, $($event:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: $target, tracing::Level::$level, $($event)*);
    };
}

macro_rules! enter {
    ($level:ident, $target:literal, $name:literal, $path:expr) => {
        Span {
            #[cfg(feature = "tracing")]
            _entered: tracing::span!(
                target: $target, tracing::Level::$level, $name, path = %$path.display()
            )
            .entered(),
        }
    };
}

#[cfg(feature = "tracing")]
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn open_span(path: &Path) -> Span {
    enter!(DEBUG, "brasa::open", "open", path)
}

pub(crate) fn compaction_span(path: &Path) -> Span {
    enter!(INFO, "brasa::compaction", "compaction", path)
}

pub(crate) fn checkpoint_span(path: &Path) -> Span {
    enter!(DEBUG, "brasa::checkpoint", "checkpoint", path)
}

/// Reports an opening, with each problem that it met.
pub(crate) fn opened(path: &Path, recovery: &Recovery) {
    emit!(DEBUG, "brasa::open", path = %path.display(), created = recovery.created,
        records = recovery.record_count, commits = recovery.commit_count,
        replayed_bytes = recovery.replayed_bytes, duration_us = micros(recovery.duration),
        "file opened");
    if recovery.torn_bytes > 0 {
        emit!(INFO, "brasa::open", path = %path.display(), torn_bytes = recovery.torn_bytes,
            "torn tail dropped");
    }
    if let Some(reason) = &recovery.checkpoint_ignored {
        emit!(WARN, "brasa::open", path = %path.display(), reason, "checkpoint ignored");
    }
    if let Some(report) = &recovery.salvaged {
        emit!(WARN, "brasa::open", path = %path.display(), lost_bytes = report.lost_bytes(),
            "file salvaged");
    }
    if let Some(kept_at) = &recovery.set_aside {
        emit!(WARN, "brasa::open", path = %path.display(), kept_at = %kept_at.display(),
            "file set aside");
    }
    if recovery.fallback != Fallback::None {
        emit!(WARN, "brasa::open", path = %path.display(), to = ?recovery.fallback,
            reason = recovery.fallback_reason.as_deref().unwrap_or_default(), "fallback");
    }
}

/// Reports the outcome of a compaction; `None` for one that was abandoned.
pub(crate) fn compacted(path: &Path, outcome: &Result<Option<CompactionReport>>) {
    match outcome {
        Ok(Some(report)) => {
            emit!(INFO, "brasa::compaction", path = %path.display(),
                before_bytes = report.before_bytes, after_bytes = report.after_bytes,
                duration_us = micros(report.duration), "compaction ended");
        }
        Ok(None) => {
            emit!(DEBUG, "brasa::compaction", path = %path.display(), "compaction abandoned");
        }
        Err(error) => {
            emit!(WARN, "brasa::compaction", path = %path.display(), error = %error,
                "compaction failed");
        }
    }
}

/// Reports the outcome of a checkpoint, unless none was written.
pub(crate) fn checkpointed(path: &Path, outcome: &Result<bool>, duration: Duration) {
    match outcome {
        Ok(true) => {
            emit!(DEBUG, "brasa::checkpoint", path = %path.display(),
                duration_us = micros(duration), "checkpoint written");
        }
        Ok(false) => {}
        Err(error) => {
            emit!(WARN, "brasa::checkpoint", path = %path.display(), error = %error,
                "checkpoint failed");
        }
    }
}

pub(crate) fn sync_failed(path: &Path, error: &str) {
    emit!(ERROR, "brasa::sync", path = %path.display(), error, "sync failed");
}

pub(crate) fn cache_degraded(to: &dyn Debug, reason: &str) {
    emit!(WARN, "brasa::cache", to = ?to, reason, "cache degraded");
}

pub(crate) fn lease_taken_over(lease: &[u8]) {
    emit!(WARN, "brasa::cache", lease = %lease.escape_ascii(), "lease taken over");
}

#[cfg(all(test, feature = "tracing", feature = "simulation"))]
pub(crate) mod tests {
    use std::fmt::Write as _;
    use std::io;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::simulation::{Fault, FaultyOperation, Loss, SimulatedDisk};
    use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use crate::{Db, Durability, OnDamage, Options};

    const PATH: &str = "cache.brasa";

    /// Keeps a line for each event and each span.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let name = field.name();
            let _ = match name {
                "message" => write!(self.0, " {value:?}"),
                // Times and the texts of errors differ from run to run.
                "duration_us" | "error" | "reason" => write!(self.0, " {name}"),
                _ => write!(self.0, " {name}={value:?}"),
            };
        }
    }

    impl Lines {
        fn lines(&self) -> MutexGuard<'_, Vec<String>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn push(&self, metadata: &Metadata<'_>, fields: Fields) {
            let line = format!("{} {}{}", metadata.target(), metadata.level(), fields.0);
            self.lines().push(line);
        }

        /// The lines of one target.
        pub(crate) fn of(&self, target: &str) -> Vec<String> {
            let lines = self.lines();
            let of_target = lines.iter().filter_map(|line| line.strip_prefix(target));
            of_target.map(|line| line.trim_start().to_owned()).collect()
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("brasa::")
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut fields = Fields(format!(" span {}", span.metadata().name()));
            span.record(&mut fields);
            self.push(span.metadata(), fields);
            Id::from_u64(1)
        }

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.push(event.metadata(), fields);
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    pub(crate) fn lines(act: impl FnOnce()) -> Lines {
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), act);
        lines
    }

    fn options() -> Options {
        Db::options().durability(Durability::Os).auto_compact(false)
    }

    #[test]
    fn opening_reports_the_replay_and_the_torn_tail() {
        let disk = SimulatedDisk::new(1);
        let db = options().open_on(&disk, PATH).unwrap();
        db.set("a", "1").unwrap();
        db.sync().unwrap();
        db.set("b", [7; 200]).unwrap();
        // The last write, of the commit's first word, without those before it.
        let crash = disk.crash_at(disk.operation_count());
        let last = crash.unsynced_lengths().len() - 1;
        let image = crash.image(Loss::AllBut(last), crash.unsynced_names(), 1, &[]);
        std::mem::forget(db);
        let torn = image.restart(2);
        let seen = lines(|| drop(options().open_on(&torn, PATH).unwrap()));
        let seen = seen.of("brasa::open");
        assert_eq!(seen[0], r"DEBUG span open path=cache.brasa");
        assert_eq!(
            seen[1],
            "DEBUG file opened path=cache.brasa created=false records=1 commits=1 \
             replayed_bytes=40 duration_us"
        );
        assert!(seen[2].starts_with("INFO torn tail dropped path=cache.brasa torn_bytes="));
    }

    #[test]
    fn opening_reports_salvage_and_a_checkpoint_that_is_damaged() {
        let disk = SimulatedDisk::new(1);
        let db = options().open_on(&disk, PATH).unwrap();
        for number in 0..200 {
            db.set(format!("key:{number}"), [7; 100]).unwrap();
        }
        let log_bytes = db.stats().unwrap().log_bytes;
        let checkpoint = usize::try_from(12_288 + log_bytes + 100).unwrap();
        db.checkpoint().unwrap();
        db.close().unwrap();
        let image = disk.killed_image(disk.operation_count());
        let reports = |offset: usize, ignores: bool| {
            let mut image = image.clone();
            image.file_mut(PATH).unwrap()[offset] ^= 1;
            let disk = image.restart(2);
            let salvage = options()
                .on_damage(OnDamage::Salvage)
                .ignore_checkpoints(ignores);
            let seen = lines(|| drop(salvage.open_on(&disk, PATH).unwrap()));
            seen.of("brasa::open").join("\n")
        };
        // In a record, and in the checkpoint behind the records.
        assert!(reports(20_000, true).contains("WARN file salvaged path=cache.brasa lost_bytes="));
        assert!(
            reports(checkpoint, false).contains("WARN checkpoint ignored path=cache.brasa reason")
        );
    }

    #[test]
    fn compactions_and_checkpoints_report_their_outcome() {
        let disk = SimulatedDisk::new(1);
        let db = options().open_on(&disk, PATH).unwrap();
        db.set("a", [7; 1_000]).unwrap();
        let seen = lines(|| {
            db.compact().unwrap();
            db.checkpoint().unwrap();
            let fault = |operation| Fault::new(io::ErrorKind::Other).operation(operation);
            disk.inject(fault(FaultyOperation::Open));
            assert!(db.compact().is_err());
            disk.inject(fault(FaultyOperation::Write));
            assert!(db.checkpoint().is_err());
        });
        let compactions = seen.of("brasa::compaction");
        assert_eq!(compactions.len(), 4, "{compactions:?}");
        assert_eq!(compactions[0], "INFO span compaction path=cache.brasa");
        let ended = "INFO compaction ended path=cache.brasa before_bytes=";
        assert!(compactions[1].starts_with(ended), "{compactions:?}");
        let failed = "WARN compaction failed path=cache.brasa error";
        assert_eq!(compactions[3], failed);
        assert_eq!(
            seen.of("brasa::checkpoint"),
            [
                "DEBUG span checkpoint path=cache.brasa",
                "DEBUG checkpoint written path=cache.brasa duration_us",
                "DEBUG span checkpoint path=cache.brasa",
                "WARN checkpoint failed path=cache.brasa error",
            ]
        );
    }

    #[test]
    fn failed_sync_is_reported_once() {
        let disk = SimulatedDisk::new(1);
        let db = options().open_on(&disk, PATH).unwrap();
        db.set("a", "1").unwrap();
        disk.inject(Fault::new(io::ErrorKind::Other).operation(FaultyOperation::Sync));
        let seen = lines(|| {
            assert!(db.sync().is_err());
            assert!(db.set("b", "2").is_err());
        });
        assert_eq!(
            seen.of("brasa::sync"),
            ["ERROR sync failed path=cache.brasa error"]
        );
    }

    #[test]
    fn fallback_is_reported() {
        let disk = SimulatedDisk::new(1);
        drop(options().open_on(&disk, PATH).unwrap());
        disk.inject(Fault::new(io::ErrorKind::ReadOnlyFilesystem));
        let falls_back = options().fallback(Fallback::ReadOnly);
        let seen = lines(|| drop(falls_back.open_on(&disk, PATH).unwrap()));
        let last = seen.of("brasa::open").pop().unwrap();
        assert_eq!(last, "WARN fallback path=cache.brasa to=ReadOnly reason");
    }
}

//! Opens damaged and unusable files: salvage, and fallbacks to memory or to reading only.

use std::io;
use std::path::Path;

use super::Engine;
use super::repair::{RepairOptions, RepairReport, repair, repair_into};
use super::stranger::set_aside;
use crate::events;
use crate::options::{Fallback, OnDamage};
use crate::storage::{MemoryStorage, Storage};
use crate::sync::Arc;
use crate::{Error, Options, Result};

/// How often opening is tried again after another process's repair.
const MAX_ATTEMPTS: usize = 4;

impl Engine {
    /// Opens the file as [`Engine::open`], and does what the options say where that cannot be.
    pub(crate) fn open_or_recover(
        storage: Arc<dyn Storage>,
        path: &Path,
        options: &Options,
    ) -> Result<Engine> {
        let _span = events::open_span(path);
        let engine = Engine::open_or_fall_back(storage, path, options)?;
        events::opened(path, &engine.recovery);
        Ok(engine)
    }

    fn open_or_fall_back(
        storage: Arc<dyn Storage>,
        path: &Path,
        options: &Options,
    ) -> Result<Engine> {
        let refused = match open_or_salvage(&storage, path, options) {
            Err(error) if says_not_writable(&error) => error,
            opened => return opened,
        };
        let mut engine = match options.fallback {
            Fallback::None => return Err(refused),
            Fallback::Memory => Engine::open_in_memory(options)?,
            Fallback::ReadOnly => {
                let read_only = options.clone().read_only(true);
                match open_or_salvage(&storage, path, &read_only) {
                    Ok(engine) => engine,
                    // It cannot be read either, or is not there: the first error says more.
                    Err(_) => return Err(refused),
                }
            }
        };
        engine.recovery.fallback = options.fallback;
        engine.recovery.fallback_reason = Some(refused.to_string());
        Ok(engine)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.settings.read_only
    }
}

/// Opens the file. First sets a file of something else aside, or repairs a damaged one, if the options
/// ask for that.
fn open_or_salvage(storage: &Arc<dyn Storage>, path: &Path, options: &Options) -> Result<Engine> {
    let mut salvaged: Option<RepairReport> = None;
    let mut kept = None;
    for _ in 1..MAX_ATTEMPTS {
        let opened = Engine::open(Arc::clone(storage), path, options);
        if options.set_aside_strangers
            && !options.read_only
            && matches!(opened, Err(Error::NotABrasaFile { .. }))
        {
            kept = set_aside(&**storage, path, options)?.or(kept);
            continue;
        }
        let damaged = match &opened {
            Ok(engine) => engine.generation_now().poisoned().is_some() && !options.read_only,
            Err(error) => matches!(error, Error::Corrupt { .. }),
        };
        if !damaged || options.on_damage == OnDamage::Error || salvaged.is_some() {
            return opened.map(|mut engine| {
                engine.recovery.salvaged = salvaged;
                engine.recovery.set_aside = kept;
                engine
            });
        }
        // A poisoned engine holds the locks that the repair needs.
        drop(opened);
        if options.read_only {
            return salvage_into_memory(&**storage, path, options);
        }
        let in_place = repair_options(options).in_place(true);
        let report = repair(&**storage, path, &in_place, &*options.clock)?;
        // If there was nothing to do, another process has repaired the file.
        salvaged = (!report.nothing_to_do()).then_some(report);
    }
    Engine::open(Arc::clone(storage), path, options)
}

/// Reads what survives into memory, since the file is not to be changed.
fn salvage_into_memory(storage: &dyn Storage, path: &Path, options: &Options) -> Result<Engine> {
    let memory = Arc::new(MemoryStorage::default());
    let path = &storage.resolve(path).map_err(Error::io("find", path))?;
    let into_memory = repair_options(options).output(path);
    let report = repair_into(&*memory, storage, path, &into_memory, &*options.clock)?;
    if report.nothing_to_do() {
        return Err(Error::io("open", path)(io::Error::other(
            "it was replaced by another file while it was opened; try again",
        )));
    }
    let mut engine = Engine::open(memory, path, options)?;
    engine.recovery.salvaged = Some(RepairReport {
        output: None,
        ..report
    });
    Ok(engine)
}

fn repair_options(options: &Options) -> RepairOptions {
    RepairOptions::new()
        .lock_timeout(options.lock_timeout)
        .allow_empty()
}

/// Whether an error says that nothing can be written where the file is.
fn says_not_writable(error: &Error) -> bool {
    match error {
        Error::DiskFull { .. } => true,
        Error::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

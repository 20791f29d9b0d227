//! Refuses calls from within closures that the engine runs, if such a call would wait for itself.
//!
//! A thread that runs the closure of a write holds the writer lock. A call would never return if it
//! needs this lock, or a lock of a thread that may wait for the writer lock:
//!
//! | call from within the closure of a write | result |
//! | --- | --- |
//! | a read, a backup | works |
//! | a write, a sync, a checkpoint, a compaction, an exclusive opening | [`Error::Reentered`] |
//! | closing or dropping the last handle of its kind | happens when the outermost write is over |
//!
//! The progress closure of a compaction may not start another compaction or checkpoint. Every other
//! call works.
//!
//! Two handles are on the same file if they have the same path or the same inode. Each test alone
//! would miss cases: a compaction changes the inode, and a file can have two paths.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::{Engine, Generation};
use crate::mutation::{self, Mutation};
use crate::storage::FileId;
use crate::sync::thread;
use crate::{Error, Result};

/// A path on a device, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    pub(super) fn new(device: u64, path: &Path) -> Place {
        let mut hasher = DefaultHasher::new();
        (device, path).hash(&mut hasher);
        Place(hasher.finish())
    }
}

/// What a thread is doing to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Writing,
    Compacting,
}

/// A call that this thread is within.
#[derive(Debug, Clone, Copy)]
struct Frame {
    doing: Doing,
    place: Place,
    file: FileId,
}

impl Frame {
    fn is_of(&self, place: Place, file: FileId) -> bool {
        self.place == place || self.file == file
    }
}

/// What a thread is within.
struct Within {
    frames: Vec<Frame>,
    /// What is done when the outermost write is over.
    deferred: Vec<Box<dyn FnOnce()>>,
}

crate::sync::thread_local! {
    static WITHIN: RefCell<Within> = const {
        RefCell::new(Within { frames: Vec::new(), deferred: Vec::new() })
    };
}

/// Marks this thread as writing to a file while it lives.
pub(super) struct Writing<'e>(&'e Engine);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let has_deferred = leave();
        if thread::panicking() {
            // Others would wait for an unused lease.
            self.0.end_lease();
        }
        if has_deferred {
            run_deferred();
        }
    }
}

/// Marks this thread as compacting a file while it lives.
pub(super) struct Compacting(());

impl Drop for Compacting {
    fn drop(&mut self) {
        if leave() {
            run_deferred();
        }
    }
}

/// Ends the innermost call. Returns whether something was deferred.
fn leave() -> bool {
    WITHIN.with_borrow_mut(|within| {
        within.frames.pop();
        !within.deferred.is_empty()
    })
}

/// Does what was deferred, if no write is left.
#[cold]
fn run_deferred() {
    let due = WITHIN.with_borrow_mut(|within| {
        let is_writing = |frame: &Frame| frame.doing == Doing::Writing;
        match within.frames.iter().any(is_writing) {
            true => Vec::new(),
            false => std::mem::take(&mut within.deferred),
        }
    });
    due.into_iter().for_each(|work| work());
}

/// Does something when the outermost write of this thread is over.
pub(crate) fn after_write(work: Box<dyn FnOnce()>) {
    WITHIN.with_borrow_mut(|within| within.deferred.push(work));
}

/// Whether this thread is within the closure of a write to this file.
pub(super) fn is_writing_to(file: FileId) -> bool {
    let is_it = |frame: &Frame| frame.doing == Doing::Writing && frame.file == file;
    WITHIN.with_borrow(|within| within.frames.iter().any(is_it))
}

impl Engine {
    /// Begins a write. Refuses one within another of the same file.
    pub(super) fn enter(&self) -> Result<Writing<'_>> {
        self.push(Doing::Writing)?;
        Ok(Writing(self))
    }

    /// Begins a compaction or checkpoint. Refuses one within another, or within a write.
    pub(super) fn enter_compaction(&self) -> Result<Compacting> {
        self.push(Doing::Compacting)?;
        Ok(Compacting(()))
    }

    fn push(&self, doing: Doing) -> Result<()> {
        let file = self.id_now();
        WITHIN.with_borrow_mut(|within| {
            // A write may stand within a compaction: its last part is one, and its progress may write.
            let refuses = |frame: &Frame| {
                frame.is_of(self.place, file)
                    && (doing == Doing::Compacting || frame.doing == Doing::Writing)
            };
            if within.frames.iter().any(refuses) {
                return Err(self.reentered());
            }
            within.frames.push(Frame {
                doing,
                place: self.place,
                file,
            });
            Ok(())
        })
    }

    /// Whether this thread is within the closure of a write to this file.
    pub(crate) fn is_within_write(&self) -> bool {
        let file = self.id_now();
        let is_it = |frame: &Frame| frame.doing == Doing::Writing && frame.is_of(self.place, file);
        WITHIN.with_borrow(|within| within.frames.iter().any(is_it))
    }

    /// Refuses what takes a lock that others hold while they wait for the writer lock.
    pub(crate) fn refuse_within_write(&self) -> Result<()> {
        match self.is_within_write() && !mutation::is_on(Mutation::AllowNestedCalls) {
            true => Err(self.reentered()),
            false => Ok(()),
        }
    }

    /// Notes the file that a write has come to: the one its path names by now. Refuses it where this
    /// thread writes to it by another path.
    pub(super) fn note_file(&self, generation: &Generation) -> Result<()> {
        WITHIN.with_borrow_mut(|within| {
            let mut is_other = false;
            for frame in &mut within.frames {
                if frame.place == self.place {
                    frame.file = generation.id;
                } else {
                    is_other |= frame.doing == Doing::Writing && frame.file == generation.id;
                }
            }
            match is_other {
                true => Err(self.reentered()),
                false => Ok(()),
            }
        })
    }

    fn reentered(&self) -> Error {
        Error::Reentered {
            path: self.path.clone(),
        }
    }
}

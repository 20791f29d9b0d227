//! Noticing that overlayfs has copied the file to its upper layer.
//!
//! A file that was never opened for writing is in the lower layer. The first writer copies it to
//! the upper layer, under the same inode number. An older mapping continues to show the lower file,
//! which no longer changes, although its descriptor may read the upper one. Only a handle without
//! permission to write can have such a mapping.
//!
//! Such a handle compares its mapping with the file that the path names, at most every [`INTERVAL`],
//! and opens the path again where they differ.
//!
//! Invariant: its mapping is never taken to show more than the file had when it was mapped. The
//! descriptor gives the length of the upper file; behind the end of the lower one waits a SIGBUS.

use std::io;
use std::time::Duration;

use super::{END_WORD, Generation, HEADER_BYTES};
use crate::storage::StorageFile;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How often the mapping is compared with the file that the path names.
const INTERVAL: Duration = Duration::from_millis(100);

/// When the mapping was last compared with the file that the path names.
#[derive(Debug)]
pub(super) struct Layers {
    opened_at: Instant,
    /// Milliseconds from then to the next look.
    due_ms: AtomicU64,
}

impl Layers {
    pub(super) fn new() -> Layers {
        Layers {
            opened_at: Instant::now(),
            due_ms: AtomicU64::new(0),
        }
    }

    /// Whether a look is due; the next one is then due after [`INTERVAL`].
    fn takes_due(&self) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now_ms = millis(self.opened_at.elapsed());
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(millis(INTERVAL));
        now_ms >= due_ms
            && self
                .due_ms
                .compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Why a read cannot simply use the file. One byte, so that a read checks one thing.
#[derive(Debug)]
pub(super) struct Suspicion(AtomicU8);

/// The log's last record says so.
const MOVED: u8 = 1;

/// The file is on overlayfs.
const LAYERED: u8 = 2;

/// The handle's writer still uses the file before this one.
const WRITER_BEHIND: u8 = 4;

impl Suspicion {
    pub(super) fn new(is_layered: bool) -> Suspicion {
        Suspicion(AtomicU8::new(if is_layered { LAYERED } else { 0 }))
    }

    /// Notes whether the log's last record says that the path may name another file.
    pub(super) fn set_moved(&self, is_moved: bool) {
        let was_moved = self.0.load(Ordering::Relaxed) & MOVED != 0;
        if is_moved || was_moved {
            self.set(MOVED, is_moved);
        }
    }

    fn set(&self, reason: u8, holds: bool) {
        match holds {
            true => self.0.fetch_or(reason, Ordering::Release),
            false => self.0.fetch_and(!reason, Ordering::Release),
        };
    }

    pub(super) fn is_moved(&self) -> bool {
        self.0.load(Ordering::Acquire) & MOVED != 0
    }
}

impl Generation {
    /// Whether a read must check more: the path may name another file, or the writer is behind.
    #[inline]
    pub(in crate::engine) fn is_suspect(&self) -> bool {
        self.suspicion.0.load(Ordering::Acquire) != 0
    }

    /// Whether the handle's writer still uses the file before this one. It was busy when the handle
    /// went on with this one.
    pub(in crate::engine) fn is_writer_behind(&self) -> bool {
        self.suspicion.0.load(Ordering::Acquire) & WRITER_BEHIND != 0
    }

    pub(in crate::engine) fn set_writer_behind(&self, is_behind: bool) {
        self.suspicion.set(WRITER_BEHIND, is_behind);
    }

    /// Whether to compare the mapping with the file at the path: at intervals, and before a commit
    /// after the tail is applied.
    pub(in crate::engine) fn is_look_due(&self, has_news: bool) -> bool {
        let layers = self.layers.as_ref();
        layers.is_some_and(|layers| layers.takes_due() || has_news)
    }

    /// How many bytes of the file a mapping shows if it is long enough.
    pub(super) fn mappable_bytes(&self) -> io::Result<u64> {
        match self.layers {
            // The invariant.
            Some(_) => Ok(self.mapping().readable_bytes()),
            None => self.file.size(),
        }
    }

    /// Whether the mapping shows something else at the tail than the file that the path names, or
    /// less of it.
    pub(in crate::engine) fn is_shadowed_by(&self, named: &dyn StorageFile) -> io::Result<bool> {
        // The mapping may show a commit that came after the read. Not twice.
        const LOOKS: usize = 2;
        if named.id()? != self.id || named.size()? > self.mapping().readable_bytes() {
            return Ok(true);
        }
        for _ in 0..LOOKS {
            let offset = self.published_upto();
            let mut header = [0; HEADER_BYTES];
            named.read_at(&mut header, offset)?;
            let (words, _) = header.as_chunks::<{ END_WORD.len() }>();
            let shown = self.header_at(offset);
            if words.iter().map(|word| u64::from_le_bytes(*word)).eq(shown) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

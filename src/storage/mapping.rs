//! Bytes of a file in the address space: all of it for reading, and a stretch at the log's end for writing.
//!
//! Invariants:
//!
//! 1. No byte at or beyond `readable_bytes` is touched: behind the end of a mapped file waits a
//!    SIGBUS. `readable_bytes` never exceeds the file's size, and files are not cut while they
//!    are mapped (design: the `users` lock).
//! 2. [`Mapping::bytes`] returns published records, which never change again, as a shared slice
//!    requires. It may also return bytes after the tail, which another process may be writing.
//!    Those are used only if their checksum holds, and are not read again before they are
//!    published.
//! 3. Only one word may change under a reader: the first word of an unpublished record.
//!    [`Mapping::word`] reads it by an atomic load, followed by an acquire fence. A reader that
//!    sees it published sees the whole commit.
//! 4. A [`Window`] is written only if the file has space on the device and the page is in memory.
//!    Both were ensured when the window was opened. A full disk would otherwise be a SIGBUS.
//! 5. A thread that writes through a window holds the writer lock, and writes only after the
//!    published log.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::slice;

use memmap2::{Advice, Mmap, MmapOptions, MmapRaw, UncheckedAdvice};

use crate::sync::Word;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Arc, OnceLock};

/// Bytes at the start of every file that are there from its creation to its end.
const HEAD_BYTES: usize = 3 * 4096;

/// A range of addresses that shows a file from its start. It stays valid for as long as it is kept, even
/// when the file has outgrown it.
#[derive(Debug)]
pub(crate) struct Mapping {
    region: Region,
    readable_bytes: AtomicU64,
}

#[derive(Debug)]
enum Region {
    File(Mmap),
    Heap(Arc<Heap>),
}

impl Mapping {
    /// Maps `len` bytes, of which the file has `file_bytes` for now.
    pub(super) fn of_file(file: &File, len: u64, file_bytes: u64) -> io::Result<Mapping> {
        let len_word = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: other programs can change a mapped file. Reads stay below its size (invariant 1)
        // and within bytes that no brasa process changes (invariant 2). The documentation excludes
        // that another program writes to the file or truncates it while it is mapped. The test
        // `a_mapping_is_not_read_beyond_the_file` would die of a breach.
        let map = unsafe { MmapOptions::new().len(len_word).map(file)? };
        Ok(Mapping {
            region: Region::File(map),
            readable_bytes: AtomicU64::new(file_bytes.min(len)),
        })
    }

    pub(super) fn of_heap(heap: &Arc<Heap>, file_bytes: u64) -> Mapping {
        Mapping {
            region: Region::Heap(Arc::clone(heap)),
            readable_bytes: AtomicU64::new(file_bytes.min(heap.len())),
        }
    }

    /// Bytes that the mapping can show once the file has them.
    fn len(&self) -> u64 {
        match &self.region {
            Region::File(map) => map.len() as u64,
            Region::Heap(heap) => heap.len(),
        }
    }

    /// Whether the mapping shows the file up to `end`; if not, it takes a new one.
    pub(crate) fn covers(&self, end: u64) -> bool {
        let replaced = match &self.region {
            Region::File(_) => false,
            Region::Heap(heap) => heap.successor.get().is_some(),
        };
        !replaced && end <= self.len()
    }

    /// How many bytes can be read for now.
    pub(crate) fn readable_bytes(&self) -> u64 {
        self.readable_bytes.load(Ordering::Acquire)
    }

    /// Says that the file has become at least this long.
    pub(crate) fn set_readable(&self, file_bytes: u64) {
        self.readable_bytes
            .fetch_max(file_bytes.min(self.len()), Ordering::Release);
    }

    /// Tells the kernel that reads are seldom near the previous one, so that it does not read
    /// megabytes ahead of each miss. Use [`Mapping::will_need`] for a larger range to read at once.
    pub(crate) fn expect_jumps(&self) {
        if let Region::File(map) = &self.region {
            // It is advice: nothing is wrong without it.
            let _ = map.advise(Advice::Random);
        }
    }

    /// Says that hardly anything more is read through this mapping, since there is a larger one: else the pages that both have had at hand
    /// would count twice as this process's memory.
    pub(crate) fn rest(&self) {
        if let Region::File(map) = &self.region {
            // SAFETY: the mapping is of a file and shared, so that what is let go of is the page table's entries: the next look at a byte
            // finds it in the file, where it is as it was (invariant 2). The test `an_outgrown_mapping_keeps_its_bytes_and_says_that_it_is_outgrown` looks.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }

    /// Says that a range is going to be read.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.readable_bytes());
        let range = end
            .checked_sub(offset)
            .and_then(|len| Some((usize::try_from(offset).ok()?, usize::try_from(len).ok()?)));
        if let (Region::File(map), Some((start, len))) = (&self.region, range) {
            let _ = map.advise_range(Advice::WillNeed, start, len);
        }
    }

    /// Published bytes; `None` where the range goes beyond what can be read.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if end > self.readable_bytes.load(Ordering::Acquire) {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        match &self.region {
            Region::File(map) => map.get(start..start + len),
            Region::Heap(heap) => heap.bytes(start, len),
        }
    }

    /// The word at an offset that is a multiple of 8, among the first [`HEAD_BYTES`] of a mapped file that
    /// has that many. `None` beyond them, and in memory.
    #[inline]
    pub(crate) fn head_word(&self, offset: u64) -> Option<u64> {
        let Region::File(map) = &self.region else {
            return None;
        };
        let index = usize::try_from(offset / 8).ok()?;
        if index >= HEAD_BYTES / 8 || map.len() < HEAD_BYTES {
            return None;
        }
        // SAFETY: the word lies within the mapping, and so does the file behind it, since every file
        // that is opened has its head (invariant 1); it is aligned, as in `word`. Others change it by
        // system calls alone.
        let word = unsafe { &*map.as_ptr().cast::<Word>().add(index) };
        Some(u64::from_le_bytes(
            word.load(Ordering::Relaxed).to_ne_bytes(),
        ))
    }

    /// The eight bytes at an offset that is a multiple of 8; `None` where it goes beyond what can be read.
    pub(crate) fn word(&self, offset: u64) -> Option<[u8; 8]> {
        debug_assert!(offset.is_multiple_of(8));
        if offset.checked_add(8)? > self.readable_bytes.load(Ordering::Acquire) {
            return None;
        }
        let index = usize::try_from(offset / 8).ok()?;
        let word = match &self.region {
            Region::File(map) => {
                // SAFETY: the word lies within the mapping (checked against `readable_bytes`,
                // which never exceeds its length), mappings begin at a page and the index counts
                // whole words, so it is aligned; `Word` has the layout of `u64`, and every
                // other access to an unpublished word is atomic or a system call.
                let word = unsafe { &*map.as_ptr().cast::<Word>().add(index) };
                word.load(Ordering::Relaxed)
            }
            Region::Heap(heap) => heap.newest().words.get(index)?.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        Some(word.to_ne_bytes())
    }
}

/// A stretch of a file that is written to without system calls.
#[derive(Debug)]
pub(crate) struct Window {
    map: MmapRaw,
    /// Where in the file it begins, at a page.
    start: u64,
}

impl Window {
    /// Opens a stretch of a file that has space there (invariant 4).
    #[cfg(target_os = "linux")]
    pub(super) fn of_file(file: &File, start: u64, len: usize) -> io::Result<Window> {
        let map = MmapOptions::new().offset(start).len(len).map_raw(file)?;
        // Not only faster than a fault for each page: what is wrong with one is an error here, and would be a SIGBUS later.
        map.advise(Advice::PopulateWrite)?;
        Ok(Window { map, start })
    }

    /// Writes a commit and publishes it: its first word goes in last. `commit` consists of whole words. Says no, and writes nothing, where
    /// the window does not reach so far.
    pub(crate) fn publish(&self, commit: &[u8], offset: u64) -> bool {
        /// Words of a record's header behind the first.
        const HEADER_WORDS: usize = 3;
        let place = offset.checked_sub(self.start);
        let Some(start) = place.and_then(|place| usize::try_from(place).ok()) else {
            return false;
        };
        let fits = start
            .checked_add(commit.len())
            .is_some_and(|end| end <= self.map.len());
        let (words, &[]) = commit.as_chunks::<8>() else {
            return false;
        };
        let Some((first, rest)) = words.split_first() else {
            return false;
        };
        if !fits || !start.is_multiple_of(8) {
            return false;
        }
        let (header, body) = rest.split_at(HEADER_WORDS.min(rest.len()));
        // SAFETY: all words lie within the mapping (checked above), which begins at a page, so they are aligned; `Word` has the
        // layout of `u64`, and whatever else looks at these words does so by atomic loads until they are published (invariants 3, 5).
        let target =
            |index: usize| unsafe { &*self.map.as_mut_ptr().add(start).cast::<Word>().add(index) };
        // A writer that dies here leaves bytes that the next writer sees: the header goes before the body.
        for (index, word) in (1..).zip(header) {
            target(index).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        fence(Ordering::Release);
        let body = body.as_flattened();
        // SAFETY: the range lies within the mapping (checked above) and is existing memory
        // (invariant 4). No slice of these bytes exists, since only published bytes are handed out
        // (invariant 2). No other thread or process writes them (invariant 5).
        unsafe {
            let target = self.map.as_mut_ptr().add(start + 8 * (1 + header.len()));
            target.copy_from_nonoverlapping(body.as_ptr(), body.len());
        }
        // This store is the commit: a reader that sees it sees the rest.
        target(0).store(u64::from_ne_bytes(*first), Ordering::Release);
        true
    }
}

/// The contents of a file in memory, of fixed capacity.
///
/// A file that outgrows it moves to a successor. A reader of the old one still sees what was
/// published before.
#[derive(Debug)]
pub(super) struct Heap {
    words: Box<[Word]>,
    successor: OnceLock<Arc<Heap>>,
}

impl Heap {
    /// Zeros, at least `capacity` bytes of them.
    pub(super) fn new(capacity: u64) -> io::Result<Heap> {
        let words = usize::try_from(capacity.div_ceil(8)).map_err(io::Error::other)?;
        let mut zeros = Vec::new();
        zeros
            .try_reserve_exact(words)
            .map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        zeros.resize(words, 0_u64);
        let zeros: *mut [u64] = Box::into_raw(zeros.into_boxed_slice());
        // SAFETY: `Word` has the size, alignment (of a u64, on 64-bit targets) and bit
        // validity of `u64`, and the box has no other owner.
        let words = unsafe { Box::from_raw(zeros as *mut [Word]) };
        Ok(Heap {
            words,
            successor: OnceLock::new(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    fn newest(&self) -> &Heap {
        let mut heap = self;
        while let Some(successor) = heap.successor.get() {
            heap = successor;
        }
        heap
    }

    /// Moves the contents to a larger heap. The caller keeps writers out meanwhile.
    pub(super) fn grow(&self, capacity: u64) -> io::Result<Arc<Heap>> {
        let larger = Arc::new(Heap::new(capacity)?);
        let old_len = usize::try_from(self.len()).map_err(io::Error::other)?;
        if let Some(contents) = self.bytes(0, old_len) {
            larger.write(contents, 0)?;
        }
        // Set once: the file forgets this heap now.
        let _ = self.successor.set(Arc::clone(&larger));
        Ok(larger)
    }

    fn bytes(&self, start: usize, len: usize) -> Option<&[u8]> {
        if start.checked_add(len)? as u64 > self.len() {
            return None;
        }
        // SAFETY: the range lies within the allocation (checked above). The words are cells, so
        // writing through a shared reference is allowed. No slice of these bytes exists, because
        // only unpublished ranges are written (invariant 2). No other thread writes them.
        Some(unsafe { slice::from_raw_parts(self.words.as_ptr().cast::<u8>().add(start), len) })
    }

    /// Copies bytes in; one whole word as a single store. The caller keeps other writers out.
    pub(super) fn write(&self, bytes: &[u8], start: usize) -> io::Result<()> {
        if let (Ok(word), true) = (<[u8; 8]>::try_from(bytes), start.is_multiple_of(8))
            && let Some(target) = self.words.get(start / 8)
        {
            // Publishing: everything written before becomes visible with it.
            target.store(u64::from_ne_bytes(word), Ordering::Release);
            return Ok(());
        }
        let end = start.checked_add(bytes.len());
        if end.is_none_or(|end| end as u64 > self.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the range lies within the allocation (checked above). The words are cells, so
        // writing through a shared reference is allowed. No slice of these bytes exists, because
        // only unpublished ranges are written (invariant 2). No other thread writes them.
        unsafe {
            let target = self.words.as_ptr().cast::<u8>().cast_mut().add(start);
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    /// A copy of bytes, published or not. The caller keeps writers out meanwhile.
    pub(super) fn read(&self, out: &mut [u8], start: usize) -> io::Result<()> {
        let source = self
            .bytes(start, out.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        out.copy_from_slice(source);
        Ok(())
    }
}

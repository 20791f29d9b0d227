//! Entries of a checkpoint in the order of their hashes, used in place without a copy.
//!
//! A run is a tree of few levels. Its root is given, and the other pages are fetched when they are
//! needed. Whatever the pages contain, a walk ends, and reads only fetched pages.

use byteorder::{ByteOrder, LittleEndian};

use super::word::{hash_of, is_flagged, place_of};
use crate::Result;

/// Levels of pages below a root, at most: enough for more entries than a file can have records.
pub(crate) const MAX_LEVELS: u8 = 4;

const WORD_BYTES: usize = 8;

/// Where the pages of a checkpoint come from, checked.
pub(crate) trait Pages<'a>: Copy {
    /// The words of the page at an offset, without its tag.
    fn page(self, offset: u64) -> Result<&'a [u8]>;
}

/// What a stored entry points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The record at this offset.
    Record(u64),
    /// The object at this offset, within a page.
    Object(u64),
}

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run<'a> {
    levels: u8,
    root: &'a [u8],
    /// The only entry of a run that has no place of its own.
    single: Option<u64>,
}

impl<'a> Run<'a> {
    /// The run with these words for its root; `None` where it cannot be one.
    pub(crate) fn new(levels: u8, root: &'a [u8]) -> Option<Run<'a>> {
        let sound = levels <= MAX_LEVELS && root.len().is_multiple_of(WORD_BYTES);
        sound.then_some(Run {
            levels,
            root,
            single: None,
        })
    }

    /// The run of one entry, for a record.
    pub(crate) fn of_one(hash: u32, offset: u64) -> Run<'a> {
        Run {
            single: Some(super::word::pack(hash, false, offset / 8)),
            ..Run::default()
        }
    }

    /// The entries from a hash on.
    pub(crate) fn iter_from<P: Pages<'a>>(self, pages: P, hash: u32) -> RunIter<'a, P> {
        RunIter {
            pages,
            from: hash,
            levels: usize::from(self.levels),
            path: [(&[], 0); MAX_LEVELS as usize + 1],
            root: Some(self.root),
            single: self.single,
            last_leaf: 0,
        }
    }
}

/// A walk over a run.
pub(crate) struct RunIter<'a, P> {
    pages: P,
    from: u32,
    levels: usize,
    /// The pages from the root down to a leaf, each with the place of its next word.
    path: [(&'a [u8], usize); MAX_LEVELS as usize + 1],
    /// The root, until the walk has begun.
    root: Option<&'a [u8]>,
    single: Option<u64>,
    /// Leaves come in ascending order: so that no walk is longer than the file.
    last_leaf: u64,
}

impl<'a, P: Pages<'a>> RunIter<'a, P> {
    /// Goes from a node at this depth down to a leaf; says whether that could be done.
    fn descend(&mut self, mut depth: usize) -> Result<bool> {
        while depth < self.levels {
            let (words, at) = self.path[depth];
            let offset = place_of(word(words, at)) * 8;
            let page = self.pages.page(offset)?;
            depth += 1;
            if depth == self.levels && offset <= self.last_leaf || page.is_empty() {
                return Ok(false);
            }
            self.last_leaf = if depth == self.levels {
                offset
            } else {
                self.last_leaf
            };
            self.path[depth] = (page, self.first_in(page, depth));
        }
        Ok(true)
    }

    /// The word of a page at which the walk continues.
    fn first_in(&self, words: &[u8], depth: usize) -> usize {
        let first = lower_bound(words, self.from);
        match depth == self.levels {
            true => first,
            // What begins with a smaller hash may reach up to this one.
            false => first.saturating_sub(1).min(count(words).saturating_sub(1)),
        }
    }

    fn begin(&mut self, root: &'a [u8]) -> Result<bool> {
        if root.is_empty() {
            return Ok(false);
        }
        self.path[0] = (root, self.first_in(root, 0));
        self.descend(0)
    }

    fn advance(&mut self) -> Result<Option<u64>> {
        if let Some(root) = self.root.take() {
            if let Some(single) = self.single {
                return Ok((hash_of(single) >= self.from).then_some(single));
            }
            if !self.begin(root)? {
                self.levels = 0;
                self.path[0] = (&[], 0);
            }
        }
        loop {
            let (words, at) = self.path[self.levels];
            if at < count(words) {
                self.path[self.levels].1 += 1;
                return Ok(Some(word(words, at)));
            }
            // Up to where there is something left, and down again.
            let Some(depth) = (0..self.levels)
                .rev()
                .find(|depth| self.path[*depth].1 + 1 < count(self.path[*depth].0))
            else {
                return Ok(None);
            };
            self.path[depth].1 += 1;
            if !self.descend(depth)? {
                self.levels = 0;
                self.path[0] = (&[], 0);
                return Ok(None);
            }
        }
    }
}

impl<'a, P: Pages<'a>> Iterator for RunIter<'a, P> {
    type Item = Result<(u32, Place)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(Some(word)) => {
                let offset = place_of(word) * 8;
                let place = match is_flagged(word) {
                    true => Place::Object(offset),
                    false => Place::Record(offset),
                };
                Some(Ok((hash_of(word), place)))
            }
            Ok(None) => None,
            Err(error) => {
                self.levels = 0;
                self.path[0] = (&[], 0);
                Some(Err(error))
            }
        }
    }
}

fn count(words: &[u8]) -> usize {
    words.len() / WORD_BYTES
}

fn word(words: &[u8], at: usize) -> u64 {
    LittleEndian::read_u64(&words[at * WORD_BYTES..])
}

/// The first of ascending words with a hash not below this one.
fn lower_bound(words: &[u8], hash: u32) -> usize {
    let (mut low, mut high) = (0, count(words));
    while low < high {
        let middle = low + (high - low) / 2;
        if hash_of(word(words, middle)) < hash {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

//! Reads the chain of records, commit by commit.

use super::LOG_START;
use crate::limits::{MAX_COMMIT_BYTES, is_commit_too_large};
use crate::record::{self, Change, Invalid, Kind, Link, Record};
use crate::storage::Mapping;

/// Bytes of a file to read a log from.
pub(crate) trait Source {
    /// The eight bytes at an offset that is a multiple of 8; `None` behind the end.
    fn word(&self, offset: u64) -> Option<[u8; 8]>;

    /// Bytes of a published record; `None` where they go beyond the end.
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]>;

    /// How many bytes there are.
    fn len(&self) -> u64;
}

impl Source for Mapping {
    fn word(&self, offset: u64) -> Option<[u8; 8]> {
        Mapping::word(self, offset)
    }

    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        Mapping::bytes(self, offset, len)
    }

    fn len(&self) -> u64 {
        self.readable_bytes()
    }
}

impl Source for [u8] {
    fn word(&self, offset: u64) -> Option<[u8; 8]> {
        Source::bytes(self, offset, 8)?.try_into().ok()
    }

    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(len)?)
    }

    fn len(&self) -> u64 {
        self.len() as u64
    }
}

/// Where a log stops making sense, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) reason: Invalid,
}

/// Where a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Reads commits from a place in the log on.
#[derive(Debug)]
pub(crate) struct Reader<'a, S: Source + ?Sized> {
    source: &'a S,
    /// Ties the next commit to its place.
    link: Link,
    /// The last commit's first record: of most commits the only one, and not to be parsed again.
    first: Option<(u64, Change<'a>)>,
    /// The offsets of the others.
    others: Vec<u64>,
    /// The number in the last commit's records.
    writer: u32,
    /// Nothing may follow a `Poisoned` record, and nothing after it is looked at.
    poisoned: bool,
    /// Damaged pages of checkpoints are passed over before this offset.
    synced_upto: u64,
    /// Whether the last commit is such a page.
    passed_over: bool,
}

impl<'a, S: Source + ?Sized> Reader<'a, S> {
    /// A reader from the log's first record on.
    pub(crate) fn from_start(source: &'a S, salt: u32) -> Self {
        let link = Link {
            salt,
            offset: LOG_START,
            previous: record::first_previous(salt),
        };
        Self::from_link(source, link)
    }

    /// A reader from a boundary between commits on.
    pub(crate) fn from_link(source: &'a S, link: Link) -> Self {
        Self {
            source,
            link,
            first: None,
            others: Vec::new(),
            writer: 0,
            poisoned: false,
            synced_upto: 0,
            passed_over: false,
        }
    }

    /// Passes over what is damaged of a checkpoint, as the format's page says, where it was on the device: before this offset.
    pub(crate) fn passing_over_pages(mut self, synced_upto: u64) -> Self {
        self.synced_upto = synced_upto;
        self
    }

    /// Goes on at another boundary between commits.
    pub(crate) fn jump(&mut self, offset: u64, previous: u32) {
        self.link = Link {
            offset,
            previous,
            ..self.link
        };
    }

    /// What ties the next commit to its place: the end of the last whole one.
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// The writer of the commit that was read last.
    pub(crate) fn writer(&self) -> u32 {
        self.writer
    }

    /// Whether the last commit is a damaged page of a checkpoint that was passed over. It has no records.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.passed_over
    }

    /// Whether the log can have nothing more: its last commit says so.
    pub(crate) fn has_ended(&self) -> bool {
        self.poisoned
    }

    /// Moves on to the next whole commit; `None` where the log ends.
    ///
    /// # Errors
    ///
    /// Where something stands that is no whole commit. The reader stays before it.
    pub(crate) fn next_commit(&mut self) -> Result<Option<Commit>, Damage> {
        if self.poisoned {
            return Ok(None);
        }
        self.first = None;
        self.others.clear();
        self.passed_over = false;
        let start = self.link.offset;
        let mut link = self.link;
        loop {
            let offset = link.offset;
            let damage = move |reason| Damage { offset, reason };
            let found = match record_at(self.source, link) {
                Err(reason) if offset == start => match self.pass_over() {
                    Some(commit) => return Ok(Some(commit)),
                    None => Err(reason),
                },
                found => found,
            };
            let Some((record, size)) = found.map_err(damage)? else {
                if offset == start {
                    return Ok(None);
                }
                return Err(damage(Invalid::CommitUnfinished {
                    first_offset: start,
                }));
            };
            let kind = record.change.kind;
            if !kind.is_data() && offset != start {
                return Err(damage(Invalid::ControlInCommit { kind }));
            }
            match offset == start {
                true => self.first = Some((offset, record.change)),
                false => self.others.push(offset),
            }
            link.previous = record.checksum;
            link.offset += size;
            let bytes = link.offset - start;
            if is_commit_too_large(bytes) {
                return Err(damage(Invalid::CommitTooLarge {
                    bytes,
                    limit: MAX_COMMIT_BYTES,
                }));
            }
            if !record.more {
                self.poisoned = kind == Kind::Poisoned;
                self.link = link;
                self.writer = record.writer;
                return Ok(Some(Commit {
                    start,
                    end: link.offset,
                }));
            }
        }
    }

    /// Skips a page or closing record with a wrong checksum. Returns `None` if there is none that
    /// may be skipped. The returned commit has no records.
    pub(crate) fn pass_over(&mut self) -> Option<Commit> {
        let start = self.link.offset;
        let size = record::size_of_record(self.source.word(start)?).ok()?;
        let end = start.checked_add(size as u64)?;
        let bytes = self.source.bytes(start, size)?;
        if end > self.synced_upto || !record::may_be_passed_over(bytes, start) {
            return None;
        }
        // The damage may be in the checksum itself: then what it should be is what the record behind knows.
        let computed = match record::verify(bytes, self.link.salt, start) {
            Err(Invalid::Checksum { expected, .. }) => expected,
            _ => return None,
        };
        let stored = record::stored_checksum(bytes)?;
        let behind = [stored, computed].map(|previous| Link {
            offset: end,
            previous,
            ..self.link
        });
        let follows = |link: &Link| matches!(record_at(self.source, *link), Ok(Some(_)));
        let behind = match behind.iter().find(|link| follows(link)) {
            Some(link) => *link,
            // Only its place says that the length is right.
            None if end == self.synced_upto => behind[0],
            None => return None,
        };
        self.link = behind;
        self.passed_over = true;
        Some(Commit { start, end })
    }

    /// The records of the commit that was read last, with their offsets.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, Change<'a>)> {
        let source = self.source;
        let others = self.others.iter();
        let others =
            others.filter_map(move |offset| Some((*offset, stored_change(source, *offset)?)));
        self.first.into_iter().chain(others)
    }
}

/// The next record of the chain, and its size; `None` if the log ends.
pub(super) fn record_at<S: Source + ?Sized>(
    source: &S,
    link: Link,
) -> Result<Option<(Record<'_>, u64)>, Invalid> {
    let Some(word) = source.word(link.offset) else {
        // Not even a word is left: the same as a zero one.
        return Ok(None);
    };
    if word == super::END_WORD {
        return Ok(None);
    }
    let size = record::size_of_record(word)?;
    let Some(bytes) = source.bytes(link.offset, size) else {
        return Err(Invalid::Truncated {
            needed: size as u64,
            available: source.len().saturating_sub(link.offset),
        });
    };
    let record = record::decode(bytes, link)?;
    Ok(Some((record, size as u64)))
}

/// The change at an offset where a reader found a valid record before; `None` only where that is
/// not so.
#[inline]
pub(crate) fn stored_change<S: Source + ?Sized>(source: &S, offset: u64) -> Option<Change<'_>> {
    let size = record::size_of_record(source.word(offset)?).ok()?;
    record::reparse(source.bytes(offset, size)?)
}

/// Looks at the record at an offset, so that the cache has its header and its key when they are wanted: they are in two lines of the cache as
/// often as not. What comes of it is for [`black_box`](std::hint::black_box), or the compiler leaves the look out.
pub(crate) fn touch<S: Source + ?Sized>(source: &S, offset: u64) -> u64 {
    let places = [offset, offset + record::HEADER_BYTES as u64];
    let words = places.map(|place| source.word(place).map_or(0, u64::from_le_bytes));
    words[0] ^ words[1]
}

/// The key of the record at an offset, as [`stored_change`], without a look at the rest.
pub(crate) fn stored_key<S: Source + ?Sized>(source: &S, offset: u64) -> Option<&[u8]> {
    let key_len = record::key_len(source.word(offset)?);
    source.bytes(offset + record::HEADER_BYTES as u64, key_len)
}

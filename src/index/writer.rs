//! Builds the pages of a layer from entries that come in order.
//!
//! The offset of a page is unknown before the page is appended. So an entry that points at an
//! object first carries the object's number. It gets its location once the object's page has an
//! offset. Pages are appended in an order that ensures this.

use super::closing::{Root, Roots};
use super::object::{DATED_BYTES, HASH_BYTES, HashSummary, encode_dated, encode_hash};
use super::run::MAX_LEVELS;
use super::steps::Steps;
use super::word::{hash_of, is_flagged, pack, place_of};
use crate::Result;

/// The approximate length of a page's value. It is short, since all of it must be verified before
/// any of it is used.
const PAGE_BYTES: usize = 16 << 10;

/// Words of a page, beside its tag.
const PAGE_WORDS: usize = PAGE_BYTES / 8 - 1;

/// Entries of a shard that stand in the closing record itself, at most: it is summed as a whole whenever the file is opened.
const INLINE_ENTRIES: usize = 48;

/// Words of a root, at most.
const ROOT_WORDS: usize = 512;

const TAG_BYTES: usize = 8;

/// Takes pages into the log.
pub(crate) trait PageSink {
    /// Puts a page there, and gives back the offset at which its value begins. The first word of the value is the sink's to fill.
    fn put(&mut self, value: &mut Vec<u8>) -> Result<u64>;
}

/// See the module.
pub(crate) struct LayerWriter<'s> {
    sink: &'s mut dyn PageSink,
    /// Dated records of fields, and all other objects: the former are pointed at by the latter.
    dated: ObjectPage,
    objects: ObjectPage,
    /// Where each object stands, by its number; 0 where that is not known yet.
    places: Vec<u64>,
    pub(crate) entry_count: u64,
}

/// A page of objects that is being filled.
struct ObjectPage {
    value: Vec<u8>,
    /// The numbers of the objects in it, and where they stand in the value.
    members: Vec<(usize, usize)>,
}

/// A run that is being written.
#[derive(Debug, Default)]
pub(crate) struct RunBuilder {
    /// Words that are in no page yet, by level; the entries first.
    levels: Vec<Vec<u64>>,
}

impl ObjectPage {
    fn new() -> ObjectPage {
        ObjectPage {
            value: vec![0; TAG_BYTES],
            members: Vec::new(),
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.members.is_empty() || self.value.len() + bytes <= PAGE_BYTES
    }
}

impl<'s> LayerWriter<'s> {
    pub(crate) fn new(sink: &'s mut dyn PageSink) -> LayerWriter<'s> {
        LayerWriter {
            sink,
            dated: ObjectPage::new(),
            objects: ObjectPage::new(),
            places: Vec::new(),
            entry_count: 0,
        }
    }

    /// Adds an entry that points at a record.
    pub(crate) fn add_record(
        &mut self,
        run: &mut RunBuilder,
        hash: u32,
        offset: u64,
    ) -> Result<()> {
        self.add(run, pack(hash, false, offset / 8))
    }

    /// Adds the entry of a key, or of a field, with a changed deadline.
    pub(crate) fn add_dated(
        &mut self,
        run: &mut RunBuilder,
        hash: u32,
        offset: u64,
        deadline_ms: u64,
        is_field: bool,
    ) -> Result<()> {
        let page = if is_field { &self.dated } else { &self.objects };
        if !page.has_room(DATED_BYTES) {
            self.flush_objects(is_field)?;
        }
        let number = self.places.len();
        self.places.push(0);
        let page = if is_field {
            &mut self.dated
        } else {
            &mut self.objects
        };
        let place = encode_dated(&mut page.value, offset, deadline_ms);
        page.members.push((number, place));
        self.add(run, pack(hash, true, number as u64))
    }

    /// Adds the entry of a hash. Its fields were added to `fields`.
    pub(crate) fn add_hash(
        &mut self,
        run: &mut RunBuilder,
        hash: u32,
        summary: &HashSummary,
        beneath: u64,
        fields: RunBuilder,
        steps: &Steps,
    ) -> Result<()> {
        let mut root = self.finish(fields, ROOT_WORDS)?;
        self.resolve_all(&mut root)?;
        let len = HASH_BYTES + 8 * root.words.len() + steps.encoded_len();
        if !self.objects.has_room(len) {
            self.flush_objects(false)?;
        }
        let number = self.places.len();
        self.places.push(0);
        let value = &mut self.objects.value;
        let place = encode_hash(value, summary, beneath, root.levels, &root.words, steps);
        self.objects.members.push((number, place));
        self.add(run, pack(hash, true, number as u64))
    }

    fn add(&mut self, run: &mut RunBuilder, word: u64) -> Result<()> {
        self.entry_count += 1;
        self.add_word(run, 0, word)
    }

    fn add_word(&mut self, run: &mut RunBuilder, level: usize, word: u64) -> Result<()> {
        if run.levels.len() == level {
            run.levels.push(Vec::new());
        }
        if run.levels[level].len() == PAGE_WORDS {
            self.flush_level(run, level)?;
        }
        run.levels[level].push(word);
        Ok(())
    }

    /// Puts the words of a level into a page, to which one of the next level points.
    fn flush_level(&mut self, run: &mut RunBuilder, level: usize) -> Result<()> {
        let words = std::mem::take(&mut run.levels[level]);
        let Some(first) = words.first().copied() else {
            return Ok(());
        };
        let mut value = vec![0; TAG_BYTES];
        for word in words {
            let word = self.resolve(word, level)?;
            value.extend_from_slice(&word.to_le_bytes());
        }
        let offset = self.sink.put(&mut value)?;
        self.add_word(run, level + 1, pack(hash_of(first), false, offset / 8))
    }

    /// The word with the place of the object that it has the number of.
    fn resolve(&mut self, word: u64, level: usize) -> Result<u64> {
        if level > 0 || !is_flagged(word) {
            return Ok(word);
        }
        let number = usize::try_from(place_of(word)).unwrap_or(usize::MAX);
        for dated in [true, false] {
            if self.places[number] == 0 {
                self.flush_objects(dated)?;
            }
        }
        Ok(pack(hash_of(word), true, self.places[number] / 8))
    }

    fn resolve_all(&mut self, root: &mut Root) -> Result<()> {
        for word in &mut root.words {
            *word = self.resolve(*word, usize::from(root.levels))?;
        }
        Ok(())
    }

    fn flush_objects(&mut self, dated: bool) -> Result<()> {
        let page = if dated {
            &mut self.dated
        } else {
            &mut self.objects
        };
        if page.members.is_empty() {
            return Ok(());
        }
        let mut page = std::mem::replace(page, ObjectPage::new());
        let offset = self.sink.put(&mut page.value)?;
        for (number, place) in page.members {
            self.places[number] = offset + place as u64;
        }
        Ok(())
    }

    /// Puts away what does not fit into a root of so many entries.
    fn finish(&mut self, mut run: RunBuilder, inline_entries: usize) -> Result<Root> {
        let mut level = 0;
        while level + 1 < run.levels.len()
            || run.levels.get(level).is_some_and(|words| {
                let room = if level == 0 {
                    inline_entries
                } else {
                    ROOT_WORDS
                };
                words.len() > room && level < usize::from(MAX_LEVELS)
            })
        {
            self.flush_level(&mut run, level)?;
            level += 1;
        }
        Ok(Root {
            levels: u8::try_from(level).unwrap_or(MAX_LEVELS),
            words: run.levels.pop().unwrap_or_default(),
        })
    }

    /// The root of a shard's run, which is complete. Its words hold once [`LayerWriter::finish_roots`] has seen them.
    pub(crate) fn finish_shard(&mut self, run: RunBuilder) -> Result<Root> {
        self.finish(run, INLINE_ENTRIES)
    }

    /// Puts away whatever the roots point at and that has no place yet.
    pub(crate) fn finish_roots(&mut self, roots: &mut [Option<Roots>]) -> Result<()> {
        let mut all = roots.iter_mut().flatten().flatten();
        all.try_for_each(|root| self.resolve_all(root))
    }
}

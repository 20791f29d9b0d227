//! The checkpoint that a file was opened with: the layers under the index in memory.
//!
//! Invariants:
//!
//! 1. Pages, and records that were not replayed, are verified once before they are used.
//! 2. A damaged page is not an error of the file: the handle drops the checkpoint for good and
//!    replays the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lookup::Lookup;
use crate::index::{Closing, Joint, KeyHash, Place, Run, Statistics, StoredHash, Visited};
use crate::log::{LOG_START, Source};
use crate::record::{self, Change, HEADER_BYTES, Kind};
use crate::storage::Mapping;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Error, Result};

/// Records longer than this are asked for as a whole, instead of page by page.
const LONG_RECORD_BYTES: usize = 4 << 10;

/// Most closing records are not longer.
const CLOSING_BYTES: u64 = 32 << 10;

/// Layers of a chain, at most: a longer one is not ours.
const MAX_LAYERS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    salt: u32,
    /// From the newest to the oldest; never empty.
    layers: Vec<Layer>,
    /// Records that were summed, by their offset.
    verified: Visited,
    /// Something in it does not hold.
    given_up: AtomicBool,
    /// The deadlines of hashes of which it was asked how many fields have expired within a step, by their
    /// reference: see [`Base::field_deadlines`].
    field_deadlines: Mutex<BTreeMap<u64, Arc<[u64]>>>,
}

/// One layer: what its closing record says, and where its value stands.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) closing: Closing,
    value_len: usize,
    /// Where the record ends, and its checksum.
    pub(super) end: Joint,
}

/// What a layer says of a name.
pub(super) enum Stored<'a> {
    Gone,
    /// A record, with the deadline that counts now.
    Record {
        offset: u64,
        change: Change<'a>,
        deadline_ms: u64,
    },
    Hash(StoredHash<'a>),
}

impl Base {
    /// Returns the chain of layers that ends with the closing record at an offset, or the reason
    /// why there is none.
    pub(super) fn open(
        mapping: &Mapping,
        salt: u32,
        path: &Path,
        newest: u64,
    ) -> std::result::Result<(Base, Statistics), String> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut statistics = None;
        let mut next = newest;
        while next != 0 {
            if layers.len() == MAX_LAYERS {
                return Err("the checkpoint has too many layers".to_owned());
            }
            let (layer, counts) = Layer::read(mapping, salt, next, layers.is_empty())
                .ok_or_else(|| format!("the checkpoint at offset {next} is damaged"))?;
            if layers
                .last()
                .is_some_and(|above| layer.end.offset > above.closing.exact_upto.offset)
            {
                return Err(format!(
                    "the checkpoint at offset {next} overlaps the checkpoint that extends it"
                ));
            }
            next = layer.closing.beneath;
            statistics = statistics.or(counts);
            layers.push(layer);
        }
        let statistics = statistics.ok_or_else(|| "there is no checkpoint".to_owned())?;
        let base = Base {
            path: path.to_owned(),
            salt,
            layers,
            verified: Visited::new(newest),
            given_up: AtomicBool::new(false),
            field_deadlines: Mutex::default(),
        };
        Ok((base, statistics))
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(super) fn newest(&self) -> &Layer {
        &self.layers[0]
    }

    /// Records before this were not replayed.
    pub(super) fn unread_upto(&self) -> u64 {
        self.newest().closing.exact_upto.offset
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let deadlines = self.lock_field_deadlines();
        let words: usize = deadlines.values().map(|deadlines| deadlines.len()).sum();
        self.verified.memory_bytes() + 8 * words as u64
    }

    /// The deadlines of the fields of the hash that a reference leads to, in order. A hash in a checkpoint
    /// does not change, so they are collected once.
    pub(super) fn field_deadlines(
        &self,
        reference: u64,
        collect: impl FnOnce() -> Result<Vec<u64>>,
    ) -> Result<Arc<[u64]>> {
        if let Some(known) = self.lock_field_deadlines().get(&reference) {
            return Ok(Arc::clone(known));
        }
        let mut deadlines = collect()?;
        deadlines.sort_unstable();
        let deadlines: Arc<[u64]> = deadlines.into();
        self.lock_field_deadlines()
            .insert(reference, Arc::clone(&deadlines));
        Ok(deadlines)
    }

    fn lock_field_deadlines(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<[u64]>>> {
        let locked = self.field_deadlines.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the record at an offset holds, and gives back its bytes.
    fn verify<'a>(&self, mapping: &'a Mapping, offset: u64) -> Result<&'a [u8]> {
        let size = Some(offset)
            .filter(|offset| *offset >= LOG_START && offset.is_multiple_of(8))
            .and_then(|offset| Source::word(mapping, offset))
            .and_then(|word| record::size_of_record(word).ok());
        let bytes = size.and_then(|size| Source::bytes(mapping, offset, size));
        let Some(bytes) = bytes else {
            return Err(Error::corrupt(
                &self.path,
                offset,
                "there is no complete record",
            ));
        };
        if !self.verified.is_marked(offset) {
            if bytes.len() > LONG_RECORD_BYTES {
                mapping.will_need(offset, bytes.len() as u64);
            }
            record::decode_unlinked(bytes, self.salt, offset)
                .map_err(|reason| Error::corrupt(&self.path, offset, reason.to_string()))?;
            self.verified.mark(offset);
        }
        Ok(bytes)
    }

    /// A record that an entry points at.
    pub(super) fn record<'a>(&self, mapping: &'a Mapping, offset: u64) -> Result<Change<'a>> {
        let bytes = self.verify(mapping, offset)?;
        record::reparse(bytes).ok_or_else(|| {
            Error::corrupt(
                &self.path,
                offset,
                "the record was valid when the file was opened, and is not valid now",
            )
        })
    }

    /// The value of the page that begins at an offset, tag included.
    pub(super) fn page<'a>(&self, mapping: &'a Mapping, value_offset: u64) -> Result<&'a [u8]> {
        let found = self.sound_page(mapping, value_offset);
        found.ok_or_else(|| self.give_up(value_offset))
    }

    fn sound_page<'a>(&self, mapping: &'a Mapping, value_offset: u64) -> Option<&'a [u8]> {
        let offset = value_offset.checked_sub(HEADER_BYTES as u64)?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        let change = record::reparse(self.verify(mapping, offset).ok()?)?;
        let tag = change.value.first_chunk()?;
        (change.kind == Kind::Page && u64::from_le_bytes(*tag) == offset).then_some(change.value)
    }

    /// Says that the checkpoint does not hold (invariant 2).
    pub(super) fn give_up(&self, offset: u64) -> Error {
        self.given_up.store(true, Ordering::Release);
        Error::corrupt(&self.path, offset, "a page of the checkpoint is damaged")
    }

    /// What the layers say of a key of the database that the newest one has under this number.
    pub(super) fn key<'a>(
        &self,
        lookup: Lookup<'a>,
        database: u8,
        hash: KeyHash,
        key: &[u8],
    ) -> Result<Option<Stored<'a>>> {
        let mut database = Some(database);
        for layer in &self.layers {
            let Some(number) = database else {
                break;
            };
            if let Some(run) = layer.run(lookup.mapping, number, hash.shard()) {
                let found = lookup.find_in_run(run, hash.in_shard(), |change| change.key == key)?;
                if let Some(found) = found {
                    return lookup.stored_key(found).map(Some);
                }
            }
            database = layer.closing.continues[usize::from(number)];
        }
        Ok(None)
    }

    /// The runs of a shard, from the newest layer on, of so many layers.
    pub(super) fn runs<'a>(
        &self,
        mapping: &'a Mapping,
        database: u8,
        shard: usize,
        layer_count: usize,
    ) -> Vec<Run<'a>> {
        let mut runs = Vec::new();
        let mut database = Some(database);
        for layer in self.layers.iter().take(layer_count) {
            let Some(number) = database else {
                break;
            };
            runs.extend(layer.run(mapping, number, shard));
            database = layer.closing.continues[usize::from(number)];
        }
        runs
    }

    /// The database that this one extends in the layer `layer_count` below the newest.
    pub(super) fn continued(&self, database: u8, layer_count: usize) -> Option<u8> {
        let mut layers = self.layers.iter().take(layer_count);
        layers.try_fold(database, |number, layer| {
            layer.closing.continues[usize::from(number)]
        })
    }

    /// The databases of the newest layer in which there may be something.
    pub(super) fn databases(&self) -> Vec<u8> {
        let newest = &self.newest().closing;
        (0..crate::limits::DATABASE_COUNT)
            .filter(|database| {
                newest.has_database(*database) || newest.continues[usize::from(*database)].is_some()
            })
            .collect()
    }
}

impl Layer {
    fn read(
        mapping: &Mapping,
        salt: u32,
        offset: u64,
        is_newest: bool,
    ) -> Option<(Layer, Option<Statistics>)> {
        let offset =
            Some(offset).filter(|offset| *offset >= LOG_START && offset.is_multiple_of(8))?;
        mapping.will_need(offset, CLOSING_BYTES);
        let size = record::size_of_record(Source::word(mapping, offset)?).ok()?;
        let bytes = Source::bytes(mapping, offset, size)?;
        let record = record::decode_unlinked(bytes, salt, offset).ok()?;
        if record.change.kind != Kind::Checkpoint {
            return None;
        }
        let value = record.change.value;
        let (closing, statistics) = Closing::decode(value, offset, is_newest)?;
        let layer = Layer {
            closing,
            value_len: value.len(),
            end: Joint {
                offset: offset + size as u64,
                previous: record.checksum,
            },
        };
        Some((layer, statistics))
    }

    fn run<'a>(&self, mapping: &'a Mapping, database: u8, shard: usize) -> Option<Run<'a>> {
        if !self.closing.has_database(database) {
            return None;
        }
        let value = self.closing.offset + HEADER_BYTES as u64;
        let value = Source::bytes(mapping, value, self.value_len)?;
        self.closing.run(value, database, shard)
    }
}

/// Where an entry of a layer led.
pub(super) type Match<'a> = (Place, Change<'a>, Option<crate::index::Object<'a>>);

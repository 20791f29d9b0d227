//! Writes one layer of a checkpoint from an index that does not change during that time.

use crate::Result;
use crate::engine::Generation;
use crate::engine::base::Base;
use crate::engine::generation::Contents;
use crate::engine::lookup::{HashAt, Held, Lookup, RecordAt};
use crate::index::{
    Closing, Item, Joint, LayerGap, LayerWriter, Location, Object, PageSink, Place, Roots,
    RunBuilder, SHARD_COUNT, Shard, StoredHash,
};
use crate::limits::DATABASE_COUNT;
use crate::mutation::{self, Mutation};
use crate::record::encoded_len;

/// What has become of the log while a layer was written.
pub(super) struct Written {
    /// Where the closing record is to stand.
    pub(super) offset: u64,
    pub(super) gaps: Vec<LayerGap>,
    /// Bytes of the layer's pages.
    pub(super) page_bytes: u64,
    /// Bytes of all pages and closing records in the log.
    pub(super) all_bytes: u64,
}

/// Takes a layer into a log.
pub(super) trait LayerSink: PageSink {
    /// Appends the closing record and returns its end. The value of the record depends on the pages
    /// written before.
    fn close(&mut self, value: &mut dyn FnMut(Written) -> Vec<u8>) -> Result<ClosedAt>;
}

/// Where a closing record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClosedAt {
    pub(super) offset: u64,
    pub(super) end: u64,
}

/// What is written.
struct Layer<'g> {
    contents: &'g Contents,
    lookup: Lookup<'g>,
    /// How many layers are taken up in this one.
    merged: usize,
    kept: Kept,
}

/// The newest of the layers that stay what they are.
#[derive(Clone, Copy, Default)]
struct Kept {
    exact_upto: u64,
    closed_at: u64,
}

impl Kept {
    /// Whether a hash is in these layers, and not in one that is taken up.
    fn has(self, reference: u64) -> bool {
        match StoredHash::record_of(reference) {
            Some(offset) => offset < self.exact_upto,
            None => reference <= self.closed_at,
        }
    }
}

/// Writes all that `generation` has in memory, and its checkpoint's `merged` newest layers, as one layer on top of the others, through
/// `sink`. It is exact for the log up to `exact_upto`, and nothing is applied to the generation meanwhile.
pub(super) fn write_layer(
    generation: &Generation,
    merged: usize,
    exact_upto: Joint,
    hand: u64,
    sink: &mut dyn LayerSink,
) -> Result<ClosedAt> {
    let contents = generation.contents();
    let mapping = generation.mapping();
    let layers = contents.base.as_ref().map_or(&[][..], Base::layers);
    let beneath = layers.get(merged).map(|layer| &layer.closing);
    let layer = Layer {
        contents,
        lookup: generation.lookup(contents, mapping),
        merged,
        kept: beneath.map_or(Kept::default(), |closing| Kept {
            exact_upto: closing.exact_upto.offset,
            closed_at: closing.offset,
        }),
    };
    let mut closing = Closing::new(exact_upto, beneath.map_or(0, |closing| closing.offset));
    closing.hand = hand;
    let chain_beneath = beneath.map_or(0, |closing| closing.chain_bytes);
    let mut writer = LayerWriter::new(sink);
    let mut roots = Vec::new();
    for database in 0..DATABASE_COUNT {
        let (of_database, continues) = layer.write_database(database, &mut writer)?;
        roots.push(of_database);
        closing.continues[usize::from(database)] = continues;
    }
    writer.finish_roots(&mut roots)?;
    closing.entry_count = writer.entry_count;
    let statistics = generation.statistics().clone();
    sink.close(&mut |written| {
        closing.offset = written.offset;
        closing.gaps = written.gaps;
        closing.layer_bytes = written.page_bytes;
        closing.chain_bytes = chain_beneath.saturating_add(written.page_bytes);
        closing.all_bytes = written.all_bytes;
        closing.encode(&statistics, &roots, |len| encoded_len(len) as u64)
    })
}

impl<'g> Layer<'g> {
    /// The roots of a database, if it has entries, and the database that it continues of the layers that are kept.
    fn write_database(
        &self,
        database: u8,
        writer: &mut LayerWriter<'_>,
    ) -> Result<(Option<Roots>, Option<u8>)> {
        let mut roots = Roots::new();
        let mut continues = None;
        for number in 0..SHARD_COUNT {
            let Some(shard) = self.contents.index.read(database, number) else {
                return Ok((None, None));
            };
            // The same for each shard of a database.
            continues = match (&self.contents.base, shard.continues) {
                (Some(base), Some(beneath)) => base.continued(beneath, self.merged),
                _ => None,
            };
            let keeps_gone = continues.is_some() && !mutation::is_on(Mutation::ForgetGone);
            let mut run = RunBuilder::default();
            for entry in self.lookup.entries_from(&shard, number, 0, self.merged) {
                let (hash, item) = entry?;
                self.write_key(&shard, hash, item, keeps_gone, &mut run, writer)?;
            }
            roots.push(writer.finish_shard(run)?);
        }
        let is_empty = roots.iter().all(|root| root.words.is_empty());
        Ok(((!is_empty).then_some(roots), continues))
    }

    fn write_key(
        &self,
        shard: &Shard,
        hash: u32,
        item: Item,
        keeps_gone: bool,
        run: &mut RunBuilder,
        writer: &mut LayerWriter<'_>,
    ) -> Result<()> {
        match item {
            // Whether it says that something is or that it is gone: the entry is the same.
            Item::Own(Location::Record(offset)) if keeps_gone || shard.continues.is_none() => {
                match shard.changed_deadline_ms(offset) {
                    None => writer.add_record(run, hash, offset),
                    Some(deadline_ms) => writer.add_dated(run, hash, offset, deadline_ms, false),
                }
            }
            // As it is, and its record unread: of many that are taken up, most are anywhere in the file and in no cache. One that says that
            // something is gone stays where it is no longer needed, until the file is compacted.
            Item::Stored(Place::Record(offset)) => writer.add_record(run, hash, offset),
            Item::Stored(Place::Object(at)) => match self.lookup.object(at)? {
                Object::Dated {
                    offset,
                    deadline_ms,
                } => writer.add_dated(run, hash, offset, deadline_ms, false),
                Object::Hash(stored) => {
                    self.write_hash(shard, hash, &HashAt::of_stored(stored), run, writer)
                }
            },
            _ => match self.lookup.item(shard, item)? {
                Held::Nothing => match record_of(item) {
                    Some(offset) if keeps_gone => writer.add_record(run, hash, offset),
                    _ => Ok(()),
                },
                Held::String(record) => write_record(&record, hash, false, run, writer),
                Held::Hash(found) => self.write_hash(shard, hash, &found, run, writer),
            },
        }
    }

    fn write_hash(
        &self,
        shard: &Shard,
        hash: u32,
        found: &HashAt<'g>,
        run: &mut RunBuilder,
        writer: &mut LayerWriter<'_>,
    ) -> Result<()> {
        let (entries, kept) = self
            .lookup
            .field_entries_from(shard, found, 0, |reference| self.kept.has(reference))?;
        let summary = &found.summary;
        let steps = self.lookup.steps(shard, found)?;
        let mut fields = RunBuilder::default();
        for entry in entries {
            let (field_hash, item) = entry?;
            let unread = match item {
                Item::Stored(Place::Record(offset)) => Some(offset),
                // Of several, none of which can be gone.
                Item::Own(Location::Record(offset))
                    if found.beneath.is_none()
                        && summary.field_count > 1
                        && shard.changed_deadline_ms(offset).is_none() =>
                {
                    Some(offset)
                }
                _ => None,
            };
            if let Some(offset) = unread {
                writer.add_record(&mut fields, field_hash, offset)?;
                continue;
            }
            let Some(record) = self.lookup.field_item(shard, item)? else {
                // The field is removed, which matters only if an older layer has it.
                if let Some(offset) = record_of(item).filter(|_| kept != 0) {
                    writer.add_record(&mut fields, field_hash, offset)?;
                }
                continue;
            };
            let is_whole = kept == 0
                && summary.field_count == 1
                && summary.deadline_ms == 0
                && summary.key_offset == record.offset
                && record.deadline_ms == record.change.deadline_ms
                // Else it would be counted in a narrower step.
                && steps.is_exact();
            if is_whole {
                // The record says it all.
                return writer.add_record(run, hash, record.offset);
            }
            write_record(&record, field_hash, true, &mut fields, writer)?;
        }
        writer.add_hash(run, hash, summary, kept, fields, &steps)
    }
}

fn write_record(
    record: &RecordAt<'_>,
    hash: u32,
    is_field: bool,
    run: &mut RunBuilder,
    writer: &mut LayerWriter<'_>,
) -> Result<()> {
    match record.deadline_ms == record.change.deadline_ms {
        true => writer.add_record(run, hash, record.offset),
        false => writer.add_dated(run, hash, record.offset, record.deadline_ms, is_field),
    }
}

/// The record that an entry points at.
fn record_of(item: Item) -> Option<u64> {
    match item {
        Item::Own(Location::Record(offset)) | Item::Stored(Place::Record(offset)) => Some(offset),
        _ => None,
    }
}

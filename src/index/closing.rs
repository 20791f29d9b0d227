//! The closing record of a layer: the properties of the whole layer, and the places of its runs.

use byteorder::{ByteOrder, LittleEndian};

use super::SHARD_COUNT;
use super::run::Run;
use super::statistics::Statistics;
use crate::limits::DATABASE_COUNT;

/// The layout of pages that this build knows.
const LAYOUT: u32 = 2;

/// What stands for no database.
const NONE: u8 = 255;

const DATABASES: usize = DATABASE_COUNT as usize;
const GAP_BYTES: usize = 24;
const DIRECTORY_BYTES: usize = 8 * SHARD_COUNT;

mod at {
    use std::ops::Range;

    pub(super) const LAYOUT: Range<usize> = 0..4;
    pub(super) const GAPS: Range<usize> = 4..8;
    pub(super) const OFFSET: Range<usize> = 8..16;
    pub(super) const EXACT_UPTO: Range<usize> = 16..24;
    pub(super) const BENEATH: Range<usize> = 24..32;
    pub(super) const PREVIOUS: Range<usize> = 32..36;
    pub(super) const LAYER_BYTES: Range<usize> = 40..48;
    pub(super) const ALL_BYTES: Range<usize> = 48..56;
    pub(super) const ENTRIES: Range<usize> = 56..64;
    pub(super) const HAND: Range<usize> = 64..72;
    pub(super) const DATABASES: Range<usize> = 72..88;
    pub(super) const DIRECTORIES: Range<usize> = 88..152;
    pub(super) const CHAIN_BYTES: Range<usize> = 152..160;
    pub(super) const END: usize = 160;
}

/// A place between two records: where the second begins, and what it says of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joint {
    pub(crate) offset: u64,
    /// The checksum of the record that ends here.
    pub(crate) previous: u32,
}

/// A gap: a part of the log, among a layer's pages, that opening replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerGap {
    pub(crate) start: Joint,
    pub(crate) end: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Where the record stands.
    pub(crate) offset: u64,
    /// What the layer is exact for: the log up to here.
    pub(crate) exact_upto: Joint,
    /// The closing record of the parent layer, 0 for none.
    pub(crate) beneath: u64,
    /// Bytes of the layer's records, without this one while it is encoded.
    pub(crate) layer_bytes: u64,
    /// Bytes of the records of this layer and of all its ancestors, as above.
    pub(crate) chain_bytes: u64,
    /// Bytes of all pages and closing records so far, as above.
    pub(crate) all_bytes: u64,
    pub(crate) entry_count: u64,
    /// Where the next key to evict is looked for.
    pub(crate) hand: u64,
    pub(crate) gaps: Vec<LayerGap>,
    /// The database of the parent layer that each one extends.
    pub(crate) continues: [Option<u8>; DATABASES],
    /// Where each database's directory stands in the value, 0 for none.
    directories: [u32; DATABASES],
}

/// The root of a run for a closing record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Root {
    pub(crate) levels: u8,
    pub(crate) words: Vec<u64>,
}

/// The roots of a database, one for each shard.
pub(crate) type Roots = Vec<Root>;

impl Closing {
    /// A closing record that says nothing yet.
    pub(crate) fn new(exact_upto: Joint, beneath: u64) -> Closing {
        Closing {
            offset: 0,
            exact_upto,
            beneath,
            layer_bytes: 0,
            chain_bytes: 0,
            all_bytes: 0,
            entry_count: 0,
            hand: 0,
            gaps: Vec::new(),
            continues: [None; DATABASES],
            directories: [0; DATABASES],
        }
    }

    /// The value of the record. The bytes so far are without this one, and `record_bytes` says how long a record of such a value is.
    pub(crate) fn encode(
        &self,
        statistics: &Statistics,
        roots: &[Option<Roots>],
        record_bytes: impl FnOnce(usize) -> u64,
    ) -> Vec<u8> {
        let mut value = vec![0; at::END];
        LittleEndian::write_u32(&mut value[at::LAYOUT], LAYOUT);
        let gaps = u32::try_from(self.gaps.len()).unwrap_or(u32::MAX);
        LittleEndian::write_u32(&mut value[at::GAPS], gaps);
        LittleEndian::write_u64(&mut value[at::OFFSET], self.offset);
        LittleEndian::write_u64(&mut value[at::EXACT_UPTO], self.exact_upto.offset);
        LittleEndian::write_u64(&mut value[at::BENEATH], self.beneath);
        LittleEndian::write_u32(&mut value[at::PREVIOUS], self.exact_upto.previous);
        LittleEndian::write_u64(&mut value[at::ENTRIES], self.entry_count);
        LittleEndian::write_u64(&mut value[at::HAND], self.hand);
        for (byte, continues) in value[at::DATABASES].iter_mut().zip(self.continues) {
            *byte = continues.unwrap_or(NONE);
        }
        for gap in &self.gaps {
            value.extend_from_slice(&gap.start.offset.to_le_bytes());
            value.extend_from_slice(&gap.end.to_le_bytes());
            value.extend_from_slice(&gap.start.previous.to_le_bytes());
            value.extend_from_slice(&[0; 4]);
        }
        statistics.encode(&mut value);
        for (database, roots) in roots.iter().enumerate() {
            if let Some(roots) = roots {
                let place = u32::try_from(value.len()).unwrap_or(0);
                LittleEndian::write_u32(&mut value[at::DIRECTORIES.start + 4 * database..], place);
                encode_directory(&mut value, roots);
            }
        }
        let bytes = record_bytes(value.len());
        LittleEndian::write_u64(&mut value[at::LAYER_BYTES], self.layer_bytes + bytes);
        LittleEndian::write_u64(&mut value[at::CHAIN_BYTES], self.chain_bytes + bytes);
        LittleEndian::write_u64(&mut value[at::ALL_BYTES], self.all_bytes + bytes);
        value
    }

    /// Decodes the value of the closing record at an offset; `None` if it is invalid. The
    /// statistics are decoded when they are requested.
    pub(crate) fn decode(
        value: &[u8],
        offset: u64,
        want_statistics: bool,
    ) -> Option<(Closing, Option<Statistics>)> {
        let fixed = value.get(..at::END)?;
        let word = |range: std::ops::Range<usize>| LittleEndian::read_u64(&fixed[range]);
        if LittleEndian::read_u32(&fixed[at::LAYOUT]) != LAYOUT || word(at::OFFSET) != offset {
            return None;
        }
        let exact_upto = Joint {
            offset: word(at::EXACT_UPTO),
            previous: LittleEndian::read_u32(&fixed[at::PREVIOUS]),
        };
        let gap_count = usize::try_from(LittleEndian::read_u32(&fixed[at::GAPS])).ok()?;
        let rest = &value[at::END..];
        let (gaps, mut rest) = rest.split_at_checked(gap_count.checked_mul(GAP_BYTES)?)?;
        let gaps = decode_gaps(gaps, exact_upto.offset, offset)?;
        let statistics = match want_statistics {
            true => Some(Statistics::decode(&mut rest, offset)?),
            false => None,
        };
        let mut closing = Closing {
            offset,
            beneath: word(at::BENEATH),
            layer_bytes: word(at::LAYER_BYTES),
            chain_bytes: word(at::CHAIN_BYTES),
            all_bytes: word(at::ALL_BYTES),
            entry_count: word(at::ENTRIES),
            hand: word(at::HAND),
            gaps,
            ..Closing::new(exact_upto, 0)
        };
        for (database, byte) in fixed[at::DATABASES].iter().enumerate() {
            closing.continues[database] = (*byte != NONE).then_some(*byte);
            let directory = &fixed[at::DIRECTORIES.start + 4 * database..];
            closing.directories[database] = LittleEndian::read_u32(directory);
        }
        let continues = closing.continues.iter().flatten();
        let sound = exact_upto.offset <= offset
            && exact_upto.offset.is_multiple_of(8)
            && closing.beneath < offset
            && closing.layer_bytes <= closing.chain_bytes
            && closing.chain_bytes <= closing.all_bytes
            && closing.all_bytes <= offset.saturating_add(value.len() as u64 + 64)
            && continues.clone().all(|database| *database < DATABASE_COUNT)
            && (closing.beneath != 0 || continues.count() == 0);
        sound.then_some((closing, statistics))
    }

    /// Bytes of all gaps.
    pub(crate) fn gap_bytes(&self) -> u64 {
        let gaps = self.gaps.iter().map(|gap| gap.end - gap.start.offset);
        gaps.fold(0, u64::saturating_add)
    }

    /// Whether the layer has entries for a database.
    pub(crate) fn has_database(&self, database: u8) -> bool {
        self.directories[usize::from(database)] != 0
    }

    /// The run of a shard, in the value that this was decoded from.
    pub(crate) fn run<'a>(&self, value: &'a [u8], database: u8, shard: usize) -> Option<Run<'a>> {
        let directory = usize::try_from(self.directories[usize::from(database)]).ok()?;
        if directory == 0 {
            return None;
        }
        let at = directory.checked_add(8 * shard)?;
        let entry = value.get(at..at.checked_add(8)?)?;
        let start = usize::try_from(LittleEndian::read_u32(&entry[..4])).ok()?;
        let len = 8 * usize::from(LittleEndian::read_u16(&entry[4..6]));
        Run::new(entry[6], value.get(start..start.checked_add(len)?)?)
    }
}

fn decode_gaps(bytes: &[u8], first: u64, last: u64) -> Option<Vec<LayerGap>> {
    let mut gaps = Vec::with_capacity(bytes.len() / GAP_BYTES);
    let mut upto = first;
    for bytes in bytes.chunks_exact(GAP_BYTES) {
        let gap = LayerGap {
            start: Joint {
                offset: LittleEndian::read_u64(&bytes[..8]),
                previous: LittleEndian::read_u32(&bytes[16..20]),
            },
            end: LittleEndian::read_u64(&bytes[8..16]),
        };
        if gap.start.offset < upto || gap.end <= gap.start.offset || gap.end > last {
            return None;
        }
        upto = gap.end;
        gaps.push(gap);
    }
    Some(gaps)
}

fn encode_directory(value: &mut Vec<u8>, roots: &Roots) {
    let directory = value.len();
    value.resize(directory + DIRECTORY_BYTES, 0);
    for (shard, root) in roots.iter().enumerate() {
        let start = u32::try_from(value.len()).unwrap_or(0);
        let count = u16::try_from(root.words.len()).unwrap_or(0);
        let entry = &mut value[directory + 8 * shard..][..8];
        LittleEndian::write_u32(&mut entry[..4], start);
        LittleEndian::write_u16(&mut entry[4..6], count);
        entry[6] = root.levels;
        for word in &root.words {
            value.extend_from_slice(&word.to_le_bytes());
        }
    }
}

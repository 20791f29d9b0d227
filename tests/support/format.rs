//! The file format, written and read a second time from its page alone (`src/docs/format.md`), so
//! that a mistake in the engine's codec is not the tests' mistake too.

pub const PAGE_BYTES: usize = 4096;

/// Where the log begins.
pub const LOG_START: usize = 3 * PAGE_BYTES;

/// Where the two slots stand, and how long they are.
pub const SLOT_STARTS: [usize; 2] = [PAGE_BYTES, 2 * PAGE_BYTES];
pub const SLOT_BYTES: usize = 64;

/// Bytes of a record before its key.
pub const HEADER_BYTES: usize = 32;

const MAX_VALUE_BYTES: usize = 512 << 20;
const MAX_PAGE_VALUE_BYTES: usize = 65_536;
const MAX_COMMIT_BYTES: usize = 1 << 30;

pub mod kind {
    pub const SET: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const EXPIRE: u8 = 3;
    pub const HASH_SET: u8 = 4;
    pub const HASH_DELETE: u8 = 5;
    pub const FIELD_EXPIRE: u8 = 6;
    pub const CLEAR: u8 = 7;
    pub const SWAP_DATABASES: u8 = 8;
    pub const PAGE: u8 = 9;
    pub const CHECKPOINT: u8 = 10;
    pub const MOVED: u8 = 11;
    pub const POISONED: u8 = 12;
    pub const PADDING: u8 = 13;
}

const CRC_TABLE: [u32; 256] = crc_table();

#[allow(clippy::cast_possible_truncation)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 1;
            remainder >>= 1;
            if carry == 1 {
                remainder ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// CRC-32 as in zlib and PNG, of several runs of bytes as if they were one.
pub fn crc32(runs: &[&[u8]]) -> u32 {
    let mut state = u32::MAX;
    for byte in runs.iter().copied().flatten() {
        let index = (state ^ u32::from(*byte)) & 0xff;
        state = (state >> 8) ^ CRC_TABLE[index as usize];
    }
    !state
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The salt of a file that has a header page.
pub fn salt(file: &[u8]) -> u32 {
    u32_at(file, 12)
}

/// Makes the header page's checksum right.
pub fn seal_header(file: &mut [u8]) {
    let checksum = crc32(&[&file[..PAGE_BYTES - 4]]);
    file[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes a slot's checksum right.
pub fn seal_slot(file: &mut [u8], start: usize) {
    let checksum = slot_checksum(file, start);
    file[start + 60..start + 64].copy_from_slice(&checksum.to_le_bytes());
}

fn slot_checksum(file: &[u8], start: usize) -> u32 {
    crc32(&[
        &(start as u64).to_le_bytes(),
        &file[start..start + 60],
        &salt(file).to_le_bytes(),
    ])
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub sequence: u64,
    pub synced_upto: u64,
    pub named: u8,
    pub checkpoint: u64,
}

impl Slot {
    pub fn new(sequence: u64, synced_upto: usize) -> Slot {
        Slot {
            sequence,
            synced_upto: synced_upto as u64,
            named: 1,
            checkpoint: 0,
        }
    }

    pub fn write(&self, file: &mut [u8], start: usize) {
        file[start..start + 8].copy_from_slice(&self.sequence.to_le_bytes());
        file[start + 8..start + 16].copy_from_slice(&self.synced_upto.to_le_bytes());
        file[start + 16] = self.named;
        file[start + 24..start + 32].copy_from_slice(&self.checkpoint.to_le_bytes());
        seal_slot(file, start);
    }

    /// The slot at a place, where it is valid.
    pub fn read(file: &[u8], start: usize) -> Option<Slot> {
        if u32_at(file, start + 60) != slot_checksum(file, start) {
            return None;
        }
        let slot = Slot {
            sequence: u64_at(file, start),
            synced_upto: u64_at(file, start + 8),
            named: file[start + 16],
            checkpoint: u64_at(file, start + 24),
        };
        let in_log = |offset: u64| offset >= LOG_START as u64 && offset.is_multiple_of(8);
        let valid = slot.sequence != 0
            && in_log(slot.synced_upto)
            && slot.named <= 1
            && (slot.checkpoint == 0
                || in_log(slot.checkpoint) && slot.checkpoint < slot.synced_upto);
        valid.then_some(slot)
    }

    /// The slot that counts in a file.
    pub fn current(file: &[u8]) -> Option<Slot> {
        let [first, second] = SLOT_STARTS.map(|start| Slot::read(file, start));
        match (first, second) {
            (Some(first), Some(second)) if second.sequence > first.sequence => Some(second),
            (first, second) => first.or(second),
        }
    }
}

/// What stands in a record, whether the format allows it or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub flags: u8,
    pub writer: u32,
    pub database: u8,
    pub reserved: u8,
    pub deadline_ms: u64,
    pub key: Vec<u8>,
    pub field: Vec<u8>,
    pub value: Vec<u8>,
}

impl Record {
    pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Record {
        Record {
            kind: kind::SET,
            writer: 0x0bad_cafe,
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ..Record::default()
        }
    }

    pub fn more(self) -> Record {
        Record { flags: 1, ..self }
    }

    /// The record's bytes, as yet without checksum and `previous`.
    pub fn encode(&self) -> Vec<u8> {
        let length = |part: &[u8]| u16::try_from(part.len()).unwrap().to_le_bytes();
        let body = self.key.len() + self.field.len() + self.value.len();
        let mut bytes = u32::try_from(body).unwrap().to_le_bytes().to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(length(&self.key));
        bytes.extend([0; 8]);
        bytes.extend(self.writer.to_le_bytes());
        bytes.extend(length(&self.field));
        bytes.extend([self.database, self.reserved]);
        bytes.extend(self.deadline_ms.to_le_bytes());
        for part in [&self.key, &self.field, &self.value] {
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

/// Ties a record to its place; gives back its checksum.
pub fn seal(record: &mut [u8], salt: u32, offset: usize, previous: u32) -> u32 {
    record[12..16].copy_from_slice(&previous.to_le_bytes());
    let checksum = record_checksum(record, salt, offset);
    record[8..12].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

fn record_checksum(record: &[u8], salt: u32, offset: usize) -> u32 {
    crc32(&[
        &(offset as u64).to_le_bytes(),
        &record[..8],
        &salt.to_le_bytes(),
        &record[12..],
    ])
}

/// A file that is put together by hand.
#[derive(Debug, Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
    /// Where the next record goes, and what its `previous` is.
    pub tail: usize,
    pub previous: u32,
}

impl Image {
    /// An empty log; nothing of it is known to be on the device.
    pub fn new(salt: u32, hash_key: [u8; 16]) -> Image {
        let mut bytes = vec![0; LOG_START + 8];
        bytes[..8].copy_from_slice(b"\x89brasa\r\n");
        bytes[8] = 1;
        bytes[12..16].copy_from_slice(&salt.to_le_bytes());
        bytes[16..32].copy_from_slice(&hash_key);
        bytes[48..56].copy_from_slice(&(LOG_START as u64).to_le_bytes());
        seal_header(&mut bytes);
        Slot::new(1, LOG_START).write(&mut bytes, SLOT_STARTS[0]);
        Image {
            bytes,
            tail: LOG_START,
            previous: salt,
        }
    }

    /// A file that there is, to go on behind its last whole commit.
    pub fn of(file: &[u8]) -> Image {
        let log = Log::read(file);
        Image {
            bytes: file.to_vec(),
            tail: log.end,
            previous: log.previous,
        }
    }

    pub fn salt(&self) -> u32 {
        salt(&self.bytes)
    }

    /// Seals a record for the tail and puts it there, with a zero word behind it.
    pub fn push(&mut self, record: &Record) {
        self.push_bytes(record.encode());
    }

    pub fn push_bytes(&mut self, mut record: Vec<u8>) {
        self.previous = seal(&mut record, self.salt(), self.tail, self.previous);
        self.overwrite(self.tail, &record);
        self.tail += record.len();
        self.overwrite(self.tail, &[0; 8]);
    }

    /// Writes bytes somewhere, behind the end too.
    pub fn overwrite(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }
}

/// A record that was found valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    pub start: usize,
    pub end: usize,
    pub kind: u8,
    pub more: bool,
    pub database: u8,
    pub writer: u32,
    pub deadline_ms: u64,
    pub checksum: u32,
    pub key: &'a [u8],
    pub field: &'a [u8],
    pub value: &'a [u8],
}

/// The log of a file: its whole commits, and where they end.
#[derive(Debug, Clone)]
pub struct Log<'a> {
    pub commits: Vec<Vec<Found<'a>>>,
    /// Where the last whole commit ends.
    pub end: usize,
    /// The record at which reading stopped: it ends the log, or is the first that is none.
    pub stopped_at: usize,
    /// The checksum of the last record, or the salt.
    pub previous: u32,
}

impl<'a> Log<'a> {
    /// Reads the log of a file whose header is sound.
    pub fn read(file: &'a [u8]) -> Log<'a> {
        let salt = salt(file);
        let mut log = Log {
            commits: Vec::new(),
            end: LOG_START,
            stopped_at: LOG_START,
            previous: salt,
        };
        let mut commit = Vec::new();
        let mut previous = salt;
        while let Some(record) = record_at(file, salt, log.stopped_at, previous) {
            let is_control = record.kind >= kind::PAGE;
            if is_control && !commit.is_empty() || record.end - log.end > MAX_COMMIT_BYTES {
                break;
            }
            log.stopped_at = record.end;
            previous = record.checksum;
            commit.push(record);
            if !record.more {
                log.end = record.end;
                log.previous = previous;
                log.commits.push(std::mem::take(&mut commit));
                if record.kind == kind::POISONED {
                    break;
                }
            }
        }
        log
    }

    pub fn records(&self) -> impl Iterator<Item = &Found<'a>> {
        self.commits.iter().flatten()
    }

    pub fn is_poisoned(&self) -> bool {
        self.records().any(|record| record.kind == kind::POISONED)
    }
}

/// The record at an offset, valid if and only if the format's six rules say so.
fn record_at(file: &[u8], salt: u32, start: usize, previous: u32) -> Option<Found<'_>> {
    let rest = &file[start.min(file.len())..];
    if rest.len() < HEADER_BYTES || rest[..8] == [0; 8] {
        return None;
    }
    let body_bytes = u32_at(rest, 0) as usize;
    let (key_bytes, field_bytes) = (u16_at(rest, 6) as usize, u16_at(rest, 20) as usize);
    let value_bytes = body_bytes.checked_sub(key_bytes + field_bytes)?;
    let size = (HEADER_BYTES + body_bytes).next_multiple_of(8);
    if value_bytes > MAX_VALUE_BYTES || size > rest.len() {
        return None;
    }
    let record = &rest[..size];
    let (header, body) = record.split_at(HEADER_BYTES);
    let (key, body) = body.split_at(key_bytes);
    let (field, body) = body.split_at(field_bytes);
    let (value, padding) = body.split_at(value_bytes);
    let found = Found {
        start,
        end: start + size,
        kind: header[4],
        more: header[5] == 1,
        database: header[22],
        writer: u32_at(header, 16),
        deadline_ms: u64_at(header, 24),
        checksum: u32_at(header, 8),
        key,
        field,
        value,
    };
    let valid = header[5] <= 1
        && header[23] == 0
        && found.database <= 15
        && found.deadline_ms <= i64::MAX as u64
        && padding.iter().all(|byte| *byte == 0)
        && has_the_parts_of_its_kind(&found)
        && found.checksum == record_checksum(record, salt, start)
        && u32_at(header, 12) == previous;
    valid.then_some(found)
}

fn has_the_parts_of_its_kind(found: &Found<'_>) -> bool {
    // Key, field, value, deadline: whether each may be there.
    let (key, field, value, deadline) = match found.kind {
        kind::SET => (true, false, true, true),
        kind::DELETE => (true, false, false, false),
        kind::EXPIRE => (true, false, false, true),
        kind::HASH_SET => (true, true, true, true),
        kind::HASH_DELETE => (true, true, false, false),
        kind::FIELD_EXPIRE => (true, true, false, true),
        kind::CLEAR => (false, false, false, false),
        kind::SWAP_DATABASES => (false, false, true, false),
        kind::PAGE..=kind::PADDING => (false, false, true, false),
        _ => return false,
    };
    let parts_agree = (key || found.key.is_empty())
        && (field || found.field.is_empty())
        && (value || found.value.is_empty())
        && (deadline || found.deadline_ms == 0);
    let value_agrees = match found.kind {
        kind::SWAP_DATABASES => matches!(found.value, [0..=15]),
        kind::PAGE => {
            found.value.len() <= MAX_PAGE_VALUE_BYTES && found.value.len().is_multiple_of(8)
        }
        kind::CHECKPOINT => found.value.len() >= 32,
        kind::MOVED => found.value.len() == 8,
        kind::POISONED => found.value.len() <= 255,
        _ => true,
    };
    let is_control = found.kind >= kind::PAGE;
    parts_agree && value_agrees && !(is_control && (found.database != 0 || found.more))
}

/// Makes every checksum and `previous` right, from the log's start on for as long as the
/// lengths lead from one record to the next.
pub fn reseal(file: &mut [u8]) {
    let salt = salt(file);
    let mut previous = salt;
    let mut start = LOG_START;
    while start + HEADER_BYTES <= file.len() && file[start..start + 8] != [0; 8] {
        let size = (HEADER_BYTES + u32_at(file, start) as usize).next_multiple_of(8);
        let Some(record) = file.get_mut(start..start + size) else {
            return;
        };
        previous = seal(record, salt, start, previous);
        start += size;
    }
}

/// What opening a file must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    NotABrasaFile,
    /// With the offset.
    Corrupt(u64),
    UnsupportedVersion(u16, u16),
    Opens,
}

const MAGIC: [u8; 8] = *b"\x89brasa\r\n";

/// Whether a slot is valid under the salt in the header, or under the one in the first record.
fn has_valid_slot(file: &[u8]) -> bool {
    let places = [12, LOG_START + 12];
    let salts = places
        .into_iter()
        .filter(|at| at + 20 <= file.len() && file.len() >= LOG_START)
        .map(|at| u32_at(file, at));
    salts.into_iter().any(|salt| {
        let mut sealed = file[..LOG_START].to_vec();
        sealed[12..16].copy_from_slice(&salt.to_le_bytes());
        Slot::current(&sealed).is_some()
    })
}

/// Judges a whole file.
pub fn judge(file: &[u8]) -> Verdict {
    let has_magic = file.starts_with(&MAGIC);
    if file.is_empty() {
        return Verdict::NotABrasaFile;
    }
    if file.len() < PAGE_BYTES {
        return match has_magic || MAGIC.starts_with(file) {
            true => Verdict::Corrupt(file.len() as u64),
            false => Verdict::NotABrasaFile,
        };
    }
    let checksum = crc32(&[&MAGIC, &file[MAGIC.len()..PAGE_BYTES - 4]]);
    let checksum_holds = u32_at(file, PAGE_BYTES - 4) == checksum;
    if !checksum_holds {
        return match has_magic || has_valid_slot(file) {
            true => Verdict::Corrupt(0),
            false => Verdict::NotABrasaFile,
        };
    }
    let (major, minor) = (u16_at(file, 8), u16_at(file, 10));
    if major != 1 || minor > 0 {
        return Verdict::UnsupportedVersion(major, minor);
    }
    if !has_magic {
        return Verdict::Corrupt(0);
    }
    if file.len() < LOG_START {
        return Verdict::Corrupt(file.len() as u64);
    }
    let Some(slot) = Slot::current(file) else {
        return Verdict::Corrupt(PAGE_BYTES as u64);
    };
    let log = Log::read(file);
    if (log.end as u64) < slot.synced_upto {
        return Verdict::Corrupt(log.stopped_at as u64);
    }
    Verdict::Opens
}

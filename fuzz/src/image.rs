//! A file put together from the format's page, independently of the engine: checksums and chain
//! are right, so that a fuzzer gets past them, and everything else is as it pleases.

use super::cursor::Cursor;

pub const LOG_START: usize = 12_288;
const SALT: u32 = 0x1234_5678;

/// The header page and a slot that says how much is known to be on the device.
pub fn header(synced_upto: u64) -> Vec<u8> {
    let mut file = vec![0; LOG_START];
    file[..8].copy_from_slice(b"\x89brasa\r\n");
    file[8] = 1;
    file[12..16].copy_from_slice(&SALT.to_le_bytes());
    file[16..32].copy_from_slice(b"0123456789abcdef");
    file[48..56].copy_from_slice(&(LOG_START as u64).to_le_bytes());
    let page_checksum = crc32fast::hash(&file[..4092]);
    file[4092..4096].copy_from_slice(&page_checksum.to_le_bytes());

    let mut slot = [0; 64];
    slot[0] = 1;
    slot[8..16].copy_from_slice(&synced_upto.to_le_bytes());
    slot[16] = 1;
    let slot_checksum = checksum(&slot, 4096, 60);
    slot[60..].copy_from_slice(&slot_checksum.to_le_bytes());
    file[4096..4160].copy_from_slice(&slot);
    file
}

/// The checksum of something that stands at `offset` and keeps its checksum at `place`.
fn checksum(bytes: &[u8], offset: u64, place: usize) -> u32 {
    checksum_under(SALT, bytes, offset, place)
}

pub fn checksum_under(salt: u32, bytes: &[u8], offset: u64, place: usize) -> u32 {
    let mut input = offset.to_le_bytes().to_vec();
    input.extend_from_slice(bytes);
    input[8 + place..12 + place].copy_from_slice(&salt.to_le_bytes());
    crc32fast::hash(&input)
}

/// A whole file, from a fuzzer's bytes. With `honest` each record obeys the rules as far as its
/// own parts go, so that more of the file is read.
pub fn file(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut log = Vec::new();
    let mut previous = SALT;
    let mut ends = vec![LOG_START as u64];
    let record_count = cursor.u8() % 24;
    for _ in 0..record_count {
        if cursor.is_empty() {
            break;
        }
        let offset = (LOG_START + log.len()) as u64;
        let mut record = record(cursor);
        record[12..16].copy_from_slice(&previous.to_le_bytes());
        let sum = checksum(&record, offset, 8);
        record[8..12].copy_from_slice(&sum.to_le_bytes());
        previous = sum;
        log.extend_from_slice(&record);
        ends.push((LOG_START + log.len()) as u64);
    }
    let synced_upto = match cursor.u8() {
        any @ 0..=127 => ends[usize::from(any) % ends.len()],
        128..=191 => ends[0],
        _ => cursor.u64() & !7,
    };
    let mut file = header(synced_upto);
    file.extend_from_slice(&log);
    // What stands behind the log: nothing, the word that ends it, or anything.
    match cursor.u8() % 3 {
        0 => {}
        1 => file.extend_from_slice(&[0; 8]),
        _ => {
            let tail = cursor.bytes(200);
            file.extend_from_slice(tail);
        }
    }
    file
}

fn record(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let choice = cursor.u8();
    let kind = match choice {
        0..=223 => 1 + choice % 13,
        other => other,
    };
    let more = cursor.u8();
    let flags = match more {
        0..=63 => u8::from(kind <= 8),
        64..=250 => 0,
        other => other,
    };
    let mut key = cursor.name();
    let mut field = cursor.name();
    let mut value = cursor.name();
    let mut deadline_ms = match cursor.u8() % 4 {
        0 | 1 => 0,
        2 => 2_000,
        _ => cursor.u64(),
    };
    let mut database = match cursor.u8() {
        few @ 0..=250 => few % 3,
        other => other,
    };
    // Often what a record must not have is taken from it: else few files would be read far.
    if cursor.u8() < 230 {
        if !matches!(kind, 4..=6) {
            field.clear();
        }
        match kind {
            2 | 5 => (value.clear(), deadline_ms = 0).0,
            3 | 6 => value.clear(),
            7 => (key.clear(), value.clear(), deadline_ms = 0).0,
            8 => (key.clear(), value = vec![2], deadline_ms = 0).0,
            9..=13 => {
                key.clear();
                (deadline_ms, database) = (0, 0);
                let len = [64, 32, 8, value.len(), value.len()][usize::from(kind - 9)];
                value.resize(len, 7);
            }
            _ => {}
        }
        deadline_ms &= i64::MAX as u64;
    }
    let body_len = (key.len() + field.len() + value.len()) as u32;
    let mut record = vec![0; 32];
    record[..4].copy_from_slice(&body_len.to_le_bytes());
    record[4] = kind;
    record[5] = flags;
    record[6..8].copy_from_slice(&(key.len() as u16).to_le_bytes());
    record[16..20].copy_from_slice(&cursor.u32().to_le_bytes());
    record[20..22].copy_from_slice(&(field.len() as u16).to_le_bytes());
    record[22] = database;
    record[24..32].copy_from_slice(&deadline_ms.to_le_bytes());
    for part in [&key, &field, &value] {
        record.extend_from_slice(part);
    }
    record.resize(record.len().next_multiple_of(8), 0);
    // Rarely a header that lies, under a checksum that holds.
    if cursor.u8() == 255 {
        let at = usize::from(cursor.u8()) % 32;
        record[at] ^= cursor.u8();
    }
    record
}

//! Any file, damaged further, and salvaged.

use brasa::inspect::{LogEnd, check_bytes, salvage_bytes};
use brasa::simulation::Image;
use brasa::{Db, Error};

use super::cursor::Cursor;
use super::image::{self, LOG_START};
use super::open::{PATH, dump};

const HEADER_BYTES: usize = 32;

/// What is salvaged opens, is sound, and has nothing that was not valid where it stood.
pub fn salvage(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let file = match cursor.u8() {
        255 => cursor.rest().to_vec(),
        damage_count => {
            let mut file = image::file(&mut cursor);
            for _ in 0..damage_count % 5 {
                damage(&mut file, &mut cursor);
            }
            file
        }
    };
    let disk = Image::of_file(PATH, file.clone()).restart(7);
    let opened = Db::options().read_only(true).open_on(&disk, PATH);
    let Ok((report, salvaged)) = salvage_bytes(&file) else {
        assert!(opened.is_err());
        return;
    };
    let checked = check_bytes(&file).unwrap();
    assert_eq!(checked.damaged, report.damaged);
    assert_eq!(checked.is_sound(), opened.is_ok(), "{:?}", opened.err());
    let Some(salvaged) = salvaged else {
        assert!(report.nothing_to_do() && checked.is_sound() && checked.poisoned.is_none());
        return;
    };

    let again = check_bytes(&salvaged).unwrap();
    assert!(
        again.is_sound() && matches!(again.end, LogEnd::Clean),
        "{again:?}"
    );
    assert_eq!(again.record_count, report.kept_record_count);
    assert_eq!(again.commit_count, report.kept_commit_count);
    assert!(salvage_bytes(&salvaged).unwrap().0.nothing_to_do());
    let kept = records(&salvaged);
    assert_eq!(kept.len() as u64, report.kept_record_count);
    assert!(come_from(&kept, &file), "{report:#?}");

    let disk = Image::of_file(PATH, salvaged).restart(7);
    let db = Db::options().open_on(&disk, PATH).unwrap();
    let contents = dump(&db);
    // Where nothing was damaged, the failed sync is all that is gone.
    if let Ok(db) = opened {
        assert_eq!(dump(&db), contents);
    }
    match db.set("written", "now") {
        Ok(()) | Err(Error::DiskFull { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// One of: a byte becomes another, a stretch is wiped, the file is cut.
fn damage(file: &mut Vec<u8>, cursor: &mut Cursor<'_>) {
    if file.is_empty() {
        return;
    }
    let choice = cursor.u8();
    let place = usize::from(cursor.u8()) << 8 | usize::from(cursor.u8());
    // Mostly in the log: the pages before it are long and empty.
    let at = match choice % 8 {
        0 => place,
        _ => LOG_START + place % file.len().saturating_sub(LOG_START).max(1),
    } % file.len().max(1);
    match choice / 8 % 4 {
        0 => file.truncate(at),
        1 => {
            let end = file.len().min(at + usize::from(cursor.u8()));
            file[at..end].fill(cursor.u8());
        }
        _ => file[at] ^= cursor.u8().max(1),
    }
}

/// The records of a sound log, without what ties them to their place.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut at = LOG_START;
    while let Some(record) = record_at(file, at) {
        records.push(untied(record));
        at += record.len();
    }
    records
}

/// Whether each record is, in this order, a valid one somewhere in the file.
fn come_from(kept: &[Vec<u8>], file: &[u8]) -> bool {
    let word = |at: usize| {
        file.get(at..at + 4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
    };
    // The salt may be damaged in the header; the first record has it too.
    [word(12), word(LOG_START + 12)]
        .into_iter()
        .flatten()
        .any(|salt| {
            let mut kept = kept.iter().peekable();
            for at in (LOG_START..file.len()).step_by(8) {
                if let Some(record) = record_at(file, at)
                    && image::checksum_under(salt, record, at as u64, 8) == word(at + 8).unwrap()
                    && kept.peek().is_some_and(|next| **next == untied(record))
                {
                    kept.next();
                }
            }
            kept.peek().is_none()
        })
}

/// The bytes that the length at an offset claims, where there are so many and the word is not zero.
fn record_at(file: &[u8], at: usize) -> Option<&[u8]> {
    let rest = file.get(at..)?;
    let word: [u8; 8] = *rest.first_chunk()?;
    if word == [0; 8] {
        return None;
    }
    let body_len = u32::from_le_bytes(word[..4].try_into().unwrap());
    let len = (HEADER_BYTES + usize::try_from(body_len).unwrap()).next_multiple_of(8);
    rest.get(..len)
}

/// A record with its checksum, the one before it and its writer blanked out.
fn untied(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    record[8..20].fill(0);
    record
}

//! Any file, opened as a database.

use brasa::simulation::{Image, SimulatedDisk};
use brasa::{Db, KeyType, ManualClock};

use super::cursor::Cursor;
use super::image;
use super::model::{Contents, Entry};

pub const PATH: &str = "cache.brasa";

/// A file whose checksums hold is opened, read, written to and opened again: it keeps what it had.
pub fn open_file(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let raw = cursor.u8() == 255;
    let file = match raw {
        true => cursor.rest().to_vec(),
        false => image::file(&mut cursor),
    };
    let disk = Image::of_file(PATH, file).restart(7);
    if let Ok(db) = Db::options().read_only(true).open_on(&disk, PATH) {
        dump(&db);
    }
    let Ok(db) = open(&disk) else {
        return;
    };
    let mut contents = dump(&db);
    if db.set("written", "now").is_err() {
        // The file says that a sync of it had failed.
        drop(db);
        assert_eq!(dump(&open(&disk).unwrap()), contents);
        return;
    }
    let written = Entry::String(b"now".to_vec(), None);
    contents.insert((0, b"written".to_vec()), written);
    assert_eq!(dump(&db), contents);
    db.close().unwrap();
    assert_eq!(dump(&open(&disk).unwrap()), contents);
}

fn open(disk: &SimulatedDisk) -> brasa::Result<Db> {
    let clock = ManualClock::new(1_000);
    Db::options().clock(clock).open_on(disk, PATH)
}

/// Everything that can be read.
pub fn dump(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for number in 0..16 {
        let db = db.database(number).unwrap();
        for key in db.keys() {
            let key = key.unwrap();
            let deadline_ms = db.deadline_ms(&key).unwrap();
            db.ttl(&key).unwrap();
            let entry = match db.key_type(&key).unwrap() {
                Some(KeyType::Hash) => {
                    let fields = db.hgetall(&key).unwrap();
                    assert_eq!(fields.len() as u64, db.hlen(&key).unwrap());
                    let owned = fields.into_iter().map(|(field, value)| {
                        assert_eq!(db.hget(&key, &field).unwrap().as_ref(), Some(&value));
                        (field.to_vec(), value.to_vec())
                    });
                    Entry::Hash(owned.collect(), deadline_ms)
                }
                _ => Entry::String(db.get(&key).unwrap().unwrap().to_vec(), deadline_ms),
            };
            contents.insert((number, key.to_vec()), entry);
        }
    }
    let stats = db.stats().unwrap();
    assert!(stats.live_bytes + stats.dead_bytes >= stats.log_bytes);
    contents
}

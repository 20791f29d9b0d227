//! Operations against a model, with reopening; and with power lost or bits flipped in between.

use std::time::Duration;

use brasa::simulation::{Loss, SimulatedDisk};
use brasa::{Db, Durability, Error, ManualClock, SetOptions};

use super::cursor::Cursor;
use super::model::{Contents, Model};
use super::open::{PATH, dump};

const START_MS: u64 = 1_000_000;

struct Subject {
    disk: SimulatedDisk,
    clock: ManualClock,
    durability: Durability,
    db: Option<Db>,
    model: Model,
}

impl Subject {
    fn new(durability: Durability) -> Self {
        let mut subject = Self {
            disk: SimulatedDisk::new(1),
            clock: ManualClock::new(START_MS),
            durability,
            db: None,
            model: Model {
                now_ms: START_MS,
                ..Model::default()
            },
        };
        subject.db = Some(subject.open().unwrap());
        subject
    }

    fn open(&self) -> brasa::Result<Db> {
        Db::options()
            .durability(self.durability)
            .clock(self.clock.clone())
            .mapping_step_bytes(4096)
            .open_on(&self.disk, PATH)
    }

    fn db(&self, number: u8) -> Db {
        self.db.as_ref().unwrap().database(number).unwrap()
    }

    /// One operation on both; gives back whether it was one of changing.
    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.u8();
        let number = [0, 0, 0, 1, 15][usize::from(choice) % 5];
        let db = self.db(number);
        let name = cursor.name();
        let key = (number, name.clone());
        match choice / 5 % 13 {
            0 | 1 => {
                let value = cursor.name();
                db.set(&name, &value).unwrap();
                self.model.set(key, &value, None);
            }
            2 => {
                let value = cursor.name();
                let ttl_ms = u64::from(cursor.u8() % 8) * 10;
                let options = SetOptions::new().ttl(Duration::from_millis(ttl_ms));
                db.set_with(&name, &value, options).unwrap();
                let deadline_ms = self.model.now_ms + ttl_ms;
                self.model.set(key.clone(), &value, None);
                self.model.expire(&key, Some(deadline_ms));
            }
            3 => {
                let suffix = cursor.name();
                compare(db.append(&name, &suffix), self.model.append(key, &suffix));
            }
            4 | 5 => {
                let (field, value) = (cursor.name(), cursor.name());
                let expected = self.model.hset(key, &field, &value);
                compare(db.hset(&name, &field, &value), expected);
            }
            6 => {
                let field = cursor.name();
                let expected = self.model.hdel(key, &field);
                compare(db.hdel(&name, &field), expected);
            }
            7 => assert_eq!(db.del(&name).unwrap(), self.model.del(&key)),
            8 => {
                let ttl_ms = u64::from(cursor.u8() % 8) * 10;
                let deadline_ms = self.model.now_ms + ttl_ms;
                let found = db.expire(&name, Duration::from_millis(ttl_ms)).unwrap();
                assert_eq!(found, self.model.expire(&key, Some(deadline_ms)));
            }
            9 => {
                let had_one = self.model.contents.get(&key);
                let had_one = had_one.is_some_and(|entry| entry.deadline_ms().is_some());
                assert_eq!(db.persist(&name).unwrap(), had_one);
                self.model.expire(&key, None);
            }
            10 => {
                let by_ms = u64::from(cursor.u8() % 8) * 10;
                self.clock.advance(Duration::from_millis(by_ms));
                self.model.advance(by_ms);
            }
            11 => self.batch(&db, number, cursor),
            _ => {
                db.clear().unwrap();
                self.model.clear(number);
            }
        }
    }

    fn batch(&mut self, db: &Db, number: u8, cursor: &mut Cursor<'_>) {
        let count = cursor.u8() % 5;
        let mut changed = self.model.clone();
        let mut sound = true;
        let result = db.batch(|batch| {
            for _ in 0..count {
                let choice = cursor.u8() % 4;
                let (name, part) = (cursor.name(), cursor.name());
                let key = (number, name.clone());
                match choice {
                    0 => {
                        batch.set(&name, &part);
                        changed.set(key, &part, None);
                    }
                    1 => {
                        batch.hset(&name, &part, "in a batch");
                        sound &= changed.hset(key, &part, b"in a batch").is_some();
                    }
                    2 => {
                        batch.hdel(&name, &part);
                        sound &= changed.hdel(key, &part).is_some();
                    }
                    _ => {
                        batch.del(&name);
                        changed.del(&key);
                    }
                }
            }
        });
        // All of it, or nothing.
        compare(result.map(|()| true), sound.then_some(true));
        if sound {
            self.model = changed;
        }
    }
}

/// Where the model has no answer the type was wrong.
fn compare<T: PartialEq + std::fmt::Debug>(found: brasa::Result<T>, expected: Option<T>) {
    match (found, expected) {
        (Ok(found), Some(expected)) => assert_eq!(found, expected),
        (Err(Error::WrongType), None) => {}
        (found, expected) => panic!("found {found:?}, expected {expected:?}"),
    }
}

/// Operations against the model; now and then the file is closed or killed, and opened.
pub fn operations(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut subject = Subject::new(Durability::Os);
    while !cursor.is_empty() {
        match cursor.u8() {
            0..=15 => {
                subject.db.take().unwrap().close().unwrap();
                subject.db = Some(subject.open().unwrap());
                assert_eq!(dump(subject.db.as_ref().unwrap()), subject.model.contents);
            }
            _ => subject.step(&mut cursor),
        }
    }
    assert_eq!(dump(subject.db.as_ref().unwrap()), subject.model.contents);
    let count = subject.db(0).len().unwrap() + subject.db(1).len().unwrap();
    assert_eq!(
        count + subject.db(15).len().unwrap(),
        subject.model.contents.len() as u64
    );
}

/// Operations, then power is lost or the file is damaged: what opens is one of the states that it
/// went through, not older than the last sync; or an error that says where the damage is.
pub fn damaged_operations(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut subject = Subject::new(Durability::Os);
    let mut states: Vec<Contents> = vec![Contents::new()];
    let mut synced = 0;
    for _ in 0..cursor.u8() % 12 {
        match cursor.u8() {
            0..=40 => {
                subject.db(0).sync().unwrap();
                synced = states.len() - 1;
            }
            _ => {
                subject.step(&mut cursor);
                states.push(dump_all(&subject));
            }
        }
    }
    let crash = subject.disk.crash_at(subject.disk.operation_count());
    let count = crash.unsynced_lengths().len().max(1);
    let index = usize::from(cursor.u8()) % count;
    let cut = usize::from(cursor.u8());
    let loss = match cursor.u8() % 9 {
        0 => Loss::All,
        1 => Loss::Nothing,
        2 => Loss::One(index),
        3 => Loss::From(index),
        4 => Loss::Torn(index, cut),
        5 => Loss::TornHead(index, cut),
        6 => Loss::TornTail(index, cut),
        7 => Loss::Hole(index, cut),
        _ => Loss::Blocks(512),
    };
    let mut image = crash.image(loss, 1, cursor.u64(), &[]);
    let flips = cursor.u8() % 4;
    if let Some(file) = image.file_mut(PATH) {
        for _ in 0..flips {
            let at = cursor.u32() as usize % file.len();
            file[at] ^= 1 << (cursor.u8() % 8);
        }
    }
    // What closing does to the old disk is of no interest any more.
    drop(subject.db.take());
    subject.disk = image.restart(2);
    let db = match subject.open() {
        Ok(db) => db,
        Err(_) if flips > 0 => return,
        Err(error) => panic!("{error}"),
    };
    subject.db = Some(db);
    let found = dump_all(&subject);
    // Two flips may meet and make a slot or a header that is valid but older; nothing makes up a value.
    let allowed = match flips {
        0 => &states[synced..],
        _ => &states[..],
    };
    assert!(
        allowed.contains(&found),
        "{found:?}, not one of {allowed:?}"
    );
}

/// Expired or not: what the log says.
fn dump_all(subject: &Subject) -> Contents {
    subject.clock.set(0);
    let contents = dump(subject.db.as_ref().unwrap());
    subject.clock.set(subject.model.now_ms);
    contents
}

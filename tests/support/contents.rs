//! What a file holds: as the library's face shows it, and as its records say it.

use std::collections::BTreeMap;

use brasa::{Db, Error, KeyType};

use super::format::{Found, Log, Verdict, kind};

/// Every key of every database, with what it holds.
pub type Contents = BTreeMap<(u8, Vec<u8>), Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub content: Content,
    pub deadline_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// All that the public face shows, asked in more than one way.
pub fn contents(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for number in 0..16 {
        let db = db.database(number).unwrap();
        if number > 0 && db.is_empty().unwrap() {
            continue; // Walking fifteen empty databases would take most of a fuzzer's time.
        }
        let mut count = 0;
        for key in db.keys() {
            let key = key.unwrap();
            let content = match db.key_type(&key).unwrap() {
                Some(KeyType::String) => Content::String(db.get(&key).unwrap().unwrap().to_vec()),
                Some(KeyType::Hash) => Content::Hash(fields(&db, &key)),
                other => panic!("{key:?} is listed and holds {other:?}"),
            };
            let entry = Entry {
                content,
                deadline_ms: db.deadline_ms(&key).unwrap(),
            };
            let twice = contents.insert((number, key.to_vec()), entry);
            assert_eq!(twice, None, "{key:?} is listed twice");
            count += 1;
        }
        // What has expired may be counted for a while.
        assert!(db.len().unwrap() >= count, "{number}");
    }
    contents
}

fn fields(db: &Db, key: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let listed = db.hgetall(key).unwrap();
    let count = listed.len();
    let fields: BTreeMap<Vec<u8>, Vec<u8>> = listed
        .into_iter()
        .map(|(field, value)| (field.to_vec(), value.to_vec()))
        .collect();
    assert_eq!(fields.len(), count, "a field is listed twice");
    assert_eq!(db.hlen(key).unwrap(), count as u64);
    for (field, value) in &fields {
        assert_eq!(db.hget(key, field).unwrap().unwrap(), value);
    }
    fields
}

/// What the records of a log say, expired or not.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    keys: BTreeMap<(u8, Vec<u8>), Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    value: StoredValue,
    deadline_ms: u64,
}

#[derive(Debug, Clone)]
enum StoredValue {
    String(Vec<u8>),
    /// Each field's value and deadline.
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, u64)>),
}

impl Replay {
    /// Applies all whole commits of a log.
    pub fn of(log: &Log<'_>) -> Replay {
        let mut replay = Replay::default();
        for record in log.records() {
            replay.apply(record);
        }
        replay
    }

    fn apply(&mut self, record: &Found<'_>) {
        let place = (record.database, record.key.to_vec());
        match record.kind {
            kind::SET => {
                let stored = Stored {
                    value: StoredValue::String(record.value.to_vec()),
                    deadline_ms: record.deadline_ms,
                };
                self.keys.insert(place, stored);
            }
            kind::DELETE => {
                self.keys.remove(&place);
            }
            kind::EXPIRE => {
                if let Some(stored) = self.keys.get_mut(&place) {
                    stored.deadline_ms = record.deadline_ms;
                }
            }
            kind::HASH_SET => {
                let new = || Stored {
                    value: StoredValue::Hash(BTreeMap::new()),
                    deadline_ms: 0,
                };
                let stored = self.keys.entry(place).or_insert_with(new);
                if let StoredValue::String(_) = stored.value {
                    *stored = new();
                }
                if let StoredValue::Hash(fields) = &mut stored.value {
                    let value = (record.value.to_vec(), record.deadline_ms);
                    fields.insert(record.field.to_vec(), value);
                }
            }
            kind::HASH_DELETE | kind::FIELD_EXPIRE => {
                let Some(stored) = self.keys.get_mut(&place) else {
                    return;
                };
                let StoredValue::Hash(fields) = &mut stored.value else {
                    return;
                };
                if record.kind == kind::HASH_DELETE {
                    fields.remove(record.field);
                } else if let Some((_, deadline_ms)) = fields.get_mut(record.field) {
                    *deadline_ms = record.deadline_ms;
                }
                if fields.is_empty() {
                    self.keys.remove(&place);
                }
            }
            kind::CLEAR => self
                .keys
                .retain(|(database, _), _| *database != record.database),
            kind::SWAP_DATABASES => {
                let (one, other) = (record.database, record.value[0]);
                let swapped =
                    std::mem::take(&mut self.keys)
                        .into_iter()
                        .map(|((database, key), stored)| match database {
                            _ if database == one => ((other, key), stored),
                            _ if database == other => ((one, key), stored),
                            _ => ((database, key), stored),
                        });
                self.keys = swapped.collect();
            }
            _ => {}
        }
    }

    /// What is there for whoever reads at a time.
    pub fn contents(&self, now_ms: u64) -> Contents {
        let alive = |deadline_ms: u64| deadline_ms == 0 || deadline_ms > now_ms;
        let mut contents = Contents::new();
        for (place, stored) in &self.keys {
            let content = match &stored.value {
                StoredValue::String(value) => Content::String(value.clone()),
                StoredValue::Hash(fields) => Content::Hash(
                    fields
                        .iter()
                        .filter(|(_, (_, deadline_ms))| alive(*deadline_ms))
                        .map(|(field, (value, _))| (field.clone(), value.clone()))
                        .collect(),
                ),
            };
            let is_empty = matches!(&content, Content::Hash(fields) if fields.is_empty());
            if alive(stored.deadline_ms) && !is_empty {
                let deadline_ms = (stored.deadline_ms != 0).then_some(stored.deadline_ms);
                let entry = Entry {
                    content,
                    deadline_ms,
                };
                contents.insert(place.clone(), entry);
            }
        }
        contents
    }
}

/// An error of opening, as the format's page would say it.
pub fn verdict(error: &Error) -> Verdict {
    match error {
        Error::NotABrasaFile { .. } => Verdict::NotABrasaFile,
        Error::Corrupt { offset, .. } => Verdict::Corrupt(*offset),
        Error::UnsupportedVersion { found, .. } => Verdict::UnsupportedVersion(found.0, found.1),
        other => panic!("{other}"),
    }
}

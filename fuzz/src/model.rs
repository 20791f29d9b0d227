//! What a database should hold, written from Redis's meanings and with maps alone.

use std::collections::BTreeMap;

/// Keys by database, with what they hold.
pub type Contents = BTreeMap<(u8, Vec<u8>), Entry>;

/// A value and its deadline in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    String(Vec<u8>, Option<u64>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>, Option<u64>),
}

impl Entry {
    pub fn deadline_ms(&self) -> Option<u64> {
        match self {
            Entry::String(_, deadline_ms) | Entry::Hash(_, deadline_ms) => *deadline_ms,
        }
    }

    fn deadline_mut(&mut self) -> &mut Option<u64> {
        match self {
            Entry::String(_, deadline_ms) | Entry::Hash(_, deadline_ms) => deadline_ms,
        }
    }
}

/// A model of a database.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub contents: Contents,
    pub now_ms: u64,
}

type Key = (u8, Vec<u8>);

impl Model {
    /// Time passes; what has expired goes.
    pub fn advance(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        let now_ms = self.now_ms;
        self.contents
            .retain(|_, entry| entry.deadline_ms().is_none_or(|at| at > now_ms));
    }

    pub fn set(&mut self, key: Key, value: &[u8], deadline_ms: Option<u64>) {
        self.contents
            .insert(key, Entry::String(value.to_vec(), deadline_ms));
    }

    /// `None` where the key holds a hash.
    pub fn append(&mut self, key: Key, suffix: &[u8]) -> Option<u64> {
        let entry = self
            .contents
            .entry(key)
            .or_insert(Entry::String(Vec::new(), None));
        let Entry::String(value, _) = entry else {
            return None;
        };
        value.extend_from_slice(suffix);
        Some(value.len() as u64)
    }

    /// `None` where the key holds a string.
    pub fn hset(&mut self, key: Key, field: &[u8], value: &[u8]) -> Option<bool> {
        let entry = self
            .contents
            .entry(key)
            .or_insert(Entry::Hash(BTreeMap::new(), None));
        let Entry::Hash(fields, _) = entry else {
            return None;
        };
        Some(fields.insert(field.to_vec(), value.to_vec()).is_none())
    }

    /// `None` where the key holds a string.
    pub fn hdel(&mut self, key: Key, field: &[u8]) -> Option<bool> {
        let Some(entry) = self.contents.get_mut(&key) else {
            return Some(false);
        };
        let Entry::Hash(fields, _) = entry else {
            return None;
        };
        let removed = fields.remove(field).is_some();
        if fields.is_empty() {
            self.contents.remove(&key);
        }
        Some(removed)
    }

    pub fn del(&mut self, key: &Key) -> bool {
        self.contents.remove(key).is_some()
    }

    pub fn expire(&mut self, key: &Key, deadline_ms: Option<u64>) -> bool {
        if deadline_ms.is_some_and(|at| at <= self.now_ms) {
            return self.del(key);
        }
        match self.contents.get_mut(key) {
            Some(entry) => {
                *entry.deadline_mut() = deadline_ms;
                true
            }
            None => false,
        }
    }

    pub fn clear(&mut self, database: u8) {
        self.contents.retain(|(of, _), _| *of != database);
    }
}

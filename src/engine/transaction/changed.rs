//! The keys that a transaction has changed, by database.

use std::collections::BTreeMap;

use super::state::State;

/// A key that was changed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Whether it existed before; `None` until a lookup has told.
    pub(super) was_there: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Those of each database that has any: seldom more than one.
    databases: Vec<(u8, BTreeMap<Vec<u8>, Entry>)>,
}

impl Changed {
    /// The changed keys of a database, in the order of their names.
    pub(super) fn of(&self, database: u8) -> impl Iterator<Item = (&[u8], &Entry)> {
        let keys = self.keys(database).into_iter().flatten();
        keys.map(|(key, entry)| (&**key, entry))
    }

    pub(super) fn get(&self, database: u8, key: &[u8]) -> Option<&Entry> {
        self.keys(database)?.get(key)
    }

    pub(super) fn get_mut(&mut self, database: u8, key: &[u8]) -> Option<&mut Entry> {
        let mut databases = self.databases.iter_mut();
        let (_, keys) = databases.find(|(of, _)| *of == database)?;
        keys.get_mut(key)
    }

    /// The entry of a key, which becomes `new` where it has none.
    pub(super) fn get_or_insert(&mut self, database: u8, key: &[u8], new: Entry) -> &mut Entry {
        let found = self.databases.iter().position(|(of, _)| *of == database);
        let at = found.unwrap_or(self.databases.len());
        if found.is_none() {
            self.databases.push((database, BTreeMap::new()));
        }
        self.databases[at].1.entry(key.to_vec()).or_insert(new)
    }

    pub(super) fn clear(&mut self) {
        self.databases.clear();
    }

    /// Forgets the keys of a database.
    pub(super) fn clear_database(&mut self, database: u8) {
        self.databases.retain(|(of, _)| *of != database);
    }

    /// The keys of two databases change places.
    pub(super) fn swap(&mut self, one: u8, other: u8) {
        for (database, _) in &mut self.databases {
            *database = match *database {
                of if of == one => other,
                of if of == other => one,
                of => of,
            };
        }
    }

    fn keys(&self, database: u8) -> Option<&BTreeMap<Vec<u8>, Entry>> {
        let mut databases = self.databases.iter();
        databases
            .find(|(of, _)| *of == database)
            .map(|(_, keys)| keys)
    }
}

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Peer, Safe, Store, looked_at};

/// Its journal goes to the system with each write.
pub const PEER: Peer = Peer {
    name: "fjall",
    package: "fjall",
    open: |directory, safe| Some(Box::new(Fjall::open(directory, safe))),
    replay: None,
};

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    safe: Safe,
}

impl Fjall {
    fn open(directory: &Path, safe: Safe) -> Fjall {
        let database = Database::builder(directory.join("store")).open().unwrap();
        let keyspace = database
            .keyspace("kv", KeyspaceCreateOptions::default)
            .unwrap();
        Fjall {
            database,
            keyspace,
            safe,
        }
    }

    fn persist(&self) {
        if self.safe == Safe::PowerLost {
            self.database.persist(PersistMode::SyncData).unwrap();
        }
    }
}

impl Store for Fjall {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.keyspace.insert(key, value).unwrap();
        self.persist();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        self.keyspace
            .get(key)
            .unwrap()
            .map(|value| looked_at(&value))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keyspace, *key, *value);
        }
        batch.commit().unwrap();
        self.persist();
    }

    fn count(&self) -> usize {
        let entries = self.keyspace.iter();
        entries
            .map(|entry| looked_at(&entry.key().unwrap()))
            .filter(|len| *len > 0)
            .count()
    }
}

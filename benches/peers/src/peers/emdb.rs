use std::path::Path;

use emdb::Emdb;

use super::{Peer, Safe, Store, looked_at};

pub const PEER: Peer = Peer {
    name: "emdb",
    package: "emdb",
    open: |directory, safe| Some(Box::new(open(directory, safe))),
    replay: Some(|directory| Box::new(open(directory, Safe::Killed))),
};

struct Log {
    store: Emdb,
    safe: Safe,
}

fn open(directory: &Path, safe: Safe) -> Log {
    let store = Emdb::open(directory.join("file")).unwrap();
    Log { store, safe }
}

impl Store for Log {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.store.insert(key, value).unwrap();
        if self.safe == Safe::PowerLost {
            self.store.flush().unwrap();
        }
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        self.store.get(key).unwrap().map(|value| looked_at(&value))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        self.store.insert_many(pairs.iter().copied()).unwrap();
    }

    fn count(&self) -> usize {
        let entries = self.store.iter().unwrap();
        entries
            .map(|(key, _)| looked_at(&key))
            .filter(|len| *len > 0)
            .count()
    }
}

use std::path::Path;

use kevy_embedded::{AppendFsync, Config, Store as Kevy};

use super::{Peer, Safe, Store, looked_at};

/// With its append-only file, which it writes through a buffer of its own: short of a sync for each call there is no way to keep a kill from taking
/// what is in there. It is measured nevertheless, as its users have it.
pub const PEER: Peer = Peer {
    name: "kevy",
    package: "kevy-embedded",
    open: |directory, safe| Some(Box::new(open(directory, safe))),
    replay: Some(|directory| Box::new(open(directory, Safe::Killed))),
};

fn open(directory: &Path, safe: Safe) -> Kevy {
    let fsync = match safe {
        Safe::Killed => AppendFsync::EverySec,
        Safe::PowerLost => AppendFsync::Always,
    };
    Kevy::open(
        Config::default()
            .with_persist(directory)
            .with_appendfsync(fsync),
    )
    .unwrap()
}

impl Store for Kevy {
    fn set(&self, key: &[u8], value: &[u8]) {
        Kevy::set(self, key, value).unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        Kevy::get(self, key).unwrap().map(|value| looked_at(&value))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        for (key, value) in pairs {
            Kevy::set(self, key, value).unwrap();
        }
    }

    fn count(&self) -> usize {
        self.keys_iter(None)
            .map(|key| looked_at(&key))
            .filter(|len| *len > 0)
            .count()
    }

    fn set_field(&self, hash: &[u8], field: &[u8], value: &[u8]) -> bool {
        self.hset(hash, &[(field, value)]).unwrap();
        true
    }

    fn get_field(&self, hash: &[u8], field: &[u8]) -> Option<usize> {
        self.hget(hash, field)
            .unwrap()
            .map(|value| looked_at(&value))
    }
}

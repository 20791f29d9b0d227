use std::path::Path;

use brasa::{Db, Durability};

use super::{Peer, Safe, Store, looked_at};

pub const EXCLUSIVE: Peer = Peer {
    name: "brasa",
    package: "brasa",
    open: |directory, safe| Some(Box::new(open(directory, safe, true))),
    replay: Some(|directory| {
        let options = Db::options().ignore_checkpoints(true).read_only(true);
        Box::new(options.open(directory.join("file")).unwrap())
    }),
};

/// Any number of processes may have it open, so that each write asks for a lock, or still has it.
pub const SHARED: Peer = Peer {
    name: "brasa shared",
    package: "brasa",
    open: |directory, safe| Some(Box::new(open(directory, safe, false))),
    replay: None,
};

fn open(directory: &Path, safe: Safe, exclusive: bool) -> Db {
    let durability = match safe {
        Safe::Killed => Durability::default(),
        Safe::PowerLost => Durability::Always,
    };
    let options = Db::options().durability(durability).exclusive(exclusive);
    options.open(directory.join("file")).unwrap()
}

impl Store for Db {
    fn set(&self, key: &[u8], value: &[u8]) {
        Db::set(self, key, value).unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        Db::get(self, key).unwrap().map(|value| looked_at(&value))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        self.batch(|batch| {
            for (key, value) in pairs {
                batch.set(key, value);
            }
        })
        .unwrap();
    }

    /// Keys, in pages: there is no walk over pairs.
    fn count(&self) -> usize {
        self.keys()
            .map(|key| looked_at(&key.unwrap()))
            .filter(|len| *len > 0)
            .count()
    }

    fn set_field(&self, hash: &[u8], field: &[u8], value: &[u8]) -> bool {
        self.hset(hash, field, value).unwrap();
        true
    }

    fn get_field(&self, hash: &[u8], field: &[u8]) -> Option<usize> {
        self.hget(hash, field)
            .unwrap()
            .map(|value| looked_at(&value))
    }
}

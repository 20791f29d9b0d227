use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use super::{Peer, Safe, Store, looked_at};

/// With a map that is written to and no syncs, which is its fastest way that a kill does not harm.
pub const PEER: Peer = Peer {
    name: "LMDB",
    package: "heed",
    open: |directory, safe| Some(Box::new(Lmdb::open(directory, safe))),
    replay: None,
};

/// Addresses, not memory.
const MAP_BYTES: usize = 64 << 30;

struct Lmdb {
    env: Env,
    database: Database<Bytes, Bytes>,
}

impl Lmdb {
    fn open(directory: &Path, safe: Safe) -> Lmdb {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if safe == Safe::Killed {
            // SAFETY: nobody else has the file.
            unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC) };
        }
        // SAFETY: nobody else has the file.
        let env = unsafe { options.open(directory) }.unwrap();
        let mut transaction = env.write_txn().unwrap();
        let database = env.create_database(&mut transaction, None).unwrap();
        transaction.commit().unwrap();
        Lmdb { env, database }
    }
}

impl Store for Lmdb {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.set_all(&[(key, value)]);
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        let transaction = self.env.read_txn().unwrap();
        self.database.get(&transaction, key).unwrap().map(looked_at)
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        let mut transaction = self.env.write_txn().unwrap();
        for (key, value) in pairs {
            self.database.put(&mut transaction, key, value).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn count(&self) -> usize {
        let transaction = self.env.read_txn().unwrap();
        let entries = self.database.iter(&transaction).unwrap();
        entries
            .map(|entry| looked_at(entry.unwrap().0))
            .filter(|len| *len > 0)
            .count()
    }
}

use sled::{Batch, Db};

use super::{Peer, Safe, Store, looked_at};

/// What is not flushed a kill takes. A flush is `sync_file_range` on Linux (`pagecache/iobuf.rs`), which neither has the device write its cache nor keeps
/// what the file system says of a file that has grown: no loss of power is survived for certain, and nothing is measured as synced.
pub const PEER: Peer = Peer {
    name: "sled",
    package: "sled",
    open: |directory, safe| match safe {
        Safe::Killed => Some(Box::new(Sled(sled::open(directory.join("store")).unwrap()))),
        Safe::PowerLost => None,
    },
    replay: None,
};

struct Sled(Db);

impl Store for Sled {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.0.insert(key, value).unwrap();
        self.0.flush().unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        self.0.get(key).unwrap().map(|value| looked_at(&value))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        let mut batch = Batch::default();
        for (key, value) in pairs {
            batch.insert(*key, *value);
        }
        self.0.apply_batch(batch).unwrap();
        self.0.flush().unwrap();
    }

    fn count(&self) -> usize {
        let entries = self.0.iter();
        entries
            .map(|entry| looked_at(&entry.unwrap().0))
            .filter(|len| *len > 0)
            .count()
    }
}

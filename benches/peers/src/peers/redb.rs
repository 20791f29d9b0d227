use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Peer, Safe, Store, looked_at};

/// What is not synced a kill takes, so that each of its transactions is.
pub const PEER: Peer = Peer {
    name: "redb",
    package: "redb",
    open: |directory: &Path, _: Safe| {
        Some(Box::new(Redb(
            Database::create(directory.join("file")).unwrap(),
        )))
    },
    replay: None,
};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kv");

struct Redb(Database);

impl Store for Redb {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.set_all(&[(key, value)]);
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(TABLE).unwrap();
        table
            .get(key)
            .unwrap()
            .map(|value| looked_at(value.value()))
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for (key, value) in pairs {
                table.insert(*key, *value).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn count(&self) -> usize {
        let transaction = self.0.begin_read().unwrap();
        let table = transaction.open_table(TABLE).unwrap();
        let entries = table.iter().unwrap();
        entries
            .map(|entry| looked_at(entry.unwrap().0.value()))
            .filter(|len| *len > 0)
            .count()
    }
}

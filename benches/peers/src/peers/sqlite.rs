use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Peer, Safe, Store, looked_at};

/// With a write-ahead log, and without syncs where a kill is all that is asked for.
pub const PEER: Peer = Peer {
    name: "SQLite",
    package: "rusqlite",
    open: |directory, safe| Some(Box::new(Sqlite(Mutex::new(open(directory, safe))))),
    replay: None,
};

/// A connection is one thread's.
struct Sqlite(Mutex<Connection>);

fn open(directory: &Path, safe: Safe) -> Connection {
    let connection = Connection::open(directory.join("file")).unwrap();
    connection
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    let synchronous = match safe {
        Safe::Killed => "off",
        Safe::PowerLost => "full",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .unwrap();
    connection
        .execute_batch(
            "create table if not exists kv (key blob primary key, value blob) without rowid",
        )
        .unwrap();
    connection
}

fn put(connection: &Connection, key: &[u8], value: &[u8]) {
    let mut statement = connection
        .prepare_cached("insert or replace into kv values (?, ?)")
        .unwrap();
    statement.execute(params![key, value]).unwrap();
}

impl Store for Sqlite {
    fn set(&self, key: &[u8], value: &[u8]) {
        put(&self.0.lock().unwrap(), key, value);
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        let connection = self.0.lock().unwrap();
        let mut statement = connection
            .prepare_cached("select value from kv where key = ?")
            .unwrap();
        let found = statement.query_row([key], |row| Ok(looked_at(row.get_ref(0)?.as_blob()?)));
        found.optional().unwrap()
    }

    fn set_all(&self, pairs: &[(&[u8], &[u8])]) {
        let mut connection = self.0.lock().unwrap();
        let transaction = connection.transaction().unwrap();
        for (key, value) in pairs {
            put(&transaction, key, value);
        }
        transaction.commit().unwrap();
    }

    fn count(&self) -> usize {
        let connection = self.0.lock().unwrap();
        let mut statement = connection
            .prepare_cached("select key, value from kv")
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            count += usize::from(looked_at(row.get_ref(0).unwrap().as_blob().unwrap()) > 0);
        }
        count
    }
}

//! The checkpoint: opening replays what was written since, and nothing else changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brasa::{Db, Result};

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("file.brasa")
}

/// All that a file holds: strings, and the fields of hashes.
fn contents(db: &Db) -> Result<BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>> {
    let mut all = BTreeMap::new();
    for key in db.keys() {
        let key = key?;
        let mut held = match db.get(&*key) {
            Ok(value) => vec![(Vec::new(), value.unwrap().to_vec())],
            Err(_) => db
                .hgetall(&*key)?
                .into_iter()
                .map(|(field, value)| (field.to_vec(), value.to_vec()))
                .collect(),
        };
        held.sort();
        all.insert(key.to_vec(), held);
    }
    assert_eq!(all.len() as u64, db.len()?);
    Ok(all)
}

fn open_by_log(path: &Path) -> Db {
    let options = Db::options().ignore_checkpoints(true).read_only(true);
    options.open(path).unwrap()
}

#[test]
fn opening_replays_only_what_came_after_the_checkpoint() -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let db = Db::open(&path)?;
    for number in 0..10_000 {
        db.set(format!("key {number}"), format!("value {number}"))?;
    }
    db.checkpoint()?;
    db.set("after", "1")?;
    db.del("key 7")?;
    drop(db);
    let db = Db::open(&path)?;
    assert_eq!(db.recovery().record_count, 2);
    assert_eq!(db.recovery().checkpoint_ignored, None);
    assert_eq!(db.get("after")?.unwrap(), "1");
    assert_eq!(db.get("key 7")?, None);
    assert_eq!(db.get("key 8")?.unwrap(), "value 8");
    assert_eq!(db.get("no key")?, None);
    assert_eq!(db.len()?, 10_000);
    assert_eq!(contents(&db)?, contents(&open_by_log(&path))?);
    Ok(())
}

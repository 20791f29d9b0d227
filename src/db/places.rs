//! Keys that get another name, or move to another database.

use crate::engine::{Dated, KeyState, Transaction};
use crate::sync::Arc;
use crate::{Db, Error, Result};

/// How many fields of a hash are copied at a time.
const PAGE_FIELDS: usize = 1_024;

impl Db {
    /// Renames a key, with its value and its deadlines. Replaces a key that has the new name.
    /// Returns whether the key existed.
    ///
    /// The rename is one commit that contains the whole value again; see
    /// [`limits::MAX_COMMIT_BYTES`](crate::limits::MAX_COMMIT_BYTES).
    ///
    /// # Errors
    ///
    /// The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("old", "f", "v")?;
    /// assert!(db.rename("old", "new")?);
    /// assert_eq!(db.hget("new", "f")?.unwrap(), "v");
    /// # Ok(())
    /// # }
    /// ```
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<bool> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.write(|tx| {
            if from == to {
                return Ok(tx.key(self.database, from)? != KeyState::Absent);
            }
            let copied = copy(tx, (self.database, from), (self.database, to))?;
            Ok(copied && tx.delete(self.database, from)?)
        })
    }

    /// Renames a key like [`Db::rename`], if no key has the new name. Returns whether it was
    /// renamed; `None` for a missing key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// assert_eq!(db.rename_if_absent("a", "b")?, Some(true));
    /// assert_eq!(db.rename_if_absent("a", "c")?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::rename`].
    pub fn rename_if_absent(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
    ) -> Result<Option<bool>> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.write(|tx| {
            if tx.key(self.database, from)? == KeyState::Absent {
                return Ok(None);
            }
            if tx.key(self.database, to)? != KeyState::Absent {
                return Ok(Some(false));
            }
            copy(tx, (self.database, from), (self.database, to))?;
            tx.delete(self.database, from).map(Some)
        })
    }

    /// Copies a key, with its value and its deadlines, to `to` in the database that `target` shows.
    /// Returns `false` if the key is missing, or if the target key exists and `replace` is not set.
    ///
    /// `target` is a handle on the same file, from [`Db::database`] or opened separately: the copy is
    /// one commit, which cannot span two files. To copy a whole file, see [`Db::backup`].
    ///
    /// # Errors
    ///
    /// [`Error::OtherFile`](crate::Error::OtherFile) if `target` is a handle on another file, and the
    /// errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert!(db.copy("k", &db.database(1)?, "k", false)?);
    /// assert_eq!(db.database(1)?.get("k")?.unwrap(), "v");
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy(
        &self,
        from: impl AsRef<[u8]>,
        target: &Db,
        to: impl AsRef<[u8]>,
        replace: bool,
    ) -> Result<bool> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.write(|tx| {
            self.check_same_file(target)?;
            let (source, target) = (self.database, target.database);
            if !replace && tx.key(target, to)? != KeyState::Absent {
                return Ok(false);
            }
            if (source, from) == (target, to) {
                return Ok(tx.key(source, from)? != KeyState::Absent);
            }
            copy(tx, (source, from), (target, to))
        })
    }

    /// Moves a key to the database that `target` shows, under the same name. Returns `false` if the
    /// key is missing, or if the target key exists. `target` is a handle on the same file, as for
    /// [`Db::copy`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// assert!(db.move_to("a", &db.database(1)?)?);
    /// assert!(db.database(1)?.exists("a")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::copy`].
    pub fn move_to(&self, key: impl AsRef<[u8]>, target: &Db) -> Result<bool> {
        let key = key.as_ref();
        self.write(|tx| {
            self.check_same_file(target)?;
            let (source, target) = (self.database, target.database);
            if source == target || tx.key(target, key)? != KeyState::Absent {
                return Ok(false);
            }
            let copied = copy(tx, (source, key), (target, key))?;
            Ok(copied && tx.delete(source, key)?)
        })
    }

    /// Fails unless the other handle is on the same file. Called with the writer lock held, so that
    /// no compaction replaces the file meanwhile.
    fn check_same_file(&self, other: &Db) -> Result<()> {
        let (engine, other) = (self.engine(), other.engine());
        if Arc::ptr_eq(engine, other) || engine.is_on_file_of(other)? {
            return Ok(());
        }
        Err(Error::OtherFile {
            path: engine.path().to_owned(),
            other: other.path().to_owned(),
        })
    }
}

/// Writes what a key holds once more, in another place, in which it replaces what is there; says whether there was anything.
fn copy(tx: &mut Transaction, from: (u8, &[u8]), to: (u8, &[u8])) -> Result<bool> {
    match tx.key(from.0, from.1)? {
        KeyState::Absent => Ok(false),
        KeyState::String { .. } => {
            if let Some(Dated { value, deadline_ms }) = tx.string(from.0, from.1)? {
                tx.set(to.0, to.1, &value, deadline_ms)?;
            }
            Ok(true)
        }
        KeyState::Hash { deadline_ms } => {
            tx.delete(to.0, to.1)?;
            let mut fields = Vec::new();
            let mut cursor = 0;
            loop {
                let page = tx.scan_fields(from.0, from.1, cursor, PAGE_FIELDS)?;
                fields.extend(page.fields);
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
            for index in scattered(fields.len()) {
                if let Some((field, found)) = fields.get(index) {
                    tx.hash_set(to.0, to.1, field, &found.value, found.deadline_ms)?;
                }
            }
            if deadline_ms != 0 {
                tx.expire(to.0, to.1, deadline_ms)?;
            }
            Ok(true)
        }
    }
}

/// All indexes below `len`, each once and neighbours far apart; some indexes beyond it come, too.
///
/// Fields are read in the order of their hashes. Written in that order, they would all crowd at the
/// beginning of the new hash's table while it grows, and each insertion would pass over all before it.
pub(crate) fn scattered(len: usize) -> impl Iterator<Item = usize> {
    let bits = usize::BITS - len.leading_zeros();
    (0..1_usize << bits).map(move |index| index.reverse_bits().unbounded_shr(usize::BITS - bits))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::command::{Reply, Session};
    use crate::{Db, Error, ManualClock, Result, Ttl};

    /// The limit is for a cost that grows with the square: then it takes minutes.
    #[test]
    fn large_hash_is_copied_restored_and_renamed_in_linear_time() -> Result<()> {
        const FIELDS: u32 = 100_000;
        let db = Db::in_memory()?;
        let fields: Vec<_> = (0..FIELDS)
            .map(|number| (number.to_string(), "v"))
            .collect();
        db.hset_many("h", &fields)?;
        let begun = crate::sync::Instant::now();
        assert!(db.copy("h", &db, "copy", false)?);
        assert!(db.rename("copy", "renamed")?);
        let mut session = Session::new(db.clone());
        let Reply::Bulk(dumped) = session.execute(&["DUMP", "h"]) else {
            unreachable!("the hash is there");
        };
        let words: [&[u8]; 4] = [b"RESTORE", b"restored", b"0", &dumped];
        assert_eq!(session.execute(&words), Reply::OK);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(db.hlen("renamed")?, u64::from(FIELDS));
        assert_eq!(db.hlen("restored")?, u64::from(FIELDS));
        Ok(())
    }

    #[test]
    fn scattered_indexes_are_all_there_once() {
        for len in [0, 1, 2, 3, 1_000, 1_024, 1_025] {
            let mut indexes: Vec<_> = super::scattered(len).filter(|index| *index < len).collect();
            indexes.sort_unstable();
            assert!(indexes.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn a_key_that_is_renamed_keeps_all_it_has() -> Result<()> {
        let db = Db::options()
            .clock(ManualClock::new(1_000))
            .open_in_memory()?;
        for number in 0..3_000 {
            db.hset("h", format!("field {number}"), number.to_string())?;
        }
        db.hexpire("h", "field 7", Duration::from_secs(7))?;
        db.expire("h", Duration::from_secs(70))?;
        db.set("new", "in the way")?;
        assert!(db.rename("h", "new")?);
        assert!(!db.exists("h")?);
        assert_eq!(db.hlen("new")?, 3_000);
        assert_eq!(db.ttl("new")?, Ttl::Remaining(Duration::from_secs(70)));
        assert_eq!(
            db.httl("new", "field 7")?,
            Ttl::Remaining(Duration::from_secs(7))
        );
        assert_eq!(db.httl("new", "field 8")?, Ttl::Persistent);
        assert!(!db.rename("h", "other")?);
        Ok(())
    }

    fn is_refused(result: &Result<bool>) -> bool {
        matches!(result, Err(Error::OtherFile { .. }))
    }

    #[test]
    fn copy_and_move_to_another_file_are_refused_and_change_neither() -> Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let dbs = [
            Db::open(path("a.brasa"))?,
            Db::open(path("b.brasa"))?,
            Db::in_memory()?,
            Db::in_memory()?,
        ];
        for db in &dbs {
            db.hset("k", "f", "v")?;
        }
        let check = |db: &Db, other: &Db| -> Result<()> {
            let third = other.database(3)?;
            assert!(is_refused(&db.copy("k", other, "k2", true)));
            assert!(is_refused(&db.copy("k", &third, "k", false)));
            assert!(is_refused(&db.move_to("k", &third)));
            assert!(is_refused(&db.database(1)?.move_to("k", other)));
            Ok(())
        };
        for (at, db) in dbs.iter().enumerate() {
            for other in dbs.iter().skip(at + 1) {
                for (db, other) in [(db, other), (other, db)] {
                    check(db, other)?;
                    db.transaction(|tx| check(tx, other))?;
                    other.transaction(|tx| check(db, tx))?;
                    db.transaction(|tx| other.transaction(|other| check(tx, other)))?;
                }
            }
        }
        for db in &dbs {
            assert_eq!((db.len()?, db.stats()?.key_count), (1, 1));
        }
        Ok(())
    }

    #[test]
    fn copy_and_move_between_two_handles_on_one_file_work() -> Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.brasa");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let (one, other) = (Db::open(&path)?, Db::open(link)?);
        one.set("k", "1")?;
        assert!(one.copy("k", &other, "k2", false)?);
        assert!(other.move_to("k2", &one.database(3)?)?);
        // A compaction gives the path to another file.
        other.compact()?;
        assert!(one.copy("k", &other.database(2)?, "k", false)?);
        one.compact()?;
        assert!(one.copy("k", &other.database(4)?, "k", false)?);
        for number in [0, 2, 3, 4] {
            let key = if number == 3 { "k2" } else { "k" };
            assert!(other.database(number)?.exists(key)?, "database {number}");
        }
        Ok(())
    }

    #[test]
    fn a_move_goes_nowhere_where_the_name_is_taken() -> Result<()> {
        let db = Db::in_memory()?;
        let other = db.database(1)?;
        db.set("k", "1")?;
        other.set("k", "2")?;
        assert!(!db.move_to("k", &other)?);
        other.del("k")?;
        assert!(db.move_to("k", &other)?);
        assert!(!db.move_to("k", &other)?);
        assert_eq!(other.get("k")?.unwrap(), "1");
        Ok(())
    }
}

//! Transactions: several calls as one commit, each of which sees the changes of the calls before
//! it.
//!
//! Invariants:
//!
//! 1. The closure of a transaction runs under the writer lock.
//! 2. A handle of a transaction works only within its closure, and one call at a time.
//! 3. A transaction is committed only if its closure returned `Ok` and no call on its handle
//!    panicked.

use crate::engine::{Engine, Transaction};
use crate::sync::{Arc, Mutex, TryLockError};
use crate::{Db, Error, Result};

/// The transaction on which the handle within a closure, and its clones, work.
pub(super) struct Scope {
    /// `None` once the transaction is over.
    transaction: Mutex<Option<Transaction>>,
}

impl Scope {
    fn new(transaction: Transaction) -> Arc<Scope> {
        Arc::new(Scope {
            transaction: Mutex::new(Some(transaction)),
        })
    }

    /// Ends the transaction and returns it, or `None` if a call on it has panicked.
    fn end(&self) -> Option<Transaction> {
        // A call that panicked may have staged half of its changes.
        self.transaction.lock().ok()?.take()
    }
}

impl Db {
    /// Runs `body` with a handle on a transaction, and writes all changes of that handle in one
    /// commit when `body` returns `Ok`.
    ///
    /// Each call sees the changes of the calls before it. Other threads and processes see none of
    /// them before the commit. After a kill or a power loss all of them are there or none. If
    /// `body` returns an error or panics, nothing is written.
    ///
    /// Use the first call of this table that fits:
    ///
    /// | changes | call | the closure | other writers |
    /// | --- | --- | --- | --- |
    /// | one key, for which there is a call | [`Db::incr_by`], [`Db::append`], [`Db::set_with`] and others | none | wait for one write |
    /// | one string, computed from the old one | [`Db::update`] | gets the old string, returns the new one | wait while the closure runs |
    /// | several keys, known in advance | [`Db::batch`] | collects changes, cannot read | wait for one write |
    /// | several keys or databases, decided by reads | [`Db::transaction`] | makes any call on its handle, may return an error | wait while the closure runs |
    ///
    /// Each of these calls is one commit. Readers wait for none of them.
    ///
    /// No other thread or process can write while `body` runs, so it should be quick. It may read
    /// and write all 16 databases ([`Db::database`]). A single call in it that fails changes
    /// nothing, and the other calls remain in effect. A transaction within a transaction is part of
    /// it. If the inner one fails, its own changes are undone and the others remain.
    ///
    /// # Errors
    ///
    /// - Those that `body` returns.
    /// - Those of every write, see [`Db::set`]. Then nothing was written.
    /// - [`Error::TransactionOver`], from the handle of the transaction after `body` has returned.
    /// - [`Error::Reentered`], in `body`, for a write by another handle on the same file. It is
    ///   also returned by the handle of the transaction, for a call on the whole file
    ///   ([`Db::compact`], [`Db::sync`]) and for a call within the closure of another call.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.incr_by("account:1", 100)?;
    /// let moved = db.transaction(|tx| -> brasa::Result<bool> {
    ///     if tx.incr_by("account:1", -30)? < 0 {
    ///         return Ok(false);
    ///     }
    ///     tx.incr_by("account:2", 30)?;
    ///     Ok(true)
    /// })?;
    /// assert!(moved);
    /// assert_eq!(db.get("account:2")?.unwrap(), "30");
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction<R, E: From<Error>>(
        &self,
        body: impl FnOnce(&Db) -> Result<R, E>,
    ) -> Result<R, E> {
        if self.scope.is_some() {
            return self.transaction_within(body);
        }
        let mut failure = None;
        let done = self.write(|tx| Ok(self.run_within(tx, body, &mut failure)));
        match (done, failure) {
            (_, Some(failure)) => Err(failure),
            (Ok(Some(done)), None) => Ok(done),
            (Ok(None), None) => Err(self.is_over().into()),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Like [`Db::transaction`], but returns `None` without running `body` if the writer lock is
    /// not free within 2 ms.
    pub(crate) fn transaction_briefly<R>(
        &self,
        body: impl FnOnce(&Db) -> Result<R>,
    ) -> Result<Option<R>> {
        if self.scope.is_some() {
            return self.transaction_within(body).map(Some);
        }
        let mut failure = None;
        let done = self.with_threads(|engine| {
            engine.write_briefly(|tx| Ok(self.run_within(tx, body, &mut failure)))
        });
        match (done?, failure) {
            (_, Some(failure)) => Err(failure),
            (Some(None), None) => Err(self.is_over()),
            (done, None) => Ok(done.flatten()),
        }
    }

    /// Runs `body` with a handle on a transaction. `None` if it failed, with its error in
    /// `failure`, or if a call on the handle panicked.
    fn run_within<R, E>(
        &self,
        tx: &mut Transaction,
        body: impl FnOnce(&Db) -> Result<R, E>,
        failure: &mut Option<E>,
    ) -> Option<R> {
        let scope = Scope::new(tx.take());
        let inside = Db {
            scope: Some(Arc::clone(&scope)),
            ..self.clone()
        };
        let done = body(&inside);
        let transaction = scope.end();
        match (done, transaction) {
            (Ok(done), Some(transaction)) => {
                *tx = transaction;
                Some(done)
            }
            (Err(error), _) => {
                *failure = Some(error);
                None
            }
            // Only a panic in a call leaves no transaction.
            (Ok(_), None) => None,
        }
    }

    fn transaction_within<R, E: From<Error>>(
        &self,
        body: impl FnOnce(&Db) -> Result<R, E>,
    ) -> Result<R, E> {
        let mark = self.staged(|tx| Ok(tx.mark()))?;
        let done = body(self);
        if done.is_err() {
            self.staged(|tx| tx.return_to(mark))?;
        }
        done
    }

    /// Runs `work` on the transaction that this handle belongs to.
    pub(super) fn staged<R>(&self, work: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<R> {
        let Some(scope) = &self.scope else {
            return Err(self.is_over());
        };
        let mut transaction = match scope.transaction.try_lock() {
            Ok(transaction) => transaction,
            Err(TryLockError::WouldBlock) => return Err(self.is_reentered()),
            Err(TryLockError::Poisoned(_)) => return Err(self.is_over()),
        };
        match &mut *transaction {
            Some(transaction) => work(transaction),
            None => Err(self.is_over()),
        }
    }

    /// Reads in the transaction that this handle belongs to, or in the file if it belongs to none.
    pub(super) fn read<R>(
        &self,
        inside: impl FnOnce(&mut Transaction) -> Result<R>,
        outside: impl FnOnce(&Engine) -> Result<R>,
    ) -> Result<R> {
        match &self.scope {
            None => outside(self.engine()),
            Some(_) => self.staged(inside),
        }
    }

    /// Returns the engine, for a call that cannot run within a transaction.
    pub(super) fn whole_file(&self) -> Result<&Arc<Engine>> {
        match &self.scope {
            None => Ok(self.engine()),
            Some(_) => Err(self.is_reentered()),
        }
    }

    /// Fails if this thread is within a write to the same file: a thread that it waits for might
    /// wait for that write. No other thread shares a handle on the transaction itself, so that one
    /// may wait.
    pub(crate) fn refuse_wait_within_write(&self) -> Result<()> {
        match &self.scope {
            None => self.engine().refuse_within_write(),
            Some(_) => Ok(()),
        }
    }

    fn is_over(&self) -> Error {
        Error::TransactionOver {
            path: self.path().to_owned(),
        }
    }

    fn is_reentered(&self) -> Error {
        Error::Reentered {
            path: self.path().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Db, Error, ManualClock, Result, ScanOptions, Ttl};

    fn names(db: &Db) -> Vec<String> {
        let mut names: Vec<String> = db
            .keys()
            .map(|key| String::from_utf8(key.unwrap().into()).unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn changes_of_a_transaction_are_visible_within_it_and_outside_only_after_it() -> Result<()> {
        let db = Db::in_memory()?;
        db.set("a", "1")?;
        db.hset("h", "f", "1")?;
        db.transaction(|tx| -> Result<()> {
            tx.set("a", "2")?;
            tx.set("b", "3")?;
            tx.hset("h", "g", "2")?;
            tx.del("nothing")?;
            assert_eq!(tx.get("a")?.unwrap(), "2");
            assert_eq!(db.get("a")?.unwrap(), "1");
            assert_eq!(names(tx), ["a", "b", "h"]);
            assert_eq!(names(&db), ["a", "h"]);
            assert_eq!((tx.len()?, db.len()?), (3, 2));
            assert_eq!((tx.hlen("h")?, db.hlen("h")?), (2, 1));
            assert_eq!(tx.hgetall("h")?.len(), 2);
            assert_eq!(tx.hkeys("h")?.len(), 2);
            assert_eq!(
                tx.get_many(&["a", "h", "x"])?[0].as_deref(),
                Some(&b"2"[..])
            );
            assert_eq!(tx.exists_many(&["a", "b", "x"])?, 2);
            Ok(())
        })?;
        assert_eq!(names(&db), ["a", "b", "h"]);
        assert_eq!(db.hget("h", "g")?.unwrap(), "2");
        Ok(())
    }

    #[test]
    fn failed_transaction_changes_nothing() -> Result<()> {
        let db = Db::in_memory()?;
        let failed = db.transaction(|tx| -> Result<(), String> {
            tx.set("a", "1").map_err(|error| error.to_string())?;
            Err("no".to_owned())
        });
        assert_eq!(failed, Err("no".to_owned()));
        assert!(db.is_empty()?);
        assert_eq!(db.stats()?.log_bytes, 0);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.transaction(|tx| -> Result<()> {
                tx.set("a", "1")?;
                unreachable!("no")
            })
        }));
        assert!(panicked.is_err());
        assert!(db.is_empty()?);
        db.set("a", "2")
    }

    impl From<Error> for String {
        fn from(error: Error) -> String {
            error.to_string()
        }
    }

    #[test]
    fn failed_call_within_a_transaction_changes_nothing_itself() -> Result<()> {
        let db = Db::in_memory()?;
        db.set("before", "1")?;
        db.hset("h", "f", "1")?;
        db.transaction(|tx| -> Result<()> {
            tx.set("a", "1")?;
            tx.hset("h", "g", "2")?;
            tx.del("before")?;
            let failed = tx.batch(|batch| {
                batch.set("half", "1");
                batch.set("a", "changed");
                batch.hset("h", "g", "changed").hdel("h", "f");
                batch.set("before", "again");
                batch.hset("a", "f", "it is a string");
            });
            assert!(matches!(failed, Err(Error::WrongType)));
            assert_eq!(names(tx), ["a", "h"]);
            assert_eq!(tx.get("a")?.unwrap(), "1");
            assert_eq!(tx.hget("h", "g")?.unwrap(), "2");
            assert_eq!(tx.hget("h", "f")?.unwrap(), "1");
            tx.incr_by("a", 1).map(drop)
        })?;
        assert_eq!(names(&db), ["a", "h"]);
        assert_eq!(db.get("a")?.unwrap(), "2");
        Ok(())
    }

    #[test]
    fn failed_inner_transaction_is_undone_alone() -> Result<()> {
        let db = Db::in_memory()?;
        db.transaction(|tx| -> Result<()> {
            tx.set("a", "1")?;
            let inner = tx.transaction(|tx| -> Result<()> {
                tx.set("b", "1")?;
                tx.del("a")?;
                Err(Error::Overflow)
            });
            assert!(inner.is_err());
            tx.transaction(|tx| tx.set("c", "1"))
        })?;
        assert_eq!(names(&db), ["a", "c"]);
        Ok(())
    }

    #[test]
    fn databases_are_cleared_and_swapped_within_a_transaction() -> Result<()> {
        let db = Db::in_memory()?;
        let other = db.database(1)?;
        db.set("zero", "1")?;
        db.hset("h", "f", "1")?;
        other.set("one", "1")?;
        db.transaction(|tx| -> Result<()> {
            let other = tx.database(1)?;
            tx.hset("h", "g", "2")?;
            tx.swap_databases(0, 1)?;
            assert_eq!(names(tx), ["one"]);
            assert_eq!(names(&other), ["h", "zero"]);
            assert_eq!((tx.len()?, other.len()?), (1, 2));
            assert_eq!(other.hlen("h")?, 2);
            assert_eq!(other.hget("h", "f")?.unwrap(), "1");
            other.del("zero")?;
            tx.clear()?;
            assert_eq!((tx.len()?, other.len()?), (0, 1));
            tx.set("new", "1")?;
            assert_eq!(names(tx), ["new"]);
            Ok(())
        })?;
        assert_eq!(names(&db), ["new"]);
        assert_eq!(names(&other), ["h"]);
        assert_eq!(other.hlen("h")?, 2);
        Ok(())
    }

    #[test]
    fn deadlines_are_seen_within_a_transaction() -> Result<()> {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock.clone()).open_in_memory()?;
        db.set("k", "v")?;
        db.transaction(|tx| -> Result<()> {
            tx.expire("k", Duration::from_millis(500))?;
            assert_eq!(tx.ttl("k")?, Ttl::Remaining(Duration::from_millis(500)));
            // A transaction has a single time.
            clock.advance(Duration::from_secs(1));
            assert!(tx.exists("k")?);
            Ok(())
        })?;
        assert!(!db.exists("k")?);
        Ok(())
    }

    #[test]
    fn scan_within_a_transaction_returns_each_key_once() -> Result<()> {
        let db = Db::in_memory()?;
        for number in 0..100 {
            db.set(format!("key {number}"), "1")?;
            db.hset("h", format!("field {number}"), "1")?;
        }
        db.transaction(|tx| -> Result<()> {
            for number in 50..150 {
                tx.set(format!("key {number}"), "2")?;
                tx.hset("h", format!("field {number}"), "2")?;
            }
            for number in 0..10 {
                tx.del(format!("key {number}"))?;
                tx.hdel("h", format!("field {number}"))?;
            }
            let (mut cursor, mut keys) = (0, Vec::new());
            loop {
                let page = tx.scan(cursor, &ScanOptions::new().count(7))?;
                keys.extend(page.keys.iter().map(|key| key.to_vec()));
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
            let (mut cursor, mut fields) = (0, Vec::new());
            loop {
                let page = tx.hscan("h", cursor, 7)?;
                fields.extend(page.fields.iter().map(|(field, _)| field.to_vec()));
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
            keys.sort();
            keys.dedup();
            fields.sort();
            fields.dedup();
            assert_eq!((keys.len() as u64, keys.len()), (tx.len()?, 141));
            assert_eq!((fields.len() as u64, fields.len()), (tx.hlen("h")?, 140));
            Ok(())
        })
    }

    #[test]
    fn handle_that_outlives_its_transaction_is_refused() -> Result<()> {
        let db = Db::in_memory()?;
        let escaped = db.transaction(|tx| -> Result<Db> {
            assert!(matches!(db.set("a", "1"), Err(Error::Reentered { .. })));
            assert!(matches!(tx.compact(), Err(Error::Reentered { .. })));
            Ok(tx.clone())
        })?;
        assert!(matches!(
            escaped.get("a"),
            Err(Error::TransactionOver { .. })
        ));
        assert!(matches!(
            escaped.set("a", "1"),
            Err(Error::TransactionOver { .. })
        ));
        db.set("a", "1")
    }

    #[test]
    fn panic_in_a_call_fails_the_transaction() -> Result<()> {
        let db = Db::in_memory()?;
        let done = db.transaction(|tx| -> Result<()> {
            tx.set("a", "1")?;
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                tx.update("b", |_| unreachable!("no"))
            }));
            assert!(panicked.is_err());
            assert!(matches!(tx.get("a"), Err(Error::TransactionOver { .. })));
            Ok(())
        });
        assert!(matches!(done, Err(Error::TransactionOver { .. })));
        assert!(db.is_empty()?);
        db.set("a", "2")
    }

    #[test]
    fn call_within_the_closure_of_a_call_is_refused_and_does_not_hang() -> Result<()> {
        let db = Db::in_memory()?;
        db.transaction(|tx| -> Result<()> {
            tx.update("a", |_| {
                assert!(matches!(tx.get("a"), Err(Error::Reentered { .. })));
                Some(b"1".to_vec())
            })?;
            Ok(())
        })
    }
}

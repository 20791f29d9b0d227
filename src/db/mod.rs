//! The public handle: the verbs of Redis as methods.
//!
//! This layer knows the verbs: their conditions, meanings and names. It must not know offsets,
//! records and locks, which belong to the engine.

mod background;
mod batch;
mod draw;
mod expiry;
mod fields;
mod hashes;
mod keys;
mod numbers;
mod places;
mod scan;
mod strings;
mod transaction;
mod watch;

use std::fmt;
use std::path::Path;

pub use batch::Batch;
pub(crate) use draw::Draw;
pub use expiry::{ExpireCondition, Ttl, TtlChange};
pub use fields::FieldExpiry;
pub use keys::KeyType;
pub(crate) use numbers::parse_integer;
pub(crate) use places::scattered;
pub use scan::{Entries, FieldPage, Fields, Keys, ScanOptions, ScanPage};
pub use watch::Watch;

use crate::engine::{CompactionReport, Engine, Recovery, Stats, Transaction, after_write};
use crate::limits::DATABASE_COUNT;
use crate::sync::Arc;
use crate::{Error, Options, Result};

/// A handle on a file, and on one of the 16 databases in the file.
///
/// Clones are cheap and share everything. Any number of threads may use them at once. Each call
/// takes effect as a whole or not at all; [`Db::batch`] and [`Db::transaction`] do the same for
/// many calls.
///
/// # Durability
///
/// A change that returned `Ok` survives the death of the process at any later instruction.
/// [`Durability`](crate::Durability) sets when it also survives a power loss.
///
/// # Closing
///
/// Dropping the last clone syncs and closes the file, and loses the errors; [`Db::close`] returns
/// them. If the last clone is dropped within the closure of a write to the same file, the file is
/// closed after that write.
///
/// [`Db::open`] has an example.
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
    database: u8,
    /// The transaction that all calls belong to; see [`Db::transaction`].
    scope: Option<Arc<transaction::Scope>>,
}

/// The state that clones share. Dropping it ends the background work, then the engine.
struct Handle {
    threads: Threads,
    engine: Arc<Engine>,
}

/// The background threads of a handle.
#[derive(Default)]
struct Threads {
    sync: Option<background::IntervalSync>,
    compactor: Option<background::Compactor>,
    lease_keeper: Option<background::LeaseKeeper>,
}

impl Threads {
    /// Those of a file that other processes may have open. They start when there is work for them.
    fn of_file(engine: &Arc<Engine>, options: &Options) -> Threads {
        let (durability, is_read_only) = (options.durability, engine.is_read_only());
        Threads {
            sync: background::IntervalSync::new(engine, durability, is_read_only),
            compactor: Some(background::Compactor::new(engine)),
            lease_keeper: Some(background::LeaseKeeper::new(engine)),
        }
    }
}

impl Handle {
    /// Stops the background work, which must be over before the engine closes, and closes it.
    fn close(&mut self) -> Result<()> {
        let threads = std::mem::take(&mut self.threads);
        if !self.engine.is_forked()
            && let Err(reentered) = self.engine.refuse_within_write()
        {
            // Closing waits for locks that others may hold while they wait for this very write.
            let engine = Arc::clone(&self.engine);
            after_write(Box::new(move || {
                drop(threads);
                let _ = engine.shutdown();
            }));
            return Err(reentered);
        }
        drop(threads);
        self.engine.shutdown()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The error is lost; `Db::close` reports it.
        let _ = self.close();
    }
}

impl Db {
    /// Opens the file at `path`, and creates it if it is missing.
    ///
    /// Default options: any number of other processes and handles may share the file
    /// ([`docs::processes`](crate::docs::processes)). The file is synced every second
    /// ([`Durability::Interval`](crate::Durability)). A call waits up to 5 seconds for a lock.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if the operating system refuses: no such directory, or no permission.
    /// - [`Error::Locked`] if another handle repairs the file or cuts its end, and takes too long.
    /// - [`Error::NotLocal`] for a file on a network file system.
    /// - [`Error::NotABrasaFile`] for a file of another format, which is not changed. An empty file
    ///   counts as missing: an open that may create a file replaces it by a new one with its owner
    ///   and mode, and any other open returns this error. So do not open a path that another
    ///   program is about to fill.
    /// - [`Error::UnsupportedVersion`] for a file of a newer version.
    /// - [`Error::Corrupt`] for damage in the part of the file that was synced; see
    ///   [`Options::on_damage`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Db::options().open(path)
    }

    /// Returns options for opening a file.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// use brasa::{Db, Durability};
    /// let db = Db::options().durability(Durability::Os).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options() -> Options {
        Options::default()
    }

    /// Opens a database in memory, which ends with its last handle.
    ///
    /// It is the same engine over a log in memory.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.incr_by("visits", 1)?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_memory() -> Result<Db> {
        Db::options().open_in_memory()
    }

    pub(crate) fn open_memory(options: &Options) -> Result<Db> {
        let engine = Arc::new(Engine::open_in_memory(options)?);
        let threads = Threads {
            compactor: Some(background::Compactor::new(&engine)),
            ..Threads::default()
        };
        Ok(Db::over(engine, threads))
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn open_simulated(
        disk: &crate::simulation::SimulatedDisk,
        path: &Path,
        options: &Options,
    ) -> Result<Db> {
        // Under a scheduler its threads are as reproducible as all others.
        let in_background = cfg!(brasa_schedules);
        let mut options = options.clone();
        options.in_background = in_background;
        let engine = Engine::open_or_recover(Arc::new(disk.clone()), path, &options)?;
        let engine = Arc::new(engine);
        let threads = match in_background {
            true => Threads::of_file(&engine, &options),
            false => Threads::default(),
        };
        Ok(Db::over(engine, threads))
    }

    pub(crate) fn open_with(path: &Path, options: &Options) -> Result<Db> {
        let engine = Arc::new(Engine::open_on_disk(path, options)?);
        let threads = Threads::of_file(&engine, options);
        Ok(Db::over(engine, threads))
    }

    fn over(engine: Arc<Engine>, threads: Threads) -> Db {
        Db {
            handle: Arc::new(Handle { threads, engine }),
            database: 0,
            scope: None,
        }
    }

    /// Commits the changes that `change` stages, and starts the background work that is due.
    fn write<R>(&self, change: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<R> {
        if self.scope.is_some() {
            return self.staged(|tx| tx.attempt(change));
        }
        self.with_threads(|engine| engine.write(change))
    }

    /// Sets a string without reading the old value: the shortest path, and most writes of a cache.
    fn set_blindly(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.scope.is_some() {
            return self.staged(|tx| tx.attempt(|tx| tx.set(self.database, key, value, 0)));
        }
        self.with_threads(|engine| engine.set_blindly(self.database, key, value))
    }

    /// Makes a write, and starts the background work that is due.
    fn with_threads<R>(&self, write: impl FnOnce(&Arc<Engine>) -> Result<R>) -> Result<R> {
        let threads = &self.handle.threads;
        if let Some(sync) = &threads.sync {
            sync.ensure_started()?;
        }
        let result = write(self.engine());
        if let Some(compactor) = &threads.compactor {
            compactor.start_if_due();
        }
        if let Some(keeper) = &threads.lease_keeper
            && self.engine().takes_lease_started()
        {
            keeper.wake();
        }
        result
    }

    /// Describes which file each part of the handle uses, for the report of a leak.
    #[cfg(brasa_schedules)]
    pub fn files_in_use(&self) -> String {
        self.engine().files_in_use()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// Returns a handle on another of the 16 databases of the same file, like SELECT in Redis.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchDatabase`] if `number` exceeds 15.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.database(3)?.set("k", "v")?;
    /// assert!(!db.exists("k")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn database(&self, number: u8) -> Result<Db> {
        if number >= DATABASE_COUNT {
            return Err(Error::NoSuchDatabase {
                number: u64::from(number),
            });
        }
        Ok(Db {
            handle: Arc::clone(&self.handle),
            database: number,
            scope: self.scope.clone(),
        })
    }

    /// Returns the number of the database that this handle shows, from 0 to 15.
    ///
    /// [`Db::database`] has an example.
    pub fn database_number(&self) -> u8 {
        self.database
    }

    /// Returns the time of this handle's clock, in Unix milliseconds. Deadlines are compared with
    /// it.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, ManualClock};
    /// let db = Db::options().clock(ManualClock::new(1_000)).open_in_memory()?;
    /// assert_eq!(db.now_ms(), 1_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn now_ms(&self) -> u64 {
        match &self.scope {
            None => self.engine().now_ms(),
            Some(_) => {
                let staged = self.staged(|tx| Ok(tx.now_ms()));
                staged.unwrap_or_else(|_| self.engine().now_ms())
            }
        }
    }

    /// Prefetches the index entries of these keys, each with a field or an empty one, before they
    /// are looked up.
    #[cfg(feature = "server")]
    pub(crate) fn touch_ahead(&self, names: &[(&[u8], &[u8])]) {
        self.engine().touch_ahead(self.database, names);
    }

    /// Whether this handle holds the writer lock between writes, so that a write waits for no other
    /// process.
    #[cfg(feature = "server")]
    pub(crate) fn keeps_turn(&self) -> bool {
        self.engine().keeps_turn()
    }

    /// Returns whether the handle can only read.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert!(!db.is_read_only());
    /// assert_eq!(db.path().to_str(), Some(":memory:"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_read_only(&self) -> bool {
        self.engine().is_read_only()
    }

    /// Returns the path by which the file was opened; `:memory:` for a database in memory.
    ///
    /// [`Db::is_read_only`] has an example.
    pub fn path(&self) -> &Path {
        self.engine().path()
    }

    /// Syncs every write that returned before this call, by any handle and any process.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if the sync failed. The file then takes no more writes until it is
    ///   compacted. Also if the sync could not begin because the directory of the file could not be
    ///   opened; then try again. [`Stats::poisoned`](crate::Stats::poisoned) tells the two apart.
    /// - [`Error::Poisoned`] if an earlier sync failed.
    /// - [`Error::Locked`] if another process held the sync lock for longer than the lock timeout.
    /// - [`Error::Removed`] if the handle is exclusive and the file no longer has its name.
    /// - [`Error::Reentered`] within the closure of a write to the file.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// db.sync()?; // from here on a power loss cannot take it
    /// # Ok(())
    /// # }
    /// ```
    pub fn sync(&self) -> Result<()> {
        self.whole_file()?.sync()
    }

    /// Returns sizes and counts of the whole file, for all databases together. The call is cheap.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("k", "v")?;
    /// assert_eq!(db.stats()?.key_count, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the size of the file cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.engine().stats()
    }

    /// Rewrites the file to its live data, which frees the space of dead records.
    ///
    /// By default the file is compacted automatically ([`Options::auto_compact`]). Other calls
    /// continue meanwhile. At the end, writes wait until the last new records are copied and
    /// synced. The new index is built beside the old one. Values that were returned earlier stay
    /// valid, and the space of the old file is free once the last of them is dropped.
    ///
    /// On return the new file is on the device, with any durability. After a failed sync, a
    /// compaction makes the file accept writes again.
    ///
    /// # Errors
    ///
    /// - [`Error::CannotCompact`] if the file has several hard links, if its owner or mode could
    ///   not be kept, or if another file is at its path.
    /// - [`Error::DiskFull`], [`Error::Io`]: the file is unchanged and stays in use.
    /// - [`Error::Corrupt`] if a record, or the new file when it is read back, is damaged. The file
    ///   is unchanged.
    /// - [`Error::Locked`] if a compaction of another handle takes longer than the lock timeout.
    /// - [`Error::Reentered`] within the closure of a write to the file, or in the progress
    ///   callback.
    /// - [`Error::ReadOnly`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// for number in 0..1_000 {
    ///     db.set("visits", number.to_string())?;
    /// }
    /// let report = db.compact()?;
    /// assert!(report.after_bytes < report.before_bytes);
    /// assert_eq!(db.get("visits")?.unwrap(), "999");
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact(&self) -> Result<CompactionReport> {
        self.compact_with(|_, _| {})
    }

    /// Compacts the file like [`Db::compact`]. Calls `progress` with the bytes of the log that were
    /// read so far, and the bytes in total.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("a", "1")?;
    /// let report = db.compact_with(|read_bytes, log_bytes| println!("{read_bytes} of {log_bytes}"))?;
    /// assert!(report.after_bytes > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::compact`].
    pub fn compact_with(&self, mut progress: impl FnMut(u64, u64)) -> Result<CompactionReport> {
        self.whole_file()?.compact(&mut progress)
    }

    /// Writes a checkpoint of the index into the file, so that the next open need not replay the
    /// log.
    ///
    /// Checkpoints are also written automatically; see [`Options::checkpoint_after`]. A checkpoint
    /// contains the changes since the previous one. On return it is on the device, with all earlier
    /// writes. Other calls continue meanwhile.
    ///
    /// # Errors
    ///
    /// - [`Error::DiskFull`], [`Error::Io`]: the file stays in use.
    /// - [`Error::Locked`] if a compaction or checkpoint of another handle takes longer than the
    ///   lock timeout.
    /// - [`Error::CannotCompact`] if the file was replaced meanwhile: try again.
    /// - [`Error::Reentered`] within the closure of a write to the file, or in the progress of a
    ///   compaction.
    /// - [`Error::Poisoned`], [`Error::ReadOnly`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// for number in 0..1_000 {
    ///     db.set(format!("key {number}"), "value")?;
    /// }
    /// db.checkpoint()?;
    /// drop(db);
    /// let db = brasa::Db::open(&path)?;
    /// assert_eq!(db.recovery().record_count, 0);
    /// assert_eq!(db.get("key 7")?.unwrap(), "value");
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint(&self) -> Result<()> {
        self.whole_file()?.checkpoint()
    }

    /// Copies the live data into a new file at `target`, while other calls continue.
    ///
    /// The copy shows the file at one moment near the end of the call. It is read back, and it is
    /// on the device on return. A plain copy of the file, read from start to end at any time, is
    /// valid too: it opens to a prefix of the writes.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if `target` exists, which is not changed, or its directory is missing.
    /// - [`Error::DiskFull`], [`Error::Corrupt`] and [`Error::CannotCompact`] as for
    ///   [`Db::compact`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// db.set("chave_1", "Relou Uourdi")?;
    /// let copy = directory.path().join("copy.brasa");
    /// db.backup(&copy)?;
    /// assert!(brasa::Db::open(&copy)?.exists("chave_1")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<CompactionReport> {
        self.backup_with(target, |_, _| {})
    }

    /// Copies the live data like [`Db::backup`]. Calls `progress` with the bytes of the log that
    /// were read so far, and the bytes in total.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// let progress = |read_bytes, log_bytes| println!("{read_bytes} of {log_bytes}");
    /// db.backup_with(directory.path().join("copy.brasa"), progress)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::backup`].
    pub fn backup_with(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<CompactionReport> {
        self.whole_file()?.backup(target.as_ref(), &mut progress)
    }

    /// Returns the report of the opening: replayed records, a torn tail, repairs and fallbacks.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// assert_eq!(db.recovery().torn_bytes, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recovery(&self) -> &Recovery {
        self.engine().recovery()
    }

    /// Syncs the file. The last clone also closes the file, and compacts it if that is due
    /// ([`Options::auto_compact`]). If no other handle has the file open, it returns the space
    /// reserved behind the log to the file system, down to the next page of 4096 bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Db::sync`]. The file is closed in any case. Within the closure of a write to the
    /// file, it is closed after that write.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::open(&path)?;
    /// db.set("k", "v")?;
    /// db.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(self) -> Result<()> {
        let engine = Arc::clone(&self.handle.engine);
        match Arc::into_inner(self.handle) {
            Some(mut handle) => handle.close(),
            None => engine.sync(),
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.path())
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

//! The public handle: Redis's verbs as methods.
//!
//! What this layer knows: conditions, meanings and names. What it must not
//! know: offsets, records and locks, which are the engine's.

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

/// A handle on a file, and in it on one of its 16 databases.
///
/// Clones are cheap and share everything; any number of threads may use them at once. Each single
/// call takes effect whole or not at all; [`Db::batch`] does the same for many.
///
/// # Durability
///
/// A call that changes something and returns `Ok` survives the death of the process at any later
/// instruction. When it survives a power loss too is set by [`Durability`](crate::Durability).
///
/// # Closing
///
/// The last clone that is dropped syncs and closes the file, and swallows errors; [`Db::close`]
/// reports them. Where it is dropped within the closure of a write to the same file, the file is closed
/// when that write is over.
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
    database: u8,
    /// The transaction that all calls belong to; see [`Db::transaction`].
    scope: Option<Arc<transaction::Scope>>,
}

/// What the clones share. Dropping it ends the background work, then the engine.
struct Handle {
    threads: Threads,
    engine: Arc<Engine>,
}

/// What is done in the background for a handle.
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
    /// Opens the file at `path`, and creates it where there is none.
    ///
    /// Default options: shared with any number of other processes and handles ([`docs::processes`](crate::docs::processes)),
    /// a sync every second ([`Durability::Interval`](crate::Durability)), and up to
    /// 5 seconds of waiting where another handle keeps the file.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] where the operating system refuses: no such directory, no permission.
    /// - [`Error::Locked`] where another handle is just cutting or repairing the file, and does not let go.
    /// - [`Error::NotLocal`] for a file on a network file system.
    /// - [`Error::NotABrasaFile`] for a file of something else; it is left alone. An empty file counts as absent: an open that may
    ///   create a file puts a new one in its place, with its owner and mode, and any other open returns this error. So do not open
    ///   a path while another program is about to fill it.
    /// - [`Error::UnsupportedVersion`] for a file of a newer version.
    /// - [`Error::Corrupt`] for a file that is damaged where it was known to be on the device; see
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

    /// Options for opening a file.
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

    /// A database that lives in memory alone and ends with its last handle.
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

    /// Makes one commit of what `change` stages, and sees to what has to be done in the background for it.
    fn write<R>(&self, change: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<R> {
        if self.scope.is_some() {
            return self.staged(|tx| tx.attempt(change));
        }
        self.with_threads(|engine| engine.write(change))
    }

    /// Sets a string without a look at what is there: nearly all writes of a cache, and the shortest way that there is.
    fn set_blindly(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.scope.is_some() {
            return self.staged(|tx| tx.attempt(|tx| tx.set(self.database, key, value, 0)));
        }
        self.with_threads(|engine| engine.set_blindly(self.database, key, value))
    }

    /// Sees to what has to be done in the background for a write.
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

    /// The same file, seen through another of its 16 databases, as Redis's SELECT.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchDatabase`] where `number` exceeds 15.
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

    /// Which of the 16 databases this handle shows.
    pub fn database_number(&self) -> u8 {
        self.database
    }

    /// The time by this handle's clock, in Unix milliseconds: what deadlines are compared with.
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

    /// Looks at where these keys are, each with a field or an empty one, for who is going to look them up.
    #[cfg(feature = "server")]
    pub(crate) fn touch_ahead(&self, names: &[(&[u8], &[u8])]) {
        self.engine().touch_ahead(self.database, names);
    }

    /// Whether this handle keeps its turn at writing, so that a write waits for no other process.
    #[cfg(feature = "server")]
    pub(crate) fn keeps_turn(&self) -> bool {
        self.engine().keeps_turn()
    }

    /// Whether the handle can only read.
    pub fn is_read_only(&self) -> bool {
        self.engine().is_read_only()
    }

    /// The path the file was opened by; `:memory:` for one in memory.
    pub fn path(&self) -> &Path {
        self.engine().path()
    }

    /// Syncs every write that returned before this call, by any handle and any process.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] where the sync failed: the file takes no more writes from then on, until it is compacted. Or where it could not be made,
    ///   as the file's directory could not be opened: then it can be tried again ([`Stats::poisoned`](crate::Stats::poisoned) tells which).
    /// - [`Error::Poisoned`] where an earlier sync had failed.
    /// - [`Error::Locked`] where another process kept the right to sync for longer than the lock timeout.
    /// - [`Error::Removed`] where the file that this handle has alone has lost its name.
    /// - [`Error::Reentered`] from within the closure of a write to the file.
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

    /// Sizes and counts of the whole file, all databases together; cheap.
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
    /// [`Error::Io`] where the file's size cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.engine().stats()
    }

    /// Rewrites the file to what it holds now, which gives the space of everything else back.
    ///
    /// Nobody has to ask for it (see [`Options::auto_compact`]). Reads and writes go on meanwhile; at the end
    /// writes wait for as long as it takes to copy and sync what came last. The index is built a second time beside the one that is used.
    /// Values that were handed out stay valid; the old file's space is free once the last of them is gone.
    /// On return the new file is on the device, whatever the durability. It is the way, too, to let a file take writes again
    /// after a sync has failed.
    ///
    /// # Errors
    ///
    /// - [`Error::CannotCompact`] where the file has several names, its owner or mode could not be kept, or somebody has put
    ///   another file in its place.
    /// - [`Error::DiskFull`], [`Error::Io`]: the file is unchanged and stays in use.
    /// - [`Error::Corrupt`] where a record is damaged by now. The file is as it was.
    /// - [`Error::Locked`] if a compaction of another handle takes longer than the lock timeout.
    /// - [`Error::Reentered`] from within the closure of a write to the file, or the progress of a compaction.
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

    /// As [`Db::compact`]; `progress` is told how many of how many bytes of the log were looked at.
    ///
    /// # Errors
    ///
    /// As [`Db::compact`].
    pub fn compact_with(&self, mut progress: impl FnMut(u64, u64)) -> Result<CompactionReport> {
        self.whole_file()?.compact(&mut progress)
    }

    /// Writes a checkpoint into the file: its index, so that the next one to open it need not replay the log.
    ///
    /// Nobody has to ask for it: see [`Options::checkpoint_after`]. It says what has changed since the last one, and is on the device on
    /// return, with all that was written before. Others read and write meanwhile.
    ///
    /// # Errors
    ///
    /// - [`Error::DiskFull`], [`Error::Io`]: the file stays in use.
    /// - [`Error::Locked`] if a compaction or checkpoint of another handle takes longer than the lock
    ///   timeout.
    /// - [`Error::CannotCompact`] where the file was replaced meanwhile: try again.
    /// - [`Error::Reentered`] from within the closure of a write to the file, or the progress of a compaction.
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

    /// Writes what the file holds now into a new one at `target`, without what is dead, while others read and write.
    ///
    /// It holds what was there at one moment towards the end of the call, and is on the device on return. (A plain copy of
    /// the file, taken at any moment by reading it from start to end, is good too: it opens to a prefix of the writes.)
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] where there is a file of that name, which is left alone, or the directory is missing.
    /// - [`Error::DiskFull`], [`Error::Corrupt`] and [`Error::CannotCompact`] as for [`Db::compact`].
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

    /// As [`Db::backup`]; `progress` is told how many of how many bytes of the log were looked at.
    ///
    /// # Errors
    ///
    /// As [`Db::backup`].
    pub fn backup_with(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<CompactionReport> {
        self.whole_file()?.backup(target.as_ref(), &mut progress)
    }

    /// What opening the file found and did.
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

    /// Syncs; and where this is the last clone, closes the file, compacts it if that is due
    /// ([`Options::auto_compact`]), and gives the space reserved behind the log back, down to the next page of 4096 bytes,
    /// unless another handle has the file open.
    ///
    /// # Errors
    ///
    /// As [`Db::sync`]. The file is closed all the same; from within the closure of a write to the file, when that is over.
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

//! The options for opening a file (`Options`, and `space.rs` for its size) and for setting a string
//! (`set.rs`).
//!
//! Invariant: every option has a default, and every combination of options can be opened or returns
//! an error. No setter checks or panics.

use std::fmt;
use std::path::Path;
use std::time::Duration;

mod choices;
mod set;
mod space;

pub use choices::{Durability, Evict, Fallback, OnDamage};
pub(crate) use set::{Condition, Expiry};
pub use set::{SetOptions, SetOutcome};

use crate::clock::{Clock, SystemClock};
use crate::engine::CompactionListener;
use crate::sync::Arc;
use crate::{Db, Result};

/// Options for opening a file; made by [`Db::options`].
///
/// The fields are private, so that later versions can add options.
///
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("cache.brasa");
/// use brasa::{Db, Durability};
///
/// let db = Db::options().durability(Durability::Always).open(&path)?;
/// db.set("chave_1", "Relou Uourdi")?; // on the device when it returns
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until they are opened"]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) exclusive: bool,
    /// Whether the handle starts threads of its own.
    pub(crate) in_background: bool,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) create_directory: bool,
    pub(crate) verify_on_read: bool,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) ignore_checkpoints: bool,
    pub(crate) on_damage: OnDamage,
    /// Whether a file of another format at the path is renamed and a new file created.
    pub(crate) set_aside_strangers: bool,
    pub(crate) fallback: Fallback,
    pub(crate) lock_timeout: Duration,
    pub(crate) mapping_step_bytes: u64,
    pub(crate) mapped_append: bool,
    pub(crate) mode: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) auto_compact: bool,
    pub(crate) compact_dead_percent: u8,
    pub(crate) compact_floor_bytes: u64,
    pub(crate) compact_share_bytes: u64,
    pub(crate) on_compaction: Option<CompactionListener>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) evict: Evict,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            exclusive: false,
            in_background: true,
            read_only: false,
            create: true,
            create_directory: false,
            verify_on_read: false,
            checkpoint_bytes: 64 << 10,
            ignore_checkpoints: false,
            on_damage: OnDamage::Error,
            set_aside_strangers: false,
            fallback: Fallback::None,
            lock_timeout: Duration::from_secs(5),
            mapping_step_bytes: 64 << 20,
            mapped_append: true,
            mode: 0o600,
            clock: Arc::new(SystemClock),
            auto_compact: true,
            compact_dead_percent: 50,
            compact_floor_bytes: 1 << 20,
            compact_share_bytes: 16 << 20,
            on_compaction: None,
            max_bytes: None,
            evict: Evict::Sieve,
        }
    }
}

impl Options {
    /// Sets when a write is synced to the device; [`Durability::Interval`] of one second by
    /// default. [`Options`] has an example.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets whether this handle holds the writer lock for its whole life; `false` by default.
    ///
    /// By default any number of processes and handles read and write the same file. An exclusive
    /// handle writes faster, since it need not lock and catch up for each write. Other handles may
    /// read; to write, they wait up to [`Options::lock_timeout`]. With [`Options::read_only`] an
    /// exclusive handle keeps the file unchanged while it reads.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// use brasa::{Db, Error};
    /// use std::time::Duration;
    /// let db = Db::options().exclusive(true).open(&path)?;
    /// let other = Db::options().lock_timeout(Duration::from_millis(10)).open(&path)?;
    /// assert!(matches!(other.set("pi", "3.21"), Err(Error::Locked { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Sets whether to open the file for reading only; `false` by default.
    ///
    /// This needs no permission to write, and creates no file. Every write fails with
    /// [`Error::ReadOnly`](crate::Error::ReadOnly). A torn tail is ignored, and stays in the file.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// use brasa::{Db, Error};
    /// Db::open(&path)?.set("pi", "3.21")?;
    /// let reader = Db::options().read_only(true).open(&path)?;
    /// assert_eq!(reader.get("pi")?.unwrap(), "3.21");
    /// assert!(matches!(reader.set("pi", "3.14"), Err(Error::ReadOnly { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether to create a missing file; `true` by default. The directory must exist, except
    /// with [`Options::create_directory`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// assert!(brasa::Db::options().create(false).open(&path).is_err());
    /// assert!(!path.exists());
    /// ```
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether to create the missing directories of the path, with access for their owner
    /// alone; `false` by default.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("tool/data/cache.brasa");
    /// let db = brasa::Db::options().create_directory(true).open(&path)?;
    /// assert!(path.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_directory(mut self, create_directory: bool) -> Self {
        self.create_directory = create_directory;
        self
    }

    /// Sets whether every read verifies the record's checksum; `false` by default.
    ///
    /// By default each record is verified once: when it is replayed, or when it is first read
    /// through a checkpoint. Bit rot in memory or on the device after that may then return a wrong
    /// value. With `true` it returns [`Error::Corrupt`](crate::Error::Corrupt). This holds for
    /// values, fields, the names that a scan returns, and [`Db::watch`](crate::Db::watch).
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().verify_on_read(true).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify_on_read(mut self, verify_on_read: bool) -> Self {
        self.verify_on_read = verify_on_read;
        self
    }

    /// Sets how many bytes of the log the next opening may have to replay; 64 KiB by default, and
    /// `u64::MAX` for no checkpoints.
    ///
    /// A handle that has written adds a checkpoint on close if the log has grown by more than this
    /// since the last one. The checkpoint contains the index, so that the next opening need not
    /// replay the log. A handle that stays open also writes checkpoints in the background. See
    /// [`Db::checkpoint`], and [`crate::docs::opening`] for the costs.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().checkpoint_after(1 << 20).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint_after(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Sets whether opening ignores all checkpoints and replays the whole log; `false` by default.
    ///
    /// The contents are the same in both cases. Use this to measure the time that checkpoints save,
    /// or to rule one out as the cause of an error.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().ignore_checkpoints(true).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ignore_checkpoints(mut self, ignore_checkpoints: bool) -> Self {
        self.ignore_checkpoints = ignore_checkpoints;
        self
    }

    /// Sets the action on a damaged file; [`OnDamage::Error`] by default.
    ///
    /// [`OnDamage::Salvage`] is for caches, which must start with the surviving data. An older
    /// value can come back if its newest record was lost. [`Db::recovery`] reports the salvage. A
    /// file that is poisoned by a failed sync is copied into a new one as well. With
    /// [`Options::read_only`] nothing is written: the surviving data is read into memory.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// use brasa::{Db, Fallback, OnDamage};
    ///
    /// let cache = Db::options()
    ///     .on_damage(OnDamage::Salvage)
    ///     .fallback(Fallback::Memory)
    ///     .open(&path)?;
    /// if let Some(report) = &cache.recovery().salvaged {
    ///     eprintln!("{} bytes of the cache were lost", report.lost_bytes());
    /// }
    /// if let Some(reason) = &cache.recovery().fallback_reason {
    ///     eprintln!("working without a file: {reason}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// Sets the replacement for a file that cannot be written; [`Fallback::None`] by default.
    ///
    /// A file that another handle locks is not replaced, and neither is a file of another format.
    /// [`Db::recovery`] tells whether and why a replacement was opened. [`Options::on_damage`] has
    /// an example.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets how long a call waits for a lock that another handle holds; 5 seconds by default.
    /// [`Options::exclusive`] has an example.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Sets the steps in which the mapping of the file grows, in bytes; 64 MiB by default.
    ///
    /// The mapping takes address space, not memory. Values stay valid when it grows.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::options().mapping_step_bytes(1 << 30).open_in_memory()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mapping_step_bytes(mut self, mapping_step_bytes: u64) -> Self {
        self.mapping_step_bytes = mapping_step_bytes;
        self
    }

    /// Sets whether records may be appended through a mapping of the file, without a system call
    /// for each; `true` by default.
    ///
    /// It is used only on file systems that are known to be safe: ext4 and tmpfs on Linux. The
    /// promises for a kill, a power loss and a full disk are the same in both cases.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().mapped_append(false).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mapped_append(mut self, mapped_append: bool) -> Self {
        self.mapped_append = mapped_append;
        self
    }

    /// Sets the permissions of a new file; `0o600` by default.
    ///
    /// The umask does not apply: `0o660` lets a group read and write. The permissions of an
    /// existing file are not changed, and compactions keep them.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # use std::os::unix::fs::PermissionsExt;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().mode(0o660).open(&path)?;
    /// # drop(db);
    /// assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    /// # Ok(())
    /// # }
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Sets the clock that deadlines are compared with; the system's by default. [`Clock`] has an
    /// example.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the file, and creates it if it is missing. [`Options`] has an example.
    ///
    /// # Errors
    ///
    /// Those of [`Db::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        Db::open_with(path.as_ref(), &self)
    }

    /// Opens the file on a simulated disk; [`SimulatedDisk`](crate::simulation::SimulatedDisk) has
    /// an example.
    ///
    /// The handle has no background thread. Under [`Durability::Interval`] only [`Db::sync`] and
    /// closing sync the file.
    ///
    /// # Errors
    ///
    /// Those of [`Db::open`].
    #[cfg(feature = "simulation")]
    pub fn open_on(
        self,
        disk: &crate::simulation::SimulatedDisk,
        path: impl AsRef<Path>,
    ) -> Result<Db> {
        Db::open_simulated(disk, path.as_ref(), &self)
    }

    /// Opens a database in memory with these options, like [`Db::in_memory`].
    /// [`Options::max_bytes`] has an example.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there is not enough memory.
    pub fn open_in_memory(self) -> Result<Db> {
        Db::open_memory(&self)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("durability", &self.durability)
            .field("exclusive", &self.exclusive)
            .field("read_only", &self.read_only)
            .field("create", &self.create)
            .field("create_directory", &self.create_directory)
            .field("verify_on_read", &self.verify_on_read)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("ignore_checkpoints", &self.ignore_checkpoints)
            .field("on_damage", &self.on_damage)
            .field("fallback", &self.fallback)
            .field("lock_timeout", &self.lock_timeout)
            .field("mapping_step_bytes", &self.mapping_step_bytes)
            .field("mapped_append", &self.mapped_append)
            .field("mode", &format_args!("{:o}", self.mode))
            .field("auto_compact", &self.auto_compact)
            .field("compact_dead_percent", &self.compact_dead_percent)
            .field("compact_floor_bytes", &self.compact_floor_bytes)
            .field("compact_share_bytes", &self.compact_share_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("evict", &self.evict)
            .finish_non_exhaustive()
    }
}

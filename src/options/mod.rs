//! How a file is opened, and how a string is set.

use std::fmt;
use std::path::Path;
use std::time::Duration;

mod choices;
mod set;

pub use choices::{Durability, Evict, Fallback, OnDamage};
pub(crate) use set::{Condition, Expiry};
pub use set::{SetOptions, SetOutcome};

use crate::clock::{Clock, SystemClock};
use crate::engine::CompactionListener;
use crate::sync::Arc;
use crate::{CompactionReport, Db, Result};

/// Options for opening a file; made by [`Db::options`].
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
    /// Whether the handle has threads of its own.
    pub(crate) in_background: bool,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) create_directory: bool,
    pub(crate) verify_on_read: bool,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) ignore_checkpoints: bool,
    pub(crate) on_damage: OnDamage,
    /// Whether a file of something else at the path is renamed and a new file created.
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
    /// When a write is carried through to the device; [`Durability::Interval`] of one second by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether to keep all others from writing for as long as this handle lives; no by default: any number of processes, and of
    /// handles in one, read and write the same file.
    ///
    /// Alone, a write saves the look at what others did and the lock. Others may read meanwhile; to write they wait, up to
    /// [`Options::lock_timeout`]. With [`Options::read_only`] it keeps the file as it is while it is being read.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Whether to open for reading only, which needs no permission to write and creates nothing.
    ///
    /// Every write then fails with [`Error::ReadOnly`](crate::Error::ReadOnly). A torn tail is
    /// passed over, and left in the file.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether to create the file where there is none; yes by default. The directory must exist, unless
    /// [`Options::create_directory`] says otherwise.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether to make the file's directory, and those above it, where they are missing, for the owner alone; no by default.
    pub fn create_directory(mut self, create_directory: bool) -> Self {
        self.create_directory = create_directory;
        self
    }

    /// Whether each read verifies the record's checksum again; no by default: each record is verified once, when it is replayed, or
    /// when it is first read through a checkpoint.
    ///
    /// This is for data that may rot in memory or on the device after that. Damage is then
    /// [`Error::Corrupt`](crate::Error::Corrupt) instead of a wrong value. It holds for values, fields, the names that a scan
    /// returns, and [`Db::watch`](crate::Db::watch).
    pub fn verify_on_read(mut self, verify_on_read: bool) -> Self {
        self.verify_on_read = verify_on_read;
        self
    }

    /// How much of the log the next one to open the file may have to replay, in bytes; 64 KiB by default.
    ///
    /// Whoever closes the file, having written, puts a checkpoint into it where more than this has come since the last one: the index, which the next one
    /// to open the file finds there. Files that are open for long get one in the background now and then. See [`Db::checkpoint`], and
    /// [`crate::docs::opening`] for what it costs. `u64::MAX` for none.
    pub fn checkpoint_after(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Whether to replay all of the log, whatever checkpoint there is; no by default.
    ///
    /// A file means the same with every checkpoint ignored. This is to measure what they save, or for those who doubt one.
    pub fn ignore_checkpoints(mut self, ignore_checkpoints: bool) -> Self {
        self.ignore_checkpoints = ignore_checkpoints;
        self
    }

    /// What to do about a damaged file; [`OnDamage::Error`] by default.
    ///
    /// [`OnDamage::Salvage`] is for caches, where starting with what is left beats not starting: an older value
    /// can come back where its newest record was lost. [`Db::recovery`] says what happened. A file that
    /// refuses writes since a sync failed is copied into a new one, too. With [`Options::read_only`]
    /// nothing is written: what survives is read into memory.
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

    /// What to open instead where the place of the file cannot be written; [`Fallback::None`] by default.
    ///
    /// That another handle has the file is no reason to fall back, and neither is a file of something else.
    /// [`Db::recovery`] says whether it happened and why.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How long to wait for another handle to let go of the file; 5 seconds by default.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// In what steps the address space for reading grows, in bytes; 64 MiB by default. It costs
    /// addresses, not memory. Values that were handed out stay valid when it grows.
    pub fn mapping_step_bytes(mut self, mapping_step_bytes: u64) -> Self {
        self.mapping_step_bytes = mapping_step_bytes;
        self
    }

    /// Whether records may be appended through a mapping of the file, without a system call for each; on by default, and
    /// done only on file systems on which it is known to be safe (ext4 and tmpfs on Linux). What is promised for a kill, a power loss and a full disk
    /// is the same either way.
    pub fn mapped_append(mut self, mapped_append: bool) -> Self {
        self.mapped_append = mapped_append;
        self
    }

    /// The permissions of a file that is created; `0o600` by default, whatever the umask. The umask does not
    /// take bits away from this mode: `0o660` lets a group read and write. Compactions keep the file's own
    /// permissions; a file that exists is not changed.
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

    /// Whether the file is compacted without being asked, when too much of it is dead; yes by default.
    ///
    /// While the file is open a thread of its own does it, and closing does it if it is still due, so that
    /// programs that live for a moment keep a file small as well: see [`Options::compact_share_bytes`].
    /// A compaction that fails leaves the file as it was, and is tried again when the log has grown.
    pub fn auto_compact(mut self, auto_compact: bool) -> Self {
        self.auto_compact = auto_compact;
        self
    }

    /// Of a hundred bytes of log, how many may be dead before the file is compacted; 50 by default.
    ///
    /// Dead is what is no part of what the file holds now: overwritten, deleted and expired records, and tombstones.
    pub fn compact_dead_percent(mut self, dead_percent: u8) -> Self {
        self.compact_dead_percent = dead_percent;
        self
    }

    /// How many bytes may be dead whatever their share; 1 MiB by default.
    pub fn compact_floor_bytes(mut self, floor_bytes: u64) -> Self {
        self.compact_floor_bytes = floor_bytes;
        self
    }

    /// How many live bytes a handle copies as soon as the file is due, however little the handle has written;
    /// 16 MiB by default.
    ///
    /// A file with more live data waits until half of what may stay live by
    /// [`Options::compact_dead_percent`] is dead as well (75 of a hundred bytes by default), unless the
    /// handle has written a 16th of the live data itself. So many short programs on one large file pause for
    /// a compaction more rarely: [`space`](crate::docs::space) has the figures.
    pub fn compact_share_bytes(mut self, share_bytes: u64) -> Self {
        self.compact_share_bytes = share_bytes;
        self
    }

    /// Tells `listener` of each automatic compaction that has ended, well or not. It is called by the
    /// thread that compacted, and must not use the file.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options()
    ///     .on_compaction(|outcome| match outcome {
    ///         Ok(report) => eprintln!("{} -> {} bytes", report.before_bytes, report.after_bytes),
    ///         Err(error) => eprintln!("the file stays as it is: {error}"),
    ///     })
    ///     .open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_compaction(
        mut self,
        listener: impl Fn(&Result<CompactionReport>) + Send + Sync + 'static,
    ) -> Self {
        self.on_compaction = Some(Arc::new(listener));
        self
    }

    /// How many live bytes the file may hold, records with their envelopes; no limit by default.
    ///
    /// What becomes of a write that needs more is decided by [`Options::evict`]. With automatic compaction
    /// the file as a whole stays below about twice the budget and [`Options::compact_floor_bytes`]. A file that holds
    /// more when it is opened is brought down by the next write.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, Evict};
    /// let cache = Db::options().max_bytes(64 << 10).evict(Evict::Sieve).open_in_memory()?;
    /// for number in 0..1_000 {
    ///     cache.set(format!("key:{number}"), [0; 1_000])?;
    /// }
    /// let stats = cache.stats()?;
    /// assert!(stats.live_bytes <= 64 << 10);
    /// assert!(stats.evicted_keys > 900);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    /// What becomes of a write that would exceed [`Options::max_bytes`]; [`Evict::Sieve`] by default. Without a
    /// budget nothing is ever evicted.
    pub fn evict(mut self, evict: Evict) -> Self {
        self.evict = evict;
        self
    }

    /// The clock that deadlines are measured by; the system's by default.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the file, and creates it where there is none.
    ///
    /// # Errors
    ///
    /// As [`Db::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        Db::open_with(path.as_ref(), &self)
    }

    /// Opens the file on a simulated disk; see [`crate::simulation`].
    ///
    /// There is no background thread: under [`Durability::Interval`] syncs come from
    /// [`Db::sync`] and closing alone.
    ///
    /// # Errors
    ///
    /// As [`Db::open`].
    #[cfg(feature = "simulation")]
    pub fn open_on(
        self,
        disk: &crate::simulation::SimulatedDisk,
        path: impl AsRef<Path>,
    ) -> Result<Db> {
        Db::open_simulated(disk, path.as_ref(), &self)
    }

    /// A database that lives in memory alone, as [`Db::in_memory`], with these options.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where there is no memory.
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

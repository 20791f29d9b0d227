//! How a file is opened, and how a string is set.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::{Db, Result};

/// When a write is carried through to the device.
///
/// A write that returned `Ok` survives the death of the process under each of
/// these; they differ in what a power loss may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A write returns once it is on the device. Writers that wait at the same time share one sync.
    Always,
    /// A write returns at once, and is synced at most this much later, on [`Db::sync`] and on close.
    Interval(Duration),
    /// A write returns at once, and is synced on [`Db::sync`] and on close; between, the
    /// operating system decides.
    Os,
}

impl Default for Durability {
    /// An interval of one second, as Redis's `appendfsync everysec`.
    fn default() -> Self {
        Durability::Interval(Duration::from_secs(1))
    }
}

/// What becomes of a file that is damaged where it was known to be on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// Opening fails with [`Error::Corrupt`](crate::Error::Corrupt), and nothing is changed.
    #[default]
    Error,
    /// What survives is written into a new file that takes the damaged one's place, as
    /// [`repair`](crate::inspect::repair) does it, even if that is nothing. The damaged file is kept as
    /// `FILE.damaged-0`, or the next number that is free: remove those when you have seen them.
    Salvage,
}

/// What is opened instead where the place of the file cannot be written: no permission, a read-only
/// file system, a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Nothing: opening fails.
    #[default]
    None,
    /// The file, for reading only; opening fails where there is none. Every write fails with
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    ReadOnly,
    /// A new database in memory, which is gone when it is closed: everything works, and nothing is kept.
    Memory,
}

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
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) verify_on_read: bool,
    pub(crate) on_damage: OnDamage,
    pub(crate) fallback: Fallback,
    pub(crate) lock_timeout: Duration,
    pub(crate) mapping_step_bytes: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            exclusive: true,
            read_only: false,
            create: true,
            verify_on_read: false,
            on_damage: OnDamage::Error,
            fallback: Fallback::None,
            lock_timeout: Duration::from_secs(5),
            mapping_step_bytes: 64 << 20,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    /// When a write is carried through to the device; [`Durability::Interval`] of one second by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether to keep all other handles out for as long as this one lives; yes by default.
    ///
    /// In this version nobody can share a file to write to it: `false` makes opening fail, unless it is for
    /// reading only. Handles that only read always share the file with each other.
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

    /// Whether to create the file where there is none; yes by default. The directory must exist.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether each read checks the record's checksum again; no by default, since each record is
    /// checked when the file is opened.
    ///
    /// For those who distrust their memory more than their disk: damage is then
    /// [`Error::Corrupt`](crate::Error::Corrupt) instead of a wrong value.
    pub fn verify_on_read(mut self, verify_on_read: bool) -> Self {
        self.verify_on_read = verify_on_read;
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
            .field("verify_on_read", &self.verify_on_read)
            .field("on_damage", &self.on_damage)
            .field("fallback", &self.fallback)
            .field("lock_timeout", &self.lock_timeout)
            .field("mapping_step_bytes", &self.mapping_step_bytes)
            .finish_non_exhaustive()
    }
}

/// Whether a `set` depends on what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Condition {
    #[default]
    Always,
    Absent,
    Present,
}

/// What becomes of the deadline of a string that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Expiry {
    #[default]
    None,
    Keep,
    After(Duration),
    At(u64),
}

/// Options for [`Db::set_with`], with the meanings of Redis's SET.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Db, SetOptions};
/// use std::time::Duration;
///
/// let db = Db::in_memory()?;
/// let lock = SetOptions::new().ttl(Duration::from_secs(10)).only_if_absent();
/// assert!(db.set_with("lock", "mine", lock)?.written);
/// assert!(!db.set_with("lock", "yours", lock)?.written);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct SetOptions {
    pub(crate) condition: Condition,
    pub(crate) expiry: Expiry,
    pub(crate) return_previous: bool,
}

impl SetOptions {
    /// Sets whatever was there, without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gone after this time (EX, PX). Rounded down to milliseconds; zero deletes the key.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Gone at this time, in Unix milliseconds (EXAT, PXAT). A time that has passed deletes the key.
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.expiry = Expiry::At(deadline_ms);
        self
    }

    /// Keeps the deadline that the key has (KEEPTTL), where it has one.
    pub fn keep_ttl(mut self) -> Self {
        self.expiry = Expiry::Keep;
        self
    }

    /// Writes only if the key is not there (NX).
    pub fn only_if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }

    /// Writes only if the key is there (XX).
    pub fn only_if_present(mut self) -> Self {
        self.condition = Condition::Present;
        self
    }

    /// Also gives back what the key held before (GET). Fails with
    /// [`Error::WrongType`](crate::Error::WrongType) where that was a hash.
    pub fn return_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }
}

/// What [`Db::set_with`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SetOutcome {
    /// Whether the value was written; its condition may have forbidden it.
    pub written: bool,
    /// What the key held before, where [`SetOptions::return_previous`] asked for it.
    pub previous: Option<crate::Value>,
}

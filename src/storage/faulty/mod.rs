//! A simulated disk: files in memory, a trace of every operation that reached the device or
//! should have, and errors on request.
//!
//! [`super::crash`] builds from the trace the states that a power loss may leave.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use file::{FaultyDirectory, FaultyFile, FaultyTemporary};

use super::{
    Access, Directory, FileId, LockByte, MemoryStorage, Storage, StorageFile, TemporaryFile,
};
use crate::sync::plain::{Mutex, MutexGuard};
#[cfg(brasa_schedules)]
use crate::sync::thread::Process as Owner;
#[cfg(not(brasa_schedules))]
use crate::sync::thread::ThreadId as Owner;
use crate::sync::{Arc, OnceLock, PoisonError, Weak};

/// An operation that changes what a power loss may leave.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Write {
        inode: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// The file became this long: new bytes are zeros.
    Resize {
        inode: usize,
        size: u64,
    },
    Sync {
        inode: usize,
    },
    /// A sync that failed: Linux marks the pages clean all the same, and never writes them.
    FailedSync {
        inode: usize,
    },
    Name(NameChange),
    SyncDirectory,
}

/// A name that is given to an inode, and taken from the one that has it, as a whole or not at all.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    path: PathBuf,
    inode: usize,
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        names.insert(self.path.clone(), self.inode);
    }
}

/// An operation that a [`Fault`] can fail.
///
/// The enum is `#[non_exhaustive]`: later versions may add operations.
///
/// [`Fault`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultyOperation {
    /// Opening a file.
    Open,
    /// Opening a directory.
    OpenDirectory,
    /// Reading from a file.
    Read,
    /// Mapping a file.
    Map,
    /// Writing to a file.
    Write,
    /// Reserving space.
    Allocate,
    /// Cutting a file.
    Truncate,
    /// Syncing a file.
    Sync,
    /// Giving a file its name.
    Name,
    /// Syncing a directory.
    SyncDirectory,
}

/// An error that a later operation on a disk returns; for [`SimulatedDisk::inject`].
///
/// The fields are private, so that later versions can add options.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
/// use brasa::{Db, Error};
/// use std::io::ErrorKind;
///
/// let disk = SimulatedDisk::new(7);
/// let db = Db::options().open_on(&disk, "cache.brasa")?;
/// db.set("a", "1")?;
/// disk.inject(Fault::new(ErrorKind::Other).operation(FaultyOperation::Sync));
/// assert!(db.sync().is_err());
/// assert!(matches!(db.set("b", "2"), Err(Error::Poisoned { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Fault {
    error: io::ErrorKind,
    operation: Option<FaultyOperation>,
    after: u64,
    lasting: bool,
    short: bool,
}

impl Fault {
    /// Makes a fault: the next operation of any kind fails with this error, once. [`Fault`] has an
    /// example.
    pub const fn new(error: io::ErrorKind) -> Fault {
        Fault {
            error,
            operation: None,
            after: 0,
            lasting: false,
            short: false,
        }
    }

    /// Limits the fault to one kind of operation. [`Fault`] has an example.
    pub const fn operation(mut self, operation: FaultyOperation) -> Fault {
        self.operation = Some(operation);
        self
    }

    /// Sets how many operations succeed before the fault, of its kind of operation or of all.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::simulation::{Fault, SimulatedDisk};
    /// use brasa::Db;
    /// use std::io::ErrorKind;
    ///
    /// // Try every operation of opening: the file stays whole.
    /// for after in 0.. {
    ///     let disk = SimulatedDisk::new(7);
    ///     disk.inject(Fault::new(ErrorKind::Other).after(after));
    ///     let opened = Db::options().open_on(&disk, "cache.brasa");
    ///     if disk.fault_count() == 0 {
    ///         break;
    ///     }
    ///     drop(opened);
    ///     disk.heal();
    ///     Db::options().open_on(&disk, "cache.brasa")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub const fn after(mut self, after: u64) -> Fault {
        self.after = after;
        self
    }

    /// Sets whether every later operation of its kind fails as well, until [`SimulatedDisk::heal`];
    /// `false` by default.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
    /// use brasa::Db;
    /// use std::io::ErrorKind;
    ///
    /// let disk = SimulatedDisk::new(7);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// let full = Fault::new(ErrorKind::StorageFull).operation(FaultyOperation::Allocate);
    /// disk.inject(full.lasting(true));
    /// assert!(db.set("large", vec![0; 1 << 20]).is_err());
    /// disk.heal();
    /// db.set("large", vec![0; 1 << 20])?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn lasting(mut self, lasting: bool) -> Fault {
        self.lasting = lasting;
        self
    }

    /// Sets whether a write that fails has written its first half; `false` by default.
    ///
    /// ```
    /// use brasa::simulation::{Fault, FaultyOperation};
    /// use std::io::ErrorKind;
    /// let torn = Fault::new(ErrorKind::Other).operation(FaultyOperation::Write).short(true);
    /// ```
    pub const fn short(mut self, short: bool) -> Fault {
        self.short = short;
        self
    }
}

/// A disk in memory that records all operations, can fail, and can lose power.
///
/// Clones are the same disk. A database on it has no background thread.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::Db;
/// use brasa::simulation::SimulatedDisk;
///
/// let disk = SimulatedDisk::new(7);
/// let db = Db::options().open_on(&disk, "cache.brasa")?;
/// db.set("a", "1")?;
/// db.sync()?;
/// db.set("b", "2")?;
///
/// // Power is lost now, and nothing reached the device that was not synced.
/// let after = disk.synced_image(disk.operation_count()).restart(8);
/// let db = Db::options().open_on(&after, "cache.brasa")?;
/// assert!(db.exists("a")?);
/// assert!(!db.exists("b")?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    memory: MemoryStorage,
    world: Arc<Mutex<World>>,
    schedule: Arc<OnceLock<Arc<dyn Schedule>>>,
}

/// Decides before each operation on a disk whether its thread may continue, and blocks it until
/// then. So threads can stand for processes, and tests can try every order of their operations.
///
/// ```
/// use brasa::Db;
/// use brasa::simulation::{Schedule, SimulatedDisk, Step};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Counts the operations, and lets each continue at once.
/// struct Counting(AtomicU64);
///
/// impl Schedule for Counting {
///     fn step(&self, step: Step) -> std::io::Result<()> {
///         if step == Step::Operation {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> brasa::Result<()> {
/// let disk = SimulatedDisk::new(1);
/// let counting = Arc::new(Counting(AtomicU64::new(0)));
/// disk.schedule(counting.clone());
/// let db = Db::options().open_on(&disk, "cache.brasa")?;
/// assert!(counting.0.load(Ordering::Relaxed) > 0);
/// # Ok(())
/// # }
/// ```
pub trait Schedule: Send + Sync {
    /// Returns when the calling thread may continue.
    ///
    /// # Errors
    ///
    /// If the thread stands for a killed process. The operation then fails without an effect.
    fn step(&self, step: Step) -> io::Result<()>;
}

/// The step that a thread has reached.
///
/// [`Schedule`] has an example of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The thread is about to make an operation.
    Operation,
    /// The thread did not get a lock.
    Refused,
    /// The thread has released a lock.
    Released,
    /// A sync of a file has succeeded, and its thread is about to continue.
    Synced,
}

/// A schedule has no content to print.
impl std::fmt::Debug for dyn Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schedule")
    }
}

#[derive(Debug)]
struct World {
    trace: Vec<Operation>,
    /// What the disk held when it was started, by inode.
    initial: Vec<Vec<u8>>,
    initial_names: BTreeMap<PathBuf, usize>,
    /// The inode of each name, as programs see it now.
    names: BTreeMap<PathBuf, usize>,
    next_inode: usize,
    fault: Option<Fault>,
    fault_count: u64,
    /// How many writes to files without a name are still right before one is not.
    rots_after: Option<u64>,
    random: SplitMix,
    /// The network file system that the disk claims to be on.
    network_file_system: Option<&'static str>,
    /// The open files, each with the thread or process that opened it.
    handles: Vec<(Owner, Weak<FaultyFile>)>,
}

/// Pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The remainder is less than a usize.
        #[allow(clippy::cast_possible_truncation)]
        let number = (self.next() % bound.max(1) as u64) as usize;
        number
    }
}

impl World {
    /// Whether the next write to a file stores a wrong bit.
    fn rots(&mut self, inode: usize) -> bool {
        let Some(after) = self.rots_after else {
            return false;
        };
        if self.names.values().any(|named| *named == inode) {
            return false;
        }
        self.rots_after = after.checked_sub(1);
        after == 0
    }

    /// Lets a path name an inode.
    fn name(&mut self, path: &Path, inode: usize) {
        let change = NameChange {
            path: path.to_owned(),
            inode,
        };
        change.apply(&mut self.names);
        self.trace.push(Operation::Name(change));
    }
}

impl SimulatedDisk {
    /// Makes an empty disk. `seed` decides the random numbers that programs draw, for example
    /// salts.
    pub fn new(seed: u64) -> SimulatedDisk {
        Self::with_files(seed, BTreeMap::new())
    }

    /// Makes a disk with these files, all of them durable.
    pub(super) fn with_files(seed: u64, files: BTreeMap<PathBuf, Vec<u8>>) -> SimulatedDisk {
        let memory = MemoryStorage::default();
        let mut initial = Vec::new();
        let mut names = BTreeMap::new();
        for (path, contents) in files {
            // Memory for a few small files is there.
            let _ = memory.create(&path, &contents);
            names.insert(path, initial.len());
            initial.push(contents);
        }
        SimulatedDisk {
            memory,
            world: Arc::new(Mutex::new(World {
                trace: Vec::new(),
                next_inode: initial.len(),
                initial,
                initial_names: names.clone(),
                names,
                fault: None,
                fault_count: 0,
                rots_after: None,
                random: SplitMix(seed),
                network_file_system: None,
                handles: Vec::new(),
            })),
            schedule: Arc::default(),
        }
    }

    /// Returns the number of operations that changed the device, or should have.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn operation_count(&self) -> usize {
        self.world().trace.len()
    }

    /// Kills every program that uses the disk: its locks are released, and its writes stay. The
    /// handles must not be used again, nor dropped, since dropping closes them; see
    /// [`std::mem::forget`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::Db;
    /// use brasa::simulation::SimulatedDisk;
    /// let disk = SimulatedDisk::new(1);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// db.set("a", "1")?;
    /// disk.kill_all();
    /// std::mem::forget(db);
    /// assert!(Db::options().open_on(&disk, "cache.brasa")?.exists("a")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill_all(&self) {
        self.memory.release_locks();
    }

    /// Lets the disk claim to be on a network file system of this name.
    ///
    /// ```
    /// use brasa::simulation::SimulatedDisk;
    /// use brasa::{Db, Error};
    /// let disk = SimulatedDisk::new(1);
    /// disk.pretend_network_file_system("nfs");
    /// let refused = Db::options().open_on(&disk, "cache.brasa");
    /// assert!(matches!(refused, Err(Error::NotLocal { .. })));
    /// ```
    pub fn pretend_network_file_system(&self, name: &'static str) {
        self.world().network_file_system = Some(name);
    }

    /// Puts all threads that use the disk under a schedule; once.
    ///
    /// [`Schedule`] has an example of a schedule.
    pub fn schedule(&self, schedule: Arc<dyn Schedule>) {
        let _ = self.schedule.set(schedule);
    }

    /// Releases all locks of the handles that a thread has opened, as the kernel does for a killed
    /// process.
    ///
    /// For a [`Schedule`], which has an example.
    pub fn release_locks_of(&self, owner: Owner) {
        let handles = self.world().handles.clone();
        for (opened_by, handle) in handles {
            if opened_by == owner
                && let Some(handle) = handle.upgrade()
            {
                for byte in LockByte::ALL {
                    // In memory it cannot fail.
                    let _ = handle.file.unlock(byte);
                }
            }
        }
    }

    /// Returns how many files are open: a file that was replaced counts until the last handle has
    /// closed it.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::Db;
    /// use brasa::simulation::SimulatedDisk;
    /// let disk = SimulatedDisk::new(1);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// assert_eq!(disk.open_file_count(), 1);
    /// drop(db);
    /// assert_eq!(disk.open_file_count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_file_count(&self) -> usize {
        let handles = self.world().handles.clone();
        let open = handles.iter().filter_map(|(_, handle)| handle.upgrade());
        open.map(|handle| handle.inode)
            .collect::<BTreeSet<usize>>()
            .len()
    }

    /// Returns the path of every file, as programs see them now.
    ///
    /// ```
    /// use brasa::Db;
    /// use brasa::simulation::SimulatedDisk;
    /// let disk = SimulatedDisk::new(1);
    /// drop(Db::options().open_on(&disk, "cache.brasa"));
    /// assert_eq!(disk.file_names(), [std::path::Path::new("cache.brasa")]);
    /// ```
    pub fn file_names(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }

    fn step(&self, step: Step) -> io::Result<()> {
        match self.schedule.get() {
            None => Ok(()),
            Some(schedule) => schedule.step(step),
        }
    }

    fn handle(&self, inode: usize, file: Arc<dyn StorageFile>) -> Arc<FaultyFile> {
        let handle = Arc::new(FaultyFile {
            disk: self.clone(),
            inode,
            file,
        });
        let mut world = self.world();
        world
            .handles
            .retain(|(_, handle)| handle.strong_count() > 0);
        #[cfg(not(brasa_schedules))]
        let owner = crate::sync::thread::current().id();
        #[cfg(brasa_schedules)]
        let owner = crate::sync::thread::process();
        world.handles.push((owner, Arc::downgrade(&handle)));
        handle
    }

    /// Makes a later operation fail, and replaces the previous fault. [`Fault`] has an example.
    pub fn inject(&self, fault: Fault) {
        let mut world = self.world();
        world.fault = Some(fault);
        world.fault_count = 0;
    }

    /// Lets a bit rot in a file that has no name yet: of the writes to such files the one after
    /// `after` others stores one wrong bit, and succeeds.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::simulation::SimulatedDisk;
    /// use brasa::{Db, Error};
    /// let disk = SimulatedDisk::new(1);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// db.set("a", "1")?;
    /// disk.rot_unnamed(0);
    /// assert!(matches!(db.compact(), Err(Error::Corrupt { .. })));
    /// assert_eq!(db.get("a")?.unwrap(), "1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn rot_unnamed(&self, after: u64) {
        self.world().rots_after = Some(after);
    }

    /// Returns how many operations the last injected fault has failed. [`Fault::after`] has an example.
    pub fn fault_count(&self) -> u64 {
        self.world().fault_count
    }

    /// Removes the fault: all later operations succeed. [`Fault::lasting`] has an example.
    pub fn heal(&self) {
        self.world().fault = None;
    }

    /// What was on the disk at its start, by inode, the names, and the first operations.
    pub(super) fn history(&self, upto: usize) -> History {
        let world = self.world();
        History {
            initial: world.initial.clone(),
            names: world.initial_names.clone(),
            operations: world.trace[..upto.min(world.trace.len())].to_vec(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, operation: Operation) {
        self.world().trace.push(operation);
    }

    fn next_inode(&self) -> usize {
        let mut world = self.world();
        world.next_inode += 1;
        world.next_inode - 1
    }

    fn temporary(&self, temporary: Box<dyn TemporaryFile>, inode: usize) -> Box<dyn TemporaryFile> {
        Box::new(FaultyTemporary {
            file: self.handle(inode, temporary.file()),
            temporary: Some(temporary),
        })
    }

    /// Whether this operation fails, and how.
    fn strike(&self, operation: FaultyOperation) -> Option<Fault> {
        let mut world = self.world();
        let fault = world.fault.as_mut()?;
        if fault.operation.is_some_and(|only| only != operation) {
            return None;
        }
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let struck = *fault;
        if !struck.lasting {
            world.fault = None;
        }
        world.fault_count += 1;
        Some(struck)
    }

    fn check(&self, operation: FaultyOperation) -> io::Result<()> {
        self.step(Step::Operation)?;
        match self.strike(operation) {
            Some(fault) => Err(fault.error.into()),
            None => Ok(()),
        }
    }
}

/// All that a state after a power loss can be made from.
#[derive(Debug)]
pub(super) struct History {
    pub(super) initial: Vec<Vec<u8>>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) operations: Vec<Operation>,
}

impl Storage for SimulatedDisk {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.memory.resolve(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.check(FaultyOperation::Open)?;
        let world = self.world();
        let file = self.memory.open(path, access)?;
        let inode = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        drop(world);
        Ok(self.handle(inode, file))
    }

    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>> {
        self.step(Step::Operation)?;
        self.memory.id_of(path)
    }

    fn create_temporary(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        self.check(FaultyOperation::Open)?;
        let temporary = self.memory.create_temporary(path)?;
        Ok(self.temporary(temporary, self.next_inode()))
    }

    fn link_new(&self, path: &Path, further: &Path) -> io::Result<()> {
        self.check(FaultyOperation::Name)?;
        let mut world = self.world();
        self.memory.link_new(path, further)?;
        let inode = world.names.get(path).copied();
        world.name(further, inode.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn open_directory(&self, _path: &Path) -> io::Result<Box<dyn Directory>> {
        self.check(FaultyOperation::OpenDirectory)?;
        Ok(Box::new(FaultyDirectory(self.clone())))
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let mut world = self.world();
        for chunk in out.chunks_mut(8) {
            let bytes = world.random.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

//! The engine: connects the log and the index. It opens, reads, commits and syncs.
//!
//! Invariants:
//!
//! 1. A thread that appends holds `writer`. A thread that syncs and writes slots holds `sync`, and
//!    acquires `writer` only after it, never before.
//! 2. The mapping is extended before a commit is published, and the commit is applied before the
//!    next one is appended: every location in the index can be read through the current mapping.
//! 3. Readers and transactions judge deadlines, replay never does: the index is a function of the
//!    log alone.
//! 4. After a failed sync no write is acknowledged.

#[cfg(feature = "server")]
mod ahead;
mod apply;
mod base;
mod budget;
mod checkpoint;
mod commit;
mod compaction;
mod examine;
mod expired_fields;
mod generation;
mod liveness;
mod lookup;
mod nested;
mod open;
mod read;
mod recover;
mod repair;
mod rewrite;
mod stats;
mod stranger;
mod sync;
mod transaction;
mod turn;
mod value;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use compaction::CompactionReport;
pub use examine::{DamagedPage, DamagedRange, LostRecord};
pub(crate) use examine::{Findings, examine, head_of};
pub(crate) use nested::after_write;
pub use open::Recovery;
pub(crate) use open::{judge_end, parse_header};
pub(crate) use read::{Dated, FIELD_HASHES, FieldPage, KeyState, SCAN_END};
pub(crate) use repair::repair;
pub use repair::{RepairOptions, RepairReport};
pub use stats::Stats;
pub(crate) use transaction::Transaction;
pub(crate) use turn::LeaseState;
pub use value::Value;
use watch::TrackedWatches;
pub use watch::{Change, ChangeKind};
pub(crate) use watch::{Observer, Place as LogPlace, Seen, TrackedWatch};

use crate::clock::Clock;
use crate::storage::{Access, FileId, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use crate::{Durability, Error, Options, Result};

use budget::Budget;
use commit::Writer;
use compaction::Trigger;
use generation::Generation;
use nested::Place;
use sync::{SyncState, Waiting};
use turn::WaitedFor;

/// One open file.
pub(crate) struct Engine {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// The generation that readers use; the one of the writer is in `writer`.
    generation: RwLock<Arc<Generation>>,
    /// Which file that is.
    place: Place,
    device: u64,
    inode: AtomicU64,
    writer: Mutex<Writer>,
    /// Watches to read on for when a compaction is followed.
    tracked: TrackedWatches,
    /// Locked while the handle follows to another file at the path.
    following: Mutex<()>,
    /// Whether this handle is about to give the path to a new file itself.
    switching: AtomicBool,
    /// The process that opened the file, as [`fork_count`](crate::storage::fork_count) tells it.
    fork_count: u64,
    /// Whether the lease is kept after a write, because a thread watches it.
    lease_kept: AtomicBool,
    /// Whether that has begun since it was last asked.
    lease_started: AtomicBool,
    sync: Mutex<SyncState>,
    /// The threads that wait for it.
    waiting: Waiting,
    /// How long threads have waited for other handles.
    writer_waited: WaitedFor,
    sync_waited: WaitedFor,
    /// Locked during a compaction.
    compaction: Mutex<()>,
    /// The listener for automatic compactions.
    on_compaction: Option<CompactionListener>,
    /// Whether a compaction in the background is to stop.
    stopping: AtomicBool,
    /// Whether the last automatic one has failed.
    compaction_failed: AtomicBool,
    /// The last compaction failed because the file system had too little room for its copy.
    lacks_space: AtomicBool,
    /// Whether the log has grown so much that it should be compacted, or get a checkpoint.
    work_due: AtomicBool,
    /// Whether the next writer is to compact first, or to wait until another one has.
    is_over_bound: AtomicBool,
    /// Where the log must end for that to be looked at again after it has failed.
    relieve_at: AtomicU64,
    /// Whether the file system has refused space.
    is_short_of_space: AtomicBool,
    /// Bytes that this handle has appended.
    written_bytes: AtomicU64,
    /// What it has evicted.
    evicted_keys: AtomicU64,
    evicted_bytes: AtomicU64,
    closed: AtomicBool,
    recovery: Recovery,
}

/// Hears of each automatic compaction that has ended, well or not.
pub(crate) type CompactionListener = Arc<dyn Fn(&Result<CompactionReport>) + Send + Sync>;

/// What the options said.
#[derive(Debug, Clone, Copy)]
struct Settings {
    durability: Durability,
    exclusive: bool,
    read_only: bool,
    /// Whether there are threads in the background.
    in_background: bool,
    verify_on_read: bool,
    mapping_step_bytes: u64,
    mapped_append: bool,
    lock_timeout: Duration,
    trigger: Trigger,
    /// How much of the log may be left for opening to replay when the file is closed.
    checkpoint_bytes: u64,
    ignore_checkpoints: bool,
    budget: Option<Budget>,
}

impl Settings {
    fn access(&self) -> Access {
        match self.read_only {
            true => Access::Read,
            false => Access::ReadWrite,
        }
    }

    fn of(options: &Options) -> Settings {
        Settings {
            durability: options.durability,
            exclusive: options.exclusive,
            in_background: options.in_background,
            read_only: options.read_only,
            verify_on_read: options.verify_on_read,
            mapping_step_bytes: options.mapping_step_bytes,
            mapped_append: options.mapped_append,
            lock_timeout: options.lock_timeout,
            trigger: Trigger {
                enabled: options.auto_compact,
                dead_percent: options.compact_dead_percent,
                floor_bytes: options.compact_floor_bytes,
                share_bytes: options.compact_share_bytes,
            },
            checkpoint_bytes: options.checkpoint_bytes,
            ignore_checkpoints: options.ignore_checkpoints,
            budget: options.max_bytes.map(|max_bytes| Budget {
                max_bytes,
                evict: options.evict,
            }),
        }
    }
}

impl Engine {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Unpredictable random numbers.
    pub(crate) fn random_numbers<const COUNT: usize>(&self) -> Result<[u64; COUNT]> {
        let mut numbers = [0; COUNT];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            self.storage
                .random(&mut bytes)
                .map_err(Error::io("draw random numbers for", &self.path))?;
            *number = u64::from_le_bytes(bytes);
        }
        Ok(numbers)
    }

    /// Goes on with another file.
    fn set_generation(&self, new: Arc<Generation>) {
        let mut generation = self
            .generation
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.inode.store(new.id.inode, Ordering::Release);
        *generation = new;
        drop(generation);
        self.move_tracked_watches();
    }

    /// Which file it is now, without a lock: a file that takes another's name is in the same directory, on the same device.
    fn id_now(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode.load(Ordering::Acquire),
        }
    }

    /// Whether another engine of this process has the same file open. This engine has caught up.
    pub(crate) fn is_on_file_of(&self, other: &Engine) -> Result<bool> {
        other.look_for_news()?;
        Ok(self.id_now() == other.id_now())
    }

    /// The current generation, for a short lookup: a compaction cannot end while the caller holds
    /// it.
    fn generation_now(&self) -> RwLockReadGuard<'_, Arc<Generation>> {
        self.generation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The file as it is now, to be kept.
    fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation_now())
    }
}

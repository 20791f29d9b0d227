//! Ways to break the engine on purpose, so that tests can show that they would notice.
//!
//! Without the feature `simulation` the switches are constants, and the compiler removes them.

/// One thing done wrong.
///
/// [`with_mutation`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutation {
    /// A sync of the file does nothing.
    SkipFileSync,
    /// A sync of the directory does nothing.
    SkipDirectorySync,
    /// A commit's first word is written before the rest.
    PublishFirst,
    /// Checksums leave the file's salt out.
    IgnoreSalt,
    /// A record may follow any other.
    IgnorePrevious,
    /// Damage is never corruption.
    IgnoreSyncedUpto,
    /// A slot is written before the sync that it speaks of.
    SlotBeforeSync,
    /// A file without a durable name is taken for one with it.
    SkipNamed,
    /// A sync that failed is tried again.
    RetryFailedSync,
    /// A new file gets its name before its contents are on the device.
    NameBeforeSync,
    /// A compaction forgets what was written since it began.
    ForgetLaterWrites,
    /// A compaction forgets the deadlines of hashes.
    ForgetHashDeadlines,
    /// A compaction does not write a hash's deadline again behind the fields that were set since it began.
    ForgetRenewedDeadlines,
    /// A compaction does not bring back what it left out before a commit that changes its deadline.
    ForgetLeftOut,
    /// A slot names a checkpoint, and says that it is on the device, before it is.
    NameUnsyncedCheckpoint,
    /// A layer of a checkpoint does not say what is gone.
    ForgetGone,
    /// A turn begins without what others have written since the last one.
    SkipCatchUp,
    /// A turn begins without a look at what the path names.
    SkipNameCheck,
    /// Reserved space is cut off up to where the log ended when this handle last looked.
    TrimUnseen,
    /// A turn is taken whether the lock is to be had or not.
    SkipWriterLock,
    /// A checkpoint does not say what others have written among its pages.
    ForgetGaps,
    /// A handle whose sync has failed writes no word of it into the file.
    SkipPoisonWord,
    /// A transaction never takes a time before that of the last compaction.
    KeepCompactionTime,
    /// A change of the log is returned without a check of its checksum.
    SkipLogCheck,
    /// The eviction hand reads through the mapping of its first eviction, however the log has grown.
    KeepEvictionMapping,
    /// Leftovers at the tail are known by their first word alone.
    KnowLeftoversByOneWord,
    /// The copy of a compaction takes the name of the file without being read back.
    SkipReadBack,
    /// A call from within the closure of a write is not refused.
    AllowNestedCalls,
    /// The writer of a handle that only reads keeps a replaced file.
    KeepReplacedFile,
}

impl Mutation {
    /// Those that only several processes on one file can notice.
    pub const OF_SHARING: [Mutation; 7] = [
        Mutation::SkipCatchUp,
        Mutation::SkipNameCheck,
        Mutation::TrimUnseen,
        Mutation::SkipWriterLock,
        Mutation::ForgetGaps,
        Mutation::ForgetLaterWrites,
        Mutation::ForgetRenewedDeadlines,
    ];

    /// Those that the laboratory of schedules looks for.
    pub const OF_SCHEDULES: [Mutation; 16] = [
        Mutation::ForgetLeftOut,
        Mutation::SkipPoisonWord,
        Mutation::KeepCompactionTime,
        Mutation::SkipLogCheck,
        Mutation::KeepEvictionMapping,
        Mutation::KnowLeftoversByOneWord,
        Mutation::SkipReadBack,
        Mutation::AllowNestedCalls,
        Mutation::KeepReplacedFile,
        Mutation::SkipFileSync,
        Mutation::NameBeforeSync,
        Mutation::ForgetLaterWrites,
        Mutation::ForgetRenewedDeadlines,
        Mutation::SkipCatchUp,
        Mutation::SkipNameCheck,
        Mutation::SkipWriterLock,
    ];

    /// Every one of those that a process alone can notice.
    pub const ALL: [Mutation; 13] = [
        Mutation::SkipFileSync,
        Mutation::SkipDirectorySync,
        Mutation::PublishFirst,
        Mutation::IgnoreSalt,
        Mutation::IgnorePrevious,
        Mutation::IgnoreSyncedUpto,
        Mutation::SlotBeforeSync,
        Mutation::SkipNamed,
        Mutation::RetryFailedSync,
        Mutation::NameBeforeSync,
        Mutation::ForgetHashDeadlines,
        Mutation::NameUnsyncedCheckpoint,
        Mutation::ForgetGone,
    ];
}

#[cfg(feature = "simulation")]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    crate::sync::execution_local! {
        static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    pub(crate) fn is_on(mutation: Mutation) -> bool {
        CURRENT.get() == Some(mutation)
    }

    crate::sync::execution_local! {
        /// For [`Mutation::KeepCompactionTime`].
        static COMPACTED_AT_MS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn note_compaction(now_ms: u64) {
        COMPACTED_AT_MS.set(now_ms);
    }

    pub(crate) fn time_of_transaction(now_ms: u64) -> u64 {
        match is_on(Mutation::KeepCompactionTime) {
            true => now_ms.max(COMPACTED_AT_MS.get()),
            false => now_ms,
        }
    }

    /// Runs `broken` with the engine broken in one way, on this thread alone.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::Db;
    /// use brasa::simulation::{Mutation, SimulatedDisk, with_mutation};
    /// let disk = SimulatedDisk::new(1);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// db.set("a", "1")?;
    /// with_mutation(Mutation::SkipFileSync, || db.sync())?;
    /// let lost = disk.synced_image(disk.operation_count()).restart(2);
    /// assert!(!Db::options().open_on(&lost, "cache.brasa")?.exists("a")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_mutation<R>(mutation: Mutation, broken: impl FnOnce() -> R) -> R {
        struct Restore(Option<Mutation>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        COMPACTED_AT_MS.set(0);
        let _restore = Restore(CURRENT.replace(Some(mutation)));
        broken()
    }
}

#[cfg(not(feature = "simulation"))]
mod switch {
    use super::Mutation;

    pub(crate) const fn is_on(_mutation: Mutation) -> bool {
        false
    }

    pub(crate) const fn note_compaction(_now_ms: u64) {}

    pub(crate) const fn time_of_transaction(now_ms: u64) -> u64 {
        now_ms
    }
}

#[cfg(feature = "simulation")]
pub use switch::with_mutation;
pub(crate) use switch::{is_on, note_compaction, time_of_transaction};

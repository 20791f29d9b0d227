//! The options that decide how much space a file takes: compaction and the budget.

use super::{Evict, Options};
use crate::sync::Arc;
use crate::{CompactionReport, Result};

impl Options {
    /// Sets whether the file is compacted automatically; `true` by default.
    ///
    /// A background thread compacts a file that is open once [too
    /// much](Options::compact_dead_percent) of it is dead. Closing compacts it if that is still
    /// due, so that short programs keep a file small as well; see [`Options::compact_share_bytes`].
    /// A compaction that fails leaves the file unchanged, and is tried again when the log has
    /// grown.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().auto_compact(false).open(&path)?;
    /// db.set("pi", "3.21")?;
    /// db.compact()?; // at a time that the program chooses
    /// # Ok(())
    /// # }
    /// ```
    pub fn auto_compact(mut self, auto_compact: bool) -> Self {
        self.auto_compact = auto_compact;
        self
    }

    /// Sets the percentage of the log that may be dead before the file is compacted; 50 by default.
    ///
    /// Dead bytes are those of overwritten, deleted and expired records, and of tombstones.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options()
    ///     .compact_dead_percent(25) // a smaller file, for more compactions
    ///     .compact_floor_bytes(64 << 10)
    ///     .open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact_dead_percent(mut self, dead_percent: u8) -> Self {
        self.compact_dead_percent = dead_percent;
        self
    }

    /// Sets how many bytes may be dead at any percentage; 1 MiB by default.
    /// [`Options::compact_dead_percent`] has an example.
    pub fn compact_floor_bytes(mut self, floor_bytes: u64) -> Self {
        self.compact_floor_bytes = floor_bytes;
        self
    }

    /// Sets how many live bytes a handle copies as soon as a compaction is due, even if the handle
    /// has written little; 16 MiB by default.
    ///
    /// A file with more live bytes is compacted later: when half of the live share of
    /// [`Options::compact_dead_percent`] is dead as well, which is at 75 of 100 bytes by default. A
    /// handle that has itself written a 16th of the live bytes compacts it at once. Short programs
    /// on a large file therefore pause for a compaction more rarely; [`space`](crate::docs::space)
    /// has the figures.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("cache.brasa");
    /// let db = brasa::Db::options().compact_share_bytes(1 << 20).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact_share_bytes(mut self, share_bytes: u64) -> Self {
        self.compact_share_bytes = share_bytes;
        self
    }

    /// Sets the function that is called after each automatic compaction, successful or failed. The
    /// thread that compacted calls it. It must not use the file.
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

    /// Sets the budget: how many live bytes the file may hold, including the envelopes (lengths and
    /// checksums) of records. There is no limit by default.
    ///
    /// [`Options::evict`] sets the action on a write that needs more. With automatic compaction the
    /// whole file stays below about twice the budget plus [`Options::compact_floor_bytes`]. If a
    /// file is above the budget when it is opened, the next write evicts the excess.
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

    /// Sets the action on a write that would exceed [`Options::max_bytes`], which has an example;
    /// [`Evict::Sieve`] by default. Without a budget no key is evicted.
    pub fn evict(mut self, evict: Evict) -> Self {
        self.evict = evict;
        self
    }
}

//! How a string is set.

use std::time::{Duration, SystemTime};

use crate::clock::unix_ms;

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

/// Options for [`Db::set_with`](crate::Db::set_with), with the meanings of Redis's SET.
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
    /// Returns the defaults: sets the value unconditionally, without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time to live (EX, PX), rounded down to milliseconds. Zero deletes the key.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Sets the deadline in Unix milliseconds (EXAT, PXAT). A deadline that has passed deletes the
    /// key.
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.expiry = Expiry::At(deadline_ms);
        self
    }

    /// Sets the deadline as a time of the system's clock, rounded down to milliseconds. A deadline
    /// that has passed deletes the key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// use std::time::{Duration, SystemTime};
    /// let db = Db::in_memory()?;
    /// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    /// db.set_with("offer", "3.21", SetOptions::new().deadline(tomorrow))?;
    /// assert!(db.deadline("offer")?.unwrap() <= tomorrow);
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(self, deadline: SystemTime) -> Self {
        self.deadline_ms(unix_ms(deadline))
    }

    /// Keeps the deadline of the key (KEEPTTL), if it has one.
    pub fn keep_ttl(mut self) -> Self {
        self.expiry = Expiry::Keep;
        self
    }

    /// Writes only if the key does not exist (NX).
    pub fn only_if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }

    /// Writes only if the key exists (XX).
    pub fn only_if_present(mut self) -> Self {
        self.condition = Condition::Present;
        self
    }

    /// Also returns the previous value (GET). The write fails with
    /// [`Error::WrongType`](crate::Error::WrongType) if the key holds a hash.
    pub fn return_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Whether nothing that is there has a say in what will be.
    pub(crate) fn is_blind(&self) -> bool {
        self.condition == Condition::Always && self.expiry == Expiry::None
    }
}

/// What [`Db::set_with`](crate::Db::set_with) did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SetOutcome {
    /// Whether the value was written; its condition may have forbidden it.
    pub written: bool,
    /// What the key held before, where [`SetOptions::return_previous`] asked for it.
    pub previous: Option<crate::Value>,
}

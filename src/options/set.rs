//! The options and the outcome of setting a string.

use std::time::{Duration, SystemTime};

use crate::clock::unix_ms;

/// The condition on the key under which a `set` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Condition {
    #[default]
    Always,
    Absent,
    Present,
}

/// The deadline of a string after a `set`.
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
/// The fields are private, so that later versions can add options.
///
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
    /// Returns the defaults: `set` writes unconditionally, and the key has no deadline.
    /// [`SetOptions`] has an example.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the TTL (EX, PX), rounded down to milliseconds. A TTL of zero deletes the key.
    /// [`SetOptions`] has an example.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Sets the deadline in Unix milliseconds (EXAT, PXAT). A deadline that has passed deletes the
    /// key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// let db = Db::in_memory()?;
    /// db.set_with("offer", "3.21", SetOptions::new().deadline_ms(4_102_444_800_000))?; // in 2100
    /// assert!(db.exists("offer")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.expiry = Expiry::At(deadline_ms);
        self
    }

    /// Sets the deadline as a time of the system clock, rounded down to milliseconds. A deadline
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
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions, Ttl};
    /// use std::time::Duration;
    /// let db = Db::in_memory()?;
    /// db.set_with("offer", "3.21", SetOptions::new().ttl(Duration::from_secs(60)))?;
    /// db.set_with("offer", "2.99", SetOptions::new().keep_ttl())?;
    /// assert!(matches!(db.ttl("offer")?, Ttl::Remaining(_)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_ttl(mut self) -> Self {
        self.expiry = Expiry::Keep;
        self
    }

    /// Writes only if the key does not exist (NX). [`SetOptions`] has an example.
    pub fn only_if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }

    /// Writes only if the key exists (XX).
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Db, SetOptions};
    /// let db = Db::in_memory()?;
    /// let outcome = db.set_with("offer", "3.21", SetOptions::new().only_if_present())?;
    /// assert!(!outcome.written);
    /// # Ok(())
    /// # }
    /// ```
    pub fn only_if_present(mut self) -> Self {
        self.condition = Condition::Present;
        self
    }

    /// Also returns the previous value (GET). The write then fails with
    /// [`Error::WrongType`](crate::Error::WrongType) if the key holds a hash. [`SetOutcome`] has an
    /// example.
    pub fn return_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Returns whether the outcome is independent of the key's present value.
    pub(crate) fn is_blind(&self) -> bool {
        self.condition == Condition::Always && self.expiry == Expiry::None
    }
}

/// The outcome of [`Db::set_with`](crate::Db::set_with).
///
/// The struct is `#[non_exhaustive]`: later versions may add fields.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Db, SetOptions};
/// let db = Db::in_memory()?;
/// db.set("pi", "3.21")?;
/// let outcome = db.set_with("pi", "3.14", SetOptions::new().return_previous())?;
/// assert!(outcome.written);
/// assert_eq!(outcome.previous.unwrap(), "3.21");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SetOutcome {
    /// Whether the value was written; `false` if the condition of the options was not met.
    pub written: bool,
    /// The previous string, with [`SetOptions::return_previous`]; `None` if there was none.
    pub previous: Option<crate::Value>,
}

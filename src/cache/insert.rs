//! Storing a value without a computation, and making the bytes of entries.

use std::fmt::Display;
use std::time::Duration;

use super::entry::{Header, MAX_TAG_BYTES, MAX_TAGS, ValueKind};
use super::keys::{Name, lease_of, tag_name};
use super::settings::Life;
use super::store::Stored;
use super::{Cache, CacheValue, early};
use crate::clock::duration_ms;
use crate::error::check_length;
use crate::{Error, Result};

/// The length of the longest message of a remembered failure, in bytes.
const MAX_MESSAGE_BYTES: usize = 1_024;

impl Cache {
    /// Stores a value, and replaces the value that is there. A computation of the same key that is
    /// running meanwhile does not overwrite it.
    ///
    /// # Errors
    ///
    /// A cache returns these errors whether it is strict or not: a caller that has changed the data
    /// must know whether the old value is still there.
    ///
    /// - Those of every write, see [`Db::set`](crate::Db::set), and [`Error::Remote`].
    /// - [`Error::Encoding`] if the value cannot be encoded.
    /// - [`Error::ReadOnly`] if the cache is [degraded](Cache::degraded) to reading.
    /// - [`Error::FellBack`] if the cache is degraded to memory: the value was stored there alone.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?.ttl(std::time::Duration::from_secs(10));
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert_eq!(cache.get::<String>("user:7")?.as_deref(), Some("Minevaldo"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert<T: CacheValue>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<()> {
        let name = Name::of_value(&self.inner.prefix, key.as_ref());
        let stamps = self.stamps()?;
        let life = self.life();
        let entry = self.encode(value, Duration::ZERO, life, &stamps)?;
        let stored = Stored {
            key: name.bytes(),
            value: &entry,
            ttl: life.hard,
        };
        self.inner.store.set(&lease_of(name.bytes()), stored)?;
        self.note_version();
        self.inner.reached(())
    }

    /// Returns the tags of this view with their stamps. Creates the stamps that are missing.
    pub(super) fn stamps(&self) -> Result<Vec<(Vec<u8>, u64)>> {
        let Some(tags) = &self.settings.tags else {
            return Ok(Vec::new());
        };
        check_length("the tags of an entry", tags.len(), MAX_TAGS)?;
        let ttl = self
            .settings
            .ttl
            .map(|ttl| ttl.saturating_add(self.settings.stale));
        let mut stamps = Vec::with_capacity(tags.len());
        for tag in tags.iter() {
            check_length("a tag", tag.len(), MAX_TAG_BYTES)?;
            let name = tag_name(&self.inner.namespace, tag);
            let stamp = self.inner.store.stamp(&name, early::random(), ttl)?;
            stamps.push((tag.clone(), stamp));
        }
        Ok(stamps)
    }

    /// Returns the entry of a value.
    pub(super) fn encode<T: CacheValue>(
        &self,
        value: &T,
        took: Duration,
        life: Life,
        stamps: &[(Vec<u8>, u64)],
    ) -> Result<Vec<u8>> {
        let mut entry = self.header(T::kind(), took, life, stamps).write();
        value.encode(&mut entry).map_err(|reason| Error::Encoding {
            type_name: std::any::type_name::<T>(),
            reason,
        })?;
        Ok(entry)
    }

    /// Returns the entry of a failure, with the text of its error.
    pub(super) fn failure(
        &self,
        error: &impl Display,
        took: Duration,
        life: Life,
        stamps: &[(Vec<u8>, u64)],
    ) -> Vec<u8> {
        let header = Header {
            is_failure: true,
            ..self.header(ValueKind::TEXT, took, life, stamps)
        };
        let mut entry = header.write();
        let message = error.to_string();
        entry.extend(message.bytes().take(MAX_MESSAGE_BYTES));
        entry
    }

    fn header<'a>(
        &self,
        kind: ValueKind,
        took: Duration,
        life: Life,
        stamps: &'a [(Vec<u8>, u64)],
    ) -> Header<'a> {
        let now_ms = self.inner.store.now_ms();
        let fresh_ms = life.soft.map(duration_ms);
        Header {
            kind,
            is_failure: false,
            version: self.settings.version,
            stored_at_ms: now_ms,
            soft_deadline_ms: fresh_ms.map_or(0, |ms| now_ms.saturating_add(ms)),
            computing_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
            tags: stamps,
        }
    }
}

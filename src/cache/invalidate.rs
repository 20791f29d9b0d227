//! Removing values: by key, by prefix, by tag, or all of them.

use super::Cache;
use super::keys::{Name, lease_of, prefix_of_tags, prefix_of_values, tag_name, versions_name};
use crate::{Error, Result};

impl Cache {
    /// Removes a value. Returns whether there was one. A computation of the same key that is
    /// running meanwhile stores nothing.
    ///
    /// On a full disk the call still succeeds.
    ///
    /// # Errors
    ///
    /// A cache returns these errors whether it is strict or not: the caller must know whether the
    /// old value is still there.
    ///
    /// - Those of [`Db::del`](crate::Db::del), and [`Error::Remote`].
    /// - [`Error::ReadOnly`] if the cache is [degraded](Cache::degraded) to reading.
    /// - [`Error::FellBack`] if the cache is degraded to memory: the value was removed there alone.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// assert!(cache.invalidate("user:7")?);
    /// assert_eq!(cache.get::<String>("user:7")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let name = Name::of_value(&self.inner.prefix, key.as_ref());
        let lease = lease_of(name.bytes());
        let was_there = match self.inner.store.get(name.bytes()) {
            Ok(found) => found.is_some(),
            // A hash under the value's name is removed as well.
            Err(Error::WrongType) => true,
            Err(error) => return Err(error),
        };
        // The lease first: on a server this is not one step, and the owner of the lease must not
        // store its value after the removal.
        self.inner.store.remove(&[&lease, name.bytes()])?;
        self.inner.reached(was_there)
    }

    /// Removes every value whose key begins with `prefix`. Returns how many keys of the store were
    /// removed, leases included.
    ///
    /// It reads every key of the file or server; a [tag](Cache::invalidate_tag) costs less. It
    /// removes page by page, so other callers may find some values removed and others not.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// cache.insert("price:7", &"3.21".to_owned())?;
    /// assert_eq!(cache.invalidate_prefix("user:")?, 1);
    /// assert!(cache.contains::<String>("price:7")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        let prefix = prefix_of_values(&self.inner.namespace, prefix.as_ref());
        let removed = self.inner.store.remove_prefix(&prefix)?;
        self.inner.reached(removed)
    }

    /// Makes every value with this [tag](Cache::tags) a miss, also the values of computations that
    /// are running meanwhile. [`Cache::tags`] has an example.
    ///
    /// It costs one deletion, independently of the number of values. Their space is freed when they
    /// expire, are evicted or are overwritten.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        let name = tag_name(&self.inner.namespace, tag.as_ref());
        self.inner.store.remove(&[&name])?;
        self.inner.reached(())
    }

    /// Removes every key of this cache's [namespace](super::CacheOptions::namespace), and no other
    /// key. It reads every key of the file or server.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// cache.clear()?;
    /// assert!(cache.is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&self) -> Result<()> {
        let namespace = &self.inner.namespace;
        self.inner.store.remove_prefix(&prefix_of_tags(namespace))?;
        let values = prefix_of_values(namespace, b"");
        self.inner.store.remove_prefix(&values)?;
        let register = versions_name(namespace);
        self.inner.store.remove(&[&register])?;
        self.inner.reached(())
    }
}

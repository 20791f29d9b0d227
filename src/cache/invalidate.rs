//! Taking values away: by key, by prefix, by tag, all.

use super::Cache;
use super::keys::{Name, lease_of, prefix_of_tags, prefix_of_values, tag_name, versions_name};
use crate::{Error, Result};

impl Cache {
    /// Removes a value. Gives back whether there was one. What is being computed just now is not
    /// stored.
    ///
    /// # Errors
    ///
    /// Those of [`Db::del`](crate::Db::del), or [`Error::Remote`](crate::Error::Remote), strict or
    /// not: the caller must know whether the old value is still there. On a full disk it still
    /// succeeds. If the cache was opened as another than the named one ([`Cache::degraded`]), it is
    /// [`Error::ReadOnly`], or [`Error::FellBack`] if the value was removed from memory alone.
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
            // Something else in its place goes, too.
            Err(Error::WrongType) => true,
            Err(error) => return Err(error),
        };
        // The lease first: where this is not one step, who holds it cannot store behind this.
        self.inner.store.remove(&[&lease, name.bytes()])?;
        self.inner.reached(was_there)
    }

    /// Removes every value whose key begins with `prefix`. Gives back how many keys of the store
    /// went, leases among them.
    ///
    /// Every key of the file or server is looked at, whoever's it is: for what is done often, take
    /// [tags](Cache::invalidate_tag). It is done by pages, so that others may see some gone and
    /// some not.
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate`].
    pub fn invalidate_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<u64> {
        let prefix = prefix_of_values(&self.inner.namespace, prefix.as_ref());
        let removed = self.inner.store.remove_prefix(&prefix)?;
        self.inner.reached(removed)
    }

    /// Makes every value that was stored with this [tag](Cache::tags) a miss, what is being
    /// computed just now too. It takes one deletion, however many they are; their space is given
    /// back when their time is up, or when they are evicted or overwritten.
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        let name = tag_name(&self.inner.namespace, tag.as_ref());
        self.inner.store.remove(&[&name])?;
        self.inner.reached(())
    }

    /// Removes all that is in this cache's namespace, and nothing else. Every key of the file or
    /// server is looked at.
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate`].
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

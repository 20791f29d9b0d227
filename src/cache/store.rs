//! The store of a cache's entries: a brasa file, memory, or with feature `redis` a server.
//!
//! Invariants:
//!
//! 1. All differences between the stores are in this file and in `remote.rs`.
//! 2. A change that depends on a lease is one step: a transaction on a file, a script or WATCH and
//!    MULTI on a server.

use std::cell::Cell;
use std::time::Duration;

#[cfg(feature = "redis")]
use super::entry::FIXED_BYTES;
use super::keys::with_its_other;
#[cfg(feature = "redis")]
use super::remote::RemoteStore;
use super::tokens::{self, Acquired, KEPT, Settled};
use crate::{Db, Error, Result, SetOptions, Ttl, Value};

/// The number of keys of a file in one page.
const PAGE_KEYS: usize = 256;

/// The shortest TTL of a stamp. It must be longer than any computation.
const LEAST_STAMP_LIFE: Duration = Duration::from_secs(3_600);

/// The store of a cache.
pub(super) enum Store {
    /// A file, or memory.
    Db(Db),
    /// A Redis server or cluster.
    #[cfg(feature = "redis")]
    Remote(Box<RemoteStore>),
}

/// A key and value to store, with a TTL if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) ttl: Option<Duration>,
}

impl Stored<'_> {
    fn options(&self) -> SetOptions {
        match self.ttl {
            Some(ttl) => SetOptions::new().ttl(ttl),
            None => SetOptions::new(),
        }
    }
}

impl Store {
    /// Fails if this thread is within a write to the store: a thread that it waits for might wait
    /// for that write.
    pub(super) fn refuse_wait_within_write(&self) -> Result<()> {
        match self {
            Store::Db(db) => db.refuse_wait_within_write(),
            #[cfg(feature = "redis")]
            Store::Remote(_) => Ok(()),
        }
    }

    /// Returns the time with which soft deadlines are compared, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        match self {
            Store::Db(db) => db.now_ms(),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.now_ms(),
        }
    }

    /// Reads a string. Sets `now_ms` to the time if the lookup had to read the clock.
    #[inline]
    pub(super) fn get_and_time(&self, key: &[u8], now_ms: &Cell<u64>) -> Result<Option<Value>> {
        match self {
            Store::Db(db) => db.get_and_time(key, now_ms),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.get(key),
        }
    }

    /// Reads a string. In a file this never blocks.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            Store::Db(db) => db.get(key),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.get(key),
        }
    }

    /// Stores an entry without a lease, and removes the lease, so that its owner can no longer
    /// overwrite the entry.
    pub(super) fn set(&self, lease: &[u8], stored: Stored<'_>) -> Result<()> {
        match self {
            Store::Db(db) => db.batch(|b| {
                b.del(lease);
                match stored.ttl {
                    Some(ttl) => b.set_ex(stored.key, stored.value, ttl),
                    None => b.set(stored.key, stored.value),
                };
            }),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.set(lease, stored),
        }
    }

    /// Returns whether a lease has an owner that renews it. In a file this never blocks.
    pub(super) fn is_held(&self, lease: &[u8]) -> Result<bool> {
        let (held, left) = match self {
            Store::Db(db) => (db.get(lease)?, left(db, lease)?),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.lease(lease)?,
        };
        Ok(held.is_some_and(|held| tokens::is_held(&held, left)))
    }

    /// Makes a token the owner of a lease, unless another owner renews it.
    pub(super) fn acquire(&self, lease: &[u8], token: &[u8]) -> Result<Acquired> {
        match self {
            Store::Db(db) => db.transaction(|tx| acquire(tx, lease, token)),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.acquire(lease, token),
        }
    }

    /// Like [`Store::acquire`], but returns [`Acquired::No`] if the writer lock is not free within
    /// 2 ms.
    pub(super) fn acquire_briefly(&self, lease: &[u8], token: &[u8]) -> Result<Acquired> {
        match self {
            Store::Db(db) => {
                let acquired = db.transaction_briefly(|tx| acquire(tx, lease, token))?;
                Ok(acquired.unwrap_or(Acquired::No))
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.acquire(lease, token),
        }
    }

    /// Renews a lease if the token is its owner's. Returns whether it is.
    pub(super) fn renew(&self, lease: &[u8], token: &[u8]) -> Result<bool> {
        match self {
            Store::Db(db) => db.transaction(|tx| {
                let held = tx.get(lease)?;
                let is_ours = held.is_some_and(|held| tokens::is_owner(&held, token));
                Ok(is_ours && tx.expire(lease, KEPT)?)
            }),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.renew(lease, token),
        }
    }

    /// If a token is in a lease, stores its owner's entry, or releases the lease without an entry,
    /// in one step. Returns whether it did.
    pub(super) fn settle(
        &self,
        lease: &[u8],
        token: &[u8],
        stored: Option<Stored<'_>>,
    ) -> Result<bool> {
        match self {
            Store::Db(db) => db.transaction(|tx| {
                let Some(held) = tx.get(lease)? else {
                    return Ok(false);
                };
                let settled = match stored {
                    Some(_) => tokens::after_storing(&held, token),
                    None => tokens::after_giving_back(&held, token),
                };
                match settled {
                    Settled::Lost => return Ok(false),
                    Settled::Removed => drop(tx.del(lease)?),
                    Settled::Left(rest) => {
                        tx.set_with(lease, rest, SetOptions::new().keep_ttl())?;
                    }
                }
                if let Some(stored) = stored {
                    tx.set_with(stored.key, stored.value, stored.options())?;
                }
                Ok(true)
            }),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.settle(lease, token, stored),
        }
    }

    /// Returns the stamp under a key, and creates it with the number `fresh` if it is missing. The
    /// stamp outlives an entry with this TTL.
    pub(super) fn stamp(&self, key: &[u8], fresh: u64, ttl: Option<Duration>) -> Result<u64> {
        if let Some(found) = self.get(key)?
            && let Some(stamp) = parse_stamp(&found)
        {
            self.keep_alive(key, ttl)?;
            return Ok(stamp);
        }
        let text = fresh.to_string();
        let stored = Stored {
            key,
            value: text.as_bytes(),
            ttl: ttl.map(life_of_stamp),
        };
        match self {
            Store::Db(db) => {
                db.set_with(key, stored.value, stored.options().only_if_absent())?;
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.set_if_absent(stored)?,
        }
        // Another caller may have stored its stamp first. If the stamp is missing again, the entry
        // will be a miss.
        let found = self.get(key)?;
        Ok(found.and_then(|found| parse_stamp(&found)).unwrap_or(fresh))
    }

    /// Extends a stamp's TTL if the stamp would expire before an entry that is stored now.
    fn keep_alive(&self, key: &[u8], ttl: Option<Duration>) -> Result<()> {
        let left = match self {
            Store::Db(db) => match db.ttl(key)? {
                Ttl::Remaining(left) => left,
                _ => return Ok(()),
            },
            #[cfg(feature = "redis")]
            Store::Remote(remote) => match remote.ttl(key)? {
                Some(left) => left,
                None => return Ok(()),
            },
        };
        // A value that is being computed is stored later than now, so the TTL has half in reserve.
        let wanted = ttl.map(life_of_stamp);
        if wanted.is_some_and(|wanted| left > wanted / 4 * 3) {
            return Ok(());
        }
        match (self, wanted) {
            (Store::Db(db), Some(wanted)) => db.expire(key, wanted).map(drop),
            (Store::Db(db), None) => db.persist(key).map(drop),
            #[cfg(feature = "redis")]
            (Store::Remote(remote), wanted) => remote.keep(key, wanted),
        }
    }

    /// Removes keys. Returns how many existed.
    pub(super) fn remove(&self, keys: &[&[u8]]) -> Result<u64> {
        match self {
            Store::Db(db) => db.del_many(keys),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.remove(keys),
        }
    }

    /// Removes every key that begins with `prefix`, page by page. Returns how many it removed.
    /// Reads every key of the store.
    ///
    /// A lease and its value are removed together, whichever the page contains. The owner may have
    /// stored the value since the page was read, or may still hold the lease.
    pub(super) fn remove_prefix(&self, prefix: &[u8]) -> Result<u64> {
        let mut removed = 0;
        self.for_pages(prefix, &mut |keys| {
            let keys: Vec<Vec<u8>> = keys.iter().flat_map(|key| with_its_other(key)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            removed += self.remove(&keys)?;
            Ok(())
        })?;
        Ok(removed)
    }

    /// Passes every key that begins with `prefix` to `page`, some at a time. The callback may
    /// remove them.
    pub(super) fn for_pages(
        &self,
        prefix: &[u8],
        page: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Store::Db(db) => {
                let mut keys = Vec::with_capacity(PAGE_KEYS);
                for key in db.keys().prefix(prefix) {
                    keys.push(key?);
                    if keys.len() >= PAGE_KEYS {
                        page(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>())?;
                        keys.clear();
                    }
                }
                page(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>())
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.for_pages(prefix, page),
        }
    }

    /// Returns the fields of a hash with their values.
    pub(super) fn fields(&self, key: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match self {
            Store::Db(db) => {
                let fields = db.hgetall(key)?.into_iter();
                Ok(fields
                    .map(|(field, value)| (field.to_vec(), value.to_vec()))
                    .collect())
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.fields(key),
        }
    }

    pub(super) fn set_field(&self, key: &[u8], field: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Store::Db(db) => db.hset(key, field, value).map(drop),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.set_field(key, field, value),
        }
    }

    pub(super) fn remove_fields(&self, key: &[u8], fields: &[&[u8]]) -> Result<()> {
        match self {
            Store::Db(db) => db.hdel_many(key, fields).map(drop),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.remove_fields(key, fields),
        }
    }

    /// Removes the strings that `goes` selects by their first bytes, the header of an entry.
    /// Returns how many it removed.
    pub(super) fn remove_where(&self, keys: &[&[u8]], goes: impl Fn(&[u8]) -> bool) -> Result<u64> {
        match self {
            Store::Db(db) => {
                let goes = |db: &Db, key: &[u8]| match db.get(key) {
                    Ok(found) => Ok(found.is_some_and(|bytes| goes(&bytes))),
                    Err(Error::WrongType) => Ok(false),
                    Err(error) => Err(error),
                };
                let mut dead = Vec::new();
                for key in keys {
                    if goes(db, key)? {
                        dead.push(*key);
                    }
                }
                if dead.is_empty() {
                    return Ok(0);
                }
                // Some may have been replaced since they were read.
                db.transaction(|tx| {
                    let mut removed = 0;
                    for key in dead {
                        removed += u64::from(goes(tx, key)? && tx.del(key)?);
                    }
                    Ok(removed)
                })
            }
            #[cfg(feature = "redis")]
            Store::Remote(remote) => {
                // An entry that is replaced between these two steps is removed as well, which costs
                // one more computation.
                let heads = remote.heads(keys, FIXED_BYTES)?;
                let dead = keys.iter().zip(heads);
                let dead = dead.filter(|(_, head)| head.as_ref().is_some_and(|head| goes(head)));
                remote.remove(&dead.map(|(key, _)| *key).collect::<Vec<_>>())
            }
        }
    }
}

/// Returns the TTL of a stamp for an entry with this TTL. The stamp's TTL begins before the
/// computation, which may take longer than the entry lives.
fn life_of_stamp(ttl: Duration) -> Duration {
    ttl.saturating_mul(2).max(LEAST_STAMP_LIFE)
}

/// Returns the remaining TTL of a key; `None` if it has none or does not exist.
fn left(db: &Db, key: &[u8]) -> Result<Option<Duration>> {
    Ok(match db.ttl(key)? {
        Ttl::Remaining(left) => Some(left),
        _ => None,
    })
}

/// Does the work of [`Store::acquire`] within a transaction.
fn acquire(tx: &Db, lease: &[u8], token: &[u8]) -> Result<Acquired> {
    let held = tx.get(lease)?;
    let held = held.as_deref().unwrap_or_default();
    if tokens::is_held(held, left(tx, lease)?) {
        return Ok(Acquired::No);
    }
    let taken = tokens::taken(held, token);
    tx.set_with(lease, taken, SetOptions::new().ttl(KEPT))?;
    Ok(match tokens::has_owner(held) {
        true => Acquired::Lapsed,
        false => Acquired::Free,
    })
}

/// Returns the number in a stamp's value.
pub(super) fn parse_stamp(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

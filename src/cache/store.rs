//! Where a cache's entries are: a brasa file, memory, or with feature `redis` a server. What
//! differs between them is here alone.

use std::cell::Cell;
use std::time::Duration;

#[cfg(feature = "redis")]
use super::entry::FIXED_BYTES;
use super::keys::with_its_other;
#[cfg(feature = "redis")]
use super::remote::RemoteStore;
use super::tokens::{self, Acquired, KEPT, Settled};
use crate::{Db, Error, Result, SetOptions, Ttl, Value};

/// How many keys of a file are looked at at a time where all of a prefix are.
const PAGE_KEYS: usize = 256;

/// How long a stamp lives at least: longer than any computation takes.
const LEAST_STAMP_LIFE: Duration = Duration::from_secs(3_600);

/// The store of a cache.
pub(super) enum Store {
    /// A file, or memory.
    Db(Db),
    /// A Redis server or cluster.
    #[cfg(feature = "redis")]
    Remote(Box<RemoteStore>),
}

/// What is to be stored, and for how long; without an end where there is no time to live.
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
    /// Refuses to wait for another thread that may wait for a write of this one.
    pub(super) fn refuse_wait_within_write(&self) -> Result<()> {
        match self {
            Store::Db(db) => db.refuse_wait_within_write(),
            #[cfg(feature = "redis")]
            Store::Remote(_) => Ok(()),
        }
    }

    /// The time by which deadlines are judged.
    pub(super) fn now_ms(&self) -> u64 {
        match self {
            Store::Db(db) => db.now_ms(),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.now_ms(),
        }
    }

    /// Reads a string; `now_ms` becomes the time, if it was read on the way.
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

    /// Stores an entry without regard to a lease, and takes the lease on it away, so that who holds
    /// it can no longer overwrite it.
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

    /// Whether a lease has an owner that renews it. In a file this never blocks.
    pub(super) fn is_held(&self, lease: &[u8]) -> Result<bool> {
        let (held, left) = match self {
            Store::Db(db) => (db.get(lease)?, left(db, lease)?),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.lease(lease)?,
        };
        Ok(held.is_some_and(|held| tokens::is_held(&held, left)))
    }

    /// Makes a token the owner of a lease, unless another one renews it.
    pub(super) fn acquire(&self, lease: &[u8], token: &[u8]) -> Result<Acquired> {
        match self {
            Store::Db(db) => db.transaction(|tx| acquire(tx, lease, token)),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.acquire(lease, token),
        }
    }

    /// As [`Store::acquire`], without a wait for another process that writes: then the lease counts
    /// as held.
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

    /// Renews a lease, if the token is its owner's. Returns whether it is.
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

    /// If a token is in a lease, stores its owner's entry, or gives the lease back without one, in
    /// one step. Returns whether it did.
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

    /// The stamp under a key, which is made where there is none, and lives at least as long as
    /// `ttl` says.
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
        // Somebody else's, where they were faster. Where it is gone again, the entry will be a
        // miss.
        let found = self.get(key)?;
        Ok(found.and_then(|found| parse_stamp(&found)).unwrap_or(fresh))
    }

    /// Lengthens a stamp's life where it would end before that of an entry that is stored now.
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
        // What is computed meanwhile is stored later than now: half a life is kept in hand.
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

    /// Removes keys. Gives back how many were there.
    pub(super) fn remove(&self, keys: &[&[u8]]) -> Result<u64> {
        match self {
            Store::Db(db) => db.del_many(keys),
            #[cfg(feature = "redis")]
            Store::Remote(remote) => remote.remove(keys),
        }
    }

    /// Removes every key that begins with `prefix`, a page at a time; every key of the store is
    /// looked at. Gives back how many went.
    ///
    /// A lease goes with its value, and a value with its lease, whichever was seen: the owner may
    /// have stored the value since its lease was seen, or hold the lease still.
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

    /// Hands out every key that begins with `prefix`, some at a time; they may be removed
    /// meanwhile.
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

    /// The fields of a hash, with what they hold.
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

    /// Removes those of these strings whose first bytes, an entry's header, say so. Gives back how
    /// many went.
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
                // Some may have been stored anew since.
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
                // One that is stored anew between these two steps goes as well, and is computed
                // once more.
                let heads = remote.heads(keys, FIXED_BYTES)?;
                let dead = keys.iter().zip(heads);
                let dead = dead.filter(|(_, head)| head.as_ref().is_some_and(|head| goes(head)));
                remote.remove(&dead.map(|(key, _)| *key).collect::<Vec<_>>())
            }
        }
    }
}

/// How long a stamp lives for an entry with this time to live. Its time begins before the
/// computation's, which may take longer than the entry lives.
fn life_of_stamp(ttl: Duration) -> Duration {
    ttl.saturating_mul(2).max(LEAST_STAMP_LIFE)
}

/// The remaining TTL of a key; `None` without one.
fn left(db: &Db, key: &[u8]) -> Result<Option<Duration>> {
    Ok(match db.ttl(key)? {
        Ttl::Remaining(left) => Some(left),
        _ => None,
    })
}

/// See [`Store::acquire`], within a transaction.
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

/// The number that a stamp's key holds.
pub(super) fn parse_stamp(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

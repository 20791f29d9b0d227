//! A Redis server or cluster as the store of a cache.
//!
//! Invariant: each change of a lease is one step on the server, by a script or by WATCH and MULTI.
//! Both do the same as the functions of `tokens.rs`.

use std::time::Duration;

use redis::{Cmd, cmd};

use super::store::Stored;
use super::tokens::{self, Acquired, KEPT, LEASE_TTL, Settled};
use crate::clock::{Clock, duration_ms};
use crate::remote::{Server, pattern_of_prefix};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::{Options, Result, Value};

// Each script does the work of the functions of `tokens.rs` that its comment names, in one step.

/// `is_held` and `taken`: KEYS lease, ARGV token, `KEPT` and `LEASE_TTL` in milliseconds,
/// `MAX_BYTES`. Returns 0 for held, 1 for free, 2 for lapsed. A request may be sent twice, so the
/// token may already be the owner's.
const ACQUIRE: &str = "local held=redis.call('get',KEYS[1]) or '' \
     local left=redis.call('pttl',KEYS[1])-ARGV[2] \
     if held==ARGV[1] or string.sub(held,1,#ARGV[1]+1)==ARGV[1]..' ' then return 1 end \
     local owned=held~='' and string.sub(held,1,1)~=' ' \
     if owned and left>-ARGV[3] and left<=ARGV[3]+0 then return 0 end \
     local taken=ARGV[1]..(owned and ' ' or '')..held \
     redis.call('set',KEYS[1],string.sub(taken,1,ARGV[4]),'px',ARGV[2]) \
     return owned and 2 or 1";

/// `is_owner`: KEYS lease, ARGV token, `KEPT` in milliseconds. Returns whether it was renewed.
const RENEW: &str = "local held=redis.call('get',KEYS[1]) or '' \
     if held~=ARGV[1] and string.sub(held,1,#ARGV[1]+1)~=ARGV[1]..' ' then return 0 end \
     redis.call('pexpire',KEYS[1],ARGV[2]) return 1";

/// `after_storing`, or `after_giving_back` without a value: KEYS lease, value; ARGV token, and then
/// the value and its TTL in milliseconds, if there are any. Returns whether the token was in the
/// lease.
const SETTLE: &str = "local held=redis.call('get',KEYS[1]) or '' \
     local at=string.find(' '..held..' ',' '..ARGV[1]..' ',1,true) \
     if not at or (at>1 and not ARGV[2]) then return 0 end \
     local rest=at>1 and string.sub(held,1,at-2) or '' \
     if not ARGV[2] then rest=string.sub(held,#ARGV[1]+1) end \
     local left=redis.call('pttl',KEYS[1]) \
     if rest=='' or left<1 then redis.call('del',KEYS[1]) \
     else redis.call('set',KEYS[1],rest,'px',left) end \
     if ARGV[3] then redis.call('set',KEYS[2],ARGV[2],'px',ARGV[3]) \
     elseif ARGV[2] then redis.call('set',KEYS[2],ARGV[2]) end return 1";

/// The approximate number of keys that one SCAN reads.
const PAGE_KEYS: usize = 1_000;

/// A Redis or Valkey server, or a cluster.
pub(super) struct RemoteStore {
    server: Server,
    clock: Arc<dyn Clock>,
    /// Whether the server runs scripts; true until it refuses one.
    has_scripts: AtomicBool,
}

/// Returns whether the server does not know the command.
fn is_unknown(error: &redis::RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    error.code() == Some("ERR") && detail.starts_with("unknown command")
}

/// Returns a TTL in milliseconds, at least 1: Redis refuses 0.
fn milliseconds(ttl: Duration) -> u64 {
    duration_ms(ttl).max(1)
}

fn set(stored: Stored<'_>) -> Cmd {
    let mut command = cmd("SET");
    command.arg(stored.key).arg(stored.value);
    if let Some(ttl) = stored.ttl {
        command.arg("PX").arg(milliseconds(ttl));
    }
    command
}

impl RemoteStore {
    pub(super) fn open(url: &str, timeout: Duration, options: &Options) -> Result<RemoteStore> {
        Ok(RemoteStore {
            server: Server::connect(url, timeout)?,
            clock: Arc::clone(&options.clock),
            has_scripts: AtomicBool::new(true),
        })
    }

    fn ask<T: redis::FromRedisValue>(&self, operation: &'static str, command: &Cmd) -> Result<T> {
        self.server.with_link(operation, |link| link.query(command))
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let found: Option<Vec<u8>> = self.ask("read from", cmd("GET").arg(key))?;
        Ok(found.map(|bytes| Value::owned(&bytes)))
    }

    pub(super) fn set(&self, lease: &[u8], stored: Stored<'_>) -> Result<()> {
        // The lease first, so that its owner cannot store its value after this one.
        self.ask::<u64>("write to", cmd("DEL").arg(lease))?;
        self.ask("write to", &set(stored))
    }

    pub(super) fn set_if_absent(&self, stored: Stored<'_>) -> Result<()> {
        let mut command = set(stored);
        command.arg("NX");
        self.ask::<Option<String>>("write to", &command).map(drop)
    }

    /// Returns the contents of a lease and its remaining TTL.
    pub(super) fn lease(&self, lease: &[u8]) -> Result<(Option<Value>, Option<Duration>)> {
        let held = self.get(lease)?;
        let left = match held {
            Some(_) => self.ttl(lease)?,
            None => None,
        };
        Ok((held, left))
    }

    pub(super) fn acquire(&self, lease: &[u8], token: &[u8]) -> Result<Acquired> {
        let mut script = cmd("EVAL");
        script.arg(ACQUIRE).arg(1).arg(lease).arg(token);
        script.arg(milliseconds(KEPT)).arg(milliseconds(LEASE_TTL));
        script.arg(tokens::MAX_BYTES);
        let acquired = self.change("take a lease on", lease, &script, |held, left| {
            if tokens::is_owner(held, token) {
                return (1, Vec::new());
            }
            if tokens::is_held(held, left) {
                return (0, Vec::new());
            }
            let taken = Stored {
                key: lease,
                value: &tokens::taken(held, token),
                ttl: Some(KEPT),
            };
            let answer = if tokens::has_owner(held) { 2 } else { 1 };
            (answer, vec![set(taken)])
        })?;
        Ok(match acquired {
            1 => Acquired::Free,
            2 => Acquired::Lapsed,
            _ => Acquired::No,
        })
    }

    pub(super) fn renew(&self, lease: &[u8], token: &[u8]) -> Result<bool> {
        let mut script = cmd("EVAL");
        script.arg(RENEW).arg(1).arg(lease);
        script.arg(token).arg(milliseconds(KEPT));
        let renewed = self.change("renew a lease on", lease, &script, |held, _| {
            if !tokens::is_owner(held, token) {
                return (0, Vec::new());
            }
            let mut renew = cmd("PEXPIRE");
            renew.arg(lease).arg(milliseconds(KEPT));
            (1, vec![renew])
        })?;
        Ok(renewed == 1)
    }

    pub(super) fn settle(
        &self,
        lease: &[u8],
        token: &[u8],
        stored: Option<Stored<'_>>,
    ) -> Result<bool> {
        let mut script = cmd("EVAL");
        script.arg(SETTLE);
        match stored {
            None => script.arg(1).arg(lease).arg(token),
            Some(stored) => {
                script.arg(2).arg(lease).arg(stored.key);
                script.arg(token).arg(stored.value);
                match stored.ttl {
                    Some(ttl) => script.arg(milliseconds(ttl)),
                    None => &mut script,
                }
            }
        };
        let settled = self.change("store on", lease, &script, |held, left| {
            let settled = match stored {
                Some(_) => tokens::after_storing(held, token),
                None => tokens::after_giving_back(held, token),
            };
            let mut then = match settled {
                Settled::Lost => return (0, Vec::new()),
                Settled::Removed => vec![cmd("DEL").arg(lease).clone()],
                Settled::Left(rest) => vec![set(Stored {
                    key: lease,
                    value: &rest,
                    ttl: left,
                })],
            };
            then.extend(stored.map(set));
            (1, then)
        })?;
        Ok(settled == 1)
    }

    /// Runs a script that changes a lease. On a server without scripts, such as brasa's own, runs
    /// the commands of `decide` by WATCH and MULTI.
    ///
    /// `decide` gets the contents of the lease and its remaining TTL. It returns the number that
    /// the script would return, and the commands.
    fn change(
        &self,
        operation: &'static str,
        lease: &[u8],
        script: &Cmd,
        decide: impl Fn(&[u8], Option<Duration>) -> (u64, Vec<Cmd>),
    ) -> Result<u64> {
        self.server.with_link(operation, |link| {
            if self.has_scripts.load(Ordering::Relaxed) {
                match link.query(script) {
                    Err(error) if is_unknown(&error) => {
                        self.has_scripts.store(false, Ordering::Relaxed);
                    }
                    done => return done,
                }
            }
            let done = link.change_watched(lease, |held, left_ms| {
                let left = u64::try_from(left_ms).ok().map(Duration::from_millis);
                decide(held.unwrap_or_default(), left)
            });
            Ok(done?.unwrap_or(0))
        })
    }

    /// Returns the remaining TTL of a key; `None` if it has none or does not exist.
    pub(super) fn ttl(&self, key: &[u8]) -> Result<Option<Duration>> {
        let left: i64 = self.ask("read from", cmd("PTTL").arg(key))?;
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }

    /// Sets the TTL of a key, or removes it.
    pub(super) fn keep(&self, key: &[u8], ttl: Option<Duration>) -> Result<()> {
        let mut command = match ttl {
            None => cmd("PERSIST"),
            Some(_) => cmd("PEXPIRE"),
        };
        command.arg(key);
        if let Some(ttl) = ttl {
            command.arg(milliseconds(ttl));
        }
        self.ask::<u64>("write to", &command).map(drop)
    }

    pub(super) fn remove(&self, keys: &[&[u8]]) -> Result<u64> {
        let commands: Vec<Cmd> = keys
            .iter()
            .map(|key| {
                let mut command = cmd("UNLINK");
                command.arg(*key);
                command
            })
            .collect();
        self.server.with_link("remove from", |link| {
            let mut removed = 0;
            for answer in link.pipeline(&commands)? {
                removed += redis::from_redis_value::<u64>(answer?)?;
            }
            Ok(removed)
        })
    }

    pub(super) fn fields(&self, key: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.ask("read from", cmd("HGETALL").arg(key))
    }

    pub(super) fn set_field(&self, key: &[u8], field: &[u8], value: &[u8]) -> Result<()> {
        let mut command = cmd("HSET");
        command.arg(key).arg(field).arg(value);
        self.ask::<u64>("write to", &command).map(drop)
    }

    pub(super) fn remove_fields(&self, key: &[u8], fields: &[&[u8]]) -> Result<()> {
        let mut command = cmd("HDEL");
        command.arg(key).arg(fields);
        self.ask::<u64>("remove from", &command).map(drop)
    }

    /// Returns the first `len` bytes of each string; `None` for a missing key or another type.
    pub(super) fn heads(&self, keys: &[&[u8]], len: usize) -> Result<Vec<Option<Vec<u8>>>> {
        let commands: Vec<Cmd> = keys
            .iter()
            .map(|key| {
                let mut command = cmd("GETRANGE");
                command.arg(*key).arg(0).arg(len - 1);
                command
            })
            .collect();
        self.server.with_link("read from", |link| {
            let answers = link.pipeline(&commands)?;
            let heads = answers
                .into_iter()
                .map(|answer| redis::from_redis_value::<Vec<u8>>(answer.ok()?).ok());
            // A missing key reads as the empty string.
            let heads = heads.map(|head| head.filter(|head| !head.is_empty()));
            Ok(heads.collect())
        })
    }

    /// Passes every key that begins with `prefix` to `page_of`, some at a time.
    pub(super) fn for_pages(
        &self,
        prefix: &[u8],
        page_of: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        let pattern = pattern_of_prefix(prefix);
        let nodes = self.server.with_link("look at", |link| link.nodes())?;
        for node in nodes {
            let mut cursor = 0;
            loop {
                let page = self.server.with_link("look at", |link| {
                    link.scan(&node, cursor, Some(&pattern), PAGE_KEYS)
                })?;
                page_of(&page.keys.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

//! Makes the calls of a program.

use std::sync::Arc;
use std::time::Duration;

use brasa::simulation;
use brasa::{Cache, Db, FieldExpiry, Value, Watch};

use crate::model::{Answer, Contents};
use crate::program::{FIELDS, HASH, Op};
use crate::world::{Cached, CachedKind, World};

/// How long another process's computation is waited for.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// A handle of a thread.
#[derive(Clone)]
pub struct Client {
    world: Arc<World>,
    pub process: usize,
    pub db: Db,
    /// Shared by the threads that share the handle.
    cache: Cache,
    /// The event at which the handle was opened.
    handle: u64,
    watch: Option<Arc<std::sync::Mutex<Watch>>>,
}

impl Client {
    pub fn new(world: &Arc<World>, process: usize, db: Db) -> Client {
        let cache = Cache::options().namespace("cache").strict(true);
        let cache = cache.over_db(db.clone()).expect("a valid namespace");
        Client {
            world: Arc::clone(world),
            process,
            db,
            cache: cache.max_wait(MAX_WAIT),
            handle: world.event(),
            watch: None,
        }
    }

    pub fn without_watch(self) -> Client {
        Client {
            watch: None,
            ..self
        }
    }

    pub fn into_db(self) -> Db {
        self.db
    }

    pub fn perform(&mut self, op: &Op) -> brasa::Result<Answer> {
        match op {
            Op::Watch => {
                let watch = match self.watch.take() {
                    Some(watch) => watch,
                    None => Arc::new(std::sync::Mutex::new(self.db.watch()?)),
                };
                // A watch is this thread's alone: it is taken out while it is read.
                let mut watch = Arc::into_inner(watch)
                    .and_then(|watch| watch.into_inner().ok())
                    .expect("one owner");
                for change in &mut watch {
                    change?;
                }
                self.watch = Some(Arc::new(std::sync::Mutex::new(watch)));
                Ok(Answer::Unit)
            }
            Op::Cached(key, takes_ms) => self.cached(*key, *takes_ms),
            Op::Invalidate(key) => self.invalidate(*key),
            op => self.on(&self.db, op),
        }
    }

    fn values(&self, value: Option<Value>) -> Answer {
        Answer::Value(value.map(|value| self.shortened(&value)))
    }

    /// The bytes of the model that a stored value stands for.
    fn shortened(&self, value: &[u8]) -> Vec<u8> {
        shortened(value, self.world.repeats())
    }

    fn repeated(&self, byte: u8) -> Vec<u8> {
        vec![byte; self.world.repeats()]
    }

    fn on(&self, db: &Db, op: &Op) -> brasa::Result<Answer> {
        let ttl = |ttl_ms: u64| Duration::from_millis(ttl_ms);
        let name = |number: usize| self.world.key(number);
        Ok(match op {
            Op::Get(key) => self.values(db.get(name(*key))?),
            Op::Set(key, byte) => {
                db.set(name(*key), self.repeated(*byte))?;
                Answer::Unit
            }
            Op::SetEx(key, byte, ttl_ms) => {
                let options = brasa::SetOptions::new().ttl(ttl(*ttl_ms));
                db.set_with(name(*key), self.repeated(*byte), options)?;
                Answer::Unit
            }
            Op::Del(key) => Answer::Bool(db.del(name(*key))?),
            Op::Expire(key, ttl_ms) => Answer::Bool(db.expire(name(*key), ttl(*ttl_ms))?),
            Op::Persist(key) => Answer::Bool(db.persist(name(*key))?),
            Op::Append(key, byte) => {
                let length = db.append(name(*key), self.repeated(*byte))?;
                Answer::Count(length / self.world.repeats() as u64)
            }
            Op::Update(key, byte) => {
                let new = db.update(name(*key), |old| {
                    let mut new = old.unwrap_or_default().to_vec();
                    new.extend(self.repeated(*byte));
                    Some(new)
                })?;
                Answer::Value(new.map(|new| self.shortened(&new)))
            }
            Op::HGet(field) => self.values(db.hget(name(HASH), FIELDS[*field])?),
            Op::HSet(field, byte) => {
                Answer::Bool(db.hset(name(HASH), FIELDS[*field], self.repeated(*byte))?)
            }
            Op::HDel(field) => Answer::Bool(db.hdel(name(HASH), FIELDS[*field])?),
            Op::HExpire(field, ttl_ms) => {
                let expiry = db.hexpire(name(HASH), FIELDS[*field], ttl(*ttl_ms))?;
                Answer::Expiry(match expiry {
                    FieldExpiry::Absent => "Absent",
                    FieldExpiry::Set => "Set",
                    _ => "another",
                })
            }
            Op::HPersist(field) => {
                let persisted = db.hpersist(name(HASH), &[FIELDS[*field]])?;
                Answer::Persisted(persisted.into_iter().next().flatten())
            }
            Op::HLen => Answer::Count(db.hlen(name(HASH))?),
            Op::Scan => Answer::Contents(db.transaction(|tx| self.world.contents(tx))?),
            Op::Batch(ops) => {
                db.batch(|batch| {
                    for op in ops {
                        self.batched(batch, op);
                    }
                })?;
                Answer::Unit
            }
            Op::Transaction(ops) => Answer::Many(db.transaction(|tx| {
                let answers = ops.iter().map(|op| match op {
                    Op::Scan => self.world.contents(tx).map(Answer::Contents),
                    op => self.on(tx, op),
                });
                answers.collect::<brasa::Result<Vec<_>>>()
            })?),
            Op::Nested(op) => db.transaction(|_| self.on(db, op))?,
            Op::Compact => {
                db.compact()?;
                Answer::Unit
            }
            Op::Checkpoint => {
                db.checkpoint()?;
                Answer::Unit
            }
            Op::Sync => {
                db.sync()?;
                Answer::Unit
            }
            Op::Backup => {
                let path = format!("backup-{}", self.world.event());
                db.backup(&path)?;
                // Its keys are read one after another, so at a time that stands still.
                let now_ms = brasa::Clock::now_ms(&self.world.clock());
                let clock = brasa::ManualClock::new(now_ms);
                let copy = Db::options().clock(clock).read_only(true);
                let copy = copy.open_on(&self.world.disk, &path)?;
                Answer::Contents(self.world.contents(&copy)?)
            }
            Op::Advance(by_ms) => {
                self.world
                    .move_clock(|now_ms| now_ms.saturating_add(*by_ms));
                Answer::Unit
            }
            Op::TurnBack(by_ms) => {
                self.world
                    .move_clock(|now_ms| now_ms.saturating_sub(*by_ms));
                Answer::Unit
            }
            Op::Watch | Op::Cached(..) | Op::Invalidate(_) | Op::Reopen(_) => {
                unreachable!("{op:?} stands in no transaction")
            }
        })
    }

    fn batched(&self, batch: &mut brasa::Batch, op: &Op) {
        let ttl = |ttl_ms: u64| Duration::from_millis(ttl_ms);
        let name = |number: usize| self.world.key(number);
        match *op {
            Op::Set(key, byte) => batch.set(name(key), self.repeated(byte)),
            Op::SetEx(key, byte, ttl_ms) => {
                batch.set_ex(name(key), self.repeated(byte), ttl(ttl_ms))
            }
            Op::Del(key) => batch.del(name(key)),
            Op::Expire(key, ttl_ms) => batch.expire(name(key), ttl(ttl_ms)),
            Op::HSet(field, byte) => batch.hset(name(HASH), FIELDS[field], self.repeated(byte)),
            Op::HDel(field) => batch.hdel(name(HASH), FIELDS[field]),
            ref other => unreachable!("a batch has no {other:?}"),
        };
    }

    fn cached(&self, key: usize, takes_ms: u64) -> brasa::Result<Answer> {
        let begun = self.world.event();
        let note = |begun: u64, kind: CachedKind| {
            self.world.note_cached(Cached {
                key,
                handle: self.handle,
                begun,
                ended: self.world.event(),
                kind,
            });
        };
        let found = self.cache.get_or_insert_with(format!("k{key}"), || {
            let begun = self.world.event();
            simulation::thread::sleep(Duration::from_millis(takes_ms));
            note(begun, CachedKind::Computed(begun));
            Ok::<String, std::convert::Infallible>(begun.to_string())
        });
        match found {
            Ok(value) => {
                let number = value.parse().expect("a value that was stored");
                note(begun, CachedKind::Returned(number));
                Ok(Answer::Unit)
            }
            Err(brasa::CacheError::Cache(error)) => Err(error),
            Err(error) => panic!("the computation does not fail: {error}"),
        }
    }

    fn invalidate(&self, key: usize) -> brasa::Result<Answer> {
        let begun = self.world.event();
        self.cache.invalidate(format!("k{key}"))?;
        self.world.note_cached(Cached {
            key,
            handle: self.handle,
            begun,
            ended: self.world.event(),
            kind: CachedKind::Invalidated,
        });
        Ok(Answer::Unit)
    }
}

fn shortened(value: &[u8], repeats: usize) -> Vec<u8> {
    let chunks = value.chunks(repeats);
    let is_whole = |chunk: &[u8]| chunk.len() == repeats && chunk.iter().all(|b| *b == chunk[0]);
    assert!(chunks.clone().all(is_whole), "a torn value");
    chunks.map(|chunk| chunk[0]).collect()
}

impl World {
    /// The values of all keys and fields.
    pub fn contents(&self, db: &Db) -> brasa::Result<Contents> {
        let short = |value: Option<Value>| value.map(|value| shortened(&value, self.repeats()));
        let mut strings = Vec::new();
        for key in 0..HASH {
            strings.push(short(db.get(self.key(key))?));
        }
        let mut fields = Vec::new();
        for field in FIELDS {
            fields.push(short(db.hget(self.key(HASH), field)?));
        }
        Ok((strings, fields))
    }
}

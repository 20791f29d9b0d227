//! What a simulated world does: the operations of each thread of each process, drawn from a seed.

use fastrand::Rng;

/// The keys. The first two hold strings, the last one a hash.
pub const KEYS: [&str; 3] = ["s", "t", "h"];
pub const HASH: usize = 2;
pub const FIELDS: [&str; 2] = ["x", "y"];
/// How many keys the cache is asked for.
pub const CACHED_KEYS: usize = 2;

const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// One call of the library. Keys and fields are positions in [`KEYS`] and [`FIELDS`], times are
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    Get(usize),
    Set(usize, u8),
    SetEx(usize, u8, u64),
    Del(usize),
    Expire(usize, u64),
    Persist(usize),
    Append(usize, u8),
    Update(usize, u8),
    HGet(usize),
    HSet(usize, u8),
    HDel(usize),
    HExpire(usize, u64),
    HPersist(usize),
    HLen,
    Scan,
    Batch(Vec<Op>),
    Transaction(Vec<Op>),
    /// Makes a call on the handle from within the closure of a transaction.
    Nested(Box<Op>),
    Compact,
    Checkpoint,
    Sync,
    Backup,
    /// Reads the changes since the thread's last call of this kind.
    Watch,
    /// Asks a cache over the handle for a value; the computation takes so long.
    Cached(usize, u64),
    Invalidate(usize),
    /// Closes this thread's handle and opens another one.
    Reopen(Mode),
    /// Moves the clock that all processes read.
    Advance(u64),
    TurnBack(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Shared,
    Exclusive,
    ReadOnly,
}

/// A fault of the disk: the operation of this kind after so many others fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    SyncFails(u64),
    DirectorySyncFails(u64),
    WriteFails(u64),
    WriteIsShort(u64),
    DiskIsFull(u64),
    /// A bit of the copy that a compaction or a backup makes is wrong.
    CopyRots(u64),
}

/// A whole world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Each process is a list of threads, which share one handle at first.
    pub processes: Vec<Vec<Vec<Op>>>,
    /// Which process is killed, and at which of its operations on the disk.
    pub kill: Option<(usize, u64)>,
    pub fault: Option<Fault>,
    /// Whether every write is synced before it returns.
    pub always: bool,
    /// Whether the file may hold a few values only, and evicts.
    pub budget: bool,
    /// Whether the file is compacted in the background.
    pub compacts: bool,
    /// Seeds what two power losses during writes have left in the file.
    pub torn_tail: Option<u64>,
    /// Seeds the state of the device after a power loss at the end.
    pub power_loss: Option<u64>,
    /// Which bit of the file is wrong in the end.
    pub flip: Option<u64>,
}

/// What the calls of a program are mostly about. Some faults need several rare calls together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Everything,
    Cache,
    /// The clock also goes back, and far ahead.
    Clock,
    /// Deadlines that pass during transactions and compactions.
    Deadlines,
    /// Evictions.
    Budget,
    /// The file begins with what a power loss has left.
    TornTail,
}

impl Focus {
    fn random(rng: &mut Rng) -> Focus {
        match rng.u8(..10) {
            0 => Focus::Cache,
            1 => Focus::Clock,
            2..=3 => Focus::Deadlines,
            4 => Focus::Budget,
            5 => Focus::TornTail,
            _ => Focus::Everything,
        }
    }
}

impl Program {
    pub fn random(seed: u64) -> Program {
        let mut rng = Rng::with_seed(seed);
        let focus = Focus::random(&mut rng);
        let process_count = rng.usize(1..=4);
        let most = match focus {
            Focus::Budget => 10,
            _ => 5,
        };
        let processes = (0..process_count)
            .map(|_| {
                let thread_count = rng.usize(1..=if process_count > 2 { 2 } else { 3 });
                let ops =
                    |rng: &mut Rng| (0..rng.usize(2..=most)).map(|_| op(rng, focus)).collect();
                (0..thread_count).map(|_| ops(&mut rng)).collect()
            })
            .collect();
        let kill = (process_count > 1 && rng.u8(..4) == 0)
            .then(|| (rng.usize(..process_count), rng.u64(1..120)));
        let fault = (rng.u8(..5) == 0).then(|| {
            let after = rng.u64(..60);
            match rng.u8(..7) {
                0 | 1 => Fault::SyncFails(after / 8),
                2 => Fault::DirectorySyncFails(after / 30),
                3 => Fault::WriteFails(after),
                4 => Fault::WriteIsShort(after),
                5 => Fault::CopyRots(after / 10),
                _ => Fault::DiskIsFull(after),
            }
        });
        let power_loss = rng.bool().then(|| rng.u64(..));
        let flips = power_loss.is_none() && rng.u8(..3) == 0;
        Program {
            processes,
            kill,
            fault,
            always: rng.bool(),
            budget: focus == Focus::Budget,
            compacts: rng.u8(..4) == 0,
            torn_tail: (focus == Focus::TornTail).then(|| rng.u64(..)),
            power_loss,
            flip: flips.then(|| rng.u64(..)),
        }
    }

    /// The program as Rust code, for a test.
    pub fn code(&self) -> String {
        format!("{self:?}")
            .replace('[', "vec![")
            .replace("Nested(", "nested(")
    }
}

impl Op {
    /// Whether the call reads or changes keys.
    pub fn has_keys(&self) -> bool {
        let has_none = matches!(
            self,
            Op::Compact
                | Op::Checkpoint
                | Op::Sync
                | Op::Watch
                | Op::Cached(..)
                | Op::Invalidate(_)
                | Op::Reopen(_)
                | Op::Advance(_)
                | Op::TurnBack(_)
        );
        !has_none
    }

    /// Whether the call may change a key.
    pub fn is_write(&self) -> bool {
        match self {
            Op::Get(_) | Op::HGet(_) | Op::HLen | Op::Scan | Op::Backup | Op::Nested(_) => false,
            Op::Transaction(ops) => ops.iter().any(Op::is_write),
            op => op.has_keys(),
        }
    }
}

/// For programs in `found.rs`: [`Program::code`] writes it.
#[allow(dead_code, reason = "not every list of programs has one")]
pub fn nested(op: Op) -> Op {
    Op::Nested(Box::new(op))
}

fn op(rng: &mut Rng, focus: Focus) -> Op {
    match (focus, rng.u8(..40)) {
        (Focus::Cache, 0..=9) => match rng.u8(..4) {
            0 => Op::Invalidate(rng.usize(..CACHED_KEYS)),
            _ => Op::Cached(rng.usize(..CACHED_KEYS), rng.u64(..1_000)),
        },
        (Focus::Clock, 0..=4) => match rng.bool() {
            true => Op::TurnBack(rng.u64(1..=60)),
            false => Op::Advance(rng.u64(1..=YEAR_MS)),
        },
        (Focus::Clock, 5..=12) => deadline(rng),
        (Focus::Clock, 13..=16) => Op::Compact,
        (Focus::Deadlines, 0..=9) => deadline(rng),
        (Focus::Deadlines, 10..=17) => {
            Op::Transaction([deadline(rng), Op::Advance(rng.u64(1..=40)), deadline(rng)].into())
        }
        (Focus::Deadlines, 18..=22) => Op::Compact,
        (Focus::Budget, 0..=19) => match rng.bool() {
            true => Op::Set(rng.usize(..HASH), rng.u8(..)),
            false => Op::Append(rng.usize(..HASH), rng.u8(..)),
        },
        (_, number) => general(rng, number),
    }
}

fn general(rng: &mut Rng, number: u8) -> Op {
    match number {
        0..=18 => simple(rng),
        19..=20 => Op::Batch((0..rng.usize(1..=3)).map(|_| batched(rng)).collect()),
        21..=24 => Op::Transaction((0..rng.usize(1..=3)).map(|_| in_transaction(rng)).collect()),
        25..=27 => Op::Compact,
        28 => Op::Checkpoint,
        29 => Op::Sync,
        30 => Op::Backup,
        31 => Op::Watch,
        32..=33 => Op::Reopen(match rng.u8(..6) {
            0 => Mode::Exclusive,
            1 => Mode::ReadOnly,
            _ => Mode::Shared,
        }),
        34..=36 => Op::Nested(Box::new(nested_op(rng))),
        _ => Op::Advance(rng.u64(1..=40)),
    }
}

/// A call that has to do with the deadline of one string or of the hash.
fn deadline(rng: &mut Rng) -> Op {
    let value = rng.u8(..);
    match rng.u8(..11) {
        0 | 1 => Op::SetEx(0, value, ttl(rng)),
        2 => Op::Expire(0, ttl(rng)),
        3 | 4 => Op::Persist(0),
        5 => Op::HSet(0, value),
        6 => Op::HExpire(0, ttl(rng)),
        7 => Op::HPersist(0),
        8 => Op::Expire(HASH, ttl(rng)),
        9 => Op::Persist(HASH),
        _ => Op::Get(0),
    }
}

fn ttl(rng: &mut Rng) -> u64 {
    rng.u64(1..=60)
}

/// A call within a transaction. Time may pass there: its closure may be long.
fn in_transaction(rng: &mut Rng) -> Op {
    match rng.u8(..8) {
        0 => Op::Advance(rng.u64(1..=40)),
        _ => simple(rng),
    }
}

fn nested_op(rng: &mut Rng) -> Op {
    match rng.u8(..6) {
        0 => Op::Get(rng.usize(..HASH)),
        1 => Op::HLen,
        2 => Op::Set(rng.usize(..HASH), rng.u8(..)),
        3 => Op::Compact,
        4 => Op::Checkpoint,
        _ => Op::Sync,
    }
}

/// A call that reads or changes one key.
fn simple(rng: &mut Rng) -> Op {
    let string = rng.usize(..HASH);
    let key = rng.usize(..KEYS.len());
    let field = rng.usize(..FIELDS.len());
    let value = rng.u8(..);
    match rng.u8(..17) {
        0 | 1 => Op::Get(string),
        2 => Op::Set(string, value),
        3 | 4 => Op::SetEx(string, value, ttl(rng)),
        5 => Op::Del(key),
        6 => Op::Expire(key, ttl(rng)),
        7 | 8 => Op::Persist(key),
        9 => Op::Append(string, value),
        10 => Op::Update(string, value),
        11 => Op::HGet(field),
        12 => Op::HSet(field, value),
        13 => Op::HDel(field),
        14 => Op::HExpire(field, ttl(rng)),
        15 => Op::HPersist(field),
        _ => match rng.bool() {
            true => Op::HLen,
            false => Op::Scan,
        },
    }
}

fn batched(rng: &mut Rng) -> Op {
    let field = rng.usize(..FIELDS.len());
    let key = rng.usize(..KEYS.len());
    match rng.u8(..6) {
        0 => Op::Set(rng.usize(..HASH), rng.u8(..)),
        1 => Op::SetEx(rng.usize(..HASH), rng.u8(..), ttl(rng)),
        2 => Op::Del(key),
        3 => Op::Expire(key, ttl(rng)),
        4 => Op::HSet(field, rng.u8(..)),
        _ => Op::HDel(field),
    }
}

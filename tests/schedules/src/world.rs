//! Runs a program in a simulated world, and notes its history.
//!
//! A process is a number of threads of the scheduler. Its handles are opened by these threads, so
//! that the disk can take their locks when the process is killed.

use std::cell::RefCell;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use brasa::simulation::{self, FaultyOperation, Loss, Mutation, Schedule, SimulatedDisk, Step};
use brasa::{Clock, Db, Durability, Error};
use simulation::thread;

use crate::judge::Call;
use crate::model::Answer;
use crate::pairs::{Kind, Pairs};
use crate::perform::Client;
use crate::program::{Fault, KEYS, Mode, Op, Program};
use crate::scheduler::{MAX_STEPS, SeededScheduler};
use crate::verdict;

pub const PATH: &str = "file.brasa";
const BEGIN_MS: u64 = 1_000_000;
/// Enough for two keys of a world with a budget, with short values.
const BUDGET_BYTES: u64 = 4_500;
/// How long the keys of a world with a budget are: evicting one takes a long record.
const KEY_BYTES_IN_BUDGET: usize = 900;
/// How many times a value is repeated in a world with a budget.
const REPEATS_IN_BUDGET: usize = 600;

/// Runs a program under the schedule of a seed, with the engine broken in one way if told so. Returns
/// which calls overlapped, or the report of a finding.
pub fn run(program: &Program, seed: u64, mutation: Option<Mutation>) -> Result<Pairs, String> {
    PANIC.take();
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(MAX_STEPS as usize);
    config.silence_warnings = true;
    let program = program.clone();
    let runner = shuttle::Runner::new(SeededScheduler::new(seed), config);
    let pairs = Arc::new(Mutex::new(Pairs::default()));
    let of_world = Arc::clone(&pairs);
    let run = || runner.run(move || *lock(&of_world) = execute(&program, seed));
    let run = AssertUnwindSafe(|| match mutation {
        Some(mutation) => simulation::with_mutation(mutation, run),
        None => run(),
    });
    match std::panic::catch_unwind(run) {
        Ok(_) => Ok(std::mem::take(&mut *lock(&pairs))),
        Err(payload) => {
            drop(payload);
            let text = PANIC.take();
            let stacks = simulation::collected_stacks();
            simulation::collect_stacks(0);
            let stacks = stacks.iter().map(|stack| shortened_stack(stack)).collect();
            Err([vec![text], stacks].concat().join("\n"))
        }
    }
}

thread_local! {
    /// The text and the stack of the first panic of an execution: those that follow come of it.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says, for the report.
pub fn note_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("a panic without a text");
    let stack = std::backtrace::Backtrace::force_capture().to_string();
    PANIC.with_borrow_mut(|first| {
        if first.is_empty() {
            let place = panic
                .location()
                .map_or_else(String::new, ToString::to_string);
            *first = format!("{text}\n  {place}\n{}", shortened_stack(&stack));
        }
    });
}

/// The lines of a stack that name files of brasa.
fn shortened_stack(stack: &str) -> String {
    let places = stack.lines().map(str::trim);
    let places = places.filter(|line| line.starts_with("at ") && line.contains("/src/"));
    let ours = places.filter(|line| !line.contains("/rustc/") && !line.contains("/registry/"));
    let ours = ours.filter(|line| !line.contains("/sync/"));
    let names = ours.filter_map(|line| line.split("/src/").last());
    format!("  a thread is at: {}", names.collect::<Vec<_>>().join(", "))
}

/// A clock whose readings the history knows: nothing is switched between a move and its note.
#[derive(Debug, Clone)]
struct WorldClock(Arc<Mutex<History>>);

impl Clock for WorldClock {
    fn now_ms(&self) -> u64 {
        lock(&self.0).now_ms()
    }
}

#[derive(Debug, Default)]
pub struct History {
    events: u64,
    pub calls: Vec<Call>,
    /// When the clock was moved, and to what.
    times_ms: Vec<(u64, u64)>,
    pub cached: Vec<Cached>,
}

/// What a cache did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub key: usize,
    pub handle: u64,
    pub begun: u64,
    pub ended: u64,
    pub kind: CachedKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedKind {
    Computed(u64),
    Returned(u64),
    Invalidated,
}

impl History {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    pub fn now_ms(&self) -> u64 {
        self.times_ms.last().map_or(BEGIN_MS, |(_, ms)| *ms)
    }

    pub fn latest_ms(&self) -> u64 {
        let times = self.times_ms.iter().map(|(_, ms)| *ms);
        times.max().unwrap_or(BEGIN_MS).max(BEGIN_MS)
    }

    /// Fills in the times that the clock showed during each call.
    fn date_calls(&mut self) {
        for call in &mut self.calls {
            let before = self.times_ms.iter().rfind(|(event, _)| *event < call.begun);
            let meanwhile = self.times_ms.iter();
            let meanwhile = meanwhile.filter(|(at, _)| *at > call.begun && *at < call.ended);
            call.times_ms = std::iter::once(before.map_or(BEGIN_MS, |(_, ms)| *ms))
                .chain(meanwhile.map(|(_, ms)| *ms))
                .collect();
            call.times_ms.dedup();
            let until = self.times_ms.iter().filter(|(at, _)| *at < call.ended);
            call.latest_ms = until.map(|(_, ms)| *ms).max().unwrap_or(0).max(BEGIN_MS);
        }
    }
}

pub struct World {
    pub program: Program,
    pub disk: SimulatedDisk,
    pub history: Arc<Mutex<History>>,
    /// A position of the log before the first call.
    pub first_position: u64,
    steps: Arc<Steps>,
    /// Handles of killed processes: to drop one is to close it.
    graveyard: Mutex<Vec<Client>>,
    /// Handles that are still open in the end.
    survivors: Mutex<Vec<Client>>,
}

/// Where processes are killed: before an operation on the disk.
struct Steps {
    kill: Option<(usize, u64)>,
    state: Mutex<StepState>,
}

#[derive(Default)]
struct StepState {
    /// Taken away at the end, since the disk holds the steps.
    disk: Option<SimulatedDisk>,
    taken: u64,
    is_killed: bool,
}

/// Locks a mutex of the world. No thread is switched while one of these is held.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Steps {
    fn is_killed(&self, process: usize) -> bool {
        self.kill.is_some_and(|(killed, _)| killed == process) && lock(&self.state).is_killed
    }

    fn killed() -> io::Error {
        io::Error::other("the process was killed")
    }
}

impl Schedule for Steps {
    fn step(&self, step: Step) -> io::Result<()> {
        match step {
            Step::Refused => thread::yield_now(),
            _ => thread::sleep(Duration::ZERO),
        }
        let (Some((killed, at)), Some(process)) = (self.kill, thread::process()) else {
            return Ok(());
        };
        if process != killed {
            return Ok(());
        }
        let mut state = lock(&self.state);
        state.taken += 1;
        if !state.is_killed && state.taken >= at {
            state.is_killed = true;
            let disk = state.disk.clone();
            drop(state);
            if let Some(disk) = disk {
                disk.release_locks_of(Some(killed));
            }
            return Err(Steps::killed());
        }
        match state.is_killed {
            true => Err(Steps::killed()),
            false => Ok(()),
        }
    }
}

fn execute(program: &Program, seed: u64) -> Pairs {
    let disk = match program.torn_tail {
        Some(torn) => torn_disk(seed, torn),
        None => SimulatedDisk::new(seed),
    };
    let steps = Arc::new(Steps {
        kill: program.kill,
        state: Mutex::new(StepState {
            disk: Some(disk.clone()),
            ..StepState::default()
        }),
    });
    let mut world = World {
        program: program.clone(),
        disk,
        history: Arc::default(),
        first_position: 0,
        steps: Arc::clone(&steps),
        graveyard: Mutex::default(),
        survivors: Mutex::default(),
    };
    // The file is there before anything can fail.
    let first = world.open(Mode::Shared).expect("a new file");
    let watch = first.watch().expect("a new file can be watched");
    world.first_position = watch.position();
    drop((first, watch));
    let world = Arc::new(world);
    world.disk.schedule(Arc::clone(&steps) as Arc<dyn Schedule>);
    if let Some(fault) = program.fault {
        inject(&world.disk, fault);
    }
    let processes: Vec<_> = (0..program.processes.len())
        .map(|process| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.run_process(process))
        })
        .collect();
    for process in processes {
        process.join().expect("no thread panics");
    }
    world.disk.heal();
    let survivors = std::mem::take(&mut *lock(&world.survivors)).into_iter();
    let (killed, survivors): (Vec<_>, Vec<_>) =
        survivors.partition(|client| steps.is_killed(client.process));
    lock(&world.graveyard).extend(killed);
    verdict::judge_resources(&world, &survivors);
    drop(survivors);
    verdict::judge(&world);
    lock(&world.graveyard).clear();
    lock(&steps.state).disk = None;
    let history = lock(&world.history);
    Pairs::of(&history.calls)
}

/// A disk on which the power was lost twice while a key was written. The first time a part of the
/// write is left, and the second time a part of what replaces it.
fn torn_disk(seed: u64, torn: u64) -> SimulatedDisk {
    let mut rng = fastrand::Rng::with_seed(torn);
    let mut disk = SimulatedDisk::new(seed);
    for _ in 0..2 {
        let options = Db::options().durability(Durability::Os);
        let db = options.open_on(&disk, PATH).expect("a sound file");
        db.sync().expect("no fault yet");
        db.set("torn", [7; 24]).expect("no fault yet");
        let crash = disk.crash_at(disk.operation_count());
        let lengths = crash.unsynced_lengths();
        let number = rng.usize(..lengths.len().max(1));
        let length = lengths.get(number).copied().unwrap_or(0);
        let loss = match rng.u8(..3) {
            0 => Loss::AllBut(number),
            1 => Loss::Torn(number, rng.usize(..=length / 8) * 8),
            _ => Loss::TornTail(number, rng.usize(..=length / 8) * 8),
        };
        let image = crash.image(loss, crash.unsynced_names(), rng.u64(..), &[]);
        // Closing would write.
        std::mem::forget(db);
        // Each start draws other numbers, as real ones do.
        disk = image.restart(rng.u64(..));
    }
    disk
}

fn inject(disk: &SimulatedDisk, fault: Fault) {
    use FaultyOperation as Operation;
    let (after, operation, error) = match fault {
        Fault::SyncFails(after) => (after, Operation::Sync, io::ErrorKind::Other),
        Fault::DirectorySyncFails(after) => (after, Operation::SyncDirectory, io::ErrorKind::Other),
        Fault::WriteFails(after) | Fault::WriteIsShort(after) => {
            (after, Operation::Write, io::ErrorKind::Other)
        }
        Fault::DiskIsFull(after) => (after, Operation::Allocate, io::ErrorKind::StorageFull),
        Fault::CopyRots(after) => return disk.rot_unnamed(after),
    };
    disk.inject(
        simulation::Fault::new(error)
            .operation(operation)
            .after(after)
            .short(matches!(fault, Fault::WriteIsShort(_))),
    );
}

impl World {
    pub fn clock(&self) -> impl Clock + 'static {
        WorldClock(Arc::clone(&self.history))
    }

    /// How many bytes stand for one of the model.
    pub fn repeats(&self) -> usize {
        match self.program.budget {
            true => REPEATS_IN_BUDGET,
            false => 1,
        }
    }

    /// The name of a key of the model.
    pub fn key(&self, number: usize) -> String {
        match self.program.budget {
            true => format!("{:-<KEY_BYTES_IN_BUDGET$}", KEYS[number]),
            false => KEYS[number].to_owned(),
        }
    }

    pub fn open(&self, mode: Mode) -> brasa::Result<Db> {
        let options = Db::options()
            .clock(self.clock())
            .auto_compact(self.program.compacts)
            .compact_floor_bytes(1 << 10)
            .lock_timeout(Duration::from_millis(50))
            .durability(match self.program.always {
                true => Durability::Always,
                false => Durability::Os,
            })
            .exclusive(mode == Mode::Exclusive)
            .read_only(mode == Mode::ReadOnly);
        let options = match self.program.budget {
            true => options.max_bytes(BUDGET_BYTES).mapping_step_bytes(4096),
            false => options,
        };
        options.open_on(&self.disk, PATH)
    }

    /// Opens a handle as a thread of a process does.
    fn open_client(self: &Arc<Self>, process: usize, mode: Mode) -> Option<Client> {
        let number = self.begin(process, Op::Reopen(mode));
        let opened = self.open(mode);
        self.end(
            process,
            number,
            opened.as_ref().map(|_| Answer::Unit).map_err(|_| ()),
        );
        match opened {
            Ok(db) => Some(Client::new(self, process, db)),
            Err(error) => {
                self.expect_allowed(process, &error);
                None
            }
        }
    }

    fn run_process(self: &Arc<Self>, process: usize) {
        thread::enter_process(process);
        let Some(client) = self.open_client(process, Mode::Shared) else {
            return;
        };
        let threads: Vec<_> = self.program.processes[process]
            .iter()
            .cloned()
            .map(|ops| {
                let (world, client) = (Arc::clone(self), client.clone());
                thread::spawn(move || {
                    world.run_thread(process, client, &ops);
                })
            })
            .collect();
        self.bury_or_close(process, client);
        for thread in threads {
            thread.join().expect("no thread panics");
        }
    }

    fn bury_or_close(&self, process: usize, client: Client) {
        if self.steps.is_killed(process) {
            return lock(&self.graveyard).push(client);
        }
        let number = self.begin_kind(process, Kind::Close, Op::Reopen(Mode::Shared));
        // The errors of a close are those of the fault that was injected.
        drop(client.into_db().close());
        self.end(process, number, Ok(Answer::Unit));
    }

    fn run_thread(self: &Arc<Self>, process: usize, client: Client, ops: &[Op]) {
        let (mut client, mut is_exclusive) = (Some(client), false);
        for op in ops {
            if self.steps.is_killed(process) {
                break;
            }
            if let Op::Reopen(mode) = op {
                if let Some(old) = client.take() {
                    self.bury_or_close(process, old);
                }
                client = self.open_client(process, *mode);
                is_exclusive = *mode == Mode::Exclusive;
            } else if let Some(client) = &mut client {
                self.call(process, client, op);
            }
        }
        match client {
            None => {}
            Some(client) if self.steps.is_killed(process) => lock(&self.graveyard).push(client),
            // An exclusive handle would keep all others waiting.
            Some(client) if is_exclusive => self.bury_or_close(process, client),
            // A watch keeps the file that it reads, and a handle does not.
            Some(client) => lock(&self.survivors).push(client.without_watch()),
        }
    }

    fn begin(&self, process: usize, op: Op) -> usize {
        self.begin_kind(process, Kind::of(&op), op)
    }

    fn begin_kind(&self, process: usize, kind: Kind, op: Op) -> usize {
        let mut history = lock(&self.history);
        let begun = history.event();
        history.calls.push(Call {
            process,
            kind,
            op,
            begun,
            ended: u64::MAX,
            times_ms: Vec::new(),
            latest_ms: 0,
            answer: None,
            is_durable: false,
        });
        history.calls.len() - 1
    }

    fn end(&self, process: usize, number: usize, answer: Result<Answer, ()>) {
        // A killed process can tell nobody its answers.
        let answer = answer.ok().filter(|_| !self.steps.is_killed(process));
        let mut history = lock(&self.history);
        let ended = history.event();
        let call = &mut history.calls[number];
        call.ended = ended;
        if answer.is_none() {
            return;
        }
        call.answer = answer;
        let is_write = call.op.is_write() && call.answer != Some(Answer::Refused);
        call.is_durable = self.program.always && is_write;
        if call.op == Op::Sync && call.answer == Some(Answer::Unit) {
            let begun = call.begun;
            for earlier in &mut history.calls {
                let is_over = earlier.ended < begun && earlier.answer.is_some();
                earlier.is_durable |= is_over && earlier.op.is_write();
            }
        }
    }

    /// Makes a call, and notes it.
    pub fn call(&self, process: usize, client: &mut Client, op: &Op) {
        let number = self.begin(process, op.clone());
        let result = client.perform(op);
        let result = match result {
            Err(ref error) if self.promises_nothing_changed(error) => Ok(Answer::Refused),
            result => result,
        };
        if let Err(error) = &result {
            self.expect_allowed(process, error);
        }
        self.end(process, number, result.map_err(|_| ()));
    }

    pub fn event(&self) -> u64 {
        lock(&self.history).event()
    }

    pub fn note_cached(&self, cached: Cached) {
        lock(&self.history).cached.push(cached);
    }

    pub fn move_clock(&self, change: impl FnOnce(u64) -> u64) {
        let mut history = lock(&self.history);
        let at = history.event();
        let now_ms = change(history.now_ms());
        history.times_ms.push((at, now_ms));
    }

    /// The calls with the times that the clock showed, for the judge.
    pub fn dated(&self) -> MutexGuard<'_, History> {
        let mut history = lock(&self.history);
        history.date_calls();
        history
    }

    fn expect_allowed(&self, process: usize, error: &Error) {
        let has_fault = self.disk.fault_count() > 0;
        let is_allowed = match error {
            Error::CannotCompact { .. } | Error::Locked { .. } => true,
            Error::Corrupt { .. } => matches!(self.program.fault, Some(Fault::CopyRots(_))),
            Error::ReadOnly { .. } | Error::OverBudget { .. } | Error::Reentered { .. } => true,
            _ => has_fault || self.steps.is_killed(process),
        };
        assert!(is_allowed, "an error without a cause: {error:?}");
    }

    /// Whether a call that failed has changed nothing. Under `Always` a write may still appear later
    /// if its sync has failed, or could not be begun; see `Db::set`.
    fn promises_nothing_changed(&self, error: &Error) -> bool {
        match error {
            Error::Locked { lock, .. } => *lock != "sync",
            Error::ReadOnly { .. } | Error::OverBudget { .. } | Error::Reentered { .. } => true,
            _ => !self.program.always,
        }
    }
}

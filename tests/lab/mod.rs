//! The crash laboratory: runs a script on a simulated disk, loses power at every operation in
//! many ways, recovers, and holds what is there against what was promised.
//!
//! Used by `tests/crash_lab.rs` (a bounded slice) and `examples/crash_lab.rs` (as long as you like).

mod script;

use std::collections::BTreeMap;
use std::fmt;

use brasa::simulation::{Crash, Fault, Image, Loss, SimulatedDisk};
use brasa::{Clock, Db, Durability, Error, KeyType, ManualClock};

pub use script::{SCRIPTS, Script, Step};

const PATH: &str = "cache.brasa";

/// When scripts begin, in Unix milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// What a file holds: every key with its value, and deadlines as a part of it.
pub type Contents = BTreeMap<(u8, Vec<u8>), Entry>;

#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    String(Vec<u8>, Option<u64>),
    Hash(BTreeMap<Vec<u8>, Field>, Option<u64>),
}

/// The value of a field, and its deadline.
type Field = (Vec<u8>, Option<u64>);

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deadline_ms = match self {
            Entry::String(value, deadline_ms) => {
                write!(f, "{}", brief(value))?;
                deadline_ms
            }
            Entry::Hash(fields, deadline_ms) => {
                let fields = fields
                    .iter()
                    .map(|(field, (value, until))| (brief(field), (brief(value), until)));
                f.debug_map().entries(fields).finish()?;
                deadline_ms
            }
        };
        match deadline_ms {
            Some(deadline_ms) => write!(f, " until {deadline_ms}"),
            None => Ok(()),
        }
    }
}

/// As scripts write it: `x*700` for what is long.
fn brief(value: &[u8]) -> String {
    match value {
        [first, .., _] if value.len() > 20 => format!("{}*{}", char::from(*first), value.len()),
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}

impl Entry {
    /// Without what has expired; `None` where nothing is left.
    fn live(&self, now_ms: u64) -> Option<Entry> {
        let (Entry::String(_, deadline_ms) | Entry::Hash(_, deadline_ms)) = self;
        if is_over(*deadline_ms, now_ms) {
            return None;
        }
        let Entry::Hash(fields, _) = self else {
            return Some(self.clone());
        };
        let mut fields = fields.clone();
        fields.retain(|_, (_, deadline_ms)| !is_over(*deadline_ms, now_ms));
        (!fields.is_empty()).then_some(Entry::Hash(fields, *deadline_ms))
    }

    /// Whether it is `before`, but for some of the fields that have expired.
    fn is_left_of(&self, before: &Entry, now_ms: u64) -> bool {
        match (self, before) {
            (Entry::Hash(fields, deadline_ms), Entry::Hash(all, deadline_before_ms)) => {
                deadline_ms == deadline_before_ms
                    && fields
                        .iter()
                        .all(|(field, held)| all.get(field) == Some(held))
                    && all.iter().all(|(field, (_, deadline_ms))| {
                        fields.contains_key(field) || is_over(*deadline_ms, now_ms)
                    })
            }
            _ => self == before,
        }
    }
}

fn is_over(deadline_ms: Option<u64>, now_ms: u64) -> bool {
    deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
}

/// Whether `found` is `before`, but for some of what has expired: a compaction drops that for good.
fn is_left_of(found: &Contents, before: &Contents, now_ms: u64) -> bool {
    let is_new = |key| !before.contains_key(key);
    !found.keys().any(is_new)
        && before.iter().all(|(key, entry)| match found.get(key) {
            Some(found) => found.is_left_of(entry, now_ms),
            None => entry.live(now_ms).is_none(),
        })
}

/// How much to try.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Damages at each operation.
    pub damages: usize,
    /// Every so many states it is written to after recovery, and opened again.
    pub write_every: u64,
    /// Every so many states power is lost again, within recovery and the writes after it.
    pub crash_again_every: u64,
    /// Steps at the start of the script within which no power is lost.
    pub skip_steps: usize,
}

/// How many states were tried, by the kind of loss.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub by_loss: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn count(&mut self, kind: &'static str) {
        *self.by_loss.entry(kind).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.by_loss.values().sum()
    }
}

/// A promise that was broken, with all that is needed to see it again.
#[derive(Debug)]
pub struct Broken {
    pub script: String,
    pub durability: Durability,
    pub seed: u64,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nagain: cargo run --release --features simulation --example crash_lab -- \
             --seed {} --durability {} --script \"{}\"",
            self.what,
            self.seed,
            durability_name(self.durability),
            self.script
        )
    }
}

pub fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Always => "always",
        Durability::Os => "os",
        _ => "interval",
    }
}

/// A script that was run: every state that the file went through, and when.
struct Run {
    disk: SimulatedDisk,
    /// What the file held after each change, the empty file first.
    states: Vec<Contents>,
    marks: Vec<Mark>,
    /// Whether something was made to fail.
    faulty: bool,
    /// How many steps were over before anything failed.
    sound_steps: usize,
    /// Whether the file was compacted, or may have been.
    compacts: bool,
    /// Whether there may be checkpoints in it.
    checkpoints: bool,
}

/// What was promised when a step had returned.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Operations on the disk when the step began and when it returned.
    begin: usize,
    end: usize,
    /// The state that was acknowledged, and the one that was acknowledged as being on the device.
    acknowledged: usize,
    synced: usize,
    /// The latest state that may be there: the step may have failed and appear all the same.
    possible: usize,
    /// The time when it had returned.
    now_ms: u64,
}

/// Runs a script; its steps may fail where a fault was injected. `Err` says what was wrong
/// without any loss of power.
fn run(
    script: &Script,
    durability: Durability,
    seed: u64,
    fault: Option<Fault>,
) -> Result<Run, String> {
    let disk = SimulatedDisk::new(seed);
    if let Some(fault) = fault {
        disk.inject(fault);
    }
    let mut runner = Runner {
        run: Run {
            disk,
            states: vec![Contents::new()],
            marks: Vec::new(),
            faulty: fault.is_some(),
            sound_steps: 0,
            compacts: script.compacts(),
            checkpoints: script.checkpoints(),
        },
        clock: ManualClock::new(START_MS),
        durability,
        db: None,
        closing_compacts: false,
        has_written: false,
        synced: 0,
        acknowledged: 0,
    };
    for (number, step) in script.steps.iter().enumerate() {
        let next = number + usize::from(step.ends_the_handle());
        runner.closing_compacts = script.closing_compacts(next);
        runner.step(step)?;
        if runner.run.disk.fault_count() == 0 {
            runner.run.sound_steps = number + 1;
        }
    }
    runner.closing_compacts = false;
    runner.finish()
}

struct Runner {
    run: Run,
    clock: ManualClock,
    durability: Durability,
    db: Option<Db>,
    /// Whether a handle that is opened now compacts when it closes.
    closing_compacts: bool,
    /// Whether the handle that is open has changed anything.
    has_written: bool,
    synced: usize,
    acknowledged: usize,
}

impl Runner {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let begin = self.run.disk.operation_count();
        // Who has written nothing syncs nothing on closing, such as what a killed process has left.
        let has_written = self.db.is_some() && self.has_written;
        let promises_nothing = step.ends_the_handle() && !has_written;
        let log_bytes = self.log_bytes();
        let result = self.take(step);
        // A deletion of what is not there writes nothing, and syncs nothing that another step has failed to.
        let has_grown = self.log_bytes() != log_bytes;
        if let Err(error) = &result
            && !self.run.faulty
        {
            return Err(format!("{step:?} failed without a reason: {error}"));
        }
        self.observe(step, result.is_ok() && !promises_nothing, has_grown)?;
        self.run.marks.push(Mark {
            begin,
            end: self.run.disk.operation_count(),
            acknowledged: self.acknowledged,
            synced: self.synced,
            possible: self.run.states.len() - 1,
            now_ms: self.clock.now_ms(),
        });
        Ok(())
    }

    /// Compares what the live handle shows with what may be, and notes what was promised.
    fn observe(&mut self, step: &Step, succeeded: bool, has_grown: bool) -> Result<(), String> {
        let newest = self.run.states.len() - 1;
        if let Some(db) = &self.db {
            let now = dump(db, &self.clock).map_err(|error| format!("cannot read: {error}"))?;
            let before = &self.run.states[newest];
            let now_ms = self.clock.now_ms();
            if *step == Step::Compact && succeeded {
                // Exactly what has expired is gone.
                let live = before.iter();
                let live = live.filter_map(|(key, entry)| Some((key.clone(), entry.live(now_ms)?)));
                let expected: Contents = live.collect();
                if now != expected {
                    return Err(format!("compacted to {now:?}, and not {expected:?}"));
                }
            }
            if now != *before {
                let is_compacted = self.run.compacts && is_left_of(&now, before, now_ms);
                if !step.changes() && !is_compacted {
                    return Err(format!(
                        "{step:?} changed what is there: {now:?}, {before:?}"
                    ));
                }
                self.has_written |= step.changes();
                self.run.states.push(now);
            }
        }
        if !succeeded {
            return Ok(());
        }
        let syncs = matches!(
            step,
            Step::Sync | Step::Reopen | Step::Close | Step::Compact | Step::Checkpoint
        );
        if syncs || step.changes() {
            // Closing succeeds although compacting has failed, perhaps at the last moment, before the new name was on the
            // device: the old file may be back, with what has expired.
            self.acknowledged = match step {
                Step::Close if self.run.faulty => newest,
                _ => self.run.states.len() - 1,
            };
        }
        if syncs || (step.changes() && has_grown && self.durability == Durability::Always) {
            self.synced = self.acknowledged;
        }
        Ok(())
    }

    /// How long the log is, as the open handle sees it.
    fn log_bytes(&self) -> Option<u64> {
        self.db.as_ref()?.stats().ok().map(|stats| stats.log_bytes)
    }

    fn take(&mut self, step: &Step) -> brasa::Result<()> {
        match step {
            Step::Reopen | Step::Close => {
                let closed = self.db.take().map_or(Ok(()), Db::close);
                self.run.disk.kill_all();
                closed?;
                self.db().map(drop)
            }
            Step::Kill => {
                if let Some(db) = self.db.take() {
                    std::mem::forget(db);
                }
                self.run.disk.kill_all();
                self.db().map(drop)
            }
            Step::Advance(by) => {
                self.clock.advance(*by);
                Ok(())
            }
            Step::Durability(durability) => {
                self.durability = *durability;
                self.take(&Step::Kill)
            }
            step => step.apply(self.db()?),
        }
    }

    fn db(&mut self) -> brasa::Result<&Db> {
        let db = match self.db.take() {
            Some(db) => db,
            None => {
                self.has_written = false;
                let (disk, clock) = (&self.run.disk, &self.clock);
                open(disk, self.durability, clock, self.closing_compacts)?
            }
        };
        Ok(self.db.insert(db))
    }

    /// After the last step the process is killed; what it leaves without a loss of power must be all of it.
    fn finish(mut self) -> Result<Run, String> {
        self.run.disk.heal();
        let _ = self.take(&Step::Kill);
        self.observe(&Step::Kill, false, false)?;
        if let Some(db) = self.db.take() {
            std::mem::forget(db);
        }
        self.run.disk.kill_all();
        Ok(self.run)
    }
}

/// Opens the file; closing compacts it, if it is to, whenever a byte of it is dead.
fn open(
    disk: &SimulatedDisk,
    durability: Durability,
    clock: &ManualClock,
    closing_compacts: bool,
) -> brasa::Result<Db> {
    Db::options()
        .auto_compact(closing_compacts)
        .compact_dead_percent(0)
        .compact_floor_bytes(0)
        .durability(durability)
        .clock(clock.clone())
        .lock_timeout(std::time::Duration::ZERO)
        .mapping_step_bytes(4096)
        .open_on(disk, PATH)
}

/// Everything in the file, what has expired too: a function of the log alone.
pub fn dump(db: &Db, clock: &ManualClock) -> brasa::Result<Contents> {
    let now_ms = clock.now_ms();
    clock.set(0);
    let contents = dump_now(db);
    clock.set(now_ms);
    contents
}

fn dump_now(db: &Db) -> brasa::Result<Contents> {
    let mut contents = Contents::new();
    let key_count = db.stats()?.key_count;
    for number in 0..16 {
        if contents.len() as u64 == key_count {
            break;
        }
        let db = db.database(number)?;
        for key in db.keys() {
            let key = key?;
            let deadline_ms = db.deadline_ms(&key)?;
            let entry = match db.key_type(&key)? {
                Some(KeyType::Hash) => {
                    let (names, values): (Vec<_>, Vec<_>) = db.hgetall(&key)?.into_iter().unzip();
                    let deadlines = db.hdeadlines_ms(&key, &names)?.into_iter();
                    let values = values.into_iter().map(|value| value.to_vec());
                    let held = values.zip(deadlines);
                    let names = names.iter().map(|name| name.to_vec());
                    Entry::Hash(names.zip(held).collect(), deadline_ms)
                }
                _ => {
                    let value = db.get(&key)?.map(|value| value.to_vec());
                    Entry::String(value.unwrap_or_default(), deadline_ms)
                }
            };
            contents.insert((number, key.to_vec()), entry);
        }
    }
    Ok(contents)
}

/// Runs a script and loses power at every operation of it, or where something is made to fail from that step on.
/// `false` if the fault was not to strike within the script: nothing is tried then.
pub fn enumerate(
    script: &Script,
    durability: Durability,
    seed: u64,
    fault: Option<Fault>,
    effort: Effort,
    tally: &mut Tally,
) -> Result<bool, Broken> {
    let broken = |what: String| Broken {
        script: script.text.clone(),
        durability,
        seed,
        what,
    };
    let run = run(script, durability, seed, fault).map_err(&broken)?;
    if fault.is_some() && run.disk.fault_count() == 0 {
        return Ok(false);
    }
    // Before the fault it is the run without one.
    let skip_steps = match fault {
        Some(_) => run.sound_steps,
        None => effort.skip_steps,
    };
    let first = match skip_steps.checked_sub(1) {
        Some(last) => run.marks.get(last).map_or(0, |mark| mark.end),
        None => 0,
    };
    // What another file, of the same shape, left where ours grows.
    let other = SimulatedDisk::new(seed ^ 0xffff);
    let garbage = foreign_file(script, &other).map_err(|error| broken(error.to_string()))?;
    let mut lab = Lab {
        garbage,
        random: seed,
        effort,
        tally,
    };
    for upto in first..=run.disk.operation_count() {
        lab.lose_power(&run, durability, upto)
            .map_err(|what| broken(format!("operation {upto}: {what}")))?;
    }
    Ok(true)
}

/// Another file that the script's changes were made to.
fn foreign_file(script: &Script, disk: &SimulatedDisk) -> brasa::Result<Vec<u8>> {
    let clock = ManualClock::new(START_MS);
    let db = open(disk, Durability::Os, &clock, false)?;
    for step in &script.steps {
        if step.changes() {
            let _ = step.apply(&db);
        }
    }
    db.close()?;
    let image = disk.killed_image(disk.operation_count());
    let bytes = image.file(PATH).map(<[u8]>::to_vec);
    Ok(bytes.unwrap_or_default())
}

struct Lab<'a> {
    /// Another file of the same shape.
    garbage: Vec<u8>,
    random: u64,
    effort: Effort,
    tally: &'a mut Tally,
}

/// What a power loss left, and what may be in it.
struct Subject<'a> {
    image: Image,
    allowed: &'a [Contents],
    /// Whether it is what a killed process leaves: then there is nothing to repair either.
    killed: bool,
    /// Whether the file may have been compacted, and the time then.
    compacts: bool,
    /// Whether there may be checkpoints in it.
    checkpoints: bool,
    now_ms: u64,
}

impl Subject<'_> {
    /// Whether it may hold this: one of the states, but for what a compaction has dropped.
    fn allows(&self, found: &Contents) -> bool {
        is_allowed(self.allowed, found, self.compacts.then_some(self.now_ms))
    }
}

/// Whether something is one of the states; or, where the file was compacted, one of them without what had expired by then.
fn is_allowed(allowed: &[Contents], found: &Contents, compacted_ms: Option<u64>) -> bool {
    allowed.contains(found)
        || compacted_ms.is_some_and(|now_ms| {
            let mut states = allowed.iter();
            states.any(|state| is_left_of(found, state, now_ms))
        })
}

/// What follows on a recovery.
struct SecondLife {
    disk: SimulatedDisk,
    clock: ManualClock,
    durability: Durability,
    /// As for [`open`].
    closing_compacts: bool,
}

impl SecondLife {
    fn open(&self) -> brasa::Result<Db> {
        open(
            &self.disk,
            self.durability,
            &self.clock,
            self.closing_compacts,
        )
    }
}

/// A file that takes no more writes after a failed sync takes them again once it was compacted.
fn after_poison(second: &SecondLife, db: &Db, recovered: &Contents) -> Result<(), String> {
    let compacted_ms = Some(second.clock.now_ms());
    let written = || {
        db.compact()?;
        let found = dump(db, &second.clock)?;
        db.set("z", "7")?;
        Ok::<_, Error>(found)
    };
    match written() {
        Ok(found) if is_allowed(std::slice::from_ref(recovered), &found, compacted_ms) => Ok(()),
        found => Err(format!(
            "compacted after a failed sync: {found:?}, and not {recovered:?}"
        )),
    }
}

/// A way to lose power: what of the contents, and how many of the names.
type Damage = (Loss, usize, u64);

impl Lab<'_> {
    fn next_random(&mut self) -> u64 {
        // Knuth's MMIX generator; its high bits are good.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_random()).unwrap() % bound.max(1)
    }

    /// Loses power after the first `upto` operations, in many ways.
    fn lose_power(&mut self, run: &Run, durability: Durability, upto: usize) -> Result<(), String> {
        let returned = run.marks.iter().rev().find(|mark| mark.end <= upto);
        let begun = run.marks.iter().rev().find(|mark| mark.begin < upto);
        let least_synced = returned.map_or(0, |mark| mark.synced);
        // Where a sync failed, the pages are lost to the device although the process goes on
        // seeing them: only what was synced is safe then.
        let least_killed = match run.faulty {
            true => least_synced,
            false => returned.map_or(0, |mark| mark.acknowledged),
        };
        let most = begun.map_or(0, |mark| mark.possible);

        let crash = run.disk.crash_at(upto);
        for damage in self.damages(&crash) {
            let (loss, names, seed) = damage;
            let killed = loss == Loss::Nothing && names == crash.unsynced_names();
            let least = match killed {
                true => least_killed,
                false => least_synced,
            };
            let subject = Subject {
                image: crash.image(loss, names, seed, &self.garbage),
                allowed: &run.states[least..=most.max(least)],
                killed: killed && !run.faulty,
                compacts: run.compacts,
                checkpoints: run.checkpoints,
                now_ms: begun.map_or(START_MS, |mark| mark.now_ms),
            };
            self.recover(&subject, durability)
                .map_err(|what| format!("{loss:?}, {names} names, seed {seed}: {what}"))?;
            self.tally.count(loss.name());
        }
        let image = run.disk.killed_image(upto);
        self.rot(&image, run.checkpoints)
    }

    /// The ways to lose power at a moment: each systematic one, and chance for the rest.
    fn damages(&mut self, crash: &Crash) -> Vec<Damage> {
        let lengths = crash.unsynced_lengths();
        let all_names = crash.unsynced_names();
        let mut losses = vec![
            Loss::All,
            Loss::Nothing,
            Loss::Data,
            Loss::DataForGarbage,
            Loss::Size,
            Loss::Blocks(512),
            Loss::Blocks(4096),
        ];
        for (index, length) in lengths.iter().enumerate() {
            losses.extend([Loss::One(index), Loss::AllBut(index), Loss::From(index)]);
            // The commit's last word, and the zero word behind it, are where tears would hurt.
            let cuts = [
                1,
                8,
                length / 2,
                length.saturating_sub(8),
                length.saturating_sub(1),
            ];
            for cut in cuts {
                losses.extend([
                    Loss::Torn(index, cut),
                    Loss::TornHead(index, cut),
                    Loss::TornTail(index, cut),
                ]);
            }
            losses.extend([Loss::Hole(index, 2), Loss::Hole(index, 4)]);
        }
        let mut damages: Vec<Damage> = Vec::new();
        for loss in losses {
            damages.push((loss, all_names, self.next_random()));
            if all_names > 0 {
                damages.push((loss, self.below(all_names), self.next_random()));
            }
        }
        // More than there is time for: chance decides, but the first few are always tried.
        while damages.len() > self.effort.damages {
            let out = 5 + self.below(damages.len() - 5);
            damages.swap_remove(out);
        }
        while damages.len() < self.effort.damages {
            let names = self.below(all_names + 1);
            let index = self.below(lengths.len());
            let cut = self.below(lengths.get(index).map_or(1, |length| length + 1));
            let loss = match self.below(6) {
                0 => Loss::Blocks(512),
                1 => Loss::Blocks(4096),
                2 => Loss::Torn(index, cut),
                3 => Loss::TornTail(index, cut),
                4 => Loss::Hole(index, 1 + self.below(lengths.len())),
                _ => Loss::TornHead(index, cut),
            };
            damages.push((loss, names, self.next_random()));
        }
        damages
    }

    /// Opens what a power loss has left, and looks whether it is one of the allowed states.
    fn recover(&mut self, subject: &Subject<'_>, durability: Durability) -> Result<(), String> {
        // The clock may have been lost as well.
        let clock = match self.tally.total().is_multiple_of(3) {
            true => ManualClock::new(START_MS),
            false => ManualClock::new(subject.now_ms),
        };
        let disk = subject.image.restart(self.next_random());
        let closing_compacts = subject.compacts;
        let opened = open(&disk, durability, &clock, closing_compacts);
        let db = opened.map_err(|error| format!("{error}"))?;
        let found = dump(&db, &clock).map_err(|error| format!("{error}"))?;
        if !subject.allows(&found) {
            let allowed = subject.allowed;
            return Err(format!("found {found:?}, allowed were {allowed:?}"));
        }
        if subject.checkpoints {
            let by_log = Db::options().ignore_checkpoints(true).read_only(true);
            let by_log = by_log.clock(clock.clone()).open_on(&disk, PATH);
            let by_log = by_log.and_then(|db| dump(&db, &clock));
            if !matches!(&by_log, Ok(by_log) if *by_log == found) {
                return Err(format!(
                    "by its checkpoint {found:?}, by its log {by_log:?}"
                ));
            }
        }
        let torn_bytes = db.recovery().torn_bytes;
        if subject.killed && torn_bytes > 0 {
            return Err(format!(
                "a killed process left {torn_bytes} bytes to repair"
            ));
        }
        let count = self.tally.total();
        if !count.is_multiple_of(self.effort.write_every) {
            return Ok(());
        }
        let crash_again = count.is_multiple_of(self.effort.crash_again_every);
        let second = SecondLife {
            disk,
            clock,
            durability,
            closing_compacts,
        };
        self.go_on(&second, db, found, crash_again)
    }

    /// Writes after recovery, opens again, and where it is its turn loses power in all of that. If the script compacts,
    /// that is done as well.
    fn go_on(
        &mut self,
        second: &SecondLife,
        db: Db,
        recovered: Contents,
        crash_again: bool,
    ) -> Result<(), String> {
        let (disk, clock) = (&second.disk, &second.clock);
        let compacted_ms = second.closing_compacts.then(|| clock.now_ms());
        let mut states = vec![recovered];
        let mut synced = vec![(disk.operation_count(), 0)];
        for value in ["7", "8"] {
            // Of the same lengths as what the scripts write, so that its first word is theirs.
            match db.set("z", value) {
                Ok(()) => {}
                // After a sync that failed, that is right; a compaction is the way out.
                Err(Error::Poisoned { .. }) => return after_poison(second, &db, &states[0]),
                Err(error) => return Err(format!("cannot go on: {error}")),
            }
            states.push(dump(&db, clock).map_err(|error| format!("{error}"))?);
            if second.durability == Durability::Always {
                synced.push((disk.operation_count(), states.len() - 1));
            }
        }
        db.close()
            .map_err(|error| format!("cannot close: {error}"))?;
        synced.push((disk.operation_count(), states.len() - 1));

        let newest = states.len() - 1;
        let shows_the_newest = |db: &Db| match dump(db, clock) {
            Ok(found) if is_allowed(&states[newest..], &found, compacted_ms) => Ok(()),
            found => Err(format!("opened again: {found:?}, and not {states:?}")),
        };
        let db = second.open().map_err(|error| format!("again: {error}"))?;
        shows_the_newest(&db)?;
        if compacted_ms.is_some() {
            db.compact().map_err(|error| format!("again: {error}"))?;
            shows_the_newest(&db)?;
            db.close().map_err(|error| format!("again: {error}"))?;
            let db = second.open().map_err(|error| format!("again: {error}"))?;
            shows_the_newest(&db)?;
        }
        if !crash_again {
            return Ok(());
        }
        for upto in 0..=disk.operation_count() {
            let least = synced.iter().rev().find(|(end, _)| *end <= upto);
            let allowed = &states[least.map_or(0, |(_, state)| *state)..];
            let crash = disk.crash_at(upto);
            for (loss, names, seed) in self.damages(&crash) {
                let image = crash.image(loss, names, seed, &self.garbage);
                let disk = image.restart(seed);
                let found =
                    open(&disk, second.durability, clock, false).and_then(|db| dump(&db, clock));
                match found {
                    Ok(found) if is_allowed(allowed, &found, compacted_ms) => {}
                    found => {
                        return Err(format!(
                            "power lost again at operation {upto}, {loss:?}, seed {seed}: \
                             found {found:?}, allowed were {allowed:?}"
                        ));
                    }
                }
                self.tally.count("a second loss after recovery");
            }
        }
        Ok(())
    }

    /// Flips a bit where the file is known to be on the device: that is corruption, and said to be. Only in what a checkpoint makes
    /// needless, or is made of, it may go unnoticed, and then changes nothing.
    fn rot(&mut self, image: &Image, checkpoints: bool) -> Result<(), String> {
        const LOG_START: usize = 12_288;
        let clock = ManualClock::new(START_MS);
        let look = |image: &Image| {
            let db = open(&image.restart(1), Durability::Os, &clock, false)?;
            dump(&db, &clock)
        };
        let sound = look(image);
        let mut image = image.clone();
        let Some(file) = image.file_mut(PATH) else {
            return Ok(());
        };
        let synced_upto = brasa::inspect::check_bytes(file).map_or(0, |report| report.synced_upto);
        let synced_upto = usize::try_from(synced_upto).unwrap();
        if synced_upto <= LOG_START {
            return Ok(());
        }
        let at = LOG_START + self.below(synced_upto - LOG_START);
        file[at] ^= 1 << self.below(8);
        let found = look(&image);
        self.tally.count("a flipped bit");
        match found {
            Err(Error::Corrupt { .. }) => Ok(()),
            Err(error) => Err(format!("a flipped bit at {at} gave another error: {error}")),
            Ok(found) if checkpoints && sound.as_ref().is_ok_and(|sound| *sound == found) => Ok(()),
            Ok(found) => Err(format!(
                "a flipped bit at {at} was not noticed: {found:?}, not {sound:?}"
            )),
        }
    }
}

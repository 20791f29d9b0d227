//! Random calls against a model made of plain maps, with a clock that moves both ways, reopening,
//! and files cut at any byte.
//!
//! After each step everything that the public functions show is compared: every key of every
//! database with its type, value, deadline and time to live, the counts, and the bytes that are
//! live in the log. `PROPTEST_CASES` sets how many cases are tried; what once failed is kept in
//! `tests/model.proptest-regressions` and tried first.

#[path = "model/asking.rs"]
mod asking;
#[path = "model/calls.rs"]
mod calls;
#[path = "model/meaning.rs"]
mod meaning;
#[path = "model/steps.rs"]
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use brasa::{
    Clock, Db, Durability, Error, KeyType, ManualClock, Options, ScanOptions, Ttl, Value, inspect,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use tempfile::TempDir;

use asking::ask;
use calls::{Bytes, Op};
use meaning::{Data, Entry, Fields, Model, ttl};
use steps::{Between, ClockMove, DATABASES, Ending, Place, START_MS, Step, steps};

/// Where the log begins: see `docs/format.md`.
const LOG_START: u64 = 12_288;

/// More pages than any scan of so few keys can have.
const MAX_PAGES: usize = 1_000;

type Checked<T = ()> = Result<T, TestCaseError>;

fn config() -> Config {
    let mut config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 512;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_file_answers_every_call_as_the_model_does(
        steps in steps(),
        verify_on_read in any::<bool>(),
        always in prop::bool::weighted(0.2),
    ) {
        let durability = if always { Durability::Always } else { Durability::Os };
        Run::on_disk(durability, verify_on_read)?.take(&steps)?;
    }

    #[test]
    fn a_database_in_memory_answers_every_call_as_the_model_does(steps in steps()) {
        Run::in_memory()?.take(&steps)?;
    }
}

#[cfg(feature = "simulation")]
proptest! {
    #![proptest_config(config())]

    /// On a simulated disk, since there no thread compacts before the file is closed.
    #[test]
    fn a_file_that_every_closing_compacts_answers_every_call_as_the_model_does(steps in steps()) {
        Run::compacted_on_close()?.take(&steps)?;
    }
}

/// A database, and the model that goes beside it.
struct Run {
    clock: ManualClock,
    durability: Durability,
    verify_on_read: bool,
    /// Where the file is; nowhere if it is in memory.
    home: Option<Home>,
    /// The disk, if every closing compacts the file.
    #[cfg(feature = "simulation")]
    disk: Option<brasa::simulation::SimulatedDisk>,
    /// `None` only for a moment, while the file is opened again.
    db: Option<Db>,
    model: Model,
    /// What the model held when the log ended at an offset, in the order of the commits.
    history: Vec<(u64, Model)>,
    /// Whether the file was cut: an unfinished commit may stand behind the log's end.
    may_have_remains: bool,
    /// Where the log ended after the last compaction in this handle.
    compacted_upto: Option<u64>,
    /// Where the log ended when the file was opened.
    opened_upto: u64,
    /// Whether there may be a checkpoint in the file.
    has_checkpoint: bool,
    /// Values that were handed out, and the bytes that they showed then.
    kept: Vec<(Value, Bytes)>,
}

struct Home {
    directory: TempDir,
    path: PathBuf,
    copies: usize,
}

impl Home {
    fn next_path(&mut self) -> PathBuf {
        self.copies += 1;
        self.directory.path().join(format!("{}.brasa", self.copies))
    }
}

impl Run {
    fn on_disk(durability: Durability, verify_on_read: bool) -> Checked<Run> {
        let directory = TempDir::new()?;
        let path = directory.path().join("0.brasa");
        let home = Home {
            directory,
            path,
            copies: 0,
        };
        let mut run = Run::new(durability, verify_on_read, Some(home));
        run.open()?;
        Ok(run)
    }

    fn in_memory() -> Checked<Run> {
        let mut run = Run::new(Durability::Os, false, None);
        run.db = Some(allowed(run.options().open_in_memory())?);
        Ok(run)
    }

    #[cfg(feature = "simulation")]
    fn compacted_on_close() -> Checked<Run> {
        let mut run = Run::new(Durability::Os, false, None);
        run.disk = Some(brasa::simulation::SimulatedDisk::new(1));
        run.open()?;
        Ok(run)
    }

    fn new(durability: Durability, verify_on_read: bool, home: Option<Home>) -> Run {
        Run {
            clock: ManualClock::new(START_MS),
            durability,
            verify_on_read,
            home,
            #[cfg(feature = "simulation")]
            disk: None,
            db: None,
            model: Model::default(),
            history: vec![(LOG_START, Model::default())],
            may_have_remains: false,
            compacted_upto: None,
            opened_upto: LOG_START,
            has_checkpoint: false,
            kept: Vec::new(),
        }
    }

    fn options(&self) -> Options {
        Db::options()
            .durability(self.durability)
            .verify_on_read(self.verify_on_read)
            .clock(self.clock.clone())
            .auto_compact(false)
            // Nobody else has the file.
            .lock_timeout(Duration::ZERO)
            // The file outgrows its mapping all the time.
            .mapping_step_bytes(1)
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is open between the steps")
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn take(&mut self, steps: &[Step]) -> Checked {
        for step in steps {
            self.step(step)?;
            self.compare(self.db(), &self.model)?;
        }
        for (value, bytes) in &self.kept {
            prop_assert_eq!(
                &**value,
                bytes.as_slice(),
                "a value that was handed out changed"
            );
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Call(database, op) => self.call(*database, op),
            Step::Clock(clock_move) => {
                let now_ms = self.now_ms();
                match *clock_move {
                    ClockMove::ForwardMs(ms) => self.clock.advance(Duration::from_millis(ms)),
                    ClockMove::BackMs(ms) => self.clock.set(now_ms.saturating_sub(ms)),
                    ClockMove::To(moment) => self.clock.set(moment),
                }
                Ok(())
            }
            Step::Sync => allowed(self.db().sync()),
            Step::Compact => self.compact(),
            Step::Checkpoint => self.checkpoint(),
            Step::Reopen(ending) => self.reopen(*ending),
            Step::Scan {
                database,
                count,
                key_type,
                between,
            } => self.scan(*database, *count, *key_type, between),
            Step::Hscan {
                database,
                key,
                count,
                between,
            } => self.hscan(*database, key, *count, between),
            Step::Cut {
                place,
                read_only,
                go_on,
            } => self.cut(*place, *read_only, *go_on),
            Step::CutBelowSynced(part) => self.cut_below_synced(*part),
        }
    }

    fn log_end(&self) -> Checked<u64> {
        Ok(LOG_START + allowed(self.db().stats())?.log_bytes)
    }

    /// Makes a call to both, and compares what they answer.
    fn call(&mut self, number: u8, op: &Op) -> Checked {
        let now_ms = self.now_ms();
        let before = self.model.clone();
        let expected = self.model.perform(number, op, now_ms);
        let log_end = self.log_end()?;
        let db = allowed(self.db().database(number))?;
        let reply = ask(&db, op, now_ms, &mut self.kept)?;
        prop_assert_eq!(&reply, &expected, "database {} answers {:?}", number, op);

        let new_log_end = self.log_end()?;
        let wrote = new_log_end != log_end;
        let changed = !self.model.holds_the_same_as(&before);
        prop_assert!(new_log_end >= log_end);
        prop_assert!(
            wrote || !changed,
            "{:?} changed something and wrote nothing",
            op
        );
        prop_assert!(
            !wrote || expected.is_ok(),
            "{:?} was refused and wrote something",
            op
        );
        if wrote {
            self.remember_commit(log_end, before)?;
        }
        Ok(())
    }

    /// Adds what a call has written to the history: one commit; and before it, where a cut
    /// commit may have left something, a padding that keeps it from coming back.
    fn remember_commit(&mut self, log_end: u64, before: Model) -> Checked {
        let Some(home) = &self.home else {
            return Ok(());
        };
        let mut commits = Vec::new();
        for record in allowed(inspect::records(&home.path))? {
            let record = allowed(record)?;
            if record.offset >= log_end && !record.more {
                commits.push((record.kind, record.offset + record.size_bytes));
            }
        }
        if let [("padding", end), _] = commits[..] {
            prop_assert!(self.may_have_remains, "a padding without a reason");
            self.history.push((end, before));
            commits.remove(0);
        }
        prop_assert_eq!(commits.len(), 1, "a call is one commit");
        self.history.push((commits[0].1, self.model.clone()));
        Ok(())
    }

    /// Writes a checkpoint, after each record of which the file holds what it held before.
    fn checkpoint(&mut self) -> Checked {
        let log_end = self.log_end()?;
        allowed(self.db().checkpoint())?;
        self.has_checkpoint = true;
        let Some(home) = &self.home else {
            return Ok(());
        };
        for record in allowed(inspect::records(&home.path))? {
            let record = allowed(record)?;
            if record.offset >= log_end {
                let is_ours = matches!(record.kind, "page" | "checkpoint" | "padding");
                prop_assert!(is_ours, "a checkpoint has written a {}", record.kind);
                let end = record.offset + record.size_bytes;
                self.history.push((end, self.model.clone()));
            }
        }
        Ok(())
    }

    /// Compacts both. What the log held before is no history any more: nothing of it can come back.
    fn compact(&mut self) -> Checked {
        allowed(self.db().compact())?;
        let of_nothing = self.model.deadlines_of_nothing(self.now_ms());
        self.model.forget_expired(self.now_ms());
        let stats = allowed(self.db().stats())?;
        prop_assert_eq!(stats.dead_bytes, of_nothing);
        self.may_have_remains = false;
        self.compacted_upto = Some(LOG_START + stats.log_bytes);
        if let Some(home) = &self.home {
            self.history.clear();
            self.history.push((LOG_START, self.model.clone()));
            for record in allowed(inspect::records(&home.path))? {
                let record = allowed(record)?;
                let end = record.offset + record.size_bytes;
                self.history.push((end, self.model.clone()));
            }
            prop_assert_eq!(stats.synced_upto, LOG_START + stats.log_bytes);
        }
        Ok(())
    }

    fn is_compacted_on_close(&self) -> bool {
        #[cfg(feature = "simulation")]
        return self.disk.is_some();
        #[cfg(not(feature = "simulation"))]
        false
    }

    /// After a closing that may have compacted: it has dropped expired keys and fields, or not.
    fn learn_what_is_left(&mut self) -> Checked {
        let now_ms = self.now_ms();
        let clock = self.clock.clone();
        let mut model = self.model.clone();
        // Then nothing has expired.
        clock.set(0);
        for number in DATABASES {
            let db = allowed(self.db().database(number))?;
            let mut left = meaning::Database::new();
            for (key, entry) in model.database(number).clone() {
                let mut entry = entry;
                let is_live = entry.is_live(now_ms);
                match &mut entry.data {
                    Data::String(_) if !is_live && !allowed(db.exists(&key))? => continue,
                    Data::String(_) => {}
                    Data::Hash(fields) => {
                        let found = owned(allowed(db.hgetall(&key))?);
                        for (name, value) in &found {
                            let known = fields.get(name).map(|field| &field.value);
                            prop_assert_eq!(known, Some(value));
                        }
                        // What has not expired must be there, so that it is looked for.
                        fields.retain(|name, field| {
                            is_live && field.is_live(now_ms) || found.contains_key(name)
                        });
                        if fields.is_empty() {
                            continue;
                        }
                    }
                }
                left.insert(key, entry);
            }
            *model.database(number) = left;
        }
        clock.set(now_ms);
        self.model = model;
        Ok(())
    }

    fn open(&mut self) -> Checked {
        self.compacted_upto = None;
        #[cfg(feature = "simulation")]
        if let Some(disk) = &self.disk {
            let options = self.options().auto_compact(true).compact_dead_percent(0);
            let options = options.compact_floor_bytes(0);
            self.db = Some(allowed(options.open_on(disk, "0.brasa"))?);
        }
        if let Some(home) = &self.home {
            self.db = Some(allowed(self.options().open(&home.path))?);
            self.opened_upto = self.log_end()?;
        }
        Ok(())
    }

    fn reopen(&mut self, ending: Ending) -> Checked {
        if self.is_compacted_on_close() {
            if let Some(db) = self.db.take() {
                match ending {
                    Ending::Closed => allowed(db.close())?,
                    Ending::Dropped => drop(db),
                }
            }
            self.open()?;
            return self.learn_what_is_left();
        }
        if self.home.is_none() {
            return Ok(());
        }
        let stats = allowed(self.db().stats())?;
        let opened_upto = self.compacted_upto.unwrap_or(self.opened_upto);
        if let Some(db) = self.db.take() {
            match ending {
                Ending::Closed => allowed(db.close())?,
                Ending::Dropped => drop(db),
            }
        }
        self.open()?;
        prop_assert!(self.may_have_remains || self.db().recovery().torn_bytes == 0);
        let again = allowed(self.db().stats())?;
        prop_assert_eq!(again.log_bytes, stats.log_bytes);
        // A handle that wrote nothing need not sync what another has left.
        let wrote = LOG_START + stats.log_bytes > opened_upto;
        prop_assert_eq!(
            again.synced_upto,
            if wrote {
                LOG_START + stats.log_bytes
            } else {
                stats.synced_upto
            },
        );
        Ok(())
    }

    fn scan(
        &mut self,
        number: u8,
        count: usize,
        key_type: Option<KeyType>,
        between: &[Between],
    ) -> Checked {
        let mut options = ScanOptions::new().count(count);
        if let Some(key_type) = key_type {
            options = options.key_type(key_type);
        }
        let mut watch = Watch::new(self.keys_of_type(number, key_type));
        let mut between = between.iter();
        let mut cursor = 0;
        loop {
            let db = allowed(self.db().database(number))?;
            let page = allowed(db.scan(cursor, &options))?;
            drop(db);
            watch.page(count, page.keys.iter().map(|key| key.to_vec()))?;
            cursor = page.cursor;
            if cursor == 0 {
                return watch.finish();
            }
            if let Some(between) = between.next() {
                self.between(number, between)?;
            }
            watch.change(self.keys_of_type(number, key_type));
        }
    }

    fn hscan(&mut self, number: u8, key: &Bytes, count: usize, between: &[Between]) -> Checked {
        let mut watch = Watch::new(self.fields(number, key));
        let mut between = between.iter();
        let mut cursor = 0;
        loop {
            let holds_string = matches!(
                self.model.live(number, self.now_ms()).get(key),
                Some(entry) if entry.key_type() == KeyType::String
            );
            let db = allowed(self.db().database(number))?;
            let page = match db.hscan(key, cursor, count) {
                Err(Error::WrongType) if holds_string => return Ok(()),
                page => allowed(page)?,
            };
            drop(db);
            prop_assert!(!holds_string, "a string has no fields");
            let fields = page.fields.iter();
            watch.page(
                count,
                fields.map(|(field, value)| (field.to_vec(), value.to_vec())),
            )?;
            cursor = page.cursor;
            if cursor == 0 {
                return watch.finish();
            }
            if let Some(between) = between.next() {
                self.between(number, between)?;
            }
            watch.change(self.fields(number, key));
        }
    }

    fn between(&mut self, number: u8, between: &Between) -> Checked {
        match between {
            Between::Call(op) => self.call(number, op),
            Between::Reopen(ending) => self.reopen(*ending),
        }
    }

    fn keys_of_type(&self, number: u8, key_type: Option<KeyType>) -> BTreeSet<Bytes> {
        let live = self.model.live(number, self.now_ms());
        live.into_iter()
            .filter(|(_, entry)| key_type.is_none_or(|wanted| entry.key_type() == wanted))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn fields(&self, number: u8, key: &Bytes) -> BTreeSet<(Bytes, Bytes)> {
        match self.model.live(number, self.now_ms()).get(key) {
            Some(entry) => match &entry.data {
                Data::Hash(fields) => fields
                    .iter()
                    .filter(|(_, field)| field.is_live(self.now_ms()))
                    .map(|(name, field)| (name.clone(), field.value.clone()))
                    .collect(),
                Data::String(_) => BTreeSet::new(),
            },
            None => BTreeSet::new(),
        }
    }

    /// What opens of a file that was cut behind what was synced: the longest prefix of whole
    /// commits that fits.
    fn cut(&mut self, place: Place, read_only: bool, go_on: bool) -> Checked {
        let log_end = self.log_end()?;
        let Some(home) = &mut self.home else {
            return Ok(());
        };
        let synced_upto = allowed(inspect::check(&home.path, |_, _| {}))?.synced_upto;
        let bytes = std::fs::read(&home.path)?;
        // A little more than the log, so that the word which ends it is cut too.
        let longest = (log_end + 16).min(bytes.len() as u64);
        let length = match place {
            Place::Anywhere(part) => synced_upto + part_of(longest - synced_upto, part),
            Place::NearCommit { commit, delta } => {
                let (end, _) = &self.history[usize::from(commit) % self.history.len()];
                end.saturating_add_signed(delta).clamp(synced_upto, longest)
            }
        };
        let whole = self
            .history
            .iter()
            .take_while(|(end, _)| *end <= length)
            .count();
        let (end, expected) = self.history[whole - 1].clone();
        let left = &bytes[to_usize(end)..to_usize(length)];
        let path = home.next_path();
        std::fs::write(&path, &bytes[..to_usize(length)])?;
        let db = allowed(self.options().read_only(read_only).open(&path))?;
        self.compare(&db, &expected)?;
        let recovery = db.recovery();
        match self.has_checkpoint {
            true => prop_assert!(recovery.replayed_bytes <= end - LOG_START),
            false => prop_assert_eq!(recovery.replayed_bytes, end - LOG_START),
        }
        // A word of zeros, or less than a word, is the log's proper end, whatever follows.
        let torn_bytes = match left.first_chunk() {
            None | Some([0, 0, 0, 0, 0, 0, 0, 0]) => 0,
            Some(_) => left
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        };
        prop_assert_eq!(recovery.torn_bytes, torn_bytes as u64);
        if read_only {
            let refused = matches!(db.set("k", "v"), Err(Error::ReadOnly { .. }));
            prop_assert!(refused, "who may only read may write");
            allowed(db.close())?;
            prop_assert!(
                std::fs::read(&path)? == bytes[..to_usize(length)],
                "who may only read has written"
            );
        } else if go_on {
            if let Some(home) = &mut self.home {
                home.path = path;
            }
            self.db = Some(db);
            self.compacted_upto = None;
            self.opened_upto = self.log_end()?;
            self.model = expected;
            self.history.truncate(whole);
            self.may_have_remains = true;
        } else {
            // What was cut off stays away, and what is written in its place stays.
            let mut expected = expected;
            let op = Op::Set(b"k".to_vec(), b"after the cut".to_vec());
            prop_assert!(expected.perform(0, &op, self.now_ms()).is_ok());
            allowed(db.set("k", "after the cut"))?;
            drop(db);
            let db = allowed(self.options().open(&path))?;
            prop_assert_eq!(db.recovery().torn_bytes, 0);
            self.compare(&db, &expected)?;
        }
        Ok(())
    }

    /// A file that lost what was synced does not open, and is left as it is.
    fn cut_below_synced(&mut self, part: u16) -> Checked {
        let Some(home) = &mut self.home else {
            return Ok(());
        };
        let synced_upto = allowed(inspect::check(&home.path, |_, _| {}))?.synced_upto;
        let length = part_of(synced_upto, part).min(synced_upto - 1);
        let bytes = std::fs::read(&home.path)?[..to_usize(length)].to_vec();
        let path = home.next_path();
        std::fs::write(&path, &bytes)?;

        match self.options().open(&path) {
            // An empty file is a new one.
            Ok(db) if length == 0 => {
                prop_assert!(db.recovery().created);
                return Ok(());
            }
            Err(Error::Corrupt { offset, .. }) if length < LOG_START => {
                prop_assert_eq!(offset, length);
            }
            Err(Error::Corrupt { offset, .. }) => {
                let fits = self.history.iter().rev().find(|(end, _)| *end <= length);
                let (end, _) = fits.expect("an empty log fits");
                prop_assert!(
                    (*end..=length).contains(&offset),
                    "{} names {}",
                    length,
                    offset
                );
            }
            opened => prop_assert!(false, "cut at {}: {:?}", length, opened),
        }
        prop_assert!(
            std::fs::read(&path)? == bytes,
            "a damaged file was written to"
        );
        Ok(())
    }

    /// Compares all that can be seen.
    fn compare(&self, db: &Db, model: &Model) -> Checked {
        let now_ms = self.now_ms();
        prop_assert_eq!(db.now_ms(), now_ms);
        let stats = allowed(db.stats())?;
        let mut live_bytes = 0;
        let mut key_count = 0;
        // And one that is never used.
        for number in DATABASES.into_iter().chain([7]) {
            let db = allowed(db.database(number))?;
            let live = model.live(number, now_ms);
            let count = live.len() as u64;
            prop_assert_eq!(allowed(db.len())?, count, "keys of {}", number);
            prop_assert_eq!(allowed(db.is_empty())?, live.is_empty());
            prop_assert_eq!(stats.keys_by_database[usize::from(number)], count);
            key_count += count;
            for (key, entry) in &live {
                live_bytes += entry.record_bytes(key, now_ms);
            }
            let mut keys = Vec::new();
            for key in db.keys() {
                keys.push(allowed(key)?.to_vec());
            }
            keys.sort_unstable();
            let expected: Vec<Bytes> = live.keys().map(|key| (*key).clone()).collect();
            prop_assert_eq!(keys, expected, "the keys of database {}", number);
            for (key, entry) in live {
                self.compare_key(&db, key, entry)?;
            }
            let mut all = model.clone();
            for (key, entry) in all.database(number) {
                if !entry.is_live(now_ms) {
                    prop_assert_eq!(allowed(db.key_type(key))?, None);
                    prop_assert_eq!(allowed(db.ttl(key))?, Ttl::Absent);
                    prop_assert_eq!(allowed(db.get(key))?, None::<Value>);
                    prop_assert_eq!(allowed(db.hlen(key))?, 0);
                }
            }
        }
        prop_assert_eq!(stats.key_count, key_count);
        prop_assert_eq!(stats.live_bytes, live_bytes, "live bytes");
        let counted = stats.live_bytes + stats.dead_bytes + stats.checkpoint_bytes;
        prop_assert_eq!(counted, stats.log_bytes);
        prop_assert!(LOG_START + stats.log_bytes <= stats.file_bytes);
        Ok(())
    }

    fn compare_key(&self, db: &Db, key: &Bytes, entry: &Entry) -> Checked {
        prop_assert_eq!(
            allowed(db.key_type(key))?,
            Some(entry.key_type()),
            "{:?}",
            key
        );
        prop_assert_eq!(
            allowed(db.deadline_ms(key))?,
            entry.deadline_ms,
            "{:?}",
            key
        );
        let expected = ttl(Some(entry.deadline_ms), self.now_ms());
        prop_assert_eq!(allowed(db.ttl(key))?, expected);
        match &entry.data {
            Data::String(value) => {
                let found = allowed(db.get(key))?.map(Vec::from);
                prop_assert_eq!(found.as_ref(), Some(value), "{:?}", key);
                prop_assert!(matches!(db.hget(key, "nome"), Err(Error::WrongType)));
                prop_assert!(matches!(db.hlen(key), Err(Error::WrongType)));
            }
            Data::Hash(fields) => {
                self.compare_fields(db, key, fields)?;
                prop_assert!(matches!(db.get(key), Err(Error::WrongType)));
            }
        }
        Ok(())
    }

    fn compare_fields(&self, db: &Db, key: &Bytes, fields: &Fields) -> Checked {
        let now_ms = self.now_ms();
        let mut live = BTreeMap::new();
        for (name, field) in fields {
            let is_live = field.is_live(now_ms);
            let value = is_live.then_some(&field.value);
            let found = allowed(db.hget(key, name))?.map(Vec::from);
            prop_assert_eq!(found.as_ref(), value, "{:?} {:?}", key, name);
            let deadline_ms = is_live.then_some(field.deadline_ms);
            let found = allowed(db.httl(key, name))?;
            prop_assert_eq!(found, ttl(deadline_ms, now_ms), "{:?} {:?}", key, name);
            let found = allowed(db.hdeadlines_ms(key, &[name]))?;
            prop_assert_eq!(found, [deadline_ms.flatten()], "{:?} {:?}", key, name);
            live.extend(value.map(|value| (name.clone(), value.clone())));
        }
        prop_assert_eq!(allowed(db.hlen(key))?, live.len() as u64);
        let found = allowed(db.hgetall(key))?;
        prop_assert_eq!(found.len(), live.len(), "no field comes twice");
        prop_assert_eq!(owned(found), live, "{:?}", key);
        Ok(())
    }
}

/// What SCAN guarantees, watched over its pages.
struct Watch<T> {
    /// What was there from the start to now.
    throughout: BTreeSet<T>,
    /// What was there at some time since the start.
    ever: BTreeSet<T>,
    seen: BTreeMap<T, usize>,
    pages: usize,
}

impl<T: Ord + Clone + std::fmt::Debug> Watch<T> {
    fn new(there: BTreeSet<T>) -> Watch<T> {
        Watch {
            throughout: there.clone(),
            ever: there,
            seen: BTreeMap::new(),
            pages: 0,
        }
    }

    fn change(&mut self, there: BTreeSet<T>) {
        self.throughout.retain(|one| there.contains(one));
        self.ever.extend(there);
    }

    fn page(&mut self, count: usize, page: impl Iterator<Item = T>) -> Checked {
        let mut on_page = 0;
        for one in page {
            on_page += 1;
            *self.seen.entry(one).or_default() += 1;
        }
        self.pages += 1;
        prop_assert!(self.pages <= MAX_PAGES, "the scan does not end");
        // "About": what shares a hash is not parted. Two that do are rare, three unheard of.
        prop_assert!(on_page <= count + 2, "{} on a page of {}", on_page, count);
        Ok(())
    }

    fn finish(&self) -> Checked {
        for one in &self.throughout {
            let times = self.seen.get(one);
            prop_assert_eq!(times, Some(&1), "{:?} was there throughout", one);
        }
        for one in self.seen.keys() {
            prop_assert!(self.ever.contains(one), "{:?} was never there", one);
        }
        Ok(())
    }
}

/// What a call gave back, or the failure of the case.
fn allowed<T>(result: brasa::Result<T>) -> Checked<T> {
    result.map_err(|error| TestCaseError::fail(error.to_string()))
}

fn owned(fields: Vec<(Value, Value)>) -> BTreeMap<Bytes, Bytes> {
    fields
        .into_iter()
        .map(|(field, value)| (field.to_vec(), value.to_vec()))
        .collect()
}

/// So many 65,535ths of a length.
fn part_of(length: u64, part: u16) -> u64 {
    length * u64::from(part) / u64::from(u16::MAX)
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).expect("it was in memory")
}

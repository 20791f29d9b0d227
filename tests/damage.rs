//! Damage to a real file, byte by byte and bit by bit: what opens is a prefix of whole commits,
//! and what cannot be that is refused with the offset. Nothing that stands behind the log, however
//! much it looks like a record, is ever replayed.
//!
//! What is expected is computed from the undamaged file, by a second reader that was written from
//! the format's page (`tests/support/format.rs`).

mod support;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::inspect::{self, LogEnd, check_bytes};
use brasa::{Db, Durability, ManualClock, SetOptions};

use support::contents::{Content, Contents, Entry, Replay, contents, verdict};
use support::format::{
    self, Image, LOG_START, Log, PAGE_BYTES, Record, SLOT_BYTES, SLOT_STARTS, Slot, Verdict, kind,
};
use support::{Random, scratch_directory};

const NOW_MS: u64 = 1_700_000_000_000;

fn open(path: &Path) -> brasa::Result<Db> {
    Db::options()
        .durability(Durability::Os)
        .clock(ManualClock::new(NOW_MS))
        .open(path)
}

fn open_read_only(path: &Path) -> brasa::Result<Db> {
    Db::options()
        .read_only(true)
        .clock(ManualClock::new(NOW_MS))
        .open(path)
}

/// Commits of every kind that the face can write; each of these is one.
const COMMITS: [fn(&Db) -> brasa::Result<()>; 16] = [
    |db| db.set("chave_1", "Relou Uourdi"),
    |db| db.set("", ""),
    |db| {
        let options = SetOptions::new().ttl(Duration::from_secs(10));
        db.set_with("row:7", "3.21", options).map(drop)
    },
    |db| db.hset("meu_hash", "nome", "thailan").map(drop),
    |db| {
        db.batch(|batch| {
            batch.set("a", [0xff; 9]).set("b", "2").del("chave_1");
            batch.hset("meu_hash", "idade", "29").hset("outro", "", "");
        })
    },
    |db| db.expire("meu_hash", Duration::from_secs(30)).map(drop),
    |db| db.incr_by("visits", -7).map(drop),
    |db| db.database(3)?.set("elsewhere", b"\0\r\n\xfe".repeat(9)),
    |db| db.hdel_many("meu_hash", &["nome", "idade"]).map(drop),
    |db| db.persist("row:7").map(drop),
    |db| db.append("b", "3").map(drop),
    |db| db.del("a").map(drop),
    |db| db.hset_many("h", &[("x", "1"), ("y", "2")]).map(drop),
    |db| db.database(3)?.clear(),
    |db| db.set("b", "again"),
    |db| db.database(15)?.set("last", "commit"),
];

/// How much of a log is known to be on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Synced {
    /// Nothing: a copy taken while the file was open.
    Nothing,
    /// The first half of the commits: a copy as well.
    Half,
    /// Everything: the file was closed.
    Closed,
}

/// A file, and what it held after each of its commits.
struct History {
    file: Vec<u8>,
    states: Vec<Contents>,
    commit_ends: Vec<usize>,
    records: Vec<Range<usize>>,
    end: usize,
    synced_upto: usize,
}

impl History {
    fn new(synced: Synced) -> History {
        let directory = scratch_directory();
        let path = directory.path().join("history.brasa");
        let db = open(&path).unwrap();
        let mut states = vec![contents(&db)];
        for (number, commit) in COMMITS.iter().enumerate() {
            commit(&db).unwrap();
            states.push(contents(&db));
            if synced == Synced::Half && number == COMMITS.len() / 2 {
                db.sync().unwrap();
            }
        }
        if synced == Synced::Closed {
            db.close().unwrap();
        }
        let mut file = fs::read(&path).unwrap();

        let log = Log::read(&file);
        let records: Vec<_> = log
            .records()
            .map(|record| record.start..record.end)
            .collect();
        let commit_ends: Vec<_> = log
            .commits
            .iter()
            .map(|commit| commit[commit.len() - 1].end)
            .collect();
        let end = log.end;
        assert_eq!(commit_ends.len(), COMMITS.len());
        assert!(records.len() > COMMITS.len() + 5);
        let synced_upto = match synced {
            Synced::Nothing => LOG_START,
            Synced::Half => commit_ends[COMMITS.len() / 2],
            Synced::Closed => end,
        };
        let slot = Slot::current(&file).unwrap();
        assert_eq!(slot.synced_upto, synced_upto as u64);
        // The rest is zeros, of which a few will do.
        assert!(file[end..].iter().all(|byte| *byte == 0));
        file.truncate(end + 64);
        History {
            file,
            states,
            commit_ends,
            records,
            end,
            synced_upto,
        }
    }

    fn all(&self) -> &Contents {
        &self.states[COMMITS.len()]
    }

    /// What must come of the file if the first byte that is lost or wrong is this one.
    fn damaged_at(&self, byte: usize) -> Expected<'_> {
        let whole = self.commit_ends.partition_point(|end| *end <= byte);
        let end = whole
            .checked_sub(1)
            .map_or(LOG_START, |last| self.commit_ends[last]);
        if end >= self.synced_upto {
            return Expected::Holds(&self.states[whole]);
        }
        let record = self.records.partition_point(|record| record.end <= byte);
        Expected::Refused(Verdict::Corrupt(self.records[record].start as u64))
    }
}

#[derive(Debug, Clone, Copy)]
enum Expected<'a> {
    Holds(&'a Contents),
    Refused(Verdict),
}

/// Writes a file, and takes the directory away with it when it is dropped.
struct Scratch {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Scratch {
        let directory = scratch_directory();
        Scratch {
            path: directory.path().join("scratch.brasa"),
            _directory: directory,
        }
    }

    fn put(&self, file: &[u8]) {
        fs::write(&self.path, file).unwrap();
    }

    fn take(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Looks at a file in every way that changes nothing.
    fn expect(&self, file: &[u8], expected: Expected<'_>, what: &str) {
        expect_of_bytes(file, expected, what);
        self.put(file);
        for open in [open_read_only, open] {
            match (open(&self.path), expected) {
                (Ok(db), Expected::Holds(state)) => assert_eq!(contents(&db), *state, "{what}"),
                (Err(error), Expected::Refused(refused)) => {
                    assert_eq!(verdict(&error), refused, "{what}: {error}");
                    assert!(error.to_string().contains("scratch.brasa"), "{error}");
                    assert!(self.take() == file, "{what}: it was changed");
                }
                (opened, expected) => panic!("{what}: {opened:?} and not {expected:?}"),
            }
        }
    }

    /// As [`Scratch::expect`] where it opens; and writes go on from what it holds.
    fn expect_and_write(&self, file: &[u8], state: &Contents, what: &str) {
        self.expect(file, Expected::Holds(state), what);
        self.put(file);
        let with_write = self.write_and_close();
        assert_eq!(with_write, after_write(state), "{what}");
        let report = inspect::check(&self.path, |_, _| {}).unwrap();
        assert!(matches!(report.end, LogEnd::Clean), "{what}: {report:?}");
        assert_eq!(contents(&open(&self.path).unwrap()), with_write, "{what}");
    }

    fn write_and_close(&self) -> Contents {
        let db = open(&self.path).unwrap();
        db.set("written", "afterwards").unwrap();
        let held = contents(&db);
        db.close().unwrap();
        held
    }
}

fn after_write(state: &Contents) -> Contents {
    let mut state = state.clone();
    let content = Content::String(b"afterwards".to_vec());
    let deadline_ms = None;
    let entry = Entry {
        content,
        deadline_ms,
    };
    state.insert((0, b"written".to_vec()), entry);
    state
}

fn expect_of_bytes(file: &[u8], expected: Expected<'_>, what: &str) {
    match (check_bytes(file), expected) {
        (Ok(report), Expected::Holds(_)) => assert!(report.is_sound(), "{what}: {report:?}"),
        (Ok(report), Expected::Refused(refused)) => match report.damaged.first() {
            Some(first) => {
                let found = Verdict::Corrupt(first.damage_offset);
                assert_eq!(found, refused, "{what}: {first:?}");
            }
            None => panic!("{what}: {report:?} and not {refused:?}"),
        },
        (Err(error), Expected::Refused(refused)) => {
            assert_eq!(verdict(&error), refused, "{what}: {error}");
        }
        (Err(error), Expected::Holds(_)) => panic!("{what}: {error}"),
    }
}

#[test]
fn a_file_that_ends_within_its_header_is_refused_at_every_length() {
    let history = History::new(Synced::Closed);
    let scratch = Scratch::new();
    for length in 0..LOG_START {
        if length == 0 {
            // An empty file is a new one.
            continue;
        }
        let refused = Expected::Refused(Verdict::Corrupt(length as u64));
        scratch.expect(&history.file[..length], refused, &format!("{length} bytes"));
    }
}

#[test]
fn a_log_that_ends_at_any_byte_holds_the_prefix_of_whole_commits() {
    let scratch = Scratch::new();
    for synced in [Synced::Nothing, Synced::Half, Synced::Closed] {
        let history = History::new(synced);
        for length in LOG_START..=history.file.len() {
            let what = format!("{synced:?}, {length} bytes");
            let file = &history.file[..length];
            match history.damaged_at(length) {
                Expected::Holds(state) => scratch.expect_and_write(file, state, &what),
                refused => scratch.expect(file, refused, &what),
            }
        }
    }
}

/// The file does not become shorter, as it does not when a power loss takes the pages: zeros from
/// some byte on are the same as the end there.
#[test]
fn a_log_of_zeros_from_any_byte_on_holds_the_prefix_of_whole_commits() {
    let scratch = Scratch::new();
    for synced in [Synced::Nothing, Synced::Half] {
        let history = History::new(synced);
        for start in LOG_START..history.end {
            let mut file = history.file.clone();
            file[start..].fill(0);
            // Zeros that were there before are no damage.
            let damaged = (start..history.end).find(|at| history.file[*at] != 0);
            let expected =
                damaged.map_or(Expected::Holds(history.all()), |at| history.damaged_at(at));
            scratch.expect(&file, expected, &format!("{synced:?}, from {start}"));
        }
    }
}

#[test]
fn a_flipped_bit_of_the_header_page_is_noticed() {
    let history = History::new(Synced::Closed);
    let scratch = Scratch::new();
    for bit in 0..PAGE_BYTES * 8 {
        let refused = Expected::Refused(Verdict::Corrupt(0));
        scratch.expect(&flipped(&history.file, bit), refused, &format!("bit {bit}"));
    }
}

#[test]
fn a_flipped_bit_of_a_slot_costs_no_data_and_two_are_noticed() {
    let scratch = Scratch::new();
    for synced in [Synced::Nothing, Synced::Half, Synced::Closed] {
        let history = History::new(synced);
        for byte in PAGE_BYTES..LOG_START {
            let page = byte / PAGE_BYTES * PAGE_BYTES;
            let is_slot = byte < page + SLOT_BYTES;
            let other = SLOT_STARTS
                .into_iter()
                .find(|start| *start != page)
                .unwrap();
            let survives = !is_slot || Slot::read(&history.file, other).is_some();
            // In a new file the second slot has not been written.
            let was_valid = Slot::read(&history.file, page).is_some();
            let expected = match survives || !was_valid {
                true => Expected::Holds(history.all()),
                false => Expected::Refused(Verdict::Corrupt(PAGE_BYTES as u64)),
            };
            for bit in byte * 8..byte * 8 + 8 {
                let what = format!("{synced:?}, bit {bit}");
                let file = flipped(&history.file, bit);
                if is_slot || bit % 8 == byte % 8 {
                    scratch.expect(&file, expected, &what);
                } else {
                    // Nobody looks there: one bit of each byte is opened, all are read.
                    expect_of_bytes(&file, expected, &what);
                }
                if is_slot && was_valid {
                    let mut both = file;
                    both[other + (bit - page * 8) / 8] ^= 1 << (bit % 8);
                    let refused = Expected::Refused(Verdict::Corrupt(PAGE_BYTES as u64));
                    scratch.expect(&both, refused, &what);
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_of_the_log_is_corruption_below_what_is_synced_and_a_cut_behind_it() {
    let scratch = Scratch::new();
    for synced in [Synced::Nothing, Synced::Half, Synced::Closed] {
        let history = History::new(synced);
        for bit in LOG_START * 8..history.file.len() * 8 {
            let what = format!("{synced:?}, bit {bit}");
            let file = flipped(&history.file, bit);
            match history.damaged_at(bit / 8) {
                // A prime, so that every bit of a byte has its turn.
                Expected::Holds(state) if bit % 5 == 0 => {
                    scratch.expect_and_write(&file, state, &what);
                }
                expected => scratch.expect(&file, expected, &what),
            }
        }
    }
}

fn flipped(file: &[u8], bit: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    file[bit / 8] ^= 1 << (bit % 8);
    file
}

#[test]
fn zeros_behind_the_log_are_nothing() {
    let scratch = Scratch::new();
    for synced in [Synced::Nothing, Synced::Closed] {
        let mut history = History::new(synced);
        for length in [0, 1, 7, 8, 31, 32, 4096, 1 << 20] {
            history.file.resize(history.end + length, 0);
            scratch.put(&history.file);
            assert_eq!(open(&scratch.path).unwrap().recovery().torn_bytes, 0);
            let what = format!("{length} zeros");
            scratch.expect_and_write(&history.file, history.all(), &what);
        }
    }
}

#[test]
fn garbage_behind_the_log_is_cut_off_and_counted() {
    let scratch = Scratch::new();
    let mut random = Random(1);
    for synced in [Synced::Nothing, Synced::Closed] {
        let history = History::new(synced);
        for round in 0..300 {
            let mut file = history.file[..history.end].to_vec();
            let length = [8, 9, 32, 33, 100, 5000][round % 6];
            file.extend((0..length).map(|_| random.byte()));
            // A first word that looks like one: a kind, and lengths that fit.
            if round % 2 == 0 {
                let body = u32::try_from(length / 2).unwrap();
                file[history.end..history.end + 4].copy_from_slice(&body.to_le_bytes());
                file[history.end + 4] = 1 + u8::try_from(round % 13).unwrap();
                file[history.end + 5] &= 1;
                file[history.end + 6..history.end + 8].fill(0);
            }
            file[history.end + length - 1] |= 1;
            scratch.put(&file);
            let torn_bytes = open(&scratch.path).unwrap().recovery().torn_bytes;
            assert_eq!(torn_bytes, length as u64, "round {round}");
            let what = format!("{synced:?}, {length} bytes of round {round}");
            scratch.expect_and_write(&file, history.all(), &what);
        }
    }
}

/// A new file, and one `set` in it, nothing of which is synced.
fn file_with(value: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new();
    let db = open(&scratch.path).unwrap();
    if !value.is_empty() {
        db.set("foreign", value).unwrap();
    }
    scratch.take()
}

/// The salt is what keeps it out: the offset and, in the second case, `previous` are right.
#[test]
fn a_record_of_another_file_is_not_replayed() {
    let scratch = Scratch::new();
    let theirs = file_with(b"value");
    let mut record = theirs[LOG_START..Log::read(&theirs).end].to_vec();
    let mut mine = Image::of(&file_with(b""));
    mine.overwrite(LOG_START, &record);
    scratch.expect_and_write(&mine.bytes, &Contents::new(), "as it is");

    let their_salt = format::salt(&theirs);
    format::seal(&mut record, their_salt, LOG_START, mine.salt());
    mine.overwrite(LOG_START, &record);
    scratch.expect_and_write(&mine.bytes, &Contents::new(), "with the right previous");

    // With the right salt it is a record, or all of this would show nothing.
    format::seal(&mut record, mine.salt(), LOG_START, mine.salt());
    mine.overwrite(LOG_START, &record);
    let held = strings(&[("foreign", "value")]);
    scratch.expect_and_write(&mine.bytes, &held, "with the right salt");
}

/// Of the same file's own records: the offset keeps out what was only copied, `previous` what
/// was even made for this offset.
#[test]
fn an_earlier_record_of_the_same_file_is_not_replayed_again() {
    let scratch = Scratch::new();
    let history = History::new(Synced::Closed);
    let salt = format::salt(&history.file);
    let last = history.records.len() - 1;
    for (number, record) in history.records.iter().enumerate() {
        let mut copy = history.file[record.clone()].to_vec();
        let previous = format::u32_at(&copy, 12);
        let mut image = Image::of(&history.file);
        image.overwrite(image.tail, &copy);
        image.overwrite(image.tail + copy.len(), &[0; 8]);
        let what = format!("record {number} as it is");
        scratch.expect_and_write(&image.bytes, history.all(), &what);

        format::seal(&mut copy, salt, image.tail, previous);
        image.overwrite(image.tail, &copy);
        let what = format!("record {number} made for this offset");
        scratch.expect_and_write(&image.bytes, history.all(), &what);

        // Right in the offset, and in `previous`: the last record but for its own place.
        if number == last {
            let mut own = history.file[record.clone()].to_vec();
            format::seal(&mut own, salt, record.start, image.previous);
            image.overwrite(image.tail, &own);
            scratch.expect_and_write(&image.bytes, history.all(), "made for another offset");
        }
    }
}

/// Three commits A, B and C of which a power loss took B and kept C.
struct Stranded {
    /// A alone, synced, with C behind a hole as long as B.
    file: Vec<u8>,
    b: Range<usize>,
    c: Range<usize>,
}

impl Stranded {
    /// `lost` says which bytes of B the power loss took.
    fn new(lost: impl FnOnce(Range<usize>) -> Range<usize>) -> Stranded {
        let scratch = Scratch::new();
        let db = open(&scratch.path).unwrap();
        db.set("a", "first").unwrap();
        db.sync().unwrap();
        db.set("b", "value").unwrap();
        db.set("c", "stale").unwrap();
        let mut file = scratch.take();
        let log = Log::read(&file);
        let [b, c] = [1, 2].map(|number: usize| {
            let commit = &log.commits[number];
            commit[0].start..commit[0].end
        });
        file[lost(b.clone())].fill(0);
        Stranded { file, b, c }
    }

    /// Goes on with the file, and gives back what is in it before it is closed: a kill.
    fn reopened_with(&self, scratch: &Scratch, value: &str) -> Vec<u8> {
        scratch.put(&self.file);
        let db = open(&scratch.path).unwrap();
        assert_eq!(db.recovery().commit_count, 1);
        assert!(!db.exists("b").unwrap() && !db.exists("c").unwrap());
        db.set("b", value).unwrap();
        scratch.take()
    }
}

fn strings(pairs: &[(&str, &str)]) -> Contents {
    let entry = |(key, value): &(&str, &str)| {
        let content = Content::String(value.as_bytes().to_vec());
        let entry = Entry {
            content,
            deadline_ms: None,
        };
        ((0, key.as_bytes().to_vec()), entry)
    };
    pairs.iter().map(entry).collect()
}

#[test]
fn a_record_that_a_power_loss_stranded_does_not_come_back_behind_a_new_one() {
    let scratch = Scratch::new();
    let stranded = Stranded::new(|b| b);
    // The very same bytes again, and others of the same length.
    for value in ["value", "other"] {
        let mut file = stranded.reopened_with(&scratch, value);
        let with_b = strings(&[("a", "first"), ("b", value)]);
        assert_eq!(
            Log::read(&file).end,
            stranded.c.start,
            "B has its old place"
        );
        scratch.expect(&file, Expected::Holds(&with_b), "before");

        // A second power loss takes the zero word behind the new B: the old C follows it.
        let c = stranded.c.clone();
        file[c.clone()].copy_from_slice(&stranded.file[c]);
        scratch.expect_and_write(&file, &with_b, "the zero word is lost");
    }
}

/// The second power loss may take any of what was written since: each word, and each run of
/// words, is set back to what stood there before.
#[test]
fn no_second_power_loss_brings_a_stranded_record_back() {
    type Lost = fn(Range<usize>) -> Range<usize>;
    let losses: [(&str, Lost); 4] = [
        ("all of B", |b| b),
        ("the first word of B", |b| b.start..b.start + 8),
        ("the head of B", |b| b.start..b.start + 32),
        ("the rest of B", |b| b.start + 8..b.end),
    ];
    let scratch = Scratch::new();
    for (what, lost) in losses {
        let stranded = Stranded::new(lost);
        for value in ["value", "other", "value that is longer than it was"] {
            let after = stranded.reopened_with(&scratch, value);
            let mut before = stranded.file.clone();
            before.resize(after.len(), 0);
            let without_b = strings(&[("a", "first")]);
            let with_b = strings(&[("a", "first"), ("b", value)]);
            let upto = stranded.c.end + 128;
            let words: Vec<usize> = (stranded.b.start..upto)
                .step_by(8)
                .filter(|word| before[*word..word + 8] != after[*word..word + 8])
                .collect();
            assert!(words.len() > 3);
            for first in 0..words.len() {
                for last in first..words.len() {
                    let mut file = after.clone();
                    for word in &words[first..=last] {
                        file[*word..word + 8].copy_from_slice(&before[*word..word + 8]);
                    }
                    scratch.put(&file);
                    let held = contents(&open(&scratch.path).unwrap());
                    assert!(
                        held == without_b || held == with_b,
                        "{what}, {value:?}, {first} to {last}: {held:?}"
                    );
                }
            }
        }
    }
}

/// A database file as a value: its records stand in another log, even at their own offsets.
#[test]
fn a_log_that_is_stored_as_a_value_stays_a_value() {
    let scratch = Scratch::new();
    let inner = History::new(Synced::Closed);
    // So that the value begins 40 bytes behind the record: the inner log's second record would
    // stand at its own offset, if the first record takes 40 bytes.
    let key = "eight by";
    let shift = format::HEADER_BYTES + key.len();
    for value in [&inner.file[..], &inner.file[LOG_START + shift..]] {
        scratch.put(&file_with(b""));
        let db = open(&scratch.path).unwrap();
        db.set(key, value).unwrap();
        let outer = scratch.take();
        let held = contents(&db);
        drop(db);
        assert_eq!(held.len(), 1);
        scratch.expect_and_write(&outer, &held, "whole");

        // Without the record around it, in every way in which it can be lost, nothing is there.
        let nothing = Contents::new();
        for start in (0..shift).step_by(8) {
            for end in (start + 8..=shift).step_by(8) {
                let mut file = outer.clone();
                file[LOG_START + start..LOG_START + end].fill(0);
                if file != outer {
                    let what = format!("without {start} to {end}");
                    scratch.expect(&file, Expected::Holds(&nothing), &what);
                }
            }
        }

        // With a record before it that ends exactly where the value began.
        let mut image = Image::of(&outer);
        (image.tail, image.previous) = (LOG_START, image.salt());
        let mut short = Record::set("shortkey", "").encode();
        assert_eq!(short.len(), shift);
        format::seal(&mut short, image.salt(), image.tail, image.previous);
        image.overwrite(LOG_START, &short);
        let held = strings(&[("shortkey", "")]);
        scratch.expect_and_write(&image.bytes, &held, "behind a shorter record");
    }
}

/// A file that holds itself has its own salt: the offset and the chain keep it out.
#[test]
fn a_log_that_is_stored_in_itself_stays_a_value() {
    let scratch = Scratch::new();
    let history = History::new(Synced::Closed);
    scratch.put(&history.file);
    let db = open(&scratch.path).unwrap();
    let own_log = &history.file[LOG_START..history.end];
    db.set("own log!", own_log).unwrap();
    let outer = scratch.take();
    let held = contents(&db);
    drop(db);
    scratch.expect_and_write(&outer, &held, "whole");
    for (record, what) in [
        (history.end..history.end + 8, "the first word"),
        (history.end..history.end + 32, "the head"),
        (history.end..history.end + 40, "head and key"),
    ] {
        let mut file = outer.clone();
        file[record].fill(0);
        scratch.expect(&file, Expected::Holds(history.all()), what);
    }
    // The record before the value cut short, so that the log within follows.
    let mut image = Image::of(&history.file);
    image.push(&Record::set("own log!", ""));
    image.overwrite(image.tail, own_log);
    let mut held = history.all().clone();
    held.extend(strings(&[("own log!", "")]));
    scratch.expect_and_write(&image.bytes, &held, "behind a record of its head");
}

/// What is right in its checksums and wrong in itself, as nobody writes it but by intent.
#[test]
fn a_sealed_record_that_breaks_a_rule_ends_the_log() {
    let set = || Record::set("key", "value");
    let of_kind = |kind| Record {
        kind,
        ..Record::default()
    };
    let broken: Vec<(&str, Vec<Record>)> = vec![
        ("no kind", vec![of_kind(14)]),
        ("the last kind there could be", vec![of_kind(255)]),
        ("a flag", vec![Record { flags: 2, ..set() }]),
        (
            "byte 23",
            vec![Record {
                reserved: 1,
                ..set()
            }],
        ),
        (
            "database 16",
            vec![Record {
                database: 16,
                ..set()
            }],
        ),
        (
            "a deadline",
            vec![Record {
                deadline_ms: 1 << 63,
                ..set()
            }],
        ),
        (
            "a set with a field",
            vec![Record {
                field: b"f".to_vec(),
                ..set()
            }],
        ),
        (
            "a delete with a value",
            vec![Record {
                kind: kind::DELETE,
                ..set()
            }],
        ),
        (
            "a clear with a key",
            vec![Record {
                kind: kind::CLEAR,
                value: Vec::new(),
                ..set()
            }],
        ),
        (
            "a swap with database 16",
            vec![Record {
                value: vec![16],
                ..of_kind(kind::SWAP_DATABASES)
            }],
        ),
        (
            "padding in a commit",
            vec![set().more(), of_kind(kind::PADDING)],
        ),
        (
            "poison in a commit",
            vec![set().more(), of_kind(kind::POISONED)],
        ),
        ("a commit that goes on", vec![set().more()]),
        (
            "padding that goes on",
            vec![of_kind(kind::PADDING).more(), set()],
        ),
    ];
    let scratch = Scratch::new();
    let history = History::new(Synced::Closed);
    for (what, records) in broken {
        let mut image = Image::of(&history.file);
        for record in &records {
            image.push(record);
        }
        scratch.expect_and_write(&image.bytes, history.all(), what);
        // And where it is known to be synced, it is corruption.
        let refused = format::Log::read(&image.bytes).stopped_at as u64;
        Slot::new(9, image.tail).write(&mut image.bytes, SLOT_STARTS[0]);
        let refused = Expected::Refused(Verdict::Corrupt(refused));
        scratch.expect(&image.bytes, refused, what);
    }
    let mut image = Image::of(&history.file);
    image.push(&set());
    let mut held = history.all().clone();
    held.extend(strings(&[("key", "value")]));
    scratch.expect_and_write(&image.bytes, &held, "the record that breaks none");
}

/// Lengths that lead out of the file or over a limit: nothing is allocated for them, and
/// nothing is read there.
#[test]
fn a_length_that_lies_ends_the_log() {
    let scratch = Scratch::new();
    let history = History::new(Synced::Closed);
    for (body, key, field) in [
        (u32::MAX, 0, 0),
        (u32::MAX, u16::MAX, u16::MAX),
        (1 << 31, 3, 0),
        ((512 << 20) + 2 * 65_535, 3, 0),
        ((512 << 20) + 2 * 65_535 + 1, 3, 0),
        (65, 3, 0),
        (2, 3, 0),
        (4, 3, 3),
        (0, 1, 0),
        (0, 0, u16::MAX),
    ] {
        let mut record = Record::set("key", "value").encode();
        record[0..4].copy_from_slice(&u32::to_le_bytes(body));
        record[6..8].copy_from_slice(&u16::to_le_bytes(key));
        record[20..22].copy_from_slice(&u16::to_le_bytes(field));
        let mut image = Image::of(&history.file);
        image.push_bytes(record);
        let what = format!("{body}, {key}, {field}");
        scratch.expect_and_write(&image.bytes, history.all(), &what);
    }
}

/// Every kind of record, and what only a file made by hand has, means what format.md says.
#[test]
fn replay_does_what_the_page_of_the_format_says() {
    let record = |kind, database, value: &[u8]| Record {
        kind,
        database,
        value: value.to_vec(),
        ..Record::default()
    };
    let swap = |one, other| record(kind::SWAP_DATABASES, one, &[other]);
    let scratch = Scratch::new();
    let mut image = Image::of(&History::new(Synced::Nothing).file);
    for number in [
        swap(0, 0),
        swap(0, 3),
        Record::set("b", "in what was 3").more(),
        swap(3, 3).more(),
        swap(3, 15),
        record(kind::CLEAR, 3, b"").more(),
        record(kind::CLEAR, 3, b""),
        record(kind::MOVED, 0, &[1; 8]),
        record(kind::PADDING, 0, b"any"),
    ] {
        image.push(&number);
        let log = Log::read(&image.bytes);
        let state = Replay::of(&log).contents(NOW_MS);
        scratch.expect_and_write(&image.bytes, &state, &format!("{number:?}"));
    }
}

/// A terabyte of nothing, with something that is no record at its beginning.
#[test]
fn a_huge_file_of_holes_takes_no_time_to_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holes.brasa");
    let history = History::new(Synced::Nothing);
    let mut image = Image::of(&history.file);
    image.overwrite(image.tail, b"no record");
    fs::write(&path, &image.bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    for open in [open_read_only, open] {
        let db = open(&path).unwrap();
        assert_eq!(db.recovery().torn_bytes, 9);
        assert_eq!(contents(&db), *history.all());
    }
    let report = inspect::check(&path, |_, _| {}).unwrap();
    assert!(report.is_sound());
}

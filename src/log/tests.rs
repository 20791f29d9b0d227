//! Tests of the format's page and its golden files against the code.

use std::path::Path;

use super::*;
use crate::record::{self, Change, Kind};

const SALT: u32 = 0x5a17_0001;
const WRITER: u32 = 0x0bad_cafe;

/// The year 2100.
const LATER_MS: u64 = 4_102_444_800_000;
const LONG_AGO_MS: u64 = 1_700_000_010_000;

/// Puts a file together, record by record, without the engine.
struct Image {
    bytes: Vec<u8>,
    tail: Tail,
}

impl Image {
    fn new() -> Self {
        let header = FileHeader {
            salt: SALT,
            hash_key: *b"0123456789abcdef",
            generation: 0,
            base_position: 0,
            copied_upto: LOG_START,
            created_ms: 1_700_000_000_000,
        };
        let mut bytes = header.encode().to_vec();
        bytes.resize(3 * PAGE_BYTES + END_WORD.len(), 0);
        let tail = Tail {
            offset: LOG_START,
            previous: SALT,
        };
        Self { bytes, tail }
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> &mut Self {
        let mut commit = Vec::new();
        let mut starts = Vec::new();
        for change in changes {
            starts.push(commit.len());
            record::encode(change, &mut commit).unwrap();
        }
        let start = usize::try_from(self.tail.offset).unwrap();
        self.tail = seal_commit(&mut commit, starts.into_iter(), self.tail, SALT, WRITER);
        self.bytes.truncate(start);
        self.bytes.extend_from_slice(&commit);
        self.bytes.extend_from_slice(&END_WORD);
        self
    }

    /// The file, synced up to an offset.
    fn synced_upto(&self, synced_upto: u64) -> Vec<u8> {
        let slots = Slots::FIRST.succeeded_by(Slot {
            synced_upto,
            named: true,
            ..Slot::FIRST
        });
        let mut bytes = self.bytes.clone();
        for slots in [Slots::FIRST, slots] {
            let start = usize::try_from(slots.current_offset()).unwrap();
            let slot = slots.current().encode(SALT, slots.current_offset());
            bytes[start..start + slot.len()].copy_from_slice(&slot);
        }
        bytes
    }

    fn synced(&self) -> Vec<u8> {
        self.synced_upto(self.tail.offset)
    }
}

fn set<'a>(key: &'a str, value: &'a [u8], deadline_ms: u64) -> Change<'a> {
    Change {
        value,
        deadline_ms,
        ..Change::of_key(Kind::Set, 0, key.as_bytes())
    }
}

fn hash_set<'a>(key: &'a str, field: &'a str, value: &'a str) -> Change<'a> {
    Change {
        field: field.as_bytes(),
        value: value.as_bytes(),
        ..Change::of_key(Kind::HashSet, 0, key.as_bytes())
    }
}

fn of_kind<'a>(kind: Kind, key: &'a str, field: &'a str, deadline_ms: u64) -> Change<'a> {
    Change {
        field: field.as_bytes(),
        deadline_ms,
        ..Change::of_key(kind, 0, key.as_bytes())
    }
}

fn strings_and_hashes() -> Vec<u8> {
    Image::new()
        .commit(&[set("chave_1", b"Relou Uourdi", 0)])
        .commit(&[set("row:7", b"3.21", LATER_MS)])
        .commit(&[set("old", b"gone", LONG_AGO_MS)])
        .commit(&[set("velho", b"deleted", 0)])
        .commit(&[
            hash_set("meu_hash", "nome", "thailan"),
            hash_set("meu_hash", "idade", "29"),
            hash_set("meu_hash", "city", "Recife"),
            of_kind(Kind::Delete, "velho", "", 0),
        ])
        .commit(&[of_kind(Kind::Expire, "meu_hash", "", LATER_MS)])
        .commit(&[of_kind(Kind::HashDelete, "meu_hash", "idade", 0)])
        .synced()
}

fn every_kind() -> Vec<u8> {
    let page = [7; 64];
    let mut checkpoint = [0; 40];
    checkpoint[0] = 1;
    checkpoint[4] = 1;
    let clear = Change::of_key(Kind::Clear, 1, b"");
    let swap = Change {
        value: &[2],
        ..Change::of_key(Kind::SwapDatabases, 0, b"")
    };
    let in_one = Change {
        database: 1,
        ..set("one", b"cleared", 0)
    };
    let in_two = Change {
        database: 2,
        ..set("two", b"swapped in", 0)
    };
    Image::new()
        .commit(&[
            set("string", b"kept", 0),
            set("expiring", b"kept", LATER_MS),
        ])
        .commit(&[of_kind(Kind::Expire, "expiring", "", 0)])
        .commit(&[of_kind(Kind::Expire, "string", "", LATER_MS)])
        .commit(&[hash_set("hash", "a", "1"), hash_set("hash", "b", "2")])
        .commit(&[of_kind(Kind::FieldExpire, "hash", "a", LONG_AGO_MS)])
        .commit(&[of_kind(Kind::FieldExpire, "hash", "b", LATER_MS)])
        .commit(&[hash_set("short", "only", "field")])
        .commit(&[of_kind(Kind::HashDelete, "short", "only", 0)])
        .commit(&[hash_set("mixed", "field", "1")])
        .commit(&[set("mixed", b"now a string", 0)])
        .commit(&[set("other", b"a string", 0)])
        .commit(&[hash_set("other", "now", "a hash")])
        .commit(&[in_one])
        .commit(&[in_two])
        .commit(&[clear])
        .commit(&[Change::control(Kind::Page, &page)])
        .commit(&[Change::control(Kind::Checkpoint, &checkpoint)])
        .commit(&[Change::control(Kind::Moved, &1_u64.to_le_bytes())])
        .commit(&[Change::control(Kind::Padding, b"")])
        .commit(&[swap])
        .synced()
}

fn torn_tail() -> Vec<u8> {
    let mut image = Image::new();
    image.commit(&[set("chave_1", b"Relou Uourdi", 0)]);
    let synced_upto = image.tail.offset;
    image.commit(&[set("unsynced", b"whole", 0)]);
    image.commit(&[hash_set("half", "a", "1"), hash_set("half", "b", "2")]);
    let mut bytes = image.synced_upto(synced_upto);
    let last = bytes.len() - 2 * END_WORD.len();
    bytes[last] ^= 1;
    bytes
}

fn poisoned() -> Vec<u8> {
    let mut image = Image::new();
    image.commit(&[set("chave_1", b"Relou Uourdi", 0)]);
    let synced_upto = image.tail.offset;
    image
        .commit(&[Change::control(Kind::Poisoned, b"Input/output error")])
        .commit(&[set("chave_1", b"never acknowledged", 0)])
        .synced_upto(synced_upto)
}

/// What `tests/golden.rs` opens by the public face, is here made byte by byte. `BRASA_REWRITE=1`
/// writes the files; a file that was once released is never written again.
#[test]
fn the_golden_files_are_what_the_format_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, bytes) in [
        ("v1-strings-and-hashes.brasa", strings_and_hashes()),
        ("v1-every-kind.brasa", every_kind()),
        ("v1-torn-tail.brasa", torn_tail()),
        ("v1-poisoned.brasa", poisoned()),
    ] {
        let path = directory.join(name);
        if std::env::var_os("BRASA_REWRITE").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert!(golden == bytes, "{name} is not what the code writes");
    }
}

/// Reads the bytes of the worked example out of format.md.
#[test]
fn the_example_of_the_format_holds() {
    let page = include_str!("../docs/format.md");
    let example = page.split("```text\n").nth(1).unwrap();
    let mut printed = Vec::new();
    for line in example.lines().take_while(|line| *line != "```") {
        let mut words = line.split_whitespace();
        let offset: u64 = words.next().unwrap().parse().unwrap();
        assert_eq!(offset, LOG_START + printed.len() as u64);
        printed.extend(
            words
                .take(8)
                .map(|byte| u8::from_str_radix(byte, 16).unwrap()),
        );
    }
    let mut image = Image::new();
    image.commit(&[set("chave_1", b"Relou Uourdi", LONG_AGO_MS)]);
    let log = &image.bytes[usize::try_from(LOG_START).unwrap()..];
    assert_eq!(
        log.escape_ascii().to_string(),
        printed.escape_ascii().to_string(),
        "the checksum is {:02x?}",
        &log[8..12]
    );
}

#[test]
fn a_reader_takes_whole_commits_and_stays_before_the_rest() {
    let mut image = Image::new();
    image.commit(&[set("a", b"1", 0)]);
    let whole = image.tail;
    image.commit(&[set("b", b"1", 0), set("c", b"1", 0), set("d", b"1", 0)]);
    let end = image.bytes.len() - END_WORD.len();
    for cut in usize::try_from(whole.offset).unwrap()..end {
        let mut reader = Reader::from_start(&image.bytes[..cut], SALT);
        assert!(reader.next_commit().unwrap().is_some());
        assert!(!matches!(reader.next_commit(), Ok(Some(_))), "cut at {cut}");
        assert_eq!(reader.link().offset, whole.offset);
    }
    let mut reader = Reader::from_start(&image.bytes[..end], SALT);
    let commits = std::iter::from_fn(|| reader.next_commit().unwrap()).count();
    assert_eq!(commits, 2);
}

/// Reads to the end; gives back the number of commits, and the gaps.
fn survey(bytes: &[u8], synced_upto: u64) -> (usize, Vec<Gap>) {
    let mut survey = Survey::new(bytes, SALT, synced_upto);
    let (mut commit_count, mut gaps) = (0, Vec::new());
    while let Some(step) = survey.next_step() {
        match step {
            Step::Commit(_) | Step::DamagedPage(_) => commit_count += 1,
            Step::Gap(gap) => gaps.push(gap),
        }
    }
    (commit_count, gaps)
}

/// A sealed record of its own commit that follows nothing in particular.
fn stray(change: &Change<'_>, offset: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(change, &mut bytes).unwrap();
    let tail = Tail {
        offset: offset as u64,
        previous: 1,
    };
    seal_commit(&mut bytes, std::iter::once(0), tail, SALT, WRITER);
    bytes
}

/// The first bytes of a record that seems to go on up to `end`, and does not.
fn lure(offset: usize, end: usize) -> Vec<u8> {
    let mut bytes = stray(&set("", b"", 0), offset);
    let body_len = u32::try_from(end - offset - bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&body_len.to_le_bytes());
    bytes
}

/// Each of a hundred thousand places would have to be summed up to the end: minutes, where the
/// budget leaves milliseconds.
#[test]
fn a_hostile_file_costs_time_in_proportion_to_its_size() {
    let len = usize::try_from(LOG_START).unwrap() + (4 << 20);
    let mut lures = Image::new().bytes[..usize::try_from(LOG_START).unwrap()].to_vec();
    while lures.len() < len {
        lures.extend(lure(lures.len(), len));
    }
    let (commit_count, gaps) = survey(&lures, len as u64);
    assert_eq!(commit_count, 0);
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].given_up);
    assert_eq!((gaps[0].start, gaps[0].end), (LOG_START, len as u64));

    // With a valid record before each, the chain runs into them instead of the search.
    let mut mixed = lures[..usize::try_from(LOG_START).unwrap()].to_vec();
    while mixed.len() < len {
        mixed.extend(stray(&set("", b"", 0), mixed.len()));
        mixed.extend(lure(mixed.len(), len));
    }
    let (_, gaps) = survey(&mixed, mixed.len() as u64);
    assert!(gaps.len() < 100 && gaps.last().unwrap().given_up);
}

#[test]
fn a_hostile_file_costs_bounded_memory() {
    let mut bytes = Image::new().bytes[..usize::try_from(LOG_START).unwrap()].to_vec();
    for _ in 0..100_000 {
        bytes.extend([0xff; 8]);
        bytes.extend(stray(&Change::control(Kind::Padding, b""), bytes.len()));
    }
    let (_, gaps) = survey(&bytes, bytes.len() as u64);
    assert!(gaps.len() <= 1 << 16 && gaps.last().unwrap().given_up);

    // One commit that never ends: its records are counted, and not all listed.
    let mut image = Image::new();
    let changes = vec![of_kind(Kind::Delete, "", "", 0); 50_000];
    image.commit(&changes);
    let last_checksum = image.bytes.len() - END_WORD.len() - record::HEADER_BYTES + 8;
    image.bytes[last_checksum] ^= 1;
    let (commit_count, gaps) = survey(&image.bytes, image.tail.offset);
    assert_eq!(commit_count, 0);
    assert!(gaps[0].lost.len() < 20_000);
    assert_eq!(gaps[0].lost.len() as u64 + gaps[0].unlisted_count, 50_000);
}

/// Nothing counts behind a failed sync, even where a slot claims more.
#[test]
fn nothing_is_looked_for_behind_a_poisoned_record() {
    let mut image = Image::new();
    image.commit(&[set("a", b"1", 0)]);
    image.commit(&[Change::control(Kind::Poisoned, b"EIO")]);
    let poisoned_at = image.tail.offset;
    image.commit(&[set("b", b"1", 0)]);
    let (commit_count, gaps) = survey(&image.bytes, image.tail.offset);
    assert_eq!(commit_count, 2);
    assert_eq!(
        (gaps[0].start, gaps[0].end),
        (poisoned_at, image.tail.offset)
    );
}

/// Both ways in are given the same commits, of all sizes, and what they leave is the same.
#[test]
fn a_commit_is_the_same_whichever_way_it_goes_in() {
    use crate::storage::{DiskStorage, Storage};
    const FILE_BYTES: u64 = 8 << 20;
    let directory = tempfile::tempdir().unwrap();
    let create = |name: &str| {
        let path = directory.path().join(name);
        let temporary = DiskStorage.create_temporary(&path).unwrap();
        let file = temporary.file();
        temporary.persist_new(&path).unwrap();
        file.allocate(FILE_BYTES).unwrap();
        file
    };
    let (by_call, by_window) = (create("by_call"), create("by_window"));
    let mut ways: [Box<dyn Append>; 2] = [
        Box::new(Pwrite(by_call.clone())),
        Box::new(Mapped::new(by_window.clone())),
    ];
    let mut offset = LOG_START;
    let mut state = 1_u64;
    loop {
        // Knuth's generator, of which the upper bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Mostly small, some beyond a window, and some of one word.
        let words = match state >> 61 {
            0 => state >> 50 & 0x3fff,
            1 => 0,
            _ => state >> 52 & 0x3f,
        };
        let len = usize::try_from(8 * (1 + words)).unwrap();
        if offset + len as u64 + 8 > FILE_BYTES {
            break;
        }
        let mut commit = vec![u8::try_from(state >> 56).unwrap() | 1; len];
        commit.extend_from_slice(&END_WORD);
        for way in &mut ways {
            way.append(&commit, offset, FILE_BYTES).unwrap();
        }
        offset += len as u64;
    }
    let contents = |file: &dyn crate::storage::StorageFile| {
        let mut contents = vec![0; usize::try_from(FILE_BYTES).unwrap()];
        assert_eq!(file.read_at(&mut contents, 0).unwrap() as u64, FILE_BYTES);
        contents
    };
    assert!(contents(&*by_call) == contents(&*by_window), "they differ");
}

/// A page of a checkpoint at the end of an image: its value begins with its own offset.
fn page_at(image: &Image) -> [u8; 64] {
    let mut page = [7; 64];
    page[..8].copy_from_slice(&image.tail.offset.to_le_bytes());
    page
}

/// The record after a damaged page tells that the page's length is right. Without one, only
/// `synced_upto` does, and only where the page ends there.
#[test]
fn damaged_page_is_passed_over_if_it_ends_at_synced_upto_or_before_a_valid_record() {
    for is_last in [true, false] {
        let mut image = Image::new();
        image.commit(&[set("a", b"1", 0)]);
        let start = image.tail.offset;
        let page = page_at(&image);
        image.commit(&[Change::control(Kind::Page, &page)]);
        let end = image.tail.offset;
        if !is_last {
            image.commit(&[set("b", b"1", 0)]);
        }
        // Damage in the value, and in the checksum itself.
        for damaged in [end - 1, start + 8] {
            let mut bytes = image.bytes.clone();
            bytes[usize::try_from(damaged).unwrap()] ^= 1;
            for synced_upto in [0, start, end - 8, end, end + 8] {
                let reader = Reader::from_start(&*bytes, SALT);
                let mut reader = reader.passing_over_pages(synced_upto);
                assert!(reader.next_commit().unwrap().is_some());
                let told = format!("{damaged} {synced_upto} {is_last}");
                let may_pass = synced_upto == end || synced_upto > end && !is_last;
                match reader.next_commit() {
                    Ok(Some(passed)) => {
                        assert!(may_pass && reader.has_passed_over(), "{told}");
                        assert_eq!((passed.start, passed.end), (start, end), "{told}");
                        assert_eq!(reader.records().count(), 0, "{told}");
                        let follows = reader.next_commit().unwrap().is_some();
                        assert_eq!(follows, !is_last, "{told}");
                    }
                    Ok(None) => unreachable!("the log ends: {told}"),
                    Err(damage) => {
                        assert!(!may_pass, "{told}");
                        assert_eq!((damage.offset, reader.link().offset), (start, start));
                    }
                }
            }
        }
    }
}

//! Judges a world when its threads have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use brasa::simulation::{Image, Loss, thread};
use brasa::{ChangeKind, Db, Error};

use crate::judge::{Recovered, is_linearizable};
use crate::model::{Answer, Contents};
use crate::perform::Client;
use crate::program::{FIELDS, HASH, KEYS, Mode, Op};
use crate::world::{CachedKind, History, PATH, World};

/// Where the log starts, in bytes.
const LOG_START: usize = 12_288;

/// A file with the contents of a program is no longer than this after a compaction: the header, and
/// a page for the records.
const COMPACTED_BYTES: u64 = 12_288 + 3 * 4_096;

/// The number of the process that judges.
const END: usize = 9;

/// A handle that has just been used keeps the current file only, whatever was replaced before.
pub fn judge_resources(world: &World, survivors: &[Client]) {
    let has_kill = world.program.kill.is_some();
    // A handle looks at the path again after a while, and background threads end their work.
    for _ in 0..100 {
        thread::sleep(Duration::from_secs(1));
        for client in survivors {
            // A handle whose sync has failed may refuse; it keeps nothing all the same.
            let _ = client.db.get(world.key(0));
        }
        if world.disk.open_file_count() <= 1 {
            return;
        }
    }
    let open_files = world.disk.open_file_count();
    // Threads of a killed process have left their handles as they were.
    assert!(
        has_kill || open_files <= 1,
        "{open_files} files are open: {:#?}",
        survivors
            .iter()
            .map(|client| client.db.files_in_use())
            .collect::<Vec<_>>()
    );
}

/// Judges the answers, and what is on the device in the end.
pub fn judge(world: &Arc<World>) {
    let latest_ms = world.dated().latest_ms();
    let now_ms = world.dated().now_ms();
    let recovered = world.program.power_loss.map(|seed| Recovered {
        contents: after_power_loss(world, seed),
        now_ms,
        latest_ms,
    });
    if recovered.is_none() {
        let db = world.open(Mode::Shared).expect("the file opens at the end");
        let mut client = Client::new(world, END, db);
        world.call(END, &mut client, &Op::Scan);
        judge_changes(world, &client.db);
        judge_space(world, &client.db);
        // After a failed sync the file takes no more of them.
        if let (Some(seed), None) = (world.program.flip, world.program.fault) {
            if seed % 2 == 0 {
                // What a checkpoint covers is not replayed, and so not checked, by the next opening.
                client.db.checkpoint().expect("the last checkpoint");
            }
            client.db.sync().expect("the last sync");
            judge_flipped(world, client.into_db(), seed);
        }
    }
    let history = world.dated();
    judge_cache(&history);
    let evicts = world.program.budget;
    let is_right = is_linearizable(&history.calls, recovered.as_ref(), evicts);
    let report = (!is_right).then(|| report(&history, recovered.as_ref()));
    drop(history);
    if let Some(report) = report {
        panic!("no order of the calls explains their answers\n{report}");
    }
}

fn report(history: &History, recovered: Option<&Recovered>) -> String {
    let mut report = String::new();
    for call in &history.calls {
        let ended = match call.ended {
            u64::MAX => "never".to_owned(),
            ended => ended.to_string(),
        };
        report += &format!(
            "  process {} {:>3} to {ended:>3} at {:?}{} {:?}: {:?} -> {:?}\n",
            call.process,
            call.begun,
            call.times_ms,
            if call.is_durable { " durable" } else { "" },
            call.kind,
            call.op,
            call.answer
        );
    }
    if let Some(recovered) = recovered {
        report += &format!("  after the power loss: {:?}\n", recovered.contents);
    }
    report
}

/// Loses power after the last operation, and reads what is there after a restart.
fn after_power_loss(world: &World, seed: u64) -> Contents {
    let mut rng = fastrand::Rng::with_seed(seed);
    let crash = world.disk.crash_at(world.disk.operation_count());
    let lengths = crash.unsynced_lengths();
    let number = rng.usize(..lengths.len().max(1));
    let loss = match rng.u8(..6) {
        0 | 1 => Loss::All,
        2 => Loss::From(number),
        3 => Loss::Blocks(512),
        4 => Loss::AllBut(number),
        _ => Loss::One(number),
    };
    let names = rng.usize(..=crash.unsynced_names());
    let disk = crash
        .image(loss, names, rng.u64(..), &[])
        .restart(rng.u64(..));
    let handle = Db::options().clock(world.clock()).open_on(&disk, PATH);
    let handle = handle.expect("the file opens after a power loss");
    world
        .contents(&handle)
        .expect("the file can be read after a power loss")
}

/// Every acknowledged set of a string is among the changes, unless they have a gap.
fn judge_changes(world: &World, db: &Db) {
    let mut told: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let changes = db.watch_from(world.first_position);
    for change in changes.expect("the changes can be read") {
        let change = change.expect("the changes can be read");
        match change.kind {
            ChangeKind::Gap => return,
            ChangeKind::Set => *told.entry(change.key).or_default() += 1,
            _ => {}
        }
    }
    let history = world.dated();
    for number in 0..HASH {
        let key = world.key(number);
        let sets = history.calls.iter().filter(|call| {
            let is_set = matches!(call.op, Op::Set(key, _) | Op::SetEx(key, ..) if key == number);
            is_set && call.answer == Some(Answer::Unit)
        });
        let (sets, told) = (sets.count() as u64, told.get(key.as_bytes()).copied());
        assert!(
            told.unwrap_or(0) >= sets,
            "{sets} sets of {key} were acknowledged, and a watch sees {told:?}"
        );
    }
}

/// A compaction leaves a file of the size of its contents, and nothing beside it.
fn judge_space(world: &World, db: &Db) {
    if world.program.fault.is_some() || world.program.budget {
        return;
    }
    let report = db.compact().expect("the last compaction");
    assert!(
        report.after_bytes <= COMPACTED_BYTES,
        "a file of {} bytes after a compaction",
        report.after_bytes
    );
    let history = world.dated();
    let backups = history.calls.iter().filter(|call| call.op == Op::Backup);
    let (backups, has_kill) = (backups.count(), world.program.kill.is_some());
    drop(history);
    let names = world.disk.file_names();
    let strange: Vec<_> = names
        .iter()
        .filter(|name| *name != std::path::Path::new(PATH))
        .filter(|name| !name.to_string_lossy().starts_with("backup-"))
        .collect();
    assert!(
        has_kill || strange.is_empty(),
        "{strange:?} lie beside the file, and there are {backups} backups"
    );
}

/// With one wrong bit in a synced file every read gives the right value or an error.
fn judge_flipped(world: &World, db: Db, seed: u64) {
    let repeats = world.repeats();
    let right = world.contents(&db).expect("the file can be read");
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new()]);
    for key in db.keys() {
        names.insert(key.expect("the file can be read").to_vec());
    }
    let changes = db.watch_from(world.first_position);
    for change in changes.expect("the changes can be read") {
        names.insert(change.expect("the changes can be read").key);
    }
    db.close().expect("the last close");
    let mut image = world.disk.killed_image(world.disk.operation_count());
    flip(&mut image, seed);
    let disk = image.restart(seed);
    let options = Db::options().clock(world.clock()).verify_on_read(true);
    let db = match options.auto_compact(false).open_on(&disk, PATH) {
        Ok(db) => db,
        Err(error) => return expect_damage(&error),
    };
    let expect = |what: &str,
                  read: brasa::Result<Option<brasa::Value>>,
                  right: &Option<Vec<u8>>| match read {
        Err(error) => expect_damage(&error),
        Ok(value) => {
            let repeated = right.iter().flatten().flat_map(|b| vec![*b; repeats]);
            let repeated = right.as_ref().map(|_| repeated.collect::<Vec<u8>>());
            let value = value.map(|value| value.to_vec());
            assert!(
                value == repeated,
                "a flipped bit changed {what} to {value:?}"
            );
        }
    };
    for (number, right) in right.0.iter().enumerate() {
        expect(KEYS[number], db.get(world.key(number)), right);
    }
    for (field, right) in FIELDS.iter().zip(&right.1) {
        expect(field, db.hget(world.key(HASH), field), right);
    }
    if let Ok(changes) = db.watch_from(world.first_position) {
        // An iterator that has failed may fail again.
        for change in changes.take(1_000) {
            match change {
                Ok(change) => assert!(
                    names.contains(&change.key),
                    "a watch tells of a key that nobody has written: {change:?}"
                ),
                Err(error) => {
                    expect_damage(&error);
                    break;
                }
            }
        }
    }
    for key in db.keys().take(100) {
        match key {
            Ok(key) => assert!(names.contains(&key[..]), "a scan gives {key:?}"),
            Err(error) => {
                expect_damage(&error);
                break;
            }
        }
    }
    match db.backup("copy") {
        Err(error) => expect_damage(&error),
        Ok(_) => {
            let copy = Db::options().clock(world.clock()).read_only(true);
            let copy = copy
                .open_on(&disk, "copy")
                .expect("a backup that succeeded opens");
            let found = world
                .contents(&copy)
                .expect("a backup that succeeded can be read");
            assert!(
                found == right,
                "a backup has {found:?} instead of {right:?}"
            );
        }
    }
}

/// Flips a bit of the records, or, in one of four cases, of the header.
fn flip(image: &mut Image, seed: u64) {
    let file = image.file_mut(PATH).expect("the file is there");
    let end = file.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let mut rng = fastrand::Rng::with_seed(seed);
    let begin = match rng.u8(..4) {
        0 => 0,
        _ => LOG_START.min(end - 1),
    };
    file[rng.usize(begin..end)] ^= 1 << rng.u8(..8);
}

fn expect_damage(error: &Error) {
    let is_damage = matches!(
        error,
        Error::Corrupt { .. } | Error::NotABrasaFile { .. } | Error::UnsupportedVersion { .. }
    );
    assert!(is_damage, "damage gives another error: {error:?}");
}

/// A value comes from a computation that no invalidation has made void, and a handle computes a
/// value once at a time.
fn judge_cache(history: &History) {
    let cached = &history.cached;
    for returned in cached {
        let CachedKind::Returned(number) = returned.kind else {
            continue;
        };
        let computed = cached
            .iter()
            .find(|other| other.key == returned.key && other.kind == CachedKind::Computed(number));
        let Some(computed) = computed else {
            panic!("a cache returned {number}, which nobody has computed: {cached:?}");
        };
        let is_void = cached.iter().any(|other| {
            other.kind == CachedKind::Invalidated
                && other.key == returned.key
                && computed.ended < other.begun
                && other.ended < returned.begun
        });
        assert!(
            !is_void,
            "a cache returned {number} after it was invalidated: {cached:?}"
        );
    }
    let computed = |cached: &&crate::world::Cached| matches!(cached.kind, CachedKind::Computed(_));
    for (number, one) in cached.iter().enumerate().filter(|(_, one)| computed(one)) {
        for other in cached[number + 1..].iter().filter(computed) {
            let overlap = one.begun < other.ended && other.begun < one.ended;
            assert!(
                !(overlap && one.key == other.key && one.handle == other.handle),
                "a handle computed one key twice at a time: {cached:?}"
            );
        }
    }
}

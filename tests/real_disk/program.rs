//! The two halves of `tests/real_disk/run`, which says in its head what it proves and how.
//!
//! - `work`: writes through brasa into a mounted file system whose block writes are being logged, and
//!   notes, outside of it, what was acknowledged at which length of that log.
//! - `replay`: builds each state of the disk that the log allows, mounts it, and judges the files in it.
//!
//! Both know the same sequence of steps, so that the state after each is known to both.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use brasa::{Db, Durability, KeyType};

/// What goes wrong with the machinery rather than with brasa.
type Trouble = Box<dyn std::error::Error>;

const FOUND_NOTHING: u8 = 0;
const FOUND_LOSS: u8 = 1;
const TROUBLE: u8 = 2;

/// The files that the work goes to. The second one is created when the disk is no longer fresh.
const FILES: [&str; 2] = ["first.brasa", "second.brasa"];

fn main() -> ExitCode {
    let arguments = Arguments(std::env::args().skip(1).collect());
    let done = match arguments.0.first().map(String::as_str) {
        Some("work") => work(&arguments),
        Some("replay") => replay(&arguments),
        _ => Err("usage: real_disk work|replay NAME=VALUE...; see tests/real_disk/run".into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => {
            eprintln!("real_disk: {trouble}");
            ExitCode::from(TROUBLE)
        }
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    fn text(&self, name: &str) -> Result<&str, Trouble> {
        self.0
            .iter()
            .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| format!("{name}=... is missing").into())
    }

    fn path(&self, name: &str) -> Result<PathBuf, Trouble> {
        Ok(self.text(name)?.into())
    }

    fn number(&self, name: &str) -> Result<u64, Trouble> {
        Ok(self.text(name)?.parse()?)
    }
}

// --- the steps -------------------------------------------------------------------------------------

/// One commit.
enum Step {
    Set(String, Vec<u8>),
    Batch(Vec<(String, Vec<u8>)>),
    HashSet(String, String, Vec<u8>),
    HashDelete(String, String),
    Append(String, Vec<u8>),
    Increment(String, i64),
    Delete(String),
    ExpireAt(String, u64),
}

/// In the year 2100: nothing expires while this runs.
const FAR_DEADLINE_MS: u64 = 4_102_444_800_000;

/// The step of this number, the first being 1. Hardly any two of them lead to the same state.
fn step(number: u64) -> Step {
    let key = format!("key-{}", number % 7);
    let short = format!("value of step {number}").into_bytes();
    // A value that fills blocks of the file system, each one recognisably its own.
    let long: Vec<u8> = (0u64..2500)
        .flat_map(|word| (word << 32 | number).to_le_bytes())
        .collect();
    match number % 10 {
        1 | 6 => Step::Set(key, short),
        2 => Step::Set(format!("long-{}", number % 3), long),
        // Larger than a block as a whole, so that half of it can be on the disk.
        3 | 8 => Step::Batch(
            (0..5)
                .map(|part| (format!("batch-{part}"), long[..1800].to_vec()))
                .collect(),
        ),
        4 => Step::HashSet("hash".into(), format!("field-{}", number % 30), short),
        5 => Step::Append("appended".into(), short),
        7 => Step::Increment("counter".into(), i64::try_from(number).unwrap_or(1_000_000)),
        9 if number.is_multiple_of(3) => {
            Step::HashDelete("hash".into(), format!("field-{}", (number - 5) % 30))
        }
        9 => Step::ExpireAt("counter".into(), FAR_DEADLINE_MS + number),
        _ => Step::Delete(format!("key-{}", (number - 4) % 7)),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Content {
    Text(Vec<u8>),
    Fields(BTreeMap<Vec<u8>, Vec<u8>>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    content: Content,
    deadline_ms: Option<u64>,
}

/// What a file holds, as far as a reader can see.
type Contents = BTreeMap<Vec<u8>, Entry>;

impl Step {
    fn take(&self, db: &Db) -> brasa::Result<()> {
        match self {
            Step::Set(key, value) => db.set(key, value),
            Step::Batch(pairs) => db.batch(|batch| {
                for (key, value) in pairs {
                    batch.set(key, value);
                }
            }),
            Step::HashSet(key, field, value) => db.hset(key, field, value).map(drop),
            Step::HashDelete(key, field) => db.hdel(key, field).map(drop),
            Step::Append(key, value) => db.append(key, value).map(drop),
            Step::Increment(key, by) => db.incr_by(key, *by).map(drop),
            Step::Delete(key) => db.del(key).map(drop),
            Step::ExpireAt(key, deadline_ms) => db.expire_at(key, *deadline_ms).map(drop),
        }
    }

    /// The same on the model, written without a look at the engine's code.
    fn take_on_model(&self, model: &mut Contents) {
        let text = |value: &[u8], deadline_ms| Entry {
            content: Content::Text(value.to_vec()),
            deadline_ms,
        };
        match self {
            Step::Set(key, value) => {
                model.insert(key.clone().into(), text(value, None));
            }
            Step::Batch(pairs) => {
                for (key, value) in pairs {
                    model.insert(key.clone().into(), text(value, None));
                }
            }
            Step::HashSet(key, field, value) => {
                let entry = model.entry(key.clone().into()).or_insert_with(|| Entry {
                    content: Content::Fields(BTreeMap::new()),
                    deadline_ms: None,
                });
                if let Content::Fields(fields) = &mut entry.content {
                    fields.insert(field.clone().into(), value.clone());
                }
            }
            Step::HashDelete(key, field) => {
                let Some(entry) = model.get_mut(key.as_bytes()) else {
                    return;
                };
                if let Content::Fields(fields) = &mut entry.content {
                    fields.remove(field.as_bytes());
                    if fields.is_empty() {
                        model.remove(key.as_bytes());
                    }
                }
            }
            Step::Append(key, value) => {
                let entry = model.entry(key.clone().into()).or_insert(text(b"", None));
                if let Content::Text(bytes) = &mut entry.content {
                    bytes.extend_from_slice(value);
                }
            }
            Step::Increment(key, by) => {
                let entry = model.entry(key.clone().into()).or_insert(text(b"0", None));
                if let Content::Text(bytes) = &mut entry.content {
                    let number: i64 = String::from_utf8_lossy(bytes).parse().unwrap_or(0);
                    *bytes = (number + by).to_string().into_bytes();
                }
            }
            Step::Delete(key) => {
                model.remove(key.as_bytes());
            }
            Step::ExpireAt(key, deadline_ms) => {
                if let Some(entry) = model.get_mut(key.as_bytes()) {
                    entry.deadline_ms = Some(*deadline_ms);
                }
            }
        }
    }
}

fn digest(contents: &Contents) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}

/// For each state that a file may be in, the latest step which leads to it; 0 is the empty file.
fn states_by_digest(steps: u64) -> HashMap<u64, u64> {
    let mut model = Contents::new();
    let mut states = HashMap::from([(digest(&model), 0)]);
    for number in 1..=steps {
        step(number).take_on_model(&mut model);
        states.insert(digest(&model), number);
    }
    states
}

// --- work ------------------------------------------------------------------------------------------

/// What was acknowledged as durable, and how long the log of block writes was by then.
struct Acknowledgments {
    notes: File,
    log: File,
}

impl Acknowledgments {
    /// Notes that the step, and all before it, were acknowledged. The length is read after the
    /// acknowledgment, so that whatever that rests on lies before it.
    fn note(&mut self, file: &str, number: u64) -> Result<(), Trouble> {
        let length = LogHead::read(&self.log)?.entry_count;
        writeln!(self.notes, "{file} {number} {length}")?;
        Ok(())
    }
}

/// Takes the steps three times in a row: durable each, durable on demand, durable each in an older
/// file. The directory and a neighbour are synced in between, which carries metadata to the disk
/// at moments that brasa has not chosen.
fn work(arguments: &Arguments) -> Result<u8, Trouble> {
    let directory = arguments.path("directory")?;
    let steps = arguments.number("steps")?;
    let mut acknowledgments = Acknowledgments {
        notes: File::create(arguments.path("notes")?)?,
        log: File::open(arguments.path("log")?)?,
    };
    for file in FILES {
        let path = directory.join(file);
        let mut number = 0;
        for (phase, durability) in [Durability::Always, Durability::Os, Durability::Always]
            .into_iter()
            .enumerate()
        {
            let db = Db::options().durability(durability).open(&path)?;
            // Had the file got its name before its contents were on the disk, here the name would
            // get there alone.
            File::open(&directory)?.sync_all()?;
            let last = steps * (phase as u64 + 1) / 3;
            while number < last {
                number += 1;
                step(number).take(&db)?;
                let synced = number.is_multiple_of(6);
                if durability == Durability::Os && synced {
                    db.sync()?;
                }
                if durability == Durability::Always || synced {
                    acknowledgments.note(file, number)?;
                }
                if number.is_multiple_of(4) {
                    disturb(&directory, number)?;
                }
            }
            db.close()?;
            acknowledgments.note(file, number)?;
        }
    }
    Ok(FOUND_NOTHING)
}

fn disturb(directory: &Path, number: u64) -> Result<(), Trouble> {
    let mut neighbour = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("neighbour"))?;
    neighbour.write_all(&[b'n'; 700])?;
    if number.is_multiple_of(8) {
        neighbour.sync_all()?;
    }
    Ok(())
}

// --- the log of block writes -----------------------------------------------------------------------

// The format of dm-log-writes, which qemu's blklogwrites writes: a head of one sector, then for
// each entry a sector with its description and its data.
const SECTOR_BYTES: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

struct LogHead {
    entry_count: u64,
}

impl LogHead {
    /// Before the first flush there is no head: then nothing that was written is durable, and the
    /// count is 0.
    fn read(log: &File) -> Result<LogHead, Trouble> {
        if log.metadata()?.len() < SECTOR_BYTES || u64_at(log, 0)? == 0 {
            return Ok(LogHead { entry_count: 0 });
        }
        if u64_at(log, 0)? != MAGIC || u64_at(log, 8)? != 1 || u64_at(log, 24)? != SECTOR_BYTES {
            return Err("this is no log of block writes with sectors of 512 bytes".into());
        }
        Ok(LogHead {
            entry_count: u64_at(log, 16)?,
        })
    }
}

fn u64_at(file: &File, offset: u64) -> Result<u64, Trouble> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u64::from_le_bytes(bytes))
}

enum LogEntry {
    Write { offset: u64, data: Vec<u8> },
    Flush,
    // What a discarded block holds afterwards is nobody's business: it keeps what it had.
    Discard,
}

fn read_log(path: &Path) -> Result<Vec<LogEntry>, Trouble> {
    let log = File::open(path)?;
    let mut entries = Vec::new();
    let mut at = SECTOR_BYTES;
    for _ in 0..LogHead::read(&log)?.entry_count {
        let (sector, sector_count) = (u64_at(&log, at)?, u64_at(&log, at + 8)?);
        let flags = u64_at(&log, at + 16)?;
        at += SECTOR_BYTES;
        entries.push(match flags {
            0 => {
                let mut data = vec![0; usize::try_from(sector_count * SECTOR_BYTES)?];
                log.read_exact_at(&mut data, at)?;
                at += sector_count * SECTOR_BYTES;
                LogEntry::Write {
                    offset: sector * SECTOR_BYTES,
                    data,
                }
            }
            FLUSH => LogEntry::Flush,
            DISCARD => LogEntry::Discard,
            _ => return Err(format!("a log entry has the flags {flags:#x}").into()),
        });
    }
    Ok(entries)
}

// --- replay ----------------------------------------------------------------------------------------

/// What becomes of one write in a state of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Only its first bytes got to the disk.
    Torn(usize),
}

/// Where a write of the replay may be torn. Smaller pieces would be honest too for the disk, but
/// the file systems themselves rely on their blocks.
const BLOCK_BYTES: usize = 4096;

struct Replay {
    file_system: String,
    scratch: PathBuf,
    states: HashMap<u64, u64>,
    /// File, step, and the length of the log by which it was acknowledged.
    acknowledged: Vec<(String, u64, u64)>,
    stop_at_first: bool,
    tried: u64,
    losses: u64,
}

fn replay(arguments: &Arguments) -> Result<u8, Trouble> {
    let entries = read_log(&arguments.path("log")?)?;
    let scratch = arguments.path("scratch")?;
    let losses_per_epoch = arguments.number("losses_per_epoch")?;
    let mut random = Random(arguments.number("seed")?.max(1));
    fs::create_dir_all(scratch.join("mount"))?;
    let current = scratch.join("current.img");
    copy_sparse(&arguments.path("base")?, &current)?;
    let mut replay = Replay {
        file_system: arguments.text("file_system")?.to_owned(),
        scratch,
        states: states_by_digest(arguments.number("steps")?),
        acknowledged: read_acknowledgments(&arguments.path("notes")?, entries.len())?,
        stop_at_first: arguments.text("stop_at_first")? == "yes",
        tried: 0,
        losses: 0,
    };

    replay.judge(&current, 0, "the fresh file system")?;
    for (index, entry) in entries.iter().enumerate() {
        if index == 0 || matches!(entries[index - 1], LogEntry::Flush) {
            replay.judge_epoch(&current, &entries, index, losses_per_epoch, &mut random)?;
        }
        let length = index + 1;
        match entry {
            LogEntry::Write { offset, data } => {
                let image = OpenOptions::new().write(true).open(&current)?;
                image.write_all_at(data, *offset)?;
                // Where a flush follows, the state is the same and more is asked of it there.
                if !matches!(entries.get(length), Some(LogEntry::Flush)) {
                    replay.judge(&current, length, &format!("the first {length} entries"))?;
                }
            }
            LogEntry::Flush => {
                replay.judge(
                    &current,
                    length,
                    &format!("the first {length} entries, a flush at their end"),
                )?;
            }
            LogEntry::Discard => {}
        }
        if replay.stop_at_first && replay.losses > 0 {
            break;
        }
    }
    println!(
        "{}: {} log entries, {} flushes, {} acknowledgments, {} states tried, {} with a loss",
        replay.file_system,
        entries.len(),
        entries
            .iter()
            .filter(|entry| matches!(entry, LogEntry::Flush))
            .count(),
        replay.acknowledged.len(),
        replay.tried,
        replay.losses
    );
    Ok(match replay.losses {
        0 => FOUND_NOTHING,
        _ => FOUND_LOSS,
    })
}

fn read_acknowledgments(
    path: &Path,
    entry_count: usize,
) -> Result<Vec<(String, u64, u64)>, Trouble> {
    let mut acknowledged = Vec::new();
    for line in fs::read_to_string(path)?.lines() {
        let mut words = line.split(' ');
        let (Some(file), Some(number), Some(length)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("this is no acknowledgment: {line}").into());
        };
        acknowledged.push((file.to_owned(), number.parse()?, length.parse()?));
    }
    if acknowledged.is_empty() {
        return Err("nothing was acknowledged, so nothing would be checked".into());
    }
    if acknowledged
        .iter()
        .any(|(_, _, length)| *length > entry_count as u64)
    {
        return Err("an acknowledgment names a longer log than there is".into());
    }
    Ok(acknowledged)
}

impl Replay {
    /// Tries states in which some of the writes between two flushes are missing or torn: a disk
    /// writes them in any order. Everything before the first of the flushes is there.
    fn judge_epoch(
        &mut self,
        current: &Path,
        entries: &[LogEntry],
        start: usize,
        losses: u64,
        random: &mut Random,
    ) -> Result<(), Trouble> {
        let writes: Vec<(u64, &[u8])> = entries[start..]
            .iter()
            .take_while(|entry| !matches!(entry, LogEntry::Flush))
            .filter_map(|entry| match entry {
                LogEntry::Write { offset, data } => Some((*offset, data.as_slice())),
                _ => None,
            })
            .collect();
        if writes.len() < 2 && writes.iter().all(|(_, data)| data.len() <= BLOCK_BYTES) {
            return Ok(());
        }
        for round in 0..losses {
            let fates: Vec<Fate> = writes
                .iter()
                .enumerate()
                .map(|(index, (_, data))| match random.below(4) {
                    // At first, where there are rounds enough, each single one.
                    _ if losses > writes.len() as u64 && round < writes.len() as u64 => {
                        match index as u64 == round {
                            true => Fate::Lost,
                            false => Fate::Kept,
                        }
                    }
                    0 => Fate::Lost,
                    1 if data.len() > BLOCK_BYTES => {
                        Fate::Torn((1 + random.below(data.len() / BLOCK_BYTES - 1)) * BLOCK_BYTES)
                    }
                    1 => Fate::Lost,
                    _ => Fate::Kept,
                })
                .collect();
            let image = self.scratch.join("lossy.img");
            copy_sparse(current, &image)?;
            let file = OpenOptions::new().write(true).open(&image)?;
            for ((offset, data), fate) in writes.iter().zip(&fates) {
                let kept = match fate {
                    Fate::Kept => data.len(),
                    Fate::Lost => 0,
                    Fate::Torn(bytes) => *bytes,
                };
                file.write_all_at(&data[..kept], *offset)?;
            }
            drop(file);
            let story = format!(
                "the first {start} entries, and of the writes up to the next flush {fates:?}"
            );
            self.judge(&image, start, &story)?;
        }
        Ok(())
    }

    /// Mounts a copy of the image, as it would be after a power loss, and judges the files in it.
    fn judge(&mut self, image: &Path, length: usize, story: &str) -> Result<(), Trouble> {
        if self.stop_at_first && self.losses > 0 {
            return Ok(());
        }
        let tried = self.scratch.join("tried.img");
        copy_sparse(image, &tried)?;
        let mounted = Mounted::new(&self.file_system, &tried, &self.scratch.join("mount"))
            .map_err(|trouble| format!("{story}: {trouble}"))?;
        for file in FILES {
            let demanded = self.demanded(file, length);
            let judged = self.judge_file(&mounted.directory.join(file), demanded);
            if let Err(loss) = judged {
                self.losses += 1;
                if self.losses <= 5 {
                    println!("{}: {story}: {file}: {loss}", self.file_system);
                }
                break;
            }
        }
        self.tried += 1;
        if self.tried.is_multiple_of(1000) {
            println!(
                "{}: {} states so far, {} with a loss",
                self.file_system, self.tried, self.losses
            );
        }
        mounted.unmount()
    }

    /// The last step that was acknowledged while the log was no longer than this.
    fn demanded(&self, file: &str, length: usize) -> u64 {
        self.acknowledged
            .iter()
            .filter(|(name, _, by)| name == file && *by <= length as u64)
            .map(|(_, number, _)| *number)
            .max()
            .unwrap_or(0)
    }

    /// Fails with what is wrong with the file.
    fn judge_file(&self, path: &Path, demanded: u64) -> Result<(), String> {
        if !path.exists() {
            return match demanded {
                0 => Ok(()),
                _ => Err(format!(
                    "it is not there, and step {demanded} was acknowledged"
                )),
            };
        }
        let report = brasa::inspect::check(path, |_, _| {}).map_err(|error| error.to_string())?;
        if !report.is_sound() {
            return Err(format!("the check says {:?}", report.end));
        }
        let found = self
            .open_and_go_on(path)
            .map_err(|error| error.to_string())?;
        match self.states.get(&digest(&found)) {
            None => Err("what it holds is the state after no step: a hole, or half a batch".into()),
            Some(number) if *number < demanded => Err(format!(
                "it holds the state after step {number}, and step {demanded} was acknowledged"
            )),
            Some(_) => Ok(()),
        }
    }

    /// What the file holds; and that it can be written to and opened once more.
    fn open_and_go_on(&self, path: &Path) -> Result<Contents, Trouble> {
        const KEY: &[u8] = b"written after the power loss";
        let options = || Db::options().create(false).durability(Durability::Always);
        let db = options().open(path)?;
        let found = contents(&db)?;
        db.set(KEY, "1")?;
        db.close()?;
        let db = options().open(path)?;
        let mut again = contents(&db)?;
        let written = again.remove(KEY);
        db.close()?;
        if written.is_none() || again != found {
            return Err("a write after the recovery changed something else, or got lost".into());
        }
        Ok(found)
    }
}

fn contents(db: &Db) -> brasa::Result<Contents> {
    let mut found = Contents::new();
    for key in db.keys() {
        let key = key?;
        let content = match db.key_type(&key)? {
            Some(KeyType::Hash) => Content::Fields(
                db.hgetall(&key)?
                    .into_iter()
                    .map(|(field, value)| (field.to_vec(), value.to_vec()))
                    .collect(),
            ),
            _ => Content::Text(
                db.get(&key)?
                    .map(|value| value.to_vec())
                    .unwrap_or_default(),
            ),
        };
        let deadline_ms = db.deadline_ms(&key)?;
        found.insert(
            key.to_vec(),
            Entry {
                content,
                deadline_ms,
            },
        );
    }
    Ok(found)
}

/// A mounted image, which is unmounted whatever happens.
struct Mounted {
    directory: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    fn new(file_system: &str, image: &Path, directory: &Path) -> Result<Mounted, Trouble> {
        let options = match file_system {
            // Nothing is to be thrown away behind our back.
            "btrfs" => "loop,nodiscard",
            _ => "loop",
        };
        run(Command::new("mount")
            .args(["-t", file_system, "-o", options])
            .args([image, directory]))?;
        Ok(Mounted {
            directory: directory.to_owned(),
            is_mounted: true,
        })
    }

    fn unmount(mut self) -> Result<(), Trouble> {
        self.is_mounted = false;
        run(Command::new("umount").arg(&self.directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = run(Command::new("umount").arg(&self.directory));
        }
    }
}

/// Copies what is not a hole. The copy is a new file: nothing that was cached of an older one is
/// taken for it.
fn copy_sparse(from: &Path, to: &Path) -> Result<(), Trouble> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    run(Command::new("cp").arg("--sparse=always").args([from, to]))
}

fn run(command: &mut Command) -> Result<(), Trouble> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}", said.trim()).into())
}

/// Marsaglia's xorshift: the same choices for the same seed.
struct Random(u64);

impl Random {
    /// A number below `limit`; 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = limit.max(1) as u64;
        usize::try_from(self.0 % limit).unwrap_or_default()
    }
}

//! Opening: creation, replay, and the treatment of a torn tail.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::commit::Writer;
use super::generation::Generation;
use super::nested::{Place, is_writing_to};
use super::repair::RepairReport;
use super::rewrite::{Rewrite, write_error};
use super::sync::{SyncState, Waiting};
use super::turn::WaitedFor;
use super::{Engine, Settings};
use crate::clock::{Clock, Patience};
use crate::log::{
    Damage, FileHeader, HeaderProblem, LOG_START, MAGIC, MAJOR_VERSION, MINOR_VERSION, PAGE_BYTES,
    Slot, Slots, Source,
};
use crate::mutation::{self, Mutation};
use crate::record::{self, HEADER_BYTES};
use crate::storage::{
    DiskStorage, LockByte, LockMode, MemoryStorage, Storage, StorageFile, acquire, fork_count,
};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Mutex, PoisonError, RwLock};
use crate::{Error, Fallback, Options, Result};

/// How often opening goes back to the start because the file appeared or vanished meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// What opening a file found and did; from [`Db::recovery`](crate::Db::recovery).
///
/// [`Db::recovery`](crate::Db::recovery) has an example.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the file was created.
    pub created: bool,
    /// The number of replayed records: those since the checkpoint, if there was one.
    pub record_count: u64,
    /// The number of commits that contain them.
    pub commit_count: u64,
    /// The number of replayed bytes.
    pub replayed_bytes: u64,
    /// The reason why the checkpoint was not used. The whole log was replayed instead.
    pub checkpoint_ignored: Option<String>,
    /// The bytes behind the last complete commit that belong to no commit: a write that a crash cut
    /// short. They were never acknowledged as being on the device, and are no longer part of the
    /// log. Counted up to 64 MiB.
    pub torn_bytes: u64,
    /// The duration of the opening.
    pub duration: Duration,
    /// The report of the salvage, if the file was damaged and
    /// [`OnDamage::Salvage`](crate::OnDamage::Salvage) was set.
    pub salvaged: Option<RepairReport>,
    /// The new path of a file of another format that had the path, if it was set aside
    /// ([`CacheOptions::set_aside_strangers`](crate::CacheOptions::set_aside_strangers)).
    pub set_aside: Option<PathBuf>,
    /// The fallback that was opened instead of a writable file; [`Fallback::None`] as a rule.
    pub fallback: Fallback,
    /// The error that the open would have returned without [`Options::fallback`].
    pub fallback_reason: Option<String>,
}

impl Engine {
    pub(crate) fn open_on_disk(path: &Path, options: &Options) -> Result<Engine> {
        if options.create_directory && options.create && !options.read_only {
            DiskStorage::create_directory_of(path)
                .map_err(Error::io("create the directory of", path))?;
        }
        Engine::open_or_recover(Arc::new(DiskStorage), path, options)
    }

    pub(crate) fn open_in_memory(options: &Options) -> Result<Engine> {
        let storage = Arc::new(MemoryStorage::default());
        // No other handle can find it.
        let options = options.clone().exclusive(true);
        Engine::open(storage, Path::new(":memory:"), &options)
    }

    /// Opens the file, and creates it where the options allow.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        options: &Options,
    ) -> Result<Engine> {
        let begun = Instant::now();
        let path = &storage.resolve(path).map_err(Error::io("find", path))?;
        let settings = Settings::of(options);
        let may_create = options.create && !options.read_only;
        let mut created = false;
        for _ in 0..MAX_ATTEMPTS {
            // A new file is opened by its name, too: Linux shows a file that was created without a
            // name as deleted for as long as its first descriptor is open.
            let file = match storage.open(path, settings.access()) {
                Ok(file) if may_create && is_empty(&*file, path)? => {
                    created |= create_over_empty(&*storage, &*file, path, options)?;
                    continue;
                }
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                    // If another process was faster, its file is as good.
                    created |= create(&*storage, path, &*options.clock, options.mode)?;
                    continue;
                }
                Err(error) => return Err(Error::io("open", path)(error)),
            };
            // What is no file of ours is refused before it is waited for.
            read_header(&*file, path)?;
            lock_for_life(&*file, path, &settings)?;
            if !is_named(&*storage, &*file, path)? {
                // It lost its name while the lock was waited for: what was written to it would be gone.
                continue;
            }
            let mut engine = Engine::open_file(Arc::clone(&storage), file, path, options)?;
            engine.recovery.created = created;
            engine.recovery.duration = begun.elapsed();
            return Ok(engine);
        }
        Err(Error::io("open", path)(io::Error::other(
            "the file was repeatedly created and removed by other processes; try again",
        )))
    }

    /// Opens a file of which the handle's locks are held.
    fn open_file(
        storage: Arc<dyn Storage>,
        file: Arc<dyn StorageFile>,
        path: &Path,
        options: &Options,
    ) -> Result<Engine> {
        let settings = Settings::of(options);
        let (generation, loaded) = load(file, path, &settings)?;
        let mut number = [0; 4];
        storage
            .random(&mut number)
            .map_err(Error::io("draw random numbers for", path))?;
        let generation = Arc::new(generation);
        let engine = Engine {
            path: path.to_owned(),
            storage,
            clock: Arc::clone(&options.clock),
            settings,
            writer: Mutex::new(Writer::new(
                &generation,
                u32::from_le_bytes(number),
                &settings,
            )),
            generation: RwLock::new(Arc::clone(&generation)),
            place: Place::new(generation.id.device, path),
            device: generation.id.device,
            inode: AtomicU64::new(generation.id.inode),
            tracked: Mutex::default(),
            following: Mutex::new(()),
            switching: AtomicBool::new(false),
            fork_count: fork_count(),
            lease_kept: AtomicBool::new(false),
            lease_started: AtomicBool::new(false),
            sync: Mutex::new(SyncState::new(loaded.slots)),
            waiting: Waiting::default(),
            writer_waited: WaitedFor::default(),
            sync_waited: WaitedFor::default(),
            compaction: Mutex::new(()),
            on_compaction: options.on_compaction.clone(),
            stopping: AtomicBool::new(false),
            is_over_bound: AtomicBool::new(false),
            relieve_at: AtomicU64::new(0),
            is_short_of_space: AtomicBool::new(false),
            compaction_failed: AtomicBool::new(false),
            lacks_space: AtomicBool::new(false),
            work_due: AtomicBool::new(false),
            written_bytes: AtomicU64::new(0),
            evicted_keys: AtomicU64::new(0),
            evicted_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            recovery: loaded.recovery,
        };
        if engine.settings.exclusive && !engine.settings.read_only {
            // The one turn that never ends.
            let mut writer = engine.writer.lock().unwrap_or_else(PoisonError::into_inner);
            engine.begin_turn(&mut writer, &generation)?;
        }
        Ok(engine)
    }
}

/// The state of a file after its log was replayed.
pub(super) struct Loaded {
    pub(super) slots: Slots,
    pub(super) recovery: Recovery,
}

/// Replays a file's log. The caller holds the users lock.
pub(super) fn load(
    file: Arc<dyn StorageFile>,
    path: &Path,
    settings: &Settings,
) -> Result<(Generation, Loaded)> {
    let (header, slots) = read_header(&*file, path)?;
    let slots =
        slots.ok_or_else(|| Error::corrupt(path, PAGE_BYTES as u64, "both slots are invalid"))?;
    let checkpoint = match settings.ignore_checkpoints {
        true => 0,
        false => slots.current().checkpoint,
    };
    let (generation, checkpoint_ignored) =
        Generation::open(file, header, path, settings, checkpoint)?;
    generation.note_synced_by(&slots);
    generation.note_word();
    let mut tail = generation.lock_tail();
    let (replayed, end) = generation.catch_up(&mut tail)?;
    let tail = {
        let offset = tail.offset;
        drop(tail);
        offset
    };
    judge_end(path, tail, end, slots.current())?;
    let recovery = Recovery {
        record_count: replayed.record_count,
        commit_count: replayed.commit_count,
        replayed_bytes: replayed.bytes,
        checkpoint_ignored,
        torn_bytes: match end {
            Ok(()) => 0,
            Err(_) => torn_bytes(&**generation.mapping(), tail),
        },
        ..Recovery::default()
    };
    Ok((generation, Loaded { slots, recovery }))
}

/// Makes a file under another name, syncs it, and then gives it its own: it appears complete.
/// Returns `false` if there is one by now.
fn create(storage: &dyn Storage, path: &Path, clock: &dyn Clock, mode: u32) -> Result<bool> {
    let header = draw_header(storage, path, clock)?;
    let temporary = Rewrite::begin(storage, path, header, 0)?
        .finish()?
        .temporary;
    let file = temporary.file();
    // A temporary file has this mode; some file systems know no other, and refuse to set one.
    if mode != 0o600 {
        file.set_mode(mode)
            .map_err(Error::io("set the mode of", path))?;
    }
    match temporary.persist_new(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(write_error("create", path, PAGE_BYTES as u64)(error)),
    }
}

fn is_empty(file: &dyn StorageFile, path: &Path) -> Result<bool> {
    let size = file.size().map_err(Error::io("read the size of", path))?;
    Ok(size == 0)
}

/// Replaces an empty file by a new one, with the same owner and mode.
///
/// Returns `false` if the path names another file by now.
///
/// Processes that do so at the same time take turns by the empty file's writer lock, so that none replaces another's new file.
fn create_over_empty(
    storage: &dyn Storage,
    empty: &dyn StorageFile,
    path: &Path,
    options: &Options,
) -> Result<bool> {
    let settings = Settings::of(options);
    lock(
        empty,
        path,
        LockByte::Writer,
        LockMode::Exclusive,
        &settings,
    )?;
    if !is_named(storage, empty, path)? || !is_empty(empty, path)? {
        return Ok(false);
    }
    let header = draw_header(storage, path, &*options.clock)?;
    let rewrite = Rewrite::begin(storage, path, header, 0)?;
    let attributes = empty.attributes();
    if let Some(attributes) = attributes.map_err(Error::io("look at", path))? {
        let kept = rewrite.file().set_attributes(attributes);
        kept.map_err(Error::io("keep the owner and mode of", path))?;
    }
    let temporary = rewrite.finish()?.temporary;
    let replaced = temporary.replace(path);
    replaced.map_err(write_error("create", path, PAGE_BYTES as u64))?;
    Ok(true)
}

/// The header of a new file.
pub(super) fn draw_header(
    storage: &dyn Storage,
    path: &Path,
    clock: &dyn Clock,
) -> Result<FileHeader> {
    let mut random = [0; 20];
    storage
        .random(&mut random)
        .map_err(Error::io("draw random numbers for", path))?;
    let (salt, hash_key) = random.split_at(4);
    Ok(FileHeader {
        salt: salt
            .iter()
            .fold(0, |salt, byte| salt << 8 | u32::from(*byte)),
        hash_key: hash_key.try_into().unwrap_or_default(),
        generation: 0,
        base_position: 0,
        copied_upto: LOG_START,
        created_ms: clock.now_ms(),
    })
}

/// Reads page 0 and, where one is valid, the slots.
pub(crate) fn read_header(
    file: &dyn StorageFile,
    path: &Path,
) -> Result<(FileHeader, Option<Slots>)> {
    let mut start = [0; HEAD_BYTES];
    let count = file
        .read_at(&mut start, 0)
        .map_err(Error::io("read", path))?;
    let (header, mut slots) = parse_header(&start[..count], path)?;
    if mutation::is_on(Mutation::SkipNamed) {
        slots = slots.map(|slots| {
            slots.succeeded_by(Slot {
                named: true,
                ..slots.current()
            })
        });
    }
    Ok((header, slots))
}

/// How much of a file [`parse_header`] looks at: the three pages, and the first record's header, which repeats the salt.
pub(crate) const HEAD_BYTES: usize = 3 * PAGE_BYTES + HEADER_BYTES;

/// As [`read_header`], from a file's first [`HEAD_BYTES`].
pub(crate) fn parse_header(start: &[u8], path: &Path) -> Result<(FileHeader, Option<Slots>)> {
    let mut page = [0; PAGE_BYTES];
    let there = start.len().min(PAGE_BYTES);
    page[..there].copy_from_slice(&start[..there]);
    let corrupt = |offset: u64, reason: String| Err(Error::corrupt(path, offset, reason));
    let too_short = || {
        let reason = format!("the file ends within its header of {LOG_START} bytes");
        corrupt(start.len() as u64, reason)
    };
    let header = match FileHeader::decode(&page) {
        Ok(header) => header,
        Err(HeaderProblem::Foreign) if is_cut_magic(start) => return too_short(),
        Err(HeaderProblem::Foreign) if has_valid_slot(start) => {
            let reason = "the header is damaged: its magic and its checksum are invalid, but a slot is valid";
            return corrupt(0, reason.to_owned());
        }
        Err(HeaderProblem::Foreign) => {
            return Err(Error::NotABrasaFile {
                path: path.to_owned(),
                found: describe_foreign(&start[..there]),
            });
        }
        Err(HeaderProblem::Magic { found }) => {
            let (expected, found) = (MAGIC.escape_ascii(), found.escape_ascii());
            let reason = format!(
                "the magic is \"{found}\" instead of \"{expected}\", for which the header's checksum is \
                 valid"
            );
            return corrupt(0, reason);
        }
        Err(HeaderProblem::Checksum { .. }) if there < PAGE_BYTES => return too_short(),
        Err(HeaderProblem::Checksum { expected, found }) => {
            let reason =
                format!("the header has checksum {found:08x}, but its bytes give {expected:08x}");
            return corrupt(0, reason);
        }
        Err(HeaderProblem::Version { major, minor }) => {
            return Err(Error::UnsupportedVersion {
                path: path.to_owned(),
                found: (major, minor),
                supported: (MAJOR_VERSION, MINOR_VERSION),
            });
        }
    };
    if (start.len() as u64) < LOG_START {
        return too_short();
    }
    Ok((header, Slots::decode(start, header.salt)))
}

/// Whether a file was cut within its magic.
fn is_cut_magic(start: &[u8]) -> bool {
    !start.is_empty() && start.len() < MAGIC.len() && MAGIC.starts_with(start)
}

/// Whether a slot is valid under a salt that the file may have: then it is a brasa file, whatever its header says.
fn has_valid_slot(start: &[u8]) -> bool {
    salts(start).any(|salt| Slots::decode(start, salt).is_some())
}

/// The possible salts of a file with a damaged header: the one in the header, and the previous
/// checksum in the first record.
pub(super) fn salts(start: &[u8]) -> impl Iterator<Item = u32> {
    let page = start.first_chunk::<PAGE_BYTES>();
    let in_header = page.map(|page| FileHeader::read(page).salt);
    let first_record = start.get(3 * PAGE_BYTES..HEAD_BYTES);
    let in_record = first_record.and_then(record::stored_previous);
    in_header.into_iter().chain(in_record)
}

/// What a file is that is not ours, as far as its first bytes tell.
fn describe_foreign(start: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"\x89PNG", "it is a PNG image"),
        (b"SQLite format 3\0", "it is an SQLite database"),
        (b"REDIS", "it is a Redis dump"),
        (b"PK\x03\x04", "it is a ZIP archive"),
        (b"\x1f\x8b", "it is a gzip file"),
        (b"\x7fELF", "it is a program"),
        (b"redb", "it is a redb database"),
    ];
    if start.is_empty() {
        return "it is empty (opening it with permission to create a file turns it into a new one)"
            .to_owned();
    }
    if start.iter().all(|byte| *byte == 0) {
        return "it starts with zero bytes only".to_owned();
    }
    match KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => (*what).to_owned(),
        None => format!(
            "it starts with \"{}\"",
            start[..start.len().min(8)].escape_ascii()
        ),
    }
}

/// Whether the path still names this file.
pub(super) fn is_named(storage: &dyn Storage, file: &dyn StorageFile, path: &Path) -> Result<bool> {
    let named = storage.id_of(path).map_err(Error::io("look at", path))?;
    Ok(named == Some(file.id().map_err(Error::io("identify", path))?))
}

/// Acquires the locks that the handle keeps until it closes.
///
/// These are the users lock, and the writer lock if the handle is to have the file alone. The
/// latter is shared if the handle only reads and no other may write.
pub(super) fn lock_for_life(
    file: &dyn StorageFile,
    path: &Path,
    settings: &Settings,
) -> Result<()> {
    if settings.exclusive {
        if is_writing_to(file.id().map_err(Error::io("identify", path))?) {
            return Err(Error::Reentered {
                path: path.to_owned(),
            });
        }
        let mode = match settings.read_only {
            true => LockMode::Shared,
            false => LockMode::Exclusive,
        };
        lock(file, path, LockByte::Writer, mode, settings)?;
    } else if !file.has_description_locks() && !settings.read_only {
        return Err(Error::io("share", path)(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no open file description locks; open the file exclusively",
        )));
    } else if let Some(file_system) = file
        .network_file_system()
        .map_err(Error::io("look at the file system of", path))?
    {
        return Err(Error::NotLocal {
            path: path.to_owned(),
            file_system,
        });
    }
    lock_users(file, path, settings)
}

/// Marks the file as in use: no other handle may truncate it.
pub(super) fn lock_users(file: &dyn StorageFile, path: &Path, settings: &Settings) -> Result<()> {
    lock(file, path, LockByte::Users, LockMode::Shared, settings)
}

fn lock(
    file: &dyn StorageFile,
    path: &Path,
    byte: LockByte,
    mode: LockMode,
    settings: &Settings,
) -> Result<()> {
    let mut patience = Patience::new(settings.lock_timeout);
    let locked = acquire(file, byte, mode, &mut patience).map_err(Error::io("lock", path))?;
    match locked {
        true => Ok(()),
        false => Err(Error::Locked {
            path: path.to_owned(),
            lock: byte.name(),
            waited: patience.waited(),
        }),
    }
}

/// Whether the log may end where it does: damage or an end before what is known to be on the device
/// is corruption, behind it it is a write that was cut short.
pub(crate) fn judge_end(
    path: &Path,
    end: u64,
    reached: std::result::Result<(), Damage>,
    slot: Slot,
) -> Result<()> {
    if end >= slot.synced_upto || mutation::is_on(Mutation::IgnoreSyncedUpto) {
        return Ok(());
    }
    let known = format!("the log was synced up to offset {}", slot.synced_upto);
    Err(match reached {
        Ok(()) => Error::corrupt(path, end, format!("the log ends at this offset; {known}")),
        Err(damage) => Error::corrupt(path, damage.offset, format!("{}; {known}", damage.reason)),
    })
}

/// Bytes from the end of the log to the last one that is not zero, as far as one looks.
pub(super) fn torn_bytes<S: Source + ?Sized>(source: &S, end: u64) -> u64 {
    const CHUNK_BYTES: u64 = 64 << 10;
    // A file can be a terabyte of nothing, and the number is for people alone.
    const MOST_BYTES: u64 = 64 << 20;
    let mut upto = source.len().min(end.saturating_add(MOST_BYTES));
    while upto > end {
        let start = end.max(upto.saturating_sub(CHUNK_BYTES));
        let chunk = usize::try_from(upto - start)
            .ok()
            .and_then(|len| source.bytes(start, len))
            .unwrap_or_default();
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return start + last as u64 + 1 - end;
        }
        upto = start;
    }
    0
}

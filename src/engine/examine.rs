//! Examines a file that may be damaged: the one walk for `check`, for repair and for opening with
//! salvage.

use std::path::Path;

use super::generation::POISON_REASON;
use super::open::{HEAD_BYTES, parse_header, salts, torn_bytes};
use crate::log::{
    FileHeader, Gap, LOG_START, Lost, PAGE_BYTES, POISON_OFFSET, POISON_WORD, Reader, Slots,
    Source, Step, Survey,
};
use crate::record::{Change, Kind};
use crate::{Error, Result};

/// Bytes of keys and fields that are listed as lost; beyond them records are only counted.
const MAX_LISTED_BYTES: usize = 16 << 20;

/// How many damaged pages of checkpoints are listed.
const MAX_DAMAGED_PAGES: usize = 1 << 16;

/// A damaged part of a file, with all that is lost because of it.
///
/// Parts of the log go from the end of a whole commit to the beginning of another, since a commit
/// counts whole or not at all.
///
/// [`repair`](crate::inspect::repair) has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedRange {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is. It may go beyond the end of a file that was cut.
    pub bytes: u64,
    /// Where the first thing stands that is not as it must be: not the beginning, where whole records
    /// of the same commit come first.
    pub damage_offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// The records in it that can be told.
    pub lost: Vec<LostRecord>,
    /// How many more can be told; a long list is cut.
    pub unlisted_count: u64,
}

impl DamagedRange {
    pub(super) fn without_records(offset: u64, end: u64, reason: String) -> Self {
        Self {
            offset,
            bytes: end.saturating_sub(offset),
            damage_offset: offset,
            reason,
            lost: Vec::new(),
            unlisted_count: 0,
        }
    }
}

/// A record that is lost with a [`DamagedRange`].
///
/// A lost `clear`, `delete` or `expire` is a loss too: what it took away comes back.
///
/// [`repair`](crate::inspect::repair) has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRecord {
    /// Where it stands, in bytes from the start of the file.
    pub offset: u64,
    /// What it says, as in [`RecordInfo`](crate::inspect::RecordInfo).
    pub kind: &'static str,
    /// The database it is about.
    pub database: u8,
    /// The key; empty for a record that is about none.
    pub key: Vec<u8>,
    /// The field; empty for a record that is about none.
    pub field: Vec<u8>,
    /// Whether this is certain: the record is valid, and lost because the rest of its commit is. Else its
    /// checksum does not hold, and it perhaps was what it seems to be.
    pub certain: bool,
}

/// A damaged page of a checkpoint; from [`check`](crate::inspect::check).
///
/// It costs no data: opening ignores the checkpoint and replays the log, which takes longer. The next compaction leaves the page
/// out.
///
/// [`repair`](crate::inspect::repair) has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedPage {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What reading a whole file found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) header: FileHeader,
    /// Whether the header's own checksum holds.
    pub(crate) header_holds: bool,
    pub(crate) synced_upto: u64,
    /// In the order of the file.
    pub(crate) damaged: Vec<DamagedRange>,
    /// The first [`MAX_DAMAGED_PAGES`] damaged pages of checkpoints.
    pub(crate) damaged_pages: Vec<DamagedPage>,
    pub(crate) commit_count: u64,
    pub(crate) record_count: u64,
    /// Where the last whole commit ends.
    pub(crate) commits_upto: u64,
    pub(crate) torn: Option<Torn>,
    /// Why the file takes no more writes, if a record or the word of a failed sync says so.
    pub(crate) poison: Option<String>,
}

/// What stands behind the log and belongs to no commit.
#[derive(Debug)]
pub(crate) struct Torn {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// What the first pages say.
struct Head {
    header: FileHeader,
    holds: bool,
    slots: Option<Slots>,
    damaged: Vec<DamagedRange>,
}

/// Reads a file from its first byte to its last, passes each whole commit to `visit`, and gives back
/// what it found. `visit` gets the commit's end first.
///
/// # Errors
///
/// Where the file is none of ours, of another version, or too short to have a log; or from `visit`.
pub(crate) fn examine<S: Source + ?Sized>(
    source: &S,
    path: &Path,
    visit: &mut dyn FnMut(u64, &[Change<'_>]) -> Result<()>,
) -> Result<Findings> {
    let head = read_head(source, path)?;
    // Where nothing says how much was on the device, nothing says what lies behind damage either.
    let synced_upto = head
        .slots
        .map_or(LOG_START, |slots| slots.current().synced_upto);
    let mut findings = Findings {
        header: head.header,
        header_holds: head.holds,
        synced_upto,
        damaged: head.damaged,
        damaged_pages: Vec::new(),
        commit_count: 0,
        record_count: 0,
        commits_upto: LOG_START,
        torn: None,
        poison: (source.word(POISON_OFFSET) == Some(POISON_WORD)).then(|| POISON_REASON.to_owned()),
    };
    let mut listed_bytes = 0;
    let mut changes = Vec::new();
    let mut survey = Survey::new(source, head.header.salt, synced_upto);
    while let Some(step) = survey.next_step() {
        match step {
            Step::Commit(commit) => {
                changes.clear();
                changes.extend(survey.records().map(|(_, change)| change));
                findings.commit_count += 1;
                findings.record_count += changes.len() as u64;
                if let [change] = changes.as_slice()
                    && change.kind == Kind::Poisoned
                {
                    let reason = String::from_utf8_lossy(change.value);
                    findings.poison = Some(reason.into_owned());
                }
                visit(commit.end, &changes)?;
            }
            Step::DamagedPage(page) => {
                if findings.damaged_pages.len() < MAX_DAMAGED_PAGES {
                    findings.damaged_pages.push(DamagedPage {
                        offset: page.start,
                        bytes: page.end - page.start,
                    });
                }
                visit(page.end, &[])?;
            }
            Step::Gap(gap) => {
                let reason = describe(&gap, synced_upto);
                let range = name_lost(source, &gap, reason, &mut listed_bytes);
                findings.damaged.push(range);
            }
        }
    }
    findings.commits_upto = survey.commits_upto();
    let (offset, damage) = survey.end();
    let reason = match damage {
        Some(damage) => Some(damage.reason.to_string()),
        None if offset > findings.commits_upto => Some("the record before it is lost".to_owned()),
        None => None,
    };
    findings.torn = reason
        .map(|reason| Torn {
            offset,
            bytes: torn_bytes(source, offset),
            reason,
        })
        .filter(|torn| damage.is_some() || torn.bytes > 0);
    Ok(findings)
}

fn read_head<S: Source + ?Sized>(source: &S, path: &Path) -> Result<Head> {
    let start = head_of(source);
    let mut damaged = Vec::new();
    let (header, slots, holds) = match parse_header(start, path) {
        Ok((header, slots)) => (header, slots, true),
        Err(Error::Corrupt { reason, .. }) if start.len() as u64 >= LOG_START => {
            let page = start.first_chunk::<PAGE_BYTES>();
            let header = FileHeader::read(page.unwrap_or(&[0; PAGE_BYTES]));
            let page = PAGE_BYTES as u64;
            damaged.push(DamagedRange::without_records(0, page, reason));
            let salt = believable_salt(source, start, header.salt);
            let header = FileHeader { salt, ..header };
            (header, Slots::decode(start, salt), false)
        }
        Err(error) => return Err(error),
    };
    if slots.is_none() {
        let reason = "both slots are invalid".to_owned();
        let page = PAGE_BYTES as u64;
        damaged.push(DamagedRange::without_records(page, LOG_START, reason));
    }
    Ok(Head {
        header,
        holds,
        slots,
        damaged,
    })
}

/// What [`parse_header`] looks at.
pub(crate) fn head_of<S: Source + ?Sized>(source: &S) -> &[u8] {
    let len = source.len().min(HEAD_BYTES as u64);
    let start = usize::try_from(len).ok();
    start
        .and_then(|len| source.bytes(0, len))
        .unwrap_or_default()
}

/// The salt of a file with a damaged header: the one under which a slot or the first record is
/// valid.
fn believable_salt<S: Source + ?Sized>(source: &S, start: &[u8], stored: u32) -> u32 {
    let is_valid = |salt: &u32| {
        Slots::decode(start, *salt).is_some()
            || matches!(Reader::from_start(source, *salt).next_commit(), Ok(Some(_)))
    };
    salts(start).find(is_valid).unwrap_or(stored)
}

fn describe(gap: &Gap, synced_upto: u64) -> String {
    let mut reason = match gap.reason {
        None => "the log ends at this offset".to_owned(),
        Some(reason) => reason.to_string(),
    };
    reason.push_str(&format!("; the log was synced up to offset {synced_upto}"));
    if gap.given_up {
        reason.push_str("; the search for later records was stopped");
    }
    reason
}

fn name_lost<S: Source + ?Sized>(
    source: &S,
    gap: &Gap,
    reason: String,
    listed_bytes: &mut usize,
) -> DamagedRange {
    let mut range = DamagedRange {
        offset: gap.start,
        bytes: gap.end - gap.start,
        damage_offset: gap.damage_at,
        reason,
        lost: Vec::new(),
        unlisted_count: gap.unlisted_count,
    };
    for Lost { offset, certain } in &gap.lost {
        let Some(change) = crate::log::stored_change(source, *offset) else {
            continue;
        };
        *listed_bytes += change.key.len() + change.field.len();
        if *listed_bytes > MAX_LISTED_BYTES {
            range.unlisted_count += 1;
            continue;
        }
        range.lost.push(LostRecord {
            offset: *offset,
            kind: change.kind.name(),
            database: change.database,
            key: change.key.to_vec(),
            field: change.field.to_vec(),
            certain: *certain,
        });
    }
    range
}

//! The possible states after a power loss: builds images of a disk from its history.
//!
//! The rules of the disk, which are those that file systems give:
//!
//! 1. A sync of a file makes all earlier changes of its contents and size durable.
//! 2. Changes after the last sync may be there or not, in any order and in parts. Each byte is old
//!    or new. Bytes of a new area are zeros, or old contents of the device, until they are written.
//! 3. A name is durable once its directory was synced. Before that, it may be there or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::faulty::{History, NameChange, Operation, SimulatedDisk, SplitMix};

/// The contents of a disk without power.
///
/// [`Image::of_file`] has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// Makes an image with one file.
    ///
    /// ```
    /// use brasa::simulation::Image;
    /// let mut image = Image::of_file("cache.brasa", vec![0; 100]);
    /// image.file_mut("cache.brasa").unwrap()[7] = 1;
    /// assert_eq!(image.file("cache.brasa").unwrap()[7], 1);
    /// ```
    pub fn of_file(path: impl Into<PathBuf>, contents: Vec<u8>) -> Image {
        Image {
            files: BTreeMap::from([(path.into(), contents)]),
        }
    }

    /// Makes a disk with these contents; `seed` as for [`SimulatedDisk::new`].
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn restart(&self, seed: u64) -> SimulatedDisk {
        SimulatedDisk::with_files(seed, self.files.clone())
    }

    /// Returns the contents of a file; `None` if there is none of that name.
    ///
    /// [`Image::of_file`] has an example.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.files.get(path.as_ref()).map(Vec::as_slice)
    }

    /// Returns the contents of a file, to damage them.
    ///
    /// [`Image::of_file`] has an example.
    pub fn file_mut(&mut self, path: impl AsRef<Path>) -> Option<&mut Vec<u8>> {
        self.files.get_mut(path.as_ref())
    }
}

/// The changes since the last sync of a file that reach the device.
///
/// [`SimulatedDisk::crash_at`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// None of them.
    All,
    /// All of them: nothing is lost, as after a kill.
    Nothing,
    /// All but one.
    One(usize),
    /// One alone.
    AllBut(usize),
    /// Those before this one.
    From(usize),
    /// Those before this one, and of this one the first bytes.
    Torn(usize, usize),
    /// Of this one all but its first bytes, and everything else.
    TornHead(usize, usize),
    /// Of this one the first bytes, and everything else.
    TornTail(usize, usize),
    /// All but so many from this one on.
    Hole(usize, usize),
    /// Each block of so many bytes of each change by the toss of a coin.
    Blocks(usize),
    /// The sizes, but none of the data: new areas are zeros.
    Data,
    /// The sizes, and in new areas what the device had there before: foreign bytes.
    DataForGarbage,
    /// The data within the old size.
    Size,
}

impl Loss {
    /// Returns the name of the kind, for a summary.
    ///
    /// ```
    /// use brasa::simulation::Loss;
    /// assert_eq!(Loss::One(3).name(), "one missing");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Loss::All => "no unsynced write",
            Loss::Nothing => "every change",
            Loss::One(_) => "one missing",
            Loss::AllBut(_) => "one alone",
            Loss::From(_) => "a prefix",
            Loss::Torn(..) => "a torn write",
            Loss::TornHead(..) => "a write without its start",
            Loss::TornTail(..) => "a write without its end",
            Loss::Hole(..) => "a hole",
            Loss::Blocks(512) => "subset at 512 bytes",
            Loss::Blocks(_) => "subset at 4096 bytes",
            Loss::Data => "size without data, zeros",
            Loss::DataForGarbage => "size without data, garbage",
            Loss::Size => "data without size",
        }
    }
}

impl SimulatedDisk {
    /// Returns the contents after the first `upto` operations if every change without a sync is
    /// lost.
    ///
    /// [`SimulatedDisk`] has an example.
    pub fn synced_image(&self, upto: usize) -> Image {
        self.crash_at(upto).image(Loss::All, 0, 0, &[])
    }

    /// Returns the contents that a killed process leaves after the first `upto` operations: all of
    /// them.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn killed_image(&self, upto: usize) -> Image {
        let crash = self.crash_at(upto);
        crash.image(Loss::Nothing, crash.unsynced_names(), 0, &[])
    }

    /// Returns the moment after the first `upto` operations, at which power may be lost.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::Db;
    /// use brasa::simulation::{Loss, SimulatedDisk};
    /// let disk = SimulatedDisk::new(1);
    /// let db = Db::options().open_on(&disk, "cache.brasa")?;
    /// db.sync()?;
    /// db.set("a", "1")?;
    /// let crash = disk.crash_at(disk.operation_count());
    /// // Each of the unsynced changes alone may be missing.
    /// for number in 0..crash.unsynced_lengths().len() {
    ///     let image = crash.image(Loss::One(number), crash.unsynced_names(), 1, &[]);
    ///     let after = Db::options().open_on(&image.restart(2), "cache.brasa")?;
    ///     println!("without change {number}: {:?}", after.get("a")?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn crash_at(&self, upto: usize) -> Crash {
        Crash(State::after(&self.history(upto)))
    }
}

/// A moment at which power is lost; from [`SimulatedDisk::crash_at`].
///
/// [`SimulatedDisk::crash_at`] has an example.
#[derive(Debug)]
pub struct Crash(State);

impl Crash {
    /// Returns the length of each change that is at risk; 0 for a change of size.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn unsynced_lengths(&self) -> Vec<usize> {
        let pending = self.0.inodes.iter().flat_map(|inode| &inode.pending);
        pending.map(length).collect()
    }

    /// Returns the number of names that are at risk.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn unsynced_names(&self) -> usize {
        self.0.pending_names.len()
    }

    /// Returns the contents of the device after the loss.
    ///
    /// Changes are counted in the order of [`Crash::unsynced_lengths`]. Of the names that were not
    /// synced the first `names` are there. `seed` decides the tosses; `garbage` is what the device
    /// had, from a file's start on, where its new area lies.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn image(&self, loss: Loss, names: usize, seed: u64, garbage: &[u8]) -> Image {
        self.image_of_names(loss, &|name| name < names, seed, garbage)
    }

    /// As [`Crash::image`], with all the names that were not synced but one: the device need not keep their order.
    ///
    /// [`SimulatedDisk::crash_at`] has an example.
    pub fn image_without_name(
        &self,
        loss: Loss,
        missing: usize,
        seed: u64,
        garbage: &[u8],
    ) -> Image {
        self.image_of_names(loss, &|name| name != missing, seed, garbage)
    }

    fn image_of_names(
        &self,
        loss: Loss,
        is_there: &dyn Fn(usize) -> bool,
        seed: u64,
        garbage: &[u8],
    ) -> Image {
        let mut random = SplitMix(seed);
        let mut first_index = 0;
        let mut contents = Vec::new();
        for inode in &self.0.inodes {
            contents.push(inode.surviving(loss, first_index, &mut random, garbage));
            first_index += inode.pending.len();
        }
        let mut names = self.0.names.clone();
        for (number, change) in self.0.pending_names.iter().enumerate() {
            if is_there(number) {
                change.apply(&mut names);
            }
        }
        Image {
            files: names
                .into_iter()
                .filter_map(|(path, inode)| Some((path, contents.get(inode)?.clone())))
                .collect(),
        }
    }
}

/// A disk at a moment: what is on the device, and what is on its way there.
#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
}

#[derive(Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    pending: Vec<Operation>,
}

impl State {
    fn after(history: &History) -> State {
        let mut state = State {
            names: history.names.clone(),
            ..State::default()
        };
        for contents in &history.initial {
            state.inodes.push(Inode {
                synced: contents.clone(),
                pending: Vec::new(),
            });
        }
        for operation in &history.operations {
            match operation {
                Operation::Write { inode, .. } | Operation::Resize { inode, .. } => {
                    state.inode(*inode).pending.push(operation.clone());
                }
                Operation::Sync { inode } => {
                    let inode = state.inode(*inode);
                    for pending in std::mem::take(&mut inode.pending) {
                        apply(&pending, &mut inode.synced);
                    }
                }
                Operation::FailedSync { inode } => state.inode(*inode).pending.clear(),
                Operation::Name(change) => state.pending_names.push(change.clone()),
                Operation::SyncDirectory => {
                    for change in std::mem::take(&mut state.pending_names) {
                        change.apply(&mut state.names);
                    }
                }
            }
        }
        state
    }

    fn inode(&mut self, number: usize) -> &mut Inode {
        if self.inodes.len() <= number {
            self.inodes.resize_with(number + 1, Inode::default);
        }
        &mut self.inodes[number]
    }
}

impl Inode {
    /// The file after a loss; its changes are counted from `first_index` on.
    fn surviving(
        &self,
        loss: Loss,
        first_index: usize,
        random: &mut SplitMix,
        garbage: &[u8],
    ) -> Vec<u8> {
        let mut contents = self.synced.clone();
        let old_size = contents.len();
        for (index, operation) in self.pending.iter().enumerate() {
            let index = first_index + index;
            let whole = match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::One(missing) => index != missing,
                Loss::AllBut(only) => index == only,
                Loss::From(first) => index < first,
                Loss::Torn(torn, cut) => {
                    if index == torn {
                        apply_range(operation, 0..cut, &mut contents);
                    }
                    index < torn
                }
                Loss::TornHead(torn, cut) => {
                    if index == torn {
                        apply_range(operation, cut..usize::MAX, &mut contents);
                    }
                    index != torn
                }
                Loss::TornTail(torn, cut) => {
                    if index == torn {
                        apply_range(operation, 0..cut, &mut contents);
                    }
                    index != torn
                }
                Loss::Hole(first, count) => index < first || index >= first.saturating_add(count),
                Loss::Blocks(block_bytes) => {
                    apply_blocks(operation, block_bytes, random, &mut contents);
                    false
                }
                Loss::Data | Loss::DataForGarbage => {
                    resize_alone(operation, loss, garbage, &mut contents);
                    false
                }
                Loss::Size => {
                    apply(operation, &mut contents);
                    contents.truncate(old_size);
                    false
                }
            };
            if whole {
                apply(operation, &mut contents);
            }
        }
        contents
    }
}

fn length(operation: &Operation) -> usize {
    match operation {
        Operation::Write { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

fn apply(operation: &Operation, contents: &mut Vec<u8>) {
    apply_range(operation, 0..usize::MAX, contents);
}

/// Applies a part of a write; a change of size has no parts.
fn apply_range(operation: &Operation, range: std::ops::Range<usize>, contents: &mut Vec<u8>) {
    match operation {
        Operation::Write { offset, bytes, .. } => {
            let range = range.start.min(bytes.len())..range.end.min(bytes.len());
            let Ok(start) = usize::try_from(*offset) else {
                return;
            };
            let part = &bytes[range.clone()];
            if part.is_empty() {
                return;
            }
            let start = start + range.start;
            if contents.len() < start + part.len() {
                contents.resize(start + part.len(), 0);
            }
            contents[start..start + part.len()].copy_from_slice(part);
        }
        Operation::Resize { size, .. } => {
            if let Ok(size) = usize::try_from(*size) {
                contents.resize(size, 0);
            }
        }
        _ => {}
    }
}

fn apply_blocks(
    operation: &Operation,
    block_bytes: usize,
    random: &mut SplitMix,
    contents: &mut Vec<u8>,
) {
    let Operation::Write { offset, bytes, .. } = operation else {
        if random.below(2) == 0 {
            apply(operation, contents);
        }
        return;
    };
    // Blocks are the device's: they begin at multiples of their size.
    let into_block = usize::try_from(offset % block_bytes as u64).unwrap_or_default();
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes
            .len()
            .min(start + block_bytes - (into_block + start) % block_bytes);
        if random.below(2) == 0 {
            apply_range(operation, start..end, contents);
        }
        start = end;
    }
}

/// Makes the file as long as a change makes it, and fills the new area with zeros or garbage.
fn resize_alone(operation: &Operation, loss: Loss, garbage: &[u8], contents: &mut Vec<u8>) {
    let old_size = contents.len();
    let size = match operation {
        Operation::Write { offset, bytes, .. } => {
            let end = usize::try_from(*offset).unwrap_or_default() + bytes.len();
            end.max(old_size)
        }
        Operation::Resize { size, .. } => usize::try_from(*size).unwrap_or_default(),
        _ => return,
    };
    contents.resize(size, 0);
    if loss == Loss::DataForGarbage && size > old_size {
        let end = size.min(garbage.len()).max(old_size);
        let source = garbage.get(old_size..end).unwrap_or_default();
        contents[old_size..old_size + source.len()].copy_from_slice(source);
    }
}

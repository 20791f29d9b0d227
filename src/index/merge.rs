//! Walks over one table in memory and the runs of older layers together, in the order of hashes.

use std::collections::VecDeque;
use std::iter::Peekable;

use super::run::{Pages, Place, Run, RunIter};
use super::table::{Location, Table};
use crate::Result;

/// What an entry of either points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Own(Location),
    Stored(Place),
}

type OwnEntries<'a> = Box<dyn Iterator<Item = (u32, Location)> + 'a>;

/// Reads the name, of a key or a field, that an entry stands for.
pub(crate) trait Names<'a> {
    fn name(&self, item: Item) -> Result<&'a [u8]>;
}

/// See the module. Of entries with one name only the newest is given, which may say that the name is gone.
pub(crate) struct Merge<'a, P: Pages<'a>, N> {
    names: N,
    own: Option<Peekable<OwnEntries<'a>>>,
    /// From the newest to the oldest.
    runs: Vec<Peekable<RunIter<'a, P>>>,
    /// Entries of one hash that come next.
    group: VecDeque<(u32, Item)>,
}

impl<'a, P: Pages<'a>, N: Names<'a>> Merge<'a, P, N> {
    /// The entries from a hash on; `runs` from the newest to the oldest.
    pub(crate) fn new(
        own: Option<&'a Table>,
        runs: &[Run<'a>],
        pages: P,
        names: N,
        hash: u32,
    ) -> Self {
        let own = own.filter(|table| table.len() > 0);
        Merge {
            names,
            own: own.map(|table| (Box::new(table.iter_from(hash)) as OwnEntries<'a>).peekable()),
            runs: runs
                .iter()
                .map(|run| run.iter_from(pages, hash).peekable())
                .collect(),
            group: VecDeque::new(),
        }
    }

    fn gather(&mut self) -> Result<()> {
        let mut hash = self
            .own
            .as_mut()
            .and_then(|own| own.peek().map(|(hash, _)| *hash));
        for run in &mut self.runs {
            if let Some(next) = run.peek() {
                let Ok((next, _)) = next else {
                    // The error itself, which cannot be had by looking.
                    return run.next().map_or(Ok(()), |failed| failed.map(|_| ()));
                };
                hash = Some(hash.map_or(*next, |hash| hash.min(*next)));
            }
        }
        let Some(hash) = hash else {
            return Ok(());
        };
        if let Some(own) = &mut self.own {
            while let Some((_, location)) = own.next_if(|(next, _)| *next == hash) {
                self.group.push_back((hash, Item::Own(location)));
            }
        }
        for run in &mut self.runs {
            let newer = self.group.len();
            // Entries out of order, in a manipulated file, are returned as they come.
            while let Some(next) =
                run.next_if(|next| next.as_ref().is_ok_and(|(next, _)| *next <= hash))
            {
                let (_, place) = next?;
                let item = Item::Stored(place);
                if newer == 0 || !hides(&self.names, self.group.range(..newer), item)? {
                    self.group.push_back((hash, item));
                }
            }
        }
        Ok(())
    }
}

/// Whether one of these entries has the name of this one.
fn hides<'a, 'b, N: Names<'a>>(
    names: &N,
    newer: impl Iterator<Item = &'b (u32, Item)>,
    item: Item,
) -> Result<bool> {
    let name = names.name(item)?;
    for (_, other) in newer {
        if names.name(*other)? == name {
            return Ok(true);
        }
    }
    Ok(false)
}

impl<'a, P: Pages<'a>, N: Names<'a>> Iterator for Merge<'a, P, N> {
    type Item = Result<(u32, Item)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.runs.is_empty() && self.group.is_empty() {
            // Nothing to merge with.
            let (hash, location) = self.own.as_mut()?.next()?;
            return Some(Ok((hash, Item::Own(location))));
        }
        if self.group.is_empty()
            && let Err(error) = self.gather()
        {
            self.own = None;
            self.runs.clear();
            self.group.clear();
            return Some(Err(error));
        }
        self.group.pop_front().map(Ok)
    }
}

//! Who is compared, each behind one trait, by the calls that its users would make.
//!
//! Every write is safe against a kill of the process once its call has returned: it is in the system's page cache, or on the device where a
//! peer has nothing between the two. Where that takes an option, it is set here. [`crate::kills`] looks whether it is so: of kevy's it is not.

mod brasa;
mod emdb;
mod fjall;
mod kevy;
mod lmdb;
mod redb;
mod sled;
mod sqlite;

use std::path::Path;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    /// A kill of the process does not take it.
    Killed,
    /// Nor does a loss of power.
    PowerLost,
}

/// A store of keys and values, open.
pub trait Store: Sync {
    fn set(&self, key: &[u8], value: &[u8]);

    /// The length of the value, of which a byte was looked at; `None` where there is no such key.
    fn get(&self, key: &[u8]) -> Option<usize>;

    /// All pairs in one transaction, or what comes nearest.
    fn set_all(&self, pairs: &[(&[u8], &[u8])]);

    /// How many entries a walk over all of them meets.
    fn count(&self) -> usize;

    /// Sets a field of a hash; `false` where there are no hashes.
    fn set_field(&self, _hash: &[u8], _field: &[u8], _value: &[u8]) -> bool {
        false
    }

    fn get_field(&self, _hash: &[u8], _field: &[u8]) -> Option<usize> {
        None
    }
}

type Replay = fn(&Path) -> Box<dyn Store>;

/// Someone to compare with.
pub struct Peer {
    pub name: &'static str,
    /// As in Cargo.toml; cargo fills it in for brasa.
    pub package: &'static str,
    /// Opens or creates it in a directory of its own; `None` where it cannot be that safe by itself.
    pub open: fn(&Path, Safe) -> Option<Box<dyn Store>>,
    /// Opens it such that all of its log is read; `None` where it has none.
    pub replay: Option<Replay>,
}

/// brasa is the first, and the others are in the order in which they are shown.
pub fn all() -> Vec<Peer> {
    vec![
        brasa::EXCLUSIVE,
        brasa::SHARED,
        lmdb::PEER,
        redb::PEER,
        sqlite::PEER,
        fjall::PEER,
        sled::PEER,
        emdb::PEER,
        kevy::PEER,
    ]
}

/// One of [`all`]. Only processes that this program has started ask for it.
pub fn named(name: &str) -> Peer {
    all().into_iter().find(|peer| peer.name == name).unwrap()
}

/// Looks at a value: who hands out pointers pays for what they point at.
fn looked_at(value: &[u8]) -> usize {
    std::hint::black_box(value.first());
    value.len()
}

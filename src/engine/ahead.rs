//! Prefetch: requests index entries and records before they are needed.
//!
//! A lookup among a million keys waits for two cache misses, one after the other: its entry and its
//! record. If several keys are known together, their misses overlap, and cost little more than
//! those of one key. (Redis 8.0 does the same for requests that arrive together.)
//!
//! This module finds and verifies nothing; the later lookup does both.

use super::Engine;
use crate::index::{KeyHash, Location};
use crate::log::touch;

impl Engine {
    /// Looks at where these keys of a database are, each with a field or an empty one.
    pub(crate) fn touch_ahead(&self, database: u8, names: &[(&[u8], &[u8])]) {
        let generation = self.generation_now();
        let index = &generation.contents().index;
        let hashes: Vec<(KeyHash, u32)> = names
            .iter()
            .map(|(key, field)| {
                let hasher = &generation.hasher;
                (hasher.hash(key), hasher.hash(field).in_hash())
            })
            .collect();
        let mut seen = 0;
        let look_at = |location: Option<Location>| match location {
            Some(Location::Record(offset)) => touch(&**generation.mapping(), offset),
            _ => 0,
        };
        for (hash, _) in &hashes {
            if let Some(shard) = index.read(database, hash.shard()) {
                seen ^= shard.keys.touch(hash.in_shard());
            }
        }
        for (hash, field_hash) in &hashes {
            if let Some(shard) = index.read(database, hash.shard()) {
                let location = shard.keys.guess(hash.in_shard());
                seen ^= match location {
                    Some(Location::Hash(number)) => shard
                        .hash(number)
                        .map_or(0, |hash| hash.fields.touch(*field_hash)),
                    location => look_at(location),
                };
            }
        }
        for (hash, field_hash) in &hashes {
            if let Some(shard) = index.read(database, hash.shard())
                && let Some(Location::Hash(number)) = shard.keys.guess(hash.in_shard())
                && let Some(hash) = shard.hash(number)
            {
                seen ^= look_at(hash.fields.guess(*field_hash));
            }
        }
        // So that the compiler does not leave it out.
        std::hint::black_box(seen);
    }
}

//! The hash of keys and fields: SipHash-1-3 under the file's own key, as the format defines.

use siphasher::sip::SipHasher13;

/// Top bits of a hash that choose the shard.
pub(super) const SHARD_BITS: u32 = 6;

/// Bits of a hash, below those, that an entry keeps.
pub(super) const ENTRY_HASH_BITS: u32 = 26;

/// Hashes keys and fields under a random key, so that chosen keys cannot be made to collide.
#[derive(Debug, Clone)]
pub(crate) struct KeyHasher {
    hasher: SipHasher13,
    #[cfg(feature = "simulation")]
    collides: bool,
}

impl KeyHasher {
    pub(crate) fn new(hash_key: &[u8; 16]) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(hash_key),
            #[cfg(feature = "simulation")]
            collides: *hash_key == crate::simulation::COLLIDING_HASH_KEY,
        }
    }

    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = self.hasher.hash(key);
        #[cfg(feature = "simulation")]
        if self.collides {
            // One bit that chooses a shard, one that entries keep, and all that neither uses: what
            // takes whole hashes for keys may do so.
            return KeyHash(hash & (1 << 63 | 1 << 57 | 0xffff_ffff));
        }
        KeyHash(hash)
    }
}

/// The hash of a key or field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    /// Which shard the key belongs to.
    pub(crate) fn shard(self) -> usize {
        // The shift leaves SHARD_BITS bits.
        #[allow(clippy::cast_possible_truncation)]
        let shard = (self.0 >> (u64::BITS - SHARD_BITS)) as usize;
        shard
    }

    /// What an entry keeps of the hash of a key: the bits below those that chose the shard.
    pub(crate) fn in_shard(self) -> u32 {
        Self::entry_bits(self.0 << SHARD_BITS)
    }

    /// What an entry keeps of the hash of a field, which has no shards.
    pub(crate) fn in_hash(self) -> u32 {
        Self::entry_bits(self.0)
    }

    fn entry_bits(hash: u64) -> u32 {
        // The shift leaves ENTRY_HASH_BITS bits.
        #[allow(clippy::cast_possible_truncation)]
        let bits = (hash >> (u64::BITS - ENTRY_HASH_BITS)) as u32;
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the format's page, from the definition of SipHash-1-3.
    #[test]
    fn the_hash_is_the_one_that_the_format_names() {
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hasher = KeyHasher::new(&key);
        assert_eq!(hasher.hash(b"").0, 0xabac_0158_050f_c4dc);
        assert_eq!(hasher.hash(&[0]).0, 0xc9f4_9bf3_7d57_ca93);
    }

    #[test]
    fn shard_and_entry_take_different_bits() {
        let hash = KeyHash(0b10_1011 << 58 | 0x155_5555 << 32 | 0xffff_ffff);
        assert_eq!(hash.shard(), 0b10_1011);
        assert_eq!(hash.in_shard(), 0x155_5555);
    }
}

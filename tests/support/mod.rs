//! What several tests and the fuzz targets share: the format a second time, and what a file holds.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared, and nobody uses all of it"
)]

pub mod conformance;
pub mod contents;
pub mod format;
pub mod program;
#[cfg(feature = "server")]
pub mod served;
pub mod stampede;
pub mod workers;

/// A directory in memory where there is one, since the file's bytes are what counts and not the device.
pub fn scratch_directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// Numbers that look random and are the same each time: the generator of Numerical Recipes, of
/// which the upper bits are used.
pub struct Random(pub u64);

impl Random {
    pub fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[0]
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

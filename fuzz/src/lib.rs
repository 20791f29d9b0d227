//! What the fuzz targets do, as plain functions: `tests/fuzz_corpus.rs` calls them too, on the
//! stable compiler and without a fuzzer.
//!
//! They run on a simulated disk, in memory: a fuzzer that waits for a file system tries a
//! hundredth.

mod cursor;
mod decoder;
mod image;
mod model;
mod open;
mod operate;
mod resp;
mod salvage;

pub use decoder::log_decoder;
pub use open::open_file;
pub use operate::{damaged_operations, operations};
pub use resp::resp_decode;
pub use salvage::salvage;

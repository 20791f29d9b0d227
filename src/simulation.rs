//! A disk that can fail and lose power, for tests of brasa and of programs that use it; feature
//! `simulation`.
//!
//! [`SimulatedDisk`] keeps a trace of what programs do to it. From the trace,
//! [`SimulatedDisk::crash_at`] makes the states that a power loss at any operation may leave, and
//! [`Image::restart`] continues from one of them. [`SimulatedDisk::inject`] lets operations fail.
//!
//! [`with_mutation`] breaks the engine on purpose, to see that a test notices.

/// The monotonic time of the laboratory of schedules, and what its threads wait for.
#[cfg(brasa_schedules)]
pub use crate::sync::scheduled::{advance, collect_stacks, collected_stacks, now, thread};

pub use crate::mutation::{Mutation, with_mutation};
pub use crate::storage::{
    Crash, Fault, FaultyOperation, Image, Loss, Schedule, SimulatedDisk, Step,
};

/// The hash key of files whose keys and fields collide: of the bits that the index uses, their hashes
/// differ in two.
///
/// A test writes this key into a file's header. Only builds with the feature `simulation` treat the
/// key so, and every build of a program must treat a file in the same way.
pub const COLLIDING_HASH_KEY: [u8; 16] = *b"all keys collide";

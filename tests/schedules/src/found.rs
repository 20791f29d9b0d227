//! Programs that have failed, each as small as it could be made. They run before every exploration.

use crate::program::Op::*;
use crate::program::Program;
use crate::world;

/// How many schedules each of them is run under.
const SCHEDULES: u64 = 200;

fn programs() -> Vec<Program> {
    vec![
        // A replaced file was kept by a writer that was busy when its handle went on without it.
        Program {
            processes: vec![
                vec![vec![Expire(2, 26)]],
                vec![vec![Compact, Cached(0, 5009), Del(0)]],
            ],
            ..Program::default()
        },
    ]
}

/// Runs all of them. Returns the report of one that fails.
pub fn replay() -> Option<String> {
    programs().iter().find_map(|program| {
        (0..SCHEDULES).find_map(|seed| {
            let report = world::run(program, seed, None).err()?;
            Some(format!("schedule {seed} of {program:?}: {report}"))
        })
    })
}

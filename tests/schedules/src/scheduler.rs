//! Decides which thread runs next, from a seed.
//!
//! Three strategies find different faults. *Uniform* switches at nearly every step. *Sticky* runs a
//! thread for a while. *Priorities* runs the thread with the highest priority and lowers it at a few
//! random steps, so that one thread may fall far behind (PCT: Burckhardt et al., ASPLOS 2010).

use std::collections::HashMap;

use brasa::simulation;
use fastrand::Rng;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// About as many steps as a small program takes: a priority changes somewhere among them.
const STEPS_OF_A_PROGRAM: u64 = 3_000;

/// More steps than any program needs: a livelock.
pub const MAX_STEPS: u64 = 400_000;

/// How many steps before that the stacks of the threads are collected.
const STEPS_OF_REPORT: u64 = 5_000;

enum Strategy {
    Uniform,
    Sticky,
    Priorities {
        of: HashMap<TaskId, i64>,
        lowest: i64,
        change_at: Vec<u64>,
    },
}

/// Runs one execution.
pub struct SeededScheduler {
    rng: Rng,
    strategy: Strategy,
    step: u64,
    is_over: bool,
}

impl SeededScheduler {
    pub fn new(seed: u64) -> SeededScheduler {
        let mut rng = Rng::with_seed(seed);
        let strategy = match rng.u8(..3) {
            0 => Strategy::Uniform,
            1 => Strategy::Sticky,
            _ => Strategy::Priorities {
                of: HashMap::new(),
                lowest: 0,
                change_at: (0..rng.usize(1..=4))
                    .map(|_| rng.u64(..STEPS_OF_A_PROGRAM))
                    .collect(),
            },
        };
        SeededScheduler {
            rng,
            strategy,
            step: 0,
            is_over: false,
        }
    }
}

impl Scheduler for SeededScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        let is_first = !std::mem::replace(&mut self.is_over, true);
        is_first.then(|| Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.step += 1;
        if self.step == MAX_STEPS - STEPS_OF_REPORT {
            simulation::collect_stacks(6);
        }
        let rng = &mut self.rng;
        let any = runnable[rng.usize(..runnable.len())].id();
        let current = current.filter(|id| runnable.iter().any(|task| task.id() == *id));
        match &mut self.strategy {
            Strategy::Uniform => Some(any),
            Strategy::Sticky => match current {
                Some(current) if !is_yielding && rng.u8(..16) != 0 => Some(current),
                _ => Some(any),
            },
            Strategy::Priorities {
                of,
                lowest,
                change_at,
            } => {
                for task in runnable {
                    of.entry(task.id()).or_insert_with(|| rng.i64(1..1_000_000));
                }
                if let Some(current) = current
                    && (is_yielding || change_at.contains(&self.step))
                {
                    *lowest -= 1;
                    of.insert(current, *lowest);
                }
                runnable
                    .iter()
                    .map(|task| task.id())
                    .max_by_key(|id| of[id])
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.rng.u64(..)
    }
}

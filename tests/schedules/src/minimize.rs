//! Makes a failing program smaller: fewer processes, threads, operations and faults.

use brasa::simulation::Mutation;

use crate::program::{Op, Program};
use crate::world;

/// How many schedules a smaller program is tried under. A smaller program takes other steps, so the
/// schedule that failed cannot be kept.
const SCHEDULES: u64 = 300;

/// A program that fails, and the schedule under which it does.
pub struct Failing {
    pub program: Program,
    pub seed: u64,
    pub report: String,
}

fn fails(program: &Program, mutation: Option<Mutation>) -> Option<Failing> {
    (0..SCHEDULES).find_map(|seed| {
        let report = world::run(program, seed, mutation).err()?;
        Some(Failing {
            program: program.clone(),
            seed,
            report,
        })
    })
}

/// Removes what the failure does not need, until nothing can go any more.
pub fn minimize(mut failing: Failing, mutation: Option<Mutation>) -> Failing {
    loop {
        let smaller = smaller(&failing.program);
        match smaller.iter().find_map(|smaller| fails(smaller, mutation)) {
            Some(smaller) => failing = smaller,
            None => return failing,
        }
    }
}

/// The programs that lack one thing.
fn smaller(program: &Program) -> Vec<Program> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Program)| {
        let mut smaller = program.clone();
        change(&mut smaller);
        if smaller != *program {
            all.push(smaller);
        }
    };
    add(&|program| program.kill = None);
    add(&|program| program.fault = None);
    add(&|program| program.power_loss = None);
    add(&|program| program.flip = None);
    add(&|program| program.torn_tail = None);
    add(&|program| program.budget = false);
    add(&|program| program.compacts = false);
    add(&|program| program.always = false);
    for process in 0..program.processes.len() {
        if program.kill.is_none() {
            add(&|program| _ = program.processes.remove(process));
        }
        for thread in 0..program.processes[process].len() {
            add(&|program| _ = program.processes[process].remove(thread));
            for number in 0..program.processes[process][thread].len() {
                add(&|program| _ = program.processes[process][thread].remove(number));
                let inner = |op: &Op| match op {
                    Op::Transaction(ops) | Op::Batch(ops) => ops.len(),
                    _ => 0,
                };
                for within in 0..inner(&program.processes[process][thread][number]) {
                    add(&|program| {
                        let op = &mut program.processes[process][thread][number];
                        if let Op::Transaction(ops) | Op::Batch(ops) = op {
                            ops.remove(within);
                        }
                    });
                }
            }
        }
    }
    all
}

//! The laboratory of schedules: random programs of threads and processes on one file, each under a
//! schedule that a seed decides. Run it in this directory:
//!
//! ```sh
//! cargo run --release -- --count 1000000      # a long run
//! cargo run --release -- --seed 4711          # one of them again
//! cargo run --release -- --mutations          # how soon each planted fault is found
//! ```

mod found;
mod judge;
mod minimize;
mod model;
mod pairs;
mod perform;
mod program;
mod scheduler;
mod verdict;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brasa::simulation::Mutation;
use clap::Parser;
use minimize::Failing;
use pairs::Pairs;
use program::Program;

#[cfg(not(brasa_schedules))]
compile_error!("run cargo in tests/schedules: its .cargo/config.toml sets --cfg brasa_schedules");

/// Every pair of kinds overlaps in one of so many schedules at least.
const SCHEDULES_PER_PAIR: u64 = 2_000;

/// How many schedules a planted fault may take to be found.
const SCHEDULES_PER_MUTATION: u64 = 40_000;

#[derive(Parser)]
#[command(about = "Runs random programs of threads and processes under random schedules")]
struct Arguments {
    /// How many schedules to run.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// The first seed; drawn and printed if it is not given.
    #[arg(long)]
    from: Option<u64>,
    /// Runs this seed alone, and makes its program smaller if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
    /// How many threads of the system share the work.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// Lets some files begin with the torn tail of two power losses. One kind of them has an open
    /// finding, so this is not the default; planted faults are looked for with it.
    #[arg(long)]
    torn_tails: bool,
    /// Plants each fault, and says after how many schedules it was found.
    #[arg(long)]
    mutations: bool,
    /// Plants this fault alone.
    #[arg(long)]
    mutation: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A finding is a panic; its report is printed once, at the end.
    std::panic::set_hook(Box::new(world::note_panic));
    if arguments.mutations || arguments.mutation.is_some() {
        return find_mutations(&arguments);
    }
    if let Some(report) = found::replay() {
        println!("a program that failed before fails again: {report}");
        return ExitCode::FAILURE;
    }
    let (from, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (
            arguments.from.unwrap_or_else(|| fastrand::u64(..1 << 40)),
            arguments.count,
        ),
    };
    println!("schedules from seed {from}, on {} threads", arguments.jobs);
    let outcome = explore(from, count, &arguments, None);
    let rate = outcome.done as f64 / outcome.took.as_secs_f64();
    println!("{} schedules, {rate:.0} a second", outcome.done);
    let given_up = judge::GIVEN_UP.load(Ordering::Relaxed);
    if given_up > 0 {
        println!("{given_up} histories had too many orders to try");
    }
    if let Some((seed, failing)) = outcome.failing {
        println!("seed {seed}: {}", failing.report);
        show_smaller(failing);
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(!have_overlapped(&outcome.pairs, outcome.done)))
}

struct Outcome {
    done: u64,
    took: Duration,
    pairs: Pairs,
    failing: Option<(u64, Failing)>,
}

/// Runs the programs of successive seeds until one fails.
fn explore(from: u64, count: u64, arguments: &Arguments, mutation: Option<Mutation>) -> Outcome {
    let begun = Instant::now();
    let (next, has_failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (pairs, failing) = (Mutex::new(Pairs::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                let mut seen = Pairs::default();
                while !has_failed.load(Ordering::Relaxed)
                    && begun.elapsed().as_secs() < arguments.seconds
                {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let seed = from.wrapping_add(number);
                    let mut program = Program::random(seed);
                    if !arguments.torn_tails && mutation.is_none() {
                        program.torn_tail = None;
                    }
                    match world::run(&program, seed, mutation) {
                        Ok(pairs) => seen.add(&pairs),
                        Err(report) => {
                            has_failed.store(true, Ordering::Relaxed);
                            let failing_program = Failing {
                                program,
                                seed,
                                report,
                            };
                            *failing.lock().unwrap() = Some((seed, failing_program));
                        }
                    }
                    if number % 50_000 == 49_999 {
                        let rate = number as f64 / begun.elapsed().as_secs_f64();
                        println!("{} schedules, {rate:.0} a second", number + 1);
                    }
                }
                pairs.lock().unwrap().add(&seen);
            });
        }
    });
    Outcome {
        done: next.into_inner().min(count),
        took: begun.elapsed(),
        pairs: pairs.into_inner().unwrap(),
        failing: failing.into_inner().unwrap(),
    }
}

/// Prints the smallest program that fails in the same way, as a line for `found.rs`.
fn show_smaller(failing: Failing) {
    println!("{:?}\nmaking it smaller", failing.program);
    let smaller = minimize::minimize(failing, None);
    println!("schedule {}: {}", smaller.seed, smaller.report);
    println!("for found.rs:\n{}", smaller.program.code());
}

/// Whether every pair of kinds has overlapped often enough. A few schedules show nothing.
fn have_overlapped(pairs: &Pairs, schedules: u64) -> bool {
    let floor = schedules / SCHEDULES_PER_PAIR;
    let rare: Vec<_> = pairs.counts();
    for ((one, other), count) in rare.iter().take(5) {
        println!("{one:?} and {other:?} overlapped {count} times");
    }
    let missing = rare.iter().filter(|(_, count)| *count < floor);
    let mut has_all = true;
    for ((one, other), count) in missing {
        println!("{one:?} and {other:?} overlapped {count} times, and at least {floor} are wanted");
        has_all = false;
    }
    has_all
}

/// Plants each fault and looks for it.
fn find_mutations(arguments: &Arguments) -> ExitCode {
    let from = arguments.from.unwrap_or(1);
    let mut has_all = true;
    for mutation in Mutation::OF_SCHEDULES {
        let name = format!("{mutation:?}");
        if arguments
            .mutation
            .as_ref()
            .is_some_and(|only| *only != name)
        {
            continue;
        }
        let outcome = explore(from, SCHEDULES_PER_MUTATION, arguments, Some(mutation));
        match outcome.failing {
            Some((seed, failing)) => {
                let first = failing.report.lines().next().unwrap_or_default();
                let schedules = seed - from + 1;
                println!("{mutation:?}: {schedules} schedules: {first}");
            }
            None => {
                println!("{mutation:?}: not found in {} schedules", outcome.done);
                has_all = false;
            }
        }
    }
    ExitCode::from(u8::from(!has_all))
}

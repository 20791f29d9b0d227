//! The crash laboratory, for as long as you like:
//!
//! ```sh
//! cargo run --release --features simulation --example crash_lab -- --states 10000000
//! ```
//!
//! Runs scripts on a simulated disk, loses power at every operation in many ways, recovers, and holds what
//! is there against what was promised. What it finds, it prints with the command that shows it
//! again: `--seed N --durability always|interval|os --script "set a 1; sync; ..."`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use brasa::Durability;

#[path = "../tests/lab/mod.rs"]
#[allow(dead_code, reason = "shared with tests/crash_lab.rs")]
mod lab;

use lab::{Broken, Effort, SCRIPTS, Script, Tally, enumerate};

const EFFORT: Effort = Effort {
    damages: 96,
    write_every: 8,
    crash_again_every: 64,
    skip_steps: 0,
};

const DURABILITIES: [Durability; 3] = [
    Durability::Always,
    Durability::Interval(Duration::from_secs(1)),
    Durability::Os,
];

struct Arguments {
    states: u64,
    seed: u64,
    durability: Option<Durability>,
    script: Option<Script>,
}

fn parse_arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        states: 1_000_000,
        seed: 1,
        durability: None,
        script: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || {
            let digits = value.replace('_', "");
            digits
                .parse()
                .map_err(|_| format!("{value:?} is no number"))
        };
        match word.as_str() {
            "--states" => parsed.states = number()?,
            "--seed" => parsed.seed = number()?,
            "--script" => parsed.script = Some(Script::parse(&value)?),
            "--durability" => {
                parsed.durability = Some(match value.as_str() {
                    "always" => Durability::Always,
                    "os" => Durability::Os,
                    "interval" => DURABILITIES[1],
                    _ => return Err(format!("{value:?} is none of always, interval, os")),
                });
            }
            _ => {
                return Err(format!(
                    "{word:?} is none of --states, --seed, --durability, --script"
                ));
            }
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let arguments = match parse_arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let mut tally = Tally::default();
    let result = run(&arguments, begun, &mut tally);
    println!("\n{:>12}  kind of state", "tried");
    let sorted: BTreeMap<_, _> = tally.by_loss.iter().collect();
    for (kind, count) in sorted {
        println!("{count:>12}  {kind}");
    }
    println!("{:>12}  in all, in {:.0?}", tally.total(), begun.elapsed());
    match result {
        Ok(()) => {
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, begun: Instant, tally: &mut Tally) -> Result<(), Broken> {
    let scripts: Vec<Script> = match &arguments.script {
        Some(script) => vec![script.clone()],
        None => SCRIPTS
            .iter()
            .filter_map(|text| Script::parse(text).ok())
            .collect(),
    };
    let durabilities = match arguments.durability {
        Some(durability) => vec![durability],
        None => DURABILITIES.to_vec(),
    };
    let mut seed = arguments.seed;
    let mut told = begun;
    while tally.total() < arguments.states {
        for script in &scripts {
            for durability in &durabilities {
                enumerate(script, *durability, seed, None, EFFORT, tally)?;
                seed += 1;
                if told.elapsed() > Duration::from_secs(5) {
                    told = Instant::now();
                    eprintln!("{} of {} states", tally.total(), arguments.states);
                }
                let once = arguments.script.is_some() && arguments.durability.is_some();
                if once || tally.total() >= arguments.states {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

//! Power is lost at every operation of many scripts, in many ways; and the engine is broken on
//! purpose, to see that this is noticed. `examples/crash_lab.rs` does the same for as long as
//! you like.
#![cfg(feature = "simulation")]

#[allow(dead_code, reason = "shared with the example")]
mod lab;
#[path = "support/spread.rs"]
mod spread;

use std::io::ErrorKind;

use brasa::Durability;
use brasa::simulation::{Fault, FaultyOperation, Mutation, with_mutation};
use lab::{Broken, Effort, SCRIPTS, Script, Tally, enumerate};
use spread::spread;

/// Enough to be sure, and little enough for every change: the long run has the rest.
const EFFORT: Effort = Effort {
    damages: 64,
    write_every: 16,
    crash_again_every: 1024,
    skip_steps: 0,
};

const DURABILITIES: [Durability; 3] = [
    Durability::Always,
    Durability::Interval(std::time::Duration::from_secs(1)),
    Durability::Os,
];

fn enumerate_all(durability: Durability) -> Tally {
    let mut tally = Tally::default();
    for (seed, text) in (1..).zip(SCRIPTS) {
        let script = Script::parse(text).unwrap();
        if let Err(broken) = enumerate(&script, durability, seed, None, EFFORT, &mut tally) {
            panic!("{broken}");
        }
    }
    println!(
        "{durability:?}: {} states, {:?}",
        tally.total(),
        tally.by_loss
    );
    tally
}

#[test]
fn power_loss_under_always_takes_no_acknowledged_write() {
    assert!(enumerate_all(Durability::Always).total() > 100_000);
}

#[test]
fn power_loss_under_interval_leaves_a_prefix_from_the_last_sync_on() {
    let interval = Durability::Interval(std::time::Duration::from_secs(1));
    assert!(enumerate_all(interval).total() > 100_000);
}

#[test]
fn power_loss_under_os_leaves_a_prefix_from_the_last_sync_on() {
    assert!(enumerate_all(Durability::Os).total() > 100_000);
}

/// Lets each operation of each script fail, once or from then on, and loses power at the end.
fn fail_everything(error: ErrorKind, operation: Option<FaultyOperation>, short: bool) -> Tally {
    let effort = Effort {
        damages: 8,
        write_every: 16,
        crash_again_every: u64::MAX,
        skip_steps: 0,
    };
    let mut tally = Tally::default();
    for (turn, durability) in (0..).zip(DURABILITIES) {
        for (seed, text) in (1..).zip(SCRIPTS) {
            let script = Script::parse(text).unwrap();
            // Compactions have many operations: each fails under one durability, and a third of the other scripts
            // has to do.
            let (first, step) = match script.compacts() {
                true => (turn, 3),
                false => (0, 1),
            };
            if !script.compacts() && seed % 3 != 1 {
                continue;
            }
            // Until it would strike after the end.
            for after in (first..).step_by(step) {
                let fault = Fault::new(error)
                    .after(after)
                    .lasting(after % 2 == 1)
                    .short(short);
                let fault = match operation {
                    Some(operation) => fault.operation(operation),
                    None => fault,
                };
                let tried = enumerate(&script, durability, seed, Some(fault), effort, &mut tally);
                match tried {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(broken) => panic!("with {fault:?}: {broken}"),
                }
            }
        }
    }
    tally
}

#[test]
fn an_operation_that_fails_loses_nothing_that_was_acknowledged() {
    fail_everything(ErrorKind::Other, None, false);
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    fail_everything(ErrorKind::StorageFull, Some(FaultyOperation::Write), true);
    fail_everything(
        ErrorKind::StorageFull,
        Some(FaultyOperation::Allocate),
        false,
    );
}

#[test]
fn a_failed_sync_is_never_followed_by_an_acknowledgment() {
    fail_everything(ErrorKind::Other, Some(FaultyOperation::Sync), false);
    fail_everything(
        ErrorKind::Other,
        Some(FaultyOperation::SyncDirectory),
        false,
    );
}

/// What is tried until one breaks.
const FAULTS: [Option<Fault>; 2] = [
    None,
    Some(
        Fault::new(ErrorKind::Other)
            .operation(FaultyOperation::Sync)
            .after(1),
    ),
];

/// The first promise that is broken in a script, and that holds when nothing is done wrong.
fn broken_by(
    mutation: Mutation,
    seed: u64,
    script: &Script,
    effort: Effort,
    tally: &mut Tally,
) -> Option<Broken> {
    DURABILITIES.into_iter().find_map(|durability| {
        FAULTS.into_iter().find_map(|fault| {
            let mut before = tally.clone();
            let tried =
                |tally: &mut Tally| enumerate(script, durability, seed, fault, effort, tally).err();
            let broken = with_mutation(mutation, || tried(tally))?;
            tried(&mut before).is_none().then_some(broken)
        })
    })
}

/// What only a checkpoint does.
fn is_of_checkpoint(mutation: Mutation) -> bool {
    matches!(
        mutation,
        Mutation::NameUnsyncedCheckpoint | Mutation::ForgetGone
    )
}

/// What only a compaction does.
fn is_of_compaction(mutation: Mutation) -> bool {
    mutation == Mutation::ForgetHashDeadlines
}

/// The laboratory's own test: each way to break the engine breaks a promise somewhere.
#[test]
fn the_laboratory_notices_every_mutation() {
    spread(&Mutation::ALL, |mutation| {
        let mutation = *mutation;
        // A compaction is gone on with by whoever writes after a recovery; the rest is better seen by a second loss.
        let effort = match is_of_compaction(mutation) {
            true => Effort {
                damages: 32,
                write_every: 8,
                crash_again_every: u64::MAX,
                ..EFFORT
            },
            false => Effort {
                crash_again_every: 32,
                ..EFFORT
            },
        };
        let mut tally = Tally::default();
        let noticed = (1..).zip(SCRIPTS).find_map(|(seed, text)| {
            let script = Script::parse(text).unwrap();
            let fits = script.compacts() == is_of_compaction(mutation)
                && script.checkpoints() == is_of_checkpoint(mutation);
            match fits {
                true => broken_by(mutation, seed, &script, effort, &mut tally),
                false => None,
            }
        });
        let broken = noticed.unwrap_or_else(|| panic!("{mutation:?} was not noticed"));
        println!(
            "{mutation:?}, in \"{}\": {}",
            broken.script,
            broken.what.chars().take(200).collect::<String>()
        );
    });
}

/// Creation gives a new file its name as well; here none is created.
#[test]
fn the_laboratory_notices_that_a_compacted_file_gets_its_name_before_its_contents_are_synced() {
    for (text, skip_steps) in [
        ("set a 1; set a 2; sync; compact", 3),
        ("set a 1; reopen; set a 2; close", 3),
    ] {
        let effort = Effort {
            skip_steps,
            crash_again_every: u64::MAX,
            ..EFFORT
        };
        let script = Script::parse(text).unwrap();
        for mutation in [Mutation::NameBeforeSync, Mutation::SkipDirectorySync] {
            let mut tally = Tally::default();
            let tried = with_mutation(mutation, || {
                enumerate(&script, Durability::Os, 1, None, effort, &mut tally)
            });
            println!("{mutation:?}: {tried:?}");
            assert!(tried.is_err(), "{mutation:?} in {text:?}");
        }
    }
}

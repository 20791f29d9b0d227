//! Power is lost at every operation of many scripts, in many ways; and the engine is broken on
//! purpose, to see that this is noticed. `examples/crash_lab.rs` does the same for as long as
//! you like.
#![cfg(feature = "simulation")]

#[allow(dead_code, reason = "shared with the example")]
mod lab;

use std::io::ErrorKind;

use brasa::Durability;
use brasa::simulation::{Fault, FaultyOperation, Mutation, with_mutation};
use lab::{Effort, SCRIPTS, Script, Tally, enumerate};

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
    for durability in DURABILITIES {
        for (seed, text) in (1..).zip(SCRIPTS) {
            let script = Script::parse(text).unwrap();
            if seed % 3 != 1 && !script.compacts() {
                continue;
            }
            // Until it would strike after the end.
            for after in 0.. {
                let fault = Fault {
                    after,
                    operation,
                    error,
                    lasting: after % 2 == 1,
                    short,
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

/// The laboratory's own test: each way to break the engine breaks a promise somewhere.
#[test]
fn the_laboratory_notices_every_mutation() {
    let effort = Effort {
        crash_again_every: 32,
        ..EFFORT
    };
    for mutation in Mutation::ALL {
        let noticed = with_mutation(mutation, || {
            let mut tally = Tally::default();
            (1..).zip(SCRIPTS).find_map(|(seed, text)| {
                let script = Script::parse(text).unwrap();
                DURABILITIES.into_iter().find_map(|durability| {
                    let faults = [
                        None,
                        Some(Fault {
                            after: 1,
                            operation: Some(FaultyOperation::Sync),
                            error: ErrorKind::Other,
                            lasting: false,
                            short: false,
                        }),
                    ];
                    faults.into_iter().find_map(|fault| {
                        enumerate(&script, durability, seed, fault, effort, &mut tally).err()
                    })
                })
            })
        });
        let broken = noticed.unwrap_or_else(|| panic!("{mutation:?} was not noticed"));
        println!(
            "{mutation:?}: {}",
            broken.what.chars().take(200).collect::<String>()
        );
    }
}

//! Many processes, each with many threads, miss one key of a file at once; `support/stampede.rs` has what they do, and `servers.rs`
//! does it with servers.

mod support;

use support::stampede::{self, Place};

#[test]
fn what_a_worker_does() {
    stampede::what_a_worker_does();
}

fn in_a_file(test: fn(&Place)) {
    let directory = tempfile::tempdir().unwrap();
    test(&Place {
        cache: directory.path().join("cache.brasa").display().to_string(),
        journal: directory.path().join("journal"),
    });
}

#[test]
fn sixty_four_threads_of_eight_processes_miss_a_key_and_one_computes() {
    in_a_file(stampede::sixty_four_threads_of_eight_processes_miss_a_key_and_one_computes);
}

#[test]
fn an_owner_that_is_killed_in_the_middle_costs_one_more_computation() {
    in_a_file(stampede::an_owner_that_is_killed_in_the_middle_costs_one_more_computation);
}

#[test]
fn an_owner_that_is_stopped_is_taken_over_and_overwrites_nothing_later() {
    in_a_file(stampede::an_owner_that_is_stopped_is_taken_over_and_overwrites_nothing_later);
}

#[test]
fn value_of_a_stopped_owner_is_stored_if_nothing_newer_is() {
    in_a_file(stampede::value_of_a_stopped_owner_is_stored_if_nothing_newer_is);
}

#[test]
fn where_there_is_a_stale_value_nobody_waits_and_one_computes() {
    in_a_file(stampede::where_there_is_a_stale_value_nobody_waits_and_one_computes);
}

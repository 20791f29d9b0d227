//! What the fuzzers have kept, run again on the stable compiler and without a fuzzer.
#![cfg(all(feature = "simulation", feature = "server"))]

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(missing_docs, reason = "it is the fuzz crate's")]
mod fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        // A panic must say which input it was.
        let outcome = std::panic::catch_unwind(|| run(&input));
        assert!(outcome.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
    println!("{target}: {count} inputs");
}

#[test]
fn the_corpus_of_log_decoder_holds() {
    replay("log_decoder", fuzz::log_decoder);
}

#[test]
fn the_corpus_of_open_file_holds() {
    replay("open_file", fuzz::open_file);
}

#[test]
fn the_corpus_of_operations_holds() {
    replay("operations", fuzz::operations);
}

#[test]
fn the_corpus_of_damaged_operations_holds() {
    replay("damaged_operations", fuzz::damaged_operations);
}

#[test]
fn the_corpus_of_salvage_holds() {
    replay("salvage", fuzz::salvage);
}

#[test]
fn the_corpus_of_resp_decode_holds() {
    replay("resp_decode", fuzz::resp_decode);
}

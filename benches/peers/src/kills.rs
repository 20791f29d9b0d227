//! Whether each peer's writes are as safe against a kill as the table says: a process of its own sets keys one by one, and is killed as soon as the
//! last call has returned.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::peers::{self, Peer, Safe};
use crate::report::Results;
use crate::works::{Data, fresh};

/// What is shown of each: of so many sets, those that the kill took.
pub const LOST: &str = "lost to a kill, of 1,000 sets";
const SETS: usize = 1_000;

pub fn measure(peer: &Peer, scratch: &Path, results: &mut Results) {
    let directory = fresh(scratch, peer);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["set-until-killed", peer.name])
        .arg(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "all set\n", "{}", peer.name);
    let store = (peer.open)(&directory, Safe::Killed).unwrap();
    let found = store.count();
    assert!(found <= SETS, "{}", peer.name);
    let lost = SETS - found;
    assert!(lost == 0 || peer.package != "brasa", "lost {lost}");
    results.add(LOST, peer.name, lost as f64);
}

/// The process that is killed. It ends by itself only where the other one has died.
pub fn set_until_killed(name: &str, directory: &Path) {
    let peer = peers::named(name);
    let data = Data::new(SETS);
    let store = (peer.open)(directory, Safe::Killed).unwrap();
    for key in &data.keys {
        store.set(key, &data.value);
    }
    println!("all set");
    let _ = std::io::stdin().read(&mut [0]);
}

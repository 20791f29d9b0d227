//! A test's own program again, as workers: a test named `what_a_worker_does` reads [`WORKER`] and does what it says.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Tells the program that it is a worker, and which.
pub const WORKER: &str = "BRASA_WORKER";

/// A worker; it ends when its standard input does, or when it is killed, at the latest when this is dropped.
pub struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    pub fn start(what: &str, path: &Path) -> Worker {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "what_a_worker_does", "--nocapture"])
            .env(WORKER, format!("{what} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Worker(child.spawn().unwrap())
    }

    /// What it says after a word, line by line, until it ends.
    pub fn said(&mut self, word: &'static str) -> impl Iterator<Item = String> + Send + use<> {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        output.lines().filter_map(move |line| {
            let line = line.ok()?;
            line.strip_prefix(word).map(|rest| rest.trim().to_owned())
        })
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Lets one that waits for its standard input go on.
    pub fn go(&mut self) {
        writeln!(self.0.stdin.as_mut().unwrap(), "go").unwrap();
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn finish(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

pub fn say(what: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n{what}").unwrap();
    output.flush().unwrap();
}

/// Waits for [`Worker::go`], or for the end of whoever has started this.
pub fn wait_for_the_end() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

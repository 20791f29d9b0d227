//! The slow service that both tools ask.

use std::io::Write;
use std::time::Duration;

/// Returns the answer of a slow service. If `SLOW_LOOKUP_LOG` names a file, each call adds a line to
/// it, so that a test can count them.
pub fn look_up(word: &str) -> std::io::Result<String> {
    if let Some(log) = std::env::var_os("SLOW_LOOKUP_LOG") {
        let mut log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(log)?;
        writeln!(log, "{word}")?;
    }
    std::thread::sleep(Duration::from_millis(200));
    Ok(word.to_uppercase())
}

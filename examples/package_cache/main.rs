//! A real tool in small: answers questions about this machine's packages from a cache in one file.
//!
//! ```sh
//! cargo run --release --example package_cache -- list lib
//! cargo run --release --example package_cache -- show bash
//! ```
//!
//! The first run reads `/var/lib/dpkg/status`; the next ones, until the hour is over or the database has
//! changed, only the cache.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod packages;

use packages::PackageCache;

const USAGE: &str = "\
usage: package_cache [--status PATH] [--cache FILE] [--ttl SECONDS] show NAME
       package_cache [--status PATH] [--cache FILE] [--ttl SECONDS] list PREFIX

  --status PATH   the package database; /var/lib/dpkg/status by default
  --cache FILE    where to keep the cache; package_cache.brasa in the temporary directory by default
  --ttl SECONDS   how long it is good; 3600 by default";

struct Arguments {
    status: PathBuf,
    cache: PathBuf,
    ttl: Duration,
    question: Question,
}

enum Question {
    Show(String),
    List(String),
}

fn parse_arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut status = PathBuf::from("/var/lib/dpkg/status");
    let mut cache = std::env::temp_dir().join("package_cache.brasa");
    let mut ttl = Duration::from_secs(3600);
    loop {
        let word = words.next().ok_or("there is nothing to do")?;
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs something behind it"))?;
        match word.as_str() {
            "--status" => status = value.into(),
            "--cache" => cache = value.into(),
            "--ttl" => {
                let seconds = value.parse();
                ttl = Duration::from_secs(
                    seconds.map_err(|_| format!("{value:?} is no number of seconds"))?,
                );
            }
            "show" | "list" => {
                if let Some(extra) = words.next() {
                    return Err(format!("{extra:?} is one word too many"));
                }
                let question = match word.as_str() {
                    "show" => Question::Show(value),
                    _ => Question::List(value),
                };
                return Ok(Arguments {
                    status,
                    cache,
                    ttl,
                    question,
                });
            }
            _ => return Err(format!("{word:?} is not known")),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match parse_arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("package_cache: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match answer(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("package_cache: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the answer; gives back whether there was one.
fn answer(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let cache = PackageCache::open(&arguments.cache, &arguments.status, arguments.ttl)?;
    let mut text = Vec::new();
    match &arguments.question {
        Question::Show(name) => {
            for (_, fields) in cache.show(name)? {
                for (field, value) in fields {
                    text.extend_from_slice(&field);
                    text.extend_from_slice(b": ");
                    text.extend_from_slice(&value);
                    text.push(b'\n');
                }
                text.push(b'\n');
            }
        }
        Question::List(prefix) => {
            for name in cache.list(prefix)? {
                text.extend_from_slice(name.as_bytes());
                text.push(b'\n');
            }
        }
    }
    match io::stdout().write_all(&text) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let from = match cache.was_filled {
        true => "the package database",
        false => "the cache",
    };
    eprintln!("from {from}, in {:.1?}", begun.elapsed());
    if text.is_empty() {
        eprintln!("no such package");
    }
    Ok(!text.is_empty())
}

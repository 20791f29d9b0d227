//! A command line tool with a durable cache: it answers questions about this machine's packages.
//!
//! ```sh
//! cargo run --release --example package_cache -- list lib
//! cargo run --release --example package_cache -- show bash
//! cargo run --release --example package_cache -- cache stats
//! ```
//!
//! The first run of a question reads `/var/lib/dpkg/status`. The next runs read the cache alone,
//! until the hour is over or the package list has changed. Of many runs at once, one reads the list.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use brasa::Cache;

mod packages;

use packages::PackageCache;

const USAGE: &str = "\
usage: package_cache [--status PATH] [--cache FILE] [--ttl SECONDS] show NAME
       package_cache [--status PATH] [--cache FILE] [--ttl SECONDS] list PREFIX
       package_cache [--cache FILE] cache clear|stats

  --status PATH   the package list; /var/lib/dpkg/status by default
  --cache FILE    the cache's file; by default cache.brasa in this program's directory below
                  the user's cache directory
  --ttl SECONDS   how long an answer is kept; 3600 by default";

struct Arguments {
    status: PathBuf,
    cache: Option<PathBuf>,
    ttl: Duration,
    verb: String,
    operand: String,
}

fn parse_arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut status = PathBuf::from("/var/lib/dpkg/status");
    let mut cache = None;
    let mut ttl = Duration::from_secs(3600);
    loop {
        let verb = words.next().ok_or("a command is missing")?;
        let operand = words
            .next()
            .ok_or_else(|| format!("{verb} needs an argument"))?;
        match verb.as_str() {
            "--status" => status = operand.into(),
            "--cache" => cache = Some(operand.into()),
            "--ttl" => {
                let seconds = operand.parse();
                ttl = Duration::from_secs(
                    seconds.map_err(|_| format!("{operand:?} is not a number of seconds"))?,
                );
            }
            _ => match words.next() {
                Some(extra) => return Err(format!("unexpected argument {extra:?}")),
                None => {
                    return Ok(Arguments {
                        status,
                        cache,
                        ttl,
                        verb,
                        operand,
                    });
                }
            },
        }
    }
}

fn main() -> ExitCode {
    let fail = |message: String, code| {
        eprintln!("package_cache: {message}");
        ExitCode::from(code)
    };
    let arguments = match parse_arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return fail(format!("{error}\n{USAGE}"), 2),
    };
    match answer(&arguments) {
        Ok(Some(text)) if text.is_empty() => fail("no such package".to_owned(), 1),
        Ok(Some(text)) => match io::stdout().write_all(text.as_bytes()) {
            // A reader such as `head` closes the pipe as soon as it has enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(error.to_string(), 1),
            _ => ExitCode::SUCCESS,
        },
        Ok(None) => fail(USAGE.to_owned(), 2),
        Err(error) => fail(error.to_string(), 1),
    }
}

/// Returns the text to print, or `None` for an unknown command.
fn answer(arguments: &Arguments) -> Result<Option<String>, Box<dyn Error>> {
    let begun = Instant::now();
    let cache = match &arguments.cache {
        Some(path) => Cache::open(path)?,
        None => Cache::for_app("brasa-package-cache")?,
    };
    let packages = || PackageCache::new(cache.clone(), &arguments.status, arguments.ttl);
    let text = match (&*arguments.verb, &*arguments.operand) {
        ("cache", "clear") => {
            cache.clear()?;
            return Ok(Some("the cache is empty\n".to_owned()));
        }
        ("cache", "stats") => {
            let usage = cache.usage()?;
            let text = format!("{} answers, {} bytes\n", usage.entries, usage.bytes);
            return Ok(Some(text));
        }
        ("show", name) => packages()?.show(name)?,
        ("list", prefix) => packages()?.list(prefix)?,
        _ => return Ok(None),
    };
    let source = match cache.stats().hits {
        0 => "the package list",
        _ => "the cache",
    };
    eprintln!("from {source}, in {:.1?}", begun.elapsed());
    Ok(Some(text))
}

//! brasa beside its peers, in one run: `cargo run --release` in `benches/peers`, in under ten minutes.
//!
//! - `--size N`: how many keys, 1,000,000 by default. Keys of 16 bytes, values of 100.
//! - `--rounds N`: how often everything is measured, 3 by default. In a round the peers take turns, work by work, so that noise hits all alike.
//! - `--only NAME,NAME`: only these peers, by name.
//! - `--directory DIR`: where files go, in a directory of their own that is removed at the end; `target` by default.
//! - `--out DIR`: where `results.json`, `results.md` and the plots go; `target/results` by default.
//!
//! What each row means is in `benches/README.md`. Whole processes, from `exec` to the answer, are the program `opening`; many processes
//! at once `processes`; the cache `cache`.

mod floors;
mod kills;
mod peers;
mod report;
mod works;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::Results;
use works::Data;

struct Choices {
    size: usize,
    rounds: usize,
    only: Option<Vec<String>>,
    directory: PathBuf,
    out: PathBuf,
}

impl Choices {
    fn parse(words: &[String]) -> Option<Choices> {
        let mut choices = Choices {
            size: 1_000_000,
            rounds: 3,
            only: None,
            directory: "target".into(),
            out: "target/results".into(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next()?;
            match &**word {
                "--size" => choices.size = value.parse().ok().filter(|size| *size >= 1_000)?,
                "--rounds" => choices.rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
                "--only" => choices.only = Some(value.split(',').map(str::to_owned).collect()),
                "--directory" => choices.directory = value.into(),
                "--out" => choices.out = value.into(),
                _ => return None,
            }
        }
        Some(choices)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, peer, directory, size] = &words[..]
        && word == "memory-of"
    {
        works::print_memory(peer, Path::new(directory), size.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if let [word, peer, directory] = &words[..]
        && word == "set-until-killed"
    {
        kills::set_until_killed(peer, Path::new(directory));
        return ExitCode::SUCCESS;
    }
    let Some(choices) = Choices::parse(&words) else {
        eprintln!(
            "usage: brasa-peers [--size N] [--rounds N] [--only NAME,NAME] [--directory DIR] [--out DIR]"
        );
        return ExitCode::from(2);
    };
    let peers: Vec<_> = peers::all()
        .into_iter()
        .filter(|peer| {
            let only = choices.only.as_ref();
            only.is_none_or(|only| only.iter().any(|name| name == peer.name))
        })
        .collect();
    std::fs::create_dir_all(&choices.directory).unwrap();
    let scratch = tempfile::tempdir_in(&choices.directory).unwrap();
    let data = Data::new(choices.size);
    let mut results = Results::new(choices.size);
    for round in 1..=choices.rounds {
        floors::measure(scratch.path(), &data, &mut results);
        for peer in &peers {
            eprintln!("round {round} of {}: {}", choices.rounds, peer.name);
            works::measure(peer, scratch.path(), &data, &mut results);
        }
    }
    for peer in &peers {
        kills::measure(peer, scratch.path(), &mut results);
        works::measure_sizes(peer, scratch.path(), &data, &mut results);
        works::measure_growth(peer, scratch.path(), &data, &mut results);
        works::measure_memory(peer, scratch.path(), &data, &mut results);
    }
    results.write(&choices.out, &peers).unwrap();
    println!("{}", results.markdown(&peers));
    ExitCode::SUCCESS
}

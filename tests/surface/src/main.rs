//! Compares the public items of brasa, with their signatures, with `public-api.txt`.
//!
//! `cargo run --manifest-path tests/surface/Cargo.toml` fails if an item was added, removed or
//! changed. `-- --accept` replaces the list. Review each change of the list: 0.1 freezes the
//! interface, and CHANGELOG.md names every change that users notice.

use std::path::Path;
use std::process::{Command, ExitCode};

use public_api::{Builder, PublicApi};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<ExitCode> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = here.join("public-api.txt");
    let found = surface(&here.join("../.."))?;
    let found = found.items().map(|item| format!("{item}\n"));
    let found: Vec<String> = found.collect();
    if std::env::args().any(|argument| argument == "--accept") {
        std::fs::write(&golden, found.concat())?;
        return Ok(ExitCode::SUCCESS);
    }
    let accepted = std::fs::read_to_string(&golden)?;
    let accepted: Vec<&str> = accepted.split_inclusive('\n').collect();
    let mut changes = 0;
    for line in accepted
        .iter()
        .filter(|line| !found.iter().any(|item| item == **line))
    {
        print!("- {line}");
        changes += 1;
    }
    for line in found
        .iter()
        .filter(|line| !accepted.contains(&line.as_str()))
    {
        print!("+ {line}");
        changes += 1;
    }
    println!(
        "{} public items, {changes} differ from {}",
        found.len(),
        golden.display()
    );
    if changes == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("If that is meant: cargo run --manifest-path tests/surface/Cargo.toml -- --accept");
    Ok(ExitCode::FAILURE)
}

/// Returns the public items of the library with all features.
fn surface(project: &Path) -> Outcome<PublicApi> {
    let target = project.join("target/surface");
    // The JSON is an unstable option, which a stable compiler takes when told so.
    let status = Command::new(env!("CARGO"))
        .current_dir(project)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .args(["rustdoc", "--quiet", "--lib", "--all-features", "--"])
        .args([
            "-Zunstable-options",
            "--output-format",
            "json",
            "--cap-lints",
            "allow",
        ])
        .status()?;
    if !status.success() {
        return Err(format!("cargo rustdoc: {status}").into());
    }
    let surface = Builder::from_rustdoc_json(target.join("doc/brasa.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(surface)
}

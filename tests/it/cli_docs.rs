//! `docs/cli.md` has every command that the program has, each with an example whose options exist.

use std::path::Path;

use crate::cli::{Ended, run};

/// The help of a command.
fn help(verbs: &[String]) -> String {
    let mut arguments: Vec<&str> = verbs.iter().map(String::as_str).collect();
    arguments.push("--help");
    let Ended(code, stdout, stderr) = run(None, &arguments);
    assert_eq!(code, 0, "{verbs:?}: {stderr}");
    stdout
}

/// The commands that its help lists.
fn below(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next()
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command that does something, by its words.
fn commands(verbs: &[String], found: &mut Vec<(String, String)>) {
    let help = help(verbs);
    let below = below(&help);
    if below.is_empty() {
        found.push((verbs.join(" "), help));
        return;
    }
    for verb in below {
        commands(&[verbs, &[verb]].concat(), found);
    }
}

#[test]
fn every_command_stands_in_its_page_with_an_example_that_has_only_known_options() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
    let examples: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("watchbell ")).collect();
    let mut found = vec![];
    commands(&[], &mut found);
    assert!(found.len() > 30, "{} commands", found.len());
    let mut problems = vec![];
    for (command, help) in &found {
        let is_of = |line: &&&str| **line == command || line.starts_with(&format!("{command} "));
        let of: Vec<_> = examples.iter().filter(is_of).collect();
        if of.is_empty() {
            problems.push(format!("watchbell {command}: no example"));
        }
        for line in of {
            let line = line.split("  #").next().unwrap_or_default();
            let flags = line.split_whitespace().filter(|word| word.starts_with("--"));
            let names = flags.map(|flag| flag.split(['=', '[']).next().unwrap_or_default());
            problems.extend(
                names.filter(|name| !help.contains(*name)).map(|name| format!("watchbell {command}: no {name}")),
            );
        }
    }
    let unknown = examples
        .iter()
        .filter(|line| !found.iter().any(|(command, _)| **line == command || line.starts_with(&format!("{command} "))));
    problems.extend(unknown.map(|line| format!("watchbell {line}: there is no such command")));
    assert!(problems.is_empty(), "docs/cli.md:\n{}", problems.join("\n"));
}

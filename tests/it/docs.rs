//! What the documents say is true: their SQL runs, their links lead somewhere, their commands exist.
//!
//! Their Rust is compiled by `cargo test --doc`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Database;

#[tokio::test]
async fn every_sql_snippet_of_the_documents_runs() {
    let mut run = 0;
    for document in documents() {
        let snippets = fences(&std::fs::read_to_string(&document).unwrap(), "sql");
        if snippets.is_empty() {
            continue;
        }
        // one after another, as a reader would paste them, beside a worker that plans what was inserted
        let database = Database::fresh().await;
        let mut connection = database.connect().await;
        for snippet in snippets {
            let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(snippet.clone())).execute(&mut connection).await;
            ran.unwrap_or_else(|error| panic!("{}: {error}\n{snippet}", document.display()));
            watchbell::lifecycle::fire::fire(&mut connection, 1000, None).await.unwrap();
            run += 1;
        }
    }
    assert!(run >= 3, "only {run} SQL snippets were found");
}

#[tokio::test]
async fn every_function_and_view_for_people_is_documented_with_its_arguments() {
    let page = read("docs/sql.md");
    let roles = read("src/cli/generate/roles.sql");
    let granted =
        roles.split_once("grant execute on function").unwrap().1.split_once("to {prefix}_producer").unwrap().0;
    let functions: Vec<String> = granted
        .split(',')
        .map(|name| name.trim().trim_start_matches("watchbell.").to_owned())
        .filter(|name| !["expand_backfill", "schedule_id", "watch_id"].contains(&name.as_str())) // for the client and themselves
        .collect();
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let mut missing = vec![];
    let all: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select proname::text, coalesce(proargnames, '{}') from pg_proc
                        where pronamespace = 'watchbell'::regnamespace and proname = any ($1)",
    )
    .bind(&functions)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(all.len(), functions.len(), "overloaded or gone: {functions:?}");
    for (name, arguments) in all {
        match page.lines().find(|line| line.starts_with(&format!("| `{name}("))) {
            None => missing.push(name),
            Some(line) => missing.extend(
                arguments
                    .iter()
                    .filter(|a| !line.contains(a.as_str()) && (name != "schedule" || !page.contains(&format!("`{a}`"))))
                    .map(|a| format!("{name}: {a}")),
            ),
        }
    }
    let views: Vec<String> = sqlx::query_scalar("select viewname::text from pg_views where schemaname = 'watchbell'")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    missing.extend(views.into_iter().filter(|view| !page.contains(&format!("| `{view}` |"))));
    assert!(missing.is_empty(), "docs/sql.md does not say: {}", missing.join(", "));
}

#[tokio::test]
async fn the_error_shown_in_the_readme_is_the_one_given() {
    let readme = read("README.md");
    let shown = fences(&readme, "text").into_iter().find(|fence| fence.starts_with("ERROR:")).expect("an error");
    let database = Database::fresh().await;
    let answer = sqlx::query("insert into watchbell.schedules (name, cron, handler) values ('x', '*/5 25 * * *', 'y')")
        .execute(&mut database.connect().await)
        .await
        .unwrap_err();
    let answer = answer.into_database_error().unwrap().downcast::<sqlx::postgres::PgDatabaseError>();
    assert_eq!(shown.trim(), format!("ERROR:  {}", answer.message()));
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = vec![];
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for target in links(&text).filter(|t| !t.contains("://") && !t.starts_with("mailto:")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            if !path.exists() {
                broken.push(format!("{}: {target} does not exist", document.display()));
            } else if !anchor.is_empty() && !anchors(&std::fs::read_to_string(&path).unwrap()).any(|a| a == anchor) {
                broken.push(format!("{}: {target} has no such heading", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let text = read("ARCHITECTURE.md");
    let named = text.split('`').skip(1).step_by(2);
    for name in named.filter(|n| ["src/", "tests/", "migrations/", "examples/"].iter().any(|dir| n.starts_with(dir))) {
        assert!(root().join(name).exists(), "{name} does not exist");
    }
    for statement in text.split('`').skip(1).step_by(2).filter(|n| n.ends_with(".sql") && !n.contains(['/', '*'])) {
        assert!(root().join("src/sql").join(statement).exists(), "src/sql/{statement} does not exist");
    }
}

#[test]
fn every_command_of_the_readme_exists() {
    let mut unknown = vec![];
    let readme = read("README.md");
    let in_text = readme.split('`').filter(|code| code.starts_with("watchbell ") && !code.contains('\n'));
    let fenced = fences(&readme, "sh");
    for line in fenced.iter().flat_map(|fence| fence.lines()).chain(in_text) {
        let line = line.split(" #").next().unwrap_or_default();
        let Some(arguments) = line.strip_prefix("watchbell ").or_else(|| line.strip_prefix("cargo run --release -- "))
        else {
            continue;
        };
        let verbs: Vec<_> = arguments
            .split_whitespace()
            .take_while(|a| a.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !a.starts_with('-'))
            .collect();
        let help = Command::new(env!("CARGO_BIN_EXE_watchbell")).args(&verbs).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout);
        if !help.status.success() {
            unknown.push(format!("watchbell {}: {}", verbs.join(" "), String::from_utf8_lossy(&help.stderr).trim()));
            continue;
        }
        for flag in arguments.split_whitespace().filter(|a| a.starts_with("--")) {
            if !text.contains(flag) {
                unknown.push(format!("watchbell {}: no {flag} in its help", verbs.join(" ")));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The Markdown files of the package's root and of `docs`.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![];
    for dir in [root().to_owned(), root().join("docs")] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        found.extend(entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    found.sort();
    found
}

/// The contents of the fenced blocks of one language.
fn fences(text: &str, language: &str) -> Vec<String> {
    let mut found = vec![];
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim() == language, String::new())),
            (Some(_), Some(_)) => found.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, text)| text)),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next())
}

/// The headings of a document as its renderers name them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        words
            .chars()
            .filter_map(
                |c| if c == ' ' { Some('-') } else { (c.is_alphanumeric() || c == '-' || c == '_').then_some(c) },
            )
            .collect()
    })
}

#[test]
fn fences_are_told_apart() {
    let text = "```sql\nselect 1;\n```\n```sh\nls\n```\n```sql\nselect 2;\n```\n";
    assert_eq!(fences(text, "sql"), ["select 1;\n", "select 2;\n"]);
    assert_eq!(links("[a](b.md#c), [d](e)").collect::<Vec<_>>(), ["b.md#c", "e"]);
    assert_eq!(anchors("## What is *not* promised\n").collect::<Vec<_>>(), ["what-is-not-promised"]);
}

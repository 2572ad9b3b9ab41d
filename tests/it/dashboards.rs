//! What `dashboards/` holds is true: every file loads, every metric, runbook and command in it exists, every alert
//! fires when it should, and every panel shows something.

mod board;
mod live;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use self::board::{Board, boards, metric_names};
use crate::cli::run;
use crate::support::skip;

/// Metrics in the expressions that are Prometheus's own or made by a recording rule.
const NOT_OURS: [&str; 2] = ["ALERTS", "watchbell:schedule_last_paused_timestamp_seconds"];

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_dashboard_has_what_grafana_reads_and_no_two_panels_share_a_place_or_number() {
    let mut problems = vec![];
    let mut uids = BTreeSet::new();
    let boards = boards();
    assert_eq!(boards.len(), 3);
    for board in &boards {
        problems.extend(board.problems());
        let uid = board.json["uid"].as_str().unwrap_or_default().to_owned();
        if !(2..=40).contains(&uid.len()) || !uids.insert(uid.clone()) {
            problems.push(format!("{}: uid \"{uid}\"", board.name));
        }
    }
    // `/d/<uid>` leads somewhere, and the main dashboard and that of one schedule lead to each other
    let mut ways = BTreeSet::new();
    for board in &boards {
        for url in board.strings().into_iter().filter(|text| text.starts_with("/d/")) {
            let to = url.trim_start_matches("/d/").split(['?', '/']).next().unwrap_or_default().to_owned();
            if !uids.contains(&to) {
                problems.push(format!("{}: there is no dashboard {url}", board.name));
            }
            ways.insert((board.json["uid"].as_str().unwrap().to_owned(), to));
        }
    }
    for (from, to) in [("watchbell", "watchbell-schedule"), ("watchbell-schedule", "watchbell")] {
        if !ways.contains(&(from.to_owned(), to.to_owned())) {
            problems.push(format!("no link from {from} to {to}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_main_dashboard_has_its_rows_in_order() {
    let main = boards().into_iter().find(|board| board.name == "watchbell.json").unwrap();
    let rows: Vec<_> = main.panels().filter(|p| p["type"] == "row").map(|p| p["title"].as_str().unwrap()).collect();
    let expected =
        ["Health", "Throughput", "Latency", "Schedules", "Queues", "Watches", "Workers and leases", "Database"];
    assert_eq!(rows, expected);
}

#[test]
fn every_metric_that_is_shown_or_alerted_on_is_in_the_list_with_its_labels() {
    let known: BTreeMap<&str, &watchbell::metrics::Metric> =
        watchbell::metrics::ALL.iter().map(|metric| (metric.name, metric)).collect();
    let mut expressions: Vec<(String, String)> = vec![("alerts.yml".to_owned(), alert_expressions())];
    for board in boards() {
        expressions.extend(board.expressions().into_iter().map(|e| (format!("{}: {}", board.name, e.panel), e.text)));
        expressions.extend(board.variable_queries().map(|query| (board.name.clone(), query)));
    }
    let mut problems = vec![];
    let mut seen = BTreeSet::new();
    for (place, text) in &expressions {
        for (name, labels) in metric_names(text) {
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            let Some(metric) = known.get(base).or_else(|| known.get(name.as_str())) else {
                problems.push(format!("{place}: {name} is no metric"));
                continue;
            };
            seen.insert(metric.name);
            let scraped = ["job", "instance", "le"];
            let strange =
                labels.iter().filter(|l| !metric.labels.contains(&l.as_str()) && !scraped.contains(&l.as_str()));
            problems.extend(strange.map(|label| format!("{place}: {name} has no label {label}")));
        }
    }
    problems.extend(known.keys().filter(|name| !seen.contains(**name)).map(|name| format!("{name} is shown nowhere")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_alert_has_its_owner_command_and_section_of_the_runbook() {
    let text = read("dashboards/alerts.yml");
    let runbook = read("docs/alerts.md");
    let mut problems = vec![];
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 14);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let field = |field: &str| {
            let line = alert.lines().find_map(|line| line.trim().strip_prefix(&format!("{field}: ")));
            line.unwrap_or_default().trim_matches('\'').to_owned()
        };
        for wanted in ["severity", "owner", "summary", "description"] {
            if field(wanted).is_empty() {
                problems.push(format!("{name}: no {wanted}"));
            }
        }
        let section =
            format!("https://github.com/watchbell/watchbell/blob/main/docs/alerts.md#{}", name.to_lowercase());
        if field("runbook_url") != section {
            problems.push(format!("{name}: its runbook_url is {}", field("runbook_url")));
        }
        let Some(section) = runbook.split("\n## ").find(|section| section.lines().next() == Some(name)) else {
            problems.push(format!("{name}: no section in docs/alerts.md"));
            continue;
        };
        for part in ["**Means** ", "**Look** ", "**Mend** "] {
            if !section.contains(part) {
                problems.push(format!("{name}: its section has no {part}"));
            }
        }
        problems.extend(refused_command(&field("command")).map(|said| format!("{name}: {said}")));
    }
    // what the runbook tells to type exists, too
    let typed = runbook.split('`').skip(1).step_by(2).filter(|code| code.starts_with("watchbell "));
    problems.extend(typed.filter_map(|code| refused_command(&code.replace('\n', " "))));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What is wrong with a command, if the program does not take it. It gets no further than to a database that is
/// not there.
fn refused_command(command: &str) -> Option<String> {
    let mut plain = command.to_owned();
    while let (Some(from), Some(to)) = (plain.find("{{"), plain.find("}}")) {
        plain.replace_range(from..to + 2, "x");
    }
    let words = plain.split(" | ").next().unwrap_or_default().replace("'...'", "why").replace("ID", "7");
    let arguments: Vec<&str> = words.split_whitespace().skip(1).collect();
    if !words.starts_with("watchbell ") {
        return Some(format!("\"{command}\" is no command"));
    }
    let ended = run(Some("postgres://nobody@127.0.0.1:1/nothing?connect_timeout=1"), &arguments);
    // 5: no database; 0: needs none
    (![0, 5].contains(&ended.0)).then(|| format!("{words}: exit code {}, {}", ended.0, ended.2.trim()))
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let Some(promtool) = tool("promtool") else { return };
    let dashboards = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "config", "provisioning/prometheus.yml"],
    ] {
        let output = Command::new(&promtool).args(arguments).current_dir(&dashboards).output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {}\n{told}", arguments.join(" "));
    }
    // each is tested firing and not firing
    let (rules, tests) = (read("dashboards/alerts.yml"), read("dashboards/alerts_test.yml"));
    for name in rules.split("- alert: ").skip(1).filter_map(|alert| alert.lines().next()) {
        let cases: Vec<&str> = tests.split("alertname: ").filter(|case| case.starts_with(name)).collect();
        assert!(cases.iter().any(|case| case[name.len()..].starts_with(", exp_alerts: []}")), "{name} never rests");
        assert!(cases.iter().any(|case| case[name.len()..].starts_with("\n        exp_alerts:")), "{name} never fires");
    }
}

/// What the files for provisioning and the commands of docs/grafana.md say of one another.
#[test]
fn the_paths_of_the_provisioning_fit_together() {
    let page = read("docs/grafana.md");
    let line = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // mounts name directories that are here, and what is told to the programs lies in them
    let mounts = |line: &str| -> Vec<(String, String)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let given = words.windows(2).filter(|pair| pair[0] == "-v").map(|pair| pair[1].trim_matches('"'));
        given
            .map(|mount| {
                let mut parts = mount.trim_start_matches("$PWD/").trim_end_matches(":ro").split(':');
                (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
            })
            .collect()
    };
    let inside = |mounts: &[(String, String)], path: &str| {
        let (here, there) = mounts.iter().find(|(_, there)| path.starts_with(there.as_str())).unwrap();
        root.join(here).join(path[there.len()..].trim_start_matches('/'))
    };
    let prometheus = line("docker run -d --name prometheus");
    let config = prometheus.split_once("--config.file=").unwrap().1;
    assert!(inside(&mounts(prometheus), config).is_file(), "{config}");
    let grafana = mounts(line("docker run -d --name grafana"));
    assert_eq!(grafana.len(), 2);
    for directory in ["dashboards", "datasources"] {
        let found = std::fs::read_dir(inside(&grafana, &format!("/etc/grafana/provisioning/{directory}"))).unwrap();
        assert_eq!(found.count(), 1, "{directory}");
    }
    let provider = read("dashboards/provisioning/grafana/dashboards/watchbell.yml");
    let path = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    assert!(inside(&grafana, path).join("watchbell.json").is_file(), "{path}");
    // every data source is of a kind that a dashboard asks for, and each kind has one
    let sources = read("dashboards/provisioning/grafana/datasources/watchbell.yml");
    let offered: BTreeSet<&str> = sources.lines().filter_map(|line| line.strip_prefix("    type: ")).collect();
    let boards = boards();
    let wanted: BTreeSet<&str> = boards.iter().map(Board::plugin).collect();
    assert_eq!(offered, wanted);
}

/// The expressions of the rules, annotations and all: what stands in them is looked at by name only.
fn alert_expressions() -> String {
    read("dashboards/alerts.yml")
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A program of Debian's package `prometheus`.
pub(crate) fn tool(name: &str) -> Option<std::path::PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed (Debian's package prometheus)"));
    }
    found
}

#[test]
fn names_of_metrics_are_told_from_the_rest_of_an_expression() {
    let text = r#"sum by (le, queue) (rate(watchbell_a_bucket{job=~"$job",queue="watchbell_x"}[5m])) > ALERTS{a!="b"}"#;
    let found: Vec<_> = metric_names(text);
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(found[0], ("watchbell_a_bucket".to_owned(), labels(&["job", "queue"])));
    assert_eq!(found[1], ("ALERTS".to_owned(), labels(&["a"])));
    assert_eq!(found.len(), 2);
}

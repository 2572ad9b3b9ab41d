//! `docs/metrics.md` has every metric that there is, as the list in code says it.

use std::path::Path;

use watchbell::metrics::{ALL, Kind, Metric, Scope};

/// Set to 1, the list in the page is written anew.
const UPDATE: &str = "WATCHBELL_UPDATE_API";
const BEGIN: &str = "<!-- metrics -->\n";
const END: &str = "<!-- end of metrics -->";

fn line(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let scope = match metric.scope {
        Scope::Worker => "worker",
        Scope::Cluster => "cluster",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {kind} | {scope} | {} | {} |\n", metric.name, labels.join(" "), metric.help)
}

#[test]
fn the_page_lists_what_the_code_lists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the list begins");
    let (listed, after) = rest.split_once(END).expect("the list ends");
    let head = "| metric | kind | scope | labels | what it says |\n|---|---|---|---|---|\n";
    let list: String = std::iter::once(head.to_owned()).chain(ALL.iter().map(line)).collect();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{list}{END}{after}")).unwrap();
    } else {
        assert_eq!(listed, list, "write it anew: {UPDATE}=1 cargo test --test it metrics_list::");
    }
}

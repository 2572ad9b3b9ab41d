//! `watchbell watch test`: what a worker would take, and how it would find it.

use clap::Args;

use crate::cli::{Setting, value};
use crate::client::{self, WatchTrial};
use crate::error::Result;
use crate::handler::shown_key;

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// Which watch.
    name: String,
    /// How many rows are named, 0 to 1000.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value::number(0..=1000))]
    sample: u32,
}

pub(super) async fn test(args: TestArgs, setting: &Setting) -> Result<()> {
    let mut connection = setting.connect(&setting.database()?).await?;
    let trials = client::test_watch(&mut connection, &args.name, args.sample.cast_signed()).await?;
    let text: String = trials.iter().map(text).collect();
    setting.output.one(&trials, &text, &args.name)
}

fn text(trial: &WatchTrial) -> String {
    let mut text = format!("{}\n", way(&trial.from, trial.via.as_deref(), &trial.to, &trial.error));
    let mut line = |heading: &str, value: &str| text.push_str(&format!("  {heading:<9} {value}\n"));
    line("handler", &trial.handler);
    line("mode", &trial.mode.as_ref().map_or_else(|| trial.reason.clone(), |mode| format!("{mode}: {}", trial.reason)));
    line("rows", &rows(trial));
    line("found", if trial.by_index { "by an index" } else { "by reading the table" });
    if let Some(statement) = &trial.missing_index {
        line("missing", statement);
    }
    for (n, explained) in trial.explained.lines().enumerate() {
        line(if n == 0 { "plan" } else { "" }, explained);
    }
    text
}

/// The keys of the rows that come first.
fn rows(trial: &WatchTrial) -> String {
    let keys = trial.keys.as_ref().and_then(|keys| serde_json::from_str::<Vec<Vec<String>>>(keys.get()).ok());
    match keys {
        None => "not looked for: it would read a large table".to_owned(),
        Some(keys) if keys.is_empty() => "none now".to_owned(),
        Some(keys) => keys.iter().map(|key| shown_key(key)).collect::<Vec<_>>().join("; "),
    }
}

/// A step as a person says it.
pub(super) fn way(from: &str, via: Option<&str>, to: &str, error: &str) -> String {
    let via = via.map(|via| format!(" -> ({via})")).unwrap_or_default();
    format!("{from}{via} -> {to}, or {error}")
}

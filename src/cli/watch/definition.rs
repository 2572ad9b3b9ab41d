//! The columns of a watch as options: of `add` all that are not said have their defaults, of `edit` they stay.

use std::time::Duration;

use clap::Args;

use crate::cli::enqueue::text_of;
use crate::cli::value::{self, Limit, array};
use crate::client::WatchEdit;
use crate::error::Result;

/// Which rows, what is done with them and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct Definition {
    /// Rows in this state are taken [default: pending].
    #[arg(long, value_name = "STATE", help_heading = "States")]
    from: Option<String>,
    /// Their state while the handler works.
    #[arg(long, value_name = "STATE", help_heading = "States")]
    via: Option<String>,
    /// Their state after success [default: normal].
    #[arg(long, value_name = "STATE", help_heading = "States")]
    to: Option<String>,
    /// Their state after the last failed attempt [default: failed].
    #[arg(long, value_name = "STATE", help_heading = "States")]
    on_error: Option<String>,
    /// Several steps instead, as JSON: text, from a file (@file) or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with_all = ["from", "via", "to", "handler"], help_heading = "States")]
    pub(super) steps: Option<String>,

    /// The column with the state [default: status].
    #[arg(long, value_name = "COLUMN", help_heading = "Table")]
    status_column: Option<String>,
    /// A timestamptz column that is set at each move.
    #[arg(long, value_name = "COLUMN", help_heading = "Table")]
    since_column: Option<String>,
    /// A column that names a row, if not the primary key; may be given several times.
    #[arg(long = "key", value_name = "COLUMN", help_heading = "Table")]
    key: Vec<String>,
    /// A condition in SQL that rows must meet besides.
    #[arg(long, value_name = "CONDITION", help_heading = "Table")]
    filter: Option<String>,
    /// Which rows come first: columns with asc or desc.
    #[arg(long, value_name = "COLUMNS", help_heading = "Table")]
    order_by: Option<String>,
    /// Give the table a trigger by which sleeping workers learn of new rows at once.
    #[arg(long, help_heading = "Table")]
    pub(super) wake: bool,

    /// transactional, leased, or as it follows from the handler.
    #[arg(long, value_parser = ["auto", "transactional", "leased"], help_heading = "Work")]
    mode: Option<String>,
    /// What the handler gets beside the row: JSON text, from a file (@file) or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-", help_heading = "Work")]
    payload: Option<String>,
    /// Rows taken at once, 1 to 1000.
    #[arg(long, value_name = "N", value_parser = value::number(1..=1000), help_heading = "Work")]
    batch_size: Option<u32>,
    /// Rows in work at once over all workers.
    #[arg(long, value_name = "N", value_parser = value::number(1..=1_000_000), help_heading = "Work")]
    max_running: Option<u32>,
    /// Rows that may start in so long: 100/1m.
    #[arg(long, value_name = "N/DURATION", value_parser = rate, help_heading = "Work")]
    rate: Option<(u32, Duration)>,
    /// How long an idle worker waits between two looks.
    #[arg(long, value_name = "DURATION", value_parser = value::any_duration, help_heading = "Work")]
    poll_interval: Option<Duration>,
    /// How long one attempt may take, or none.
    #[arg(long, value_name = "DURATION|none", value_parser = value::duration_or_none, help_heading = "Work")]
    timeout: Option<Limit>,
    /// How often a row is tried in all, 1 to 100.
    #[arg(long, value_name = "N", value_parser = value::number(1..=100), help_heading = "Work")]
    max_attempts: Option<u32>,
    /// How long to wait before each further attempt, as JSON: {"strategy": "fixed", "base": "30s"}.
    #[arg(long, value_name = "JSON", help_heading = "Work")]
    retry: Option<String>,

    /// What it is for.
    #[arg(long, value_name = "TEXT", help_heading = "About it")]
    description: Option<String>,
    /// Who is asked when it fails.
    #[arg(long, value_name = "TEXT", help_heading = "About it")]
    owner: Option<String>,
    /// Where it says what to do then.
    #[arg(long, value_name = "URL", help_heading = "About it")]
    runbook_url: Option<String>,
    /// A word to filter by; may be given several times.
    #[arg(long = "tag", value_name = "WORD", help_heading = "About it")]
    tags: Vec<String>,
    /// The program or file that its definition comes from.
    #[arg(long, value_name = "TEXT", help_heading = "About it")]
    managed_by: Option<String>,
}

impl Definition {
    /// The columns that were given, written into the edit.
    pub(super) fn write(self, mut edit: WatchEdit) -> Result<WatchEdit> {
        let payload = self.payload.as_deref().map(|source| text_of("--payload", source)).transpose()?;
        let steps = self.steps.as_deref().map(|source| text_of("--steps", source)).transpose()?;
        let (rate_limit, rate_period) = self.rate.unzip();
        let list = |words: &[String]| (!words.is_empty()).then(|| array(words));
        let number = |n: Option<u32>| n.map(|n| n.to_string());
        let columns = [
            ("from_state", self.from),
            ("via_state", self.via),
            ("to_state", self.to),
            ("error_state", self.on_error),
            ("transitions", steps),
            ("status_column", self.status_column),
            ("since_column", self.since_column),
            ("key_columns", list(&self.key)),
            ("filter", self.filter),
            ("order_by", self.order_by),
            ("mode", self.mode),
            ("payload", payload),
            ("batch_size", number(self.batch_size)),
            ("max_running", number(self.max_running)),
            ("rate_limit", number(rate_limit)),
            ("rate_period", rate_period.map(value::interval)),
            ("poll_interval", self.poll_interval.map(value::interval)),
            ("max_attempts", number(self.max_attempts)),
            ("retry", self.retry),
            ("description", self.description),
            ("owner", self.owner),
            ("runbook_url", self.runbook_url),
            ("tags", list(&self.tags)),
            ("managed_by", self.managed_by),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                edit = edit.set(column, value);
            }
        }
        Ok(match self.timeout {
            Some(Limit(Some(limit))) => edit.set("timeout", value::interval(limit)),
            Some(Limit(None)) => edit.unset("timeout"),
            None => edit,
        })
    }
}

/// The columns that an option of this name writes.
pub(super) fn columns_of(option: &str) -> Vec<String> {
    let option = option.trim_start_matches('-').replace('-', "_");
    let columns: &[&str] = match option.as_str() {
        "from" => &["from_state"],
        "via" => &["via_state"],
        "to" => &["to_state"],
        "on_error" => &["error_state"],
        "steps" => &["transitions"],
        "key" => &["key_columns"],
        "rate" => &["rate_limit", "rate_period"],
        "tag" => &["tags"],
        column => &[column],
    };
    columns.iter().map(|column| (*column).to_owned()).collect()
}

/// So many in so long.
fn rate(text: &str) -> Result<(u32, Duration), String> {
    let problem = || "must be a number and a duration, such as 100/1m".to_owned();
    let (rows, period) = text.split_once('/').ok_or_else(problem)?;
    Ok((value::number(1..=1_000_000)(rows.trim())?, value::any_duration(period.trim())?))
}

//! `watchbell watch add`: a new watch, and what is still missing for it.

use std::time::Duration;

use clap::Args;

use super::show::{find, missing_indexes, summary};
use crate::cli::Setting;
use crate::cli::enqueue::text_of;
use crate::cli::handlers::warn_if_unknown;
use crate::cli::output::note;
use crate::cli::value::{self, Limit};
use crate::client::{self, NewWatch, Watch};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// Its name: letters, digits and . _ : -
    name: String,
    /// The table, as in SQL: public.hosts
    table: String,
    /// What does the work; left out with --steps.
    handler: Option<String>,

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
    steps: Option<String>,

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
    wake: bool,

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

pub(super) async fn add(args: AddArgs, setting: &Setting) -> Result<()> {
    let (name, wake) = (args.name.clone(), args.wake);
    if args.handler.is_none() && args.steps.is_none() {
        let problem = "needs a handler, or several steps: --steps @steps.json";
        return Err(Error::invalid(format!("watch \"{name}\""), problem));
    }
    let wanted = args.watch()?;
    let url = setting.database()?;
    let mut connection = setting.connect(&url).await?;
    for handler in wanted.handlers() {
        warn_if_unknown(&mut connection, handler).await;
    }
    wanted.insert(&mut connection).await?;
    let row = find(&mut connection, &name).await?;
    setting.output.one(&row, &summary(&row), &name)?;
    note(&format!("{url}: watch \"{name}\" is added"));
    for statement in missing_indexes(&mut connection, &name).await? {
        note(&format!("warning: an index is missing, without which workers read all of the table: {statement}"));
    }
    if wake {
        client::wake_watch(&mut connection, &name).await?;
    }
    Ok(())
}

impl AddArgs {
    fn watch(self) -> Result<NewWatch> {
        let payload = self.payload.as_deref().map(text_of).transpose()?;
        let steps = self.steps.as_deref().map(text_of).transpose()?;
        let json = |option: &str, text: &str| {
            let problem = |e| Error::invalid(option, format!("is not valid JSON: {e}"));
            serde_json::value::RawValue::from_string(text.to_owned()).map_err(problem)
        };
        let mut watch = Watch::table(self.table).tags(self.tags);
        macro_rules! set {
            ($($option:expr => $method:ident),+ $(,)?) => {
                $(if let Some(value) = $option {
                    watch = watch.$method(value);
                })+
            };
        }
        set! {
            self.handler => handler, self.from => from, self.via => via, self.to => to, self.on_error => on_error,
            steps.as_deref() => steps_json, self.status_column => status, self.since_column => since,
            self.filter => filter, self.order_by => order_by, self.poll_interval => poll_interval,
            self.batch_size.map(u32::cast_signed) => batch_size, self.max_running.map(u32::cast_signed) => max_running,
            self.description => description, self.owner => owner, self.runbook_url => runbook_url,
        }
        if !self.key.is_empty() {
            watch = watch.key(self.key);
        }
        if let Some(text) = payload {
            watch = watch.payload(&json("--payload", &text)?);
        }
        if let Some(text) = self.retry {
            watch = watch.retry(&json("--retry", &text)?);
        }
        if let Some((rows, period)) = self.rate {
            watch = watch.rate(rows.cast_signed(), period);
        }
        if let Some(Limit(limit)) = self.timeout {
            watch = watch.timeout(limit);
        }
        if let Some(attempts) = self.max_attempts.and_then(|n| i16::try_from(n).ok()) {
            watch = watch.max_attempts(attempts);
        }
        watch = match self.mode.as_deref() {
            Some("transactional") => watch.transactional(),
            Some("leased") => watch.leased(),
            _ => watch,
        };
        let wanted = NewWatch::new(self.name, watch);
        Ok(match self.managed_by {
            Some(name) => wanted.managed_by(name),
            None => wanted,
        })
    }
}

/// So many in so long.
fn rate(text: &str) -> Result<(u32, Duration), String> {
    let problem = || "must be a number and a duration, such as 100/1m".to_owned();
    let (rows, period) = text.split_once('/').ok_or_else(problem)?;
    Ok((value::number(1..=1_000_000)(rows.trim())?, value::any_duration(period.trim())?))
}

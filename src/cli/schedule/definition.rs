//! The columns of a schedule as options: of `add` all that are not said have their defaults, of `edit` they stay.

use clap::Args;

use crate::cli::enqueue::text_of;
use crate::cli::value::{self, Limit, array};
use crate::client::ScheduleEdit;
use crate::error::Result;

/// What a schedule does and when.
#[derive(Debug, Args)]
pub(in crate::cli) struct Definition {
    /// Fires when the wall clock matches: '0 2 * * *', with seconds '*/10 * * * * *', '@daily'.
    #[arg(long, value_name = "EXPRESSION", group = "when", help_heading = "When")]
    pub(super) cron: Option<String>,
    /// Fires every so often, counted from its last start (fixed_rate).
    #[arg(long, alias = "fixed-rate", value_name = "DURATION", group = "when", value_parser = interval, help_heading = "When")]
    every: Option<String>,
    /// Fires so long after its last run ended (fixed_delay).
    #[arg(long, alias = "fixed-delay", value_name = "DURATION", group = "when", value_parser = interval, help_heading = "When")]
    delay: Option<String>,
    /// Fires once, at this time.
    #[arg(long, alias = "run-at", value_name = "TIME", group = "when", value_parser = time, help_heading = "When")]
    at: Option<String>,
    /// The time zone of --cron, UTC or an Area/Location name.
    #[arg(long, visible_alias = "tz", value_name = "ZONE", help_heading = "When")]
    pub(super) timezone: Option<String>,
    /// At clock changes: once (each local time once) or literal (as the wall clock shows it).
    #[arg(long, value_parser = ["once", "literal"], help_heading = "When")]
    dst: Option<String>,
    /// When a new --every or --delay acts first: after_period or at_once.
    #[arg(long, value_parser = ["after_period", "at_once"], help_heading = "When")]
    first_fire: Option<String>,
    /// Nothing fires before this time.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "When")]
    starts_at: Option<String>,
    /// Nothing fires at or after this time.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "When")]
    ends_at: Option<String>,
    /// How many runs it may make in all.
    #[arg(long, value_name = "N", value_parser = number(u32::MAX), help_heading = "When")]
    max_fires: Option<String>,
    /// Each run is put off by a part of this, so that not all start at once.
    #[arg(long, value_name = "DURATION", value_parser = interval, help_heading = "When")]
    jitter: Option<String>,

    /// What a fire time does while a run of it is open.
    #[arg(long, value_parser = ["allow", "skip", "queue_one", "queue_all", "cancel_running"], help_heading = "Policy")]
    overlap: Option<String>,
    /// How many open runs count as too many for --overlap, 1 to 100.
    #[arg(long, value_name = "N", value_parser = number(100), help_heading = "Policy")]
    max_running: Option<String>,
    /// What becomes of fire times that passed while no worker could act.
    #[arg(long, value_parser = ["fire_once", "skip", "catch_up"], help_heading = "Policy")]
    misfire: Option<String>,
    /// How late --misfire skip may still act.
    #[arg(long, value_name = "DURATION", value_parser = interval, help_heading = "Policy")]
    misfire_grace: Option<String>,
    /// How far back --misfire catch_up reaches.
    #[arg(long, value_name = "DURATION", value_parser = interval, help_heading = "Policy")]
    catch_up_window: Option<String>,
    /// How many runs --misfire catch_up makes at most, 1 to 1000.
    #[arg(long, value_name = "N", value_parser = number(1000), help_heading = "Policy")]
    catch_up_limit: Option<String>,
    /// A run that has not started so long after its time is not started any more.
    #[arg(long, value_name = "DURATION", value_parser = interval, help_heading = "Policy")]
    start_deadline: Option<String>,
    /// It pauses by itself after so many failed runs in a row.
    #[arg(long, value_name = "N", value_parser = number(i32::MAX as u32), help_heading = "Policy")]
    pause_after_failures: Option<String>,

    /// Restarts the run of a --delay on any end, after a pause that grows from it to 5 minutes; true or false.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = ["true", "false"],
        help_heading = "Policy"
    )]
    keep_alive: Option<String>,
    /// How many runs --keep-alive has open at once, each restarted by itself, 1 to 100.
    #[arg(long, value_name = "N", value_parser = number(100), help_heading = "Policy")]
    copies: Option<String>,

    /// What each run gets, a JSON object: as text, from a file (@file) or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-", help_heading = "Runs")]
    payload: Option<String>,
    /// The queue of its runs.
    #[arg(long, value_name = "NAME", help_heading = "Runs")]
    queue: Option<String>,
    /// 0 (runs first) to 9.
    #[arg(long, value_name = "0-9", value_parser = priority, help_heading = "Runs")]
    priority: Option<String>,
    /// How often each run is tried in all, 1 to 100.
    #[arg(long, value_name = "N", value_parser = number(100), help_heading = "Runs")]
    max_attempts: Option<String>,
    /// How long to wait before each further attempt, as JSON: {"strategy": "fixed", "base": "30s"}.
    #[arg(long, value_name = "JSON", help_heading = "Runs")]
    retry: Option<String>,
    /// How long one attempt may take, or none.
    #[arg(long, value_name = "DURATION|none", value_parser = value::duration_or_none, help_heading = "Runs")]
    timeout: Option<Limit>,
    /// Runs with this key share a limit of how many run at a time.
    #[arg(long, value_name = "KEY", help_heading = "Runs")]
    concurrency_key: Option<String>,
    /// Only workers with these labels, label=value[,label=value], or all[:label=value]: one run on each of them.
    #[arg(long, value_name = "SELECTOR", help_heading = "Runs")]
    target: Option<String>,

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
    /// Whether it says when.
    pub(super) fn has_time(&self) -> bool {
        self.cron.is_some() || self.every.is_some() || self.delay.is_some() || self.at.is_some()
    }

    /// The columns that were given, written into the edit.
    pub(super) fn write(self, mut edit: ScheduleEdit) -> Result<ScheduleEdit> {
        let payload = self.payload.as_deref().map(|source| text_of("--payload", source)).transpose()?;
        let tags = (!self.tags.is_empty()).then(|| array(&self.tags));
        let columns = [
            ("cron", self.cron),
            ("fixed_rate", self.every),
            ("fixed_delay", self.delay),
            ("run_at", self.at),
            ("timezone", self.timezone),
            ("dst", self.dst),
            ("first_fire", self.first_fire),
            ("starts_at", self.starts_at),
            ("ends_at", self.ends_at),
            ("max_fires", self.max_fires),
            ("jitter", self.jitter),
            ("overlap", self.overlap),
            ("max_running", self.max_running),
            ("misfire", self.misfire),
            ("misfire_grace", self.misfire_grace),
            ("catch_up_window", self.catch_up_window),
            ("catch_up_limit", self.catch_up_limit),
            ("start_deadline", self.start_deadline),
            ("pause_after_failures", self.pause_after_failures),
            ("keep_alive", self.keep_alive),
            ("copies", self.copies),
            ("payload", payload),
            ("queue", self.queue),
            ("priority", self.priority),
            ("max_attempts", self.max_attempts),
            ("retry", self.retry),
            ("concurrency_key", self.concurrency_key),
            ("target", self.target),
            ("description", self.description),
            ("owner", self.owner),
            ("runbook_url", self.runbook_url),
            ("tags", tags),
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

/// A duration as PostgreSQL reads it.
fn interval(text: &str) -> Result<String, String> {
    value::any_duration(text).map(value::interval)
}

/// An instant as PostgreSQL reads it.
fn time(text: &str) -> Result<String, String> {
    value::time(text).map(|time| time.to_rfc3339())
}

fn number(most: u32) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    move |text| value::number(1..=most)(text).map(|n| n.to_string())
}

fn priority(text: &str) -> Result<String, String> {
    value::number(0..=9)(text).map(|n| n.to_string())
}

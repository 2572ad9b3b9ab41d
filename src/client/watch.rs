//! A table that is watched, and what is done with its rows.

pub(super) mod options;
mod step;

use std::time::Duration;

use serde::Serialize;

use super::check;
use super::new_run::interval;
use crate::error::Error;
use options::{Work, options};

pub use step::Step;

/// A table whose rows are the queue: those in one state are handled and moved to another.
///
/// What is not said has the default of `watchbell.watches`: rows are named by the primary key, their state stands in the
/// column `status`, and they go from `pending` to `normal`, or after the last of 3 attempts to `failed`. The handler
/// has the watch's name. How rows travel is told in `docs/watches.md`.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{NewWatch, Step, Watch};
/// use watchbell::{minutes, seconds};
///
/// let hosts = Watch::table("public.hosts").status("state").since("state_since").via("initialising").on_error("broken");
/// NewWatch::new("hosts", hosts.handler("init_host").timeout(minutes(5)).max_running(10)).upsert(&pool).await?;
///
/// let models = Watch::table("public.models")
///     .step(Step::from("pending").via("downloading").to("downloaded").handler("download").timeout(minutes(30)))
///     .step(Step::from("downloaded").via("training").to("normal").handler("train").max_attempts(1));
/// NewWatch::new("models", models.poll_interval(seconds(5))).upsert(&pool).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Watch {
    pub(super) table: String,
    pub(super) key: Option<Vec<String>>,
    pub(super) status: Option<String>,
    pub(super) since: Option<String>,
    pub(super) work: Work,
    pub(super) steps: Vec<Step>,
    /// All steps as text, in place of `steps`.
    pub(super) steps_json: Option<String>,
    pub(super) poll_interval: Option<Duration>,
    pub(super) description: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) runbook_url: Option<String>,
    pub(super) tags: Vec<String>,
}

options!(Watch);

impl Watch {
    /// Watches a table, named as in SQL with its schema and quoted where needed: `public.hosts`.
    ///
    /// Without a schema it is looked for by the login's own `search_path`.
    pub fn table(name: impl Into<String>) -> Self {
        Self {
            table: name.into(),
            key: None,
            status: None,
            since: None,
            work: Work::default(),
            steps: Vec::new(),
            steps_json: None,
            poll_interval: None,
            description: None,
            owner: None,
            runbook_url: None,
            tags: Vec::new(),
        }
    }

    /// The columns that name a row, 1 to 8 of them; a unique index must cover them. The primary key if not given.
    #[must_use]
    pub fn key<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        Self { key: Some(columns.into_iter().map(Into::into).collect()), ..self }
    }

    /// The column with the state: text, varchar, an enum or a whole number.
    #[must_use]
    pub fn status(self, column: impl Into<String>) -> Self {
        Self { status: Some(column.into()), ..self }
    }

    /// A `timestamptz` column that is set to the moment of each move: from it waiting times are known.
    #[must_use]
    pub fn since(self, column: impl Into<String>) -> Self {
        Self { since: Some(column.into()), ..self }
    }

    /// Rows in this state are taken; `pending` if not given.
    #[must_use]
    pub fn from(mut self, state: impl Into<String>) -> Self {
        self.work.from = Some(state.into());
        self
    }

    /// Adds a step with a handler of its own; what it does not say is as said here. In place of `from`, `via`, `to`
    /// and `handler`.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// All its steps from JSON text, as the column `transitions` has them: `[{"from": .., "to": .., "handler": ..}]`.
    ///
    /// For programs whose users write them. The text is sent as it is; the database says what is wrong with it.
    #[must_use]
    pub fn steps_json(mut self, text: &str) -> Self {
        let checked = serde_json::from_str::<&serde_json::value::RawValue>(text);
        let problem = |e| Error::invalid("transitions", format!("transitions are not valid JSON: {e}"));
        self.steps_json = self.work.take(checked.map(|raw| raw.get().to_owned()).map_err(problem));
        self
    }

    /// How long an idle worker waits between two looks, 100 ms to a day; 1 s if not given.
    #[must_use]
    pub fn poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: Some(interval), ..self }
    }

    /// What it is for; at most 8192 bytes.
    #[must_use]
    pub fn description(self, text: impl Into<String>) -> Self {
        Self { description: Some(text.into()), ..self }
    }

    /// Who is asked when it fails.
    #[must_use]
    pub fn owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(owner.into()), ..self }
    }

    /// Where it says what to do when it fails; at most 2048 bytes.
    #[must_use]
    pub fn runbook_url(self, url: impl Into<String>) -> Self {
        Self { runbook_url: Some(url.into()), ..self }
    }

    /// Words to filter by; at most 100 and 8192 bytes.
    #[must_use]
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), ..self }
    }

    /// The handlers of its steps, or the one it has, which is `name` unless it says another.
    pub(crate) fn handlers<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        if let Some(text) = &self.steps_json {
            #[derive(serde::Deserialize)]
            struct Named<'a> {
                handler: Option<&'a str>,
            }
            // what is no list of steps is for the database to say
            let steps: Vec<Named<'_>> = serde_json::from_str(text).unwrap_or_default();
            return steps.into_iter().filter_map(|step| step.handler).collect();
        } else if self.steps.is_empty() {
            return vec![self.work.handler.as_deref().unwrap_or(name)];
        }
        self.steps.iter().filter_map(|step| step.work.handler.as_deref()).collect()
    }

    /// The column `transitions`.
    pub(super) fn transitions(&self) -> Option<String> {
        let written = || serde_json::to_string(&self.steps).unwrap_or_default();
        self.steps_json.clone().or_else(|| (!self.steps.is_empty()).then(written))
    }

    /// What the database would say of a row it cannot even receive; the rest is its own.
    pub(super) fn check(&self) -> Result<(), String> {
        self.work.check()?;
        if let Some(poll) = self.poll_interval {
            check::interval("poll_interval", poll, Duration::from_millis(100))?;
        }
        if (!self.steps.is_empty() || self.steps_json.is_some())
            && [&self.work.handler, &self.work.from, &self.work.via, &self.work.to].iter().any(|said| said.is_some())
        {
            return Err("from, via, to and handler belong to its steps, since it has some".to_owned());
        }
        for (n, step) in self.steps.iter().enumerate() {
            let problem = match &step.work {
                Work { to: None, .. } => Err("has no \"to\"".to_owned()),
                Work { handler: None, .. } => Err("has no \"handler\"".to_owned()),
                work => work.check(),
            };
            problem.map_err(|problem| format!("step {}: {problem}", n + 1))?;
        }
        check::tags(&self.tags)
    }
}

/// An interval in JSON, as the database reads it.
fn text<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    format!("{} us", interval(*duration).microseconds).serialize(serializer)
}

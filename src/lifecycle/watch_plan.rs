//! Plan: what a watch asks for against what is in the catalog, and what the workers have to work it with.
//!
//! **In** a watch that is new, was edited, or was planned an hour ago, or of whose table another was changed; an
//! invalid one after a minute, since the missing table may have come. **Out** its status `normal` or `invalid`, with
//! the reason, its plan, and the next time. **Lock** the watch's row for one statement, passed over where a person
//! holds it. **Crash** nothing was written: another worker plans it.
//!
//! Each worker plans for itself, and writes where its word changes what stands (`watch::word`). One that has none of the
//! handlers says nothing while others have them: not even that the table is missing, which its login may merely not
//! see. While a live worker with a step's handler has still to be heard, the watch stays `pending`.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Result,
    handler::Registry,
    watch::{
        Plan, Step, Watch, read,
        word::{self, Fleet, Peer, Word},
    },
};

const FLEET: &str = include_str!("../sql/8_watch_fleet.sql");
const PLANNED: &str = include_str!("../sql/8_watch_planned.sql");
const REPLAN: &str = include_str!("../sql/8_watch_replan.sql");
const RESUME: &str = include_str!("../sql/8_watch_resume.sql");
const RIVAL: &str = include_str!("../sql/8_watch_rival.sql");

/// Who plans, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Planner<'a> {
    /// Its number.
    pub worker: i32,
    /// What it can do.
    pub registry: &'a Registry,
    /// How long a transaction over rows may last.
    pub transaction_max: Duration,
}

impl Planner<'_> {
    fn has(&self, step: &Step) -> bool {
        self.registry.get(&step.handler).is_some()
    }
}

/// A watch as this worker can work it.
#[derive(Debug)]
pub enum Found {
    /// It can, but for steps without a mode.
    Planned(Box<Plan>),
    /// It cannot, though others can.
    Unable(Named),
    /// Nobody may take its rows.
    Invalid(Named),
    /// It is not there any more.
    Gone,
}

/// Why a watch is not worked.
#[derive(Debug)]
pub struct Named {
    /// The watch's number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

impl Found {
    /// The name of the watch.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Planned(plan) => Some(&plan.watch.name),
            Self::Unable(named) | Self::Invalid(named) => Some(&named.name),
            Self::Gone => None,
        }
    }

    /// The watch's number and name, and why this worker cannot work all of it, though others can.
    pub fn unable(&self) -> Option<(i64, &str, &str)> {
        match self {
            Self::Unable(named) => Some((named.id, &named.name, &named.reason)),
            Self::Planned(plan) => {
                let step = plan.steps.iter().find(|planned| planned.invalid)?;
                Some((plan.watch.id, &plan.watch.name, &step.reason))
            }
            Self::Invalid(_) | Self::Gone => None,
        }
    }
}

/// What became of the watch's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write.
    Stands,
    /// The reason why it is invalid, which is news, or that it is no longer.
    Turned(Option<String>),
    /// A person holds the row, or somebody else has written meanwhile.
    Held,
}

/// Plans a watch. Writes what came of it when it is due, or when more is known now.
///
/// # Errors
/// The database's.
pub async fn plan(conn: &mut PgConnection, id: i64, planner: &Planner<'_>, due: bool) -> Result<(Found, Written)> {
    let watch = match read::read(&mut *conn, id).await {
        Ok(None) => return Ok((Found::Gone, Written::Stands)),
        Ok(Some(watch)) => watch,
        Err(Error::Invalid { field, problem }) => {
            let reason = Error::Invalid { field, problem }.to_string();
            return unreadable(conn, id, reason, due).await;
        }
        Err(error) => return Err(error),
    };
    let rival = match alone(&mut *conn, id).await {
        Ok(()) => None,
        Err(error @ Error::Invalid { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    let own = Plan::within(&mut *conn, watch.clone(), planner.registry, planner.transaction_max).await;
    let own = match own {
        Ok(plan) => Ok(plan),
        Err(error @ Error::Invalid { .. }) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    let fleet = fleet(&mut *conn, &watch, planner.worker).await?;
    let stood = word::standing(watch.earlier.as_ref(), watch.version);
    let words: Vec<Word> = watch.steps.iter().filter_map(|step| said(step, &own, &fleet, planner, &stood)).collect();

    let problem = rival.or_else(|| words.iter().find(|word| word.invalid).map(|word| word.reason.clone()));
    // of a table without a worker anybody may speak
    let problem = problem.or_else(|| own.as_ref().err().filter(|_| words.is_empty()).cloned());
    let is_new = words.iter().any(|word| !stood.contains(word));
    let written = if is_new || due && may_speak(&watch, &fleet, planner) {
        let plan = match &own {
            Ok(plan) => Some(plan.json(&words)),
            Err(_) => (!words.is_empty()).then(|| patched(&watch, &words)),
        };
        let unheard = |step: &Step| word::of(&words, &step.from).is_none() && fleet.others_have(&step.handler);
        let waits = watch.steps.iter().any(unheard);
        write(conn, id, (watch.version, watch.earlier.as_ref()), problem.as_deref(), plan, waits).await?
    } else {
        Written::Stands
    };
    let has_one = watch.steps.iter().any(|step| planner.has(step));
    let because = |reason| Named { id, name: watch.name, reason };
    let found = match (problem, own) {
        (None, Err(reason)) if has_one => Found::Unable(because(reason)),
        (Some(reason), _) | (None, Err(reason)) => Found::Invalid(because(reason)),
        (None, Ok(plan)) => Found::Planned(Box::new(plan)),
    };
    Ok((found, written))
}

/// The word that stands of a step, with what this worker found.
fn said(step: &Step, own: &Result<Plan, String>, fleet: &Fleet, planner: &Planner<'_>, stood: &[Word]) -> Option<Word> {
    let own = match own {
        Ok(plan) => plan.steps.iter().find(|planned| planned.step.from == step.from)?.word(planner.worker),
        // what is wrong with the table is wrong with each step that this worker could work
        Err(reason) => planner.has(step).then(|| Word {
            from: step.from.clone(),
            handler: step.handler.clone(),
            mode: None,
            reason: reason.clone(),
            invalid: true,
            timeout_ms: None,
            worker: planner.worker,
        }),
    };
    fleet.settle(own, word::of(stood, &step.from).cloned())
}

/// Whether this worker's view of the watch counts: it has one of its handlers, or nobody else has.
fn may_speak(watch: &Watch, fleet: &Fleet, planner: &Planner<'_>) -> bool {
    let has_one = watch.steps.iter().any(|step| planner.has(step));
    has_one || !watch.steps.iter().any(|step| fleet.others_have(&step.handler))
}

async fn fleet(conn: &mut PgConnection, watch: &Watch, me: i32) -> sqlx::Result<Fleet> {
    let handlers: Vec<&str> = watch.steps.iter().map(|step| step.handler.as_str()).collect();
    let rows = sqlx::query(FLEET).bind(handlers).fetch_all(conn).await?;
    let peer = |row: &PgRow| {
        Ok(Peer { id: row.try_get("id")?, handlers: row.try_get("handlers")?, lives: row.try_get("lives")? })
    };
    Ok(Fleet { me, peers: rows.iter().map(peer).collect::<sqlx::Result<_>>()? })
}

/// The plan that stands, with other words: this worker could make none of its own.
fn patched(watch: &Watch, words: &[Word]) -> Value {
    let mut plan = watch.earlier.clone().filter(Value::is_object).unwrap_or_else(|| json!({}));
    plan["version"] = watch.version.into();
    plan["steps"] = word::written(&watch.steps, words);
    plan
}

/// A watch whose row makes no sense.
async fn unreadable(conn: &mut PgConnection, id: i64, reason: String, due: bool) -> Result<(Found, Written)> {
    let read = sqlx::query("select w.name, w.version, w.plan from watchbell.watches w where w.id = $1");
    let Some(row) = read.bind(id).fetch_optional(&mut *conn).await? else { return Ok((Found::Gone, Written::Stands)) };
    let (version, earlier): (i64, Option<Value>) = (row.try_get("version")?, row.try_get("plan")?);
    let written = if due {
        write(conn, id, (version, earlier.as_ref()), Some(&reason), None, false).await?
    } else {
        Written::Stands
    };
    Ok((Found::Invalid(Named { id, name: row.try_get("name")?, reason }), written))
}

async fn write(
    conn: &mut PgConnection,
    id: i64,
    (version, earlier): (i64, Option<&Value>),
    problem: Option<&str>,
    plan: Option<Value>,
    waits: bool,
) -> sqlx::Result<Written> {
    let write = sqlx::query(PLANNED).bind(id).bind(version).bind(problem).bind(plan).bind(earlier).bind(waits);
    let Some(row) = write.fetch_optional(conn).await? else { return Ok(Written::Held) };
    let (status, error): (String, Option<String>) = (row.try_get("status_before")?, row.try_get("error_before")?);
    let was = (status == "invalid").then_some(error).flatten();
    Ok(if was.as_deref() == problem { Written::Stands } else { Written::Turned(problem.map(str::to_owned)) })
}

/// Refuses what an earlier watch does already: in leased mode both would work on the same row.
async fn alone(conn: &mut PgConnection, id: i64) -> Result<()> {
    let rival: Option<(String, String)> = sqlx::query_as(RIVAL).bind(id).fetch_optional(conn).await?;
    let Some((name, state)) = rival else { return Ok(()) };
    let problem = format!(
        "watch \"{name}\" takes the same rows, those in state \"{state}\"; delete or pause one of them, or give each a filter"
    );
    Err(Error::invalid("table_name", problem))
}

/// The table is not what it was: somebody is to plan it anew.
pub async fn replan(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query(REPLAN).bind(id).execute(conn).await.map(drop)
}

/// Ends a pause that has run out.
pub async fn resume(conn: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query(RESUME).bind(id).execute(conn).await.map(drop)
}

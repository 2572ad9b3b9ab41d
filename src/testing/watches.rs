//! Watches, worked by hand.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Row, postgres::PgRow};
use tokio_util::sync::CancellationToken;

use super::engine::{ATTEMPTS_MAX, ATTEMPTS_OF_ONE_MAX};
use super::{Engine, WatchedRow};
use crate::client::{WatchRow, Watches};
use crate::db::Named;
use crate::handler::Context;
use crate::lifecycle::execute::{Executed, execute, facts};
use crate::lifecycle::leased::{self, Became, Cursor};
use crate::lifecycle::transact::{Ask, Line, Worked, transact};
use crate::lifecycle::watch_plan::{self, Found, Planner};
use crate::lifecycle::watch_rate;
use crate::watch::{Key, Mode, Plan, plan::TRANSACTION_MAX};
use crate::{Error, Result};

/// Rows of which each has a savepoint of its own, in one transaction.
const ROWS_MAX: i64 = 50;

/// An attempt whose end is to be looked up.
struct Attempt {
    key: Key,
    attempt: i32,
}

impl Engine {
    /// Works the rows of the watch of this name that are due, step by step, until none is.
    ///
    /// In both modes, with the statements of a worker: batches, savepoints, claims, retries, rates. Rows of steps whose
    /// handler this engine does not have stay, as do those of a paused watch and those that somebody has locked. One
    /// entry for each attempt, in order; a failed row is due again when its time has come, see
    /// [`Engine::advance`]. Rows that handlers of runs insert are worked by the next call, and runs that rows
    /// enqueue by [`Engine::run_due`].
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Host { address: String }
    /// use watchbell::testing::{Database, Engine};
    /// use watchbell::{HandlerResult, Row, Worker, client::Watch, seconds};
    ///
    /// async fn init_host(host: Row<Host>) -> HandlerResult {
    ///     if host.address.is_empty() { Err("no address".into()) } else { Ok(()) }
    /// }
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let database = Database::fresh().await?;
    /// let pool = database.pool(); // sqlx::migrate!().run(&pool).await?
    /// let worker = Worker::builder(pool.clone()).watch("hosts", Watch::table("public.hosts"), init_host);
    /// let mut engine = Engine::of(worker).await?;
    ///
    /// sqlx::query("insert into hosts (address) values ('10.0.0.1'), ('')").execute(&pool).await?;
    /// let rows = engine.work_rows("hosts").await?;
    /// rows[0].assert("normal");
    /// assert_eq!(rows[1].assert("pending").error.as_deref(), Some("no address"));
    ///
    /// engine.advance(seconds(60)).await?; // the second attempt
    /// assert_eq!(engine.work_rows("hosts").await?[0].attempt, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown name; [`Error::Invalid`] with what a worker would write into the watch;
    /// [`Error::Conflict`] after 10,000 attempts, or 100 at one row, without time passing: it would never end.
    pub async fn work_rows(&mut self, watch: &str) -> Result<Vec<WatchedRow>> {
        self.catch_up().await?;
        let Some(plan) = self.plan(watch).await? else { return Ok(vec![]) };
        let mut all: Vec<WatchedRow> = vec![];
        let mut of_one: HashMap<Vec<String>, usize> = HashMap::new();
        loop {
            let before = all.len();
            for step in 0..plan.steps.len() {
                while let worked @ [_, ..] = &*self.work_step(&plan, step).await? {
                    all.extend_from_slice(worked);
                    for row in worked {
                        *of_one.entry(row.key.clone()).or_default() += 1;
                    }
                    if all.len() >= ATTEMPTS_MAX || of_one.values().any(|times| *times > ATTEMPTS_OF_ONE_MAX) {
                        return Err(endless(&all));
                    }
                }
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }

    /// The watch of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn watch(&self, name: &str) -> Result<WatchRow> {
        let found = Watches::new().name(name).fetch(&self.pool).await?.pop();
        found.ok_or_else(|| Error::NotFound { kind: "watch", name: name.to_owned(), hint: String::new() })
    }

    /// Plans it as a worker does; none for one that is paused.
    async fn plan(&mut self, name: &str) -> Result<Option<Arc<Plan>>> {
        let id = self.watch(name).await?.id;
        loop {
            let planner = Planner {
                worker: self.who.worker,
                registry: &self.executor.registry,
                transaction_max: TRANSACTION_MAX,
            };
            match watch_plan::plan(&mut self.connection, id, &planner, true).await?.0 {
                Found::Planned(plan) if !plan.watch.paused => return Ok(Some(Arc::from(plan))),
                Found::Planned(plan) if plan.watch.paused_for == Some(Duration::ZERO) => {
                    watch_plan::resume(&mut self.connection, id).await.named()?;
                }
                Found::Planned(_) => return Ok(None),
                Found::Unable(why) | Found::Invalid(why) => {
                    return Err(Error::invalid(format!("watch \"{name}\""), why.reason));
                }
                Found::Gone => {
                    return Err(Error::NotFound { kind: "watch", name: name.to_owned(), hint: String::new() });
                }
            }
        }
    }

    /// One batch, or in leased mode one row.
    async fn work_step(&mut self, plan: &Arc<Plan>, step: usize) -> Result<Vec<WatchedRow>> {
        let planned = &plan.steps[step];
        let Some(mode) = planned.mode else { return Ok(vec![]) };
        let (watch, from) = (plan.watch.id, &planned.step.from);
        let want = if mode == Mode::Leased { 1 } else { planned.step.batch };
        let granted = match planned.step.rate {
            None => want,
            Some(rate) => match watch_rate::allow(&self.pool, watch, from, rate, want).await.named()? {
                Ok(granted) => granted,
                Err(_) => return Ok(vec![]),
            },
        };
        // what the database writes from here on belongs to these attempts
        let since = sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
        let since: i64 = since.fetch_one(&mut self.connection).await.named()?;
        let attempts = match mode {
            Mode::Leased => self.one(plan, step).await?.into_iter().collect(),
            Mode::Transactional => self.batch(plan, step, granted).await?,
        };
        if planned.step.rate.is_some() {
            let unused = granted - i64::try_from(attempts.len()).unwrap_or(granted);
            watch_rate::give_back(&self.pool, watch, from, unused).await.named()?;
        }
        let mut rows = vec![];
        for attempt in attempts {
            rows.push(self.became(plan, step, attempt, since).await?);
        }
        Ok(rows)
    }

    /// Claims a row, calls its handler and records the end.
    async fn one(&mut self, plan: &Arc<Plan>, step: usize) -> Result<Option<Attempt>> {
        let (conn, worker) = (&mut self.connection, self.who.worker);
        let claims = leased::claim(conn, plan, step, worker, 1, &mut Cursor::default()).await.named()?;
        let Some(run) = claims.rows.into_iter().next() else { return Ok(None) };
        let Some(row) = run.row.clone() else { return Ok(None) };
        let registry = &self.executor.registry;
        let timeout = registry.get(&run.handler).map_or(run.timeout, |entry| entry.options.timeout_of(run.timeout));
        let context = Context::new(facts(&run, timeout), CancellationToken::new(), None, registry.states());
        let context = context.about_passage(Arc::clone(&row.taken), Arc::clone(&row.passage));
        context.begin();
        self.executor.now = Some(self.now);
        if let Executed::Verdict(finished) = execute(&self.executor, &run, Duration::ZERO, &context).await {
            let became = leased::finish(&mut self.connection, row.planned(), &[(&row, &finished)]).await.named()?;
            if became.contains(&Became::Held) {
                let key = row.key().join(", ");
                let problem = "cannot end: an open transaction has locked it; end that first";
                return Err(Error::Conflict(format!("row {key} of watch \"{}\" {problem}", plan.watch.name)));
            }
        }
        Ok(Some(Attempt { key: Key(row.key().to_vec()), attempt: run.attempt }))
    }

    /// Takes a batch, calls its handler and commits.
    async fn batch(&mut self, plan: &Arc<Plan>, step: usize, rows: i64) -> Result<Vec<Attempt>> {
        let line = Line { plan: Arc::clone(plan), step, own: self.pool.clone(), limit: self.watch_transaction };
        let mut rows = rows;
        loop {
            let next = self.next_rows(plan, step, rows).await?;
            let ask = Ask { worker: self.who.worker, lane: 0, rows, behind: None, stop: CancellationToken::new() };
            self.executor.now = Some(self.now);
            match transact(&self.executor, &line, ask).await.named()? {
                Worked { broken: true, .. } => {
                    let (name, from) = (&plan.watch.name, &plan.steps[step].step.from);
                    let problem = format!("the statement of step \"{from}\" cannot be executed");
                    return Err(Error::invalid(format!("watch \"{name}\""), problem));
                }
                Worked { too_many: true, .. } if rows > 1 => rows /= 2,
                worked => {
                    let taken = usize::try_from(worked.taken).unwrap_or_default();
                    return Ok(next.into_iter().take(taken).collect());
                }
            }
        }
    }

    /// The rows that a batch will take: nobody else is there who could take them first.
    async fn next_rows(&mut self, plan: &Plan, step: usize, rows: i64) -> Result<Vec<Attempt>> {
        let planned = &plan.steps[step];
        let rows = planned.step.max_running.map_or(rows, |most| rows.min(most));
        let entry = self.executor.registry.get(&planned.step.handler);
        let in_sets = entry.is_some_and(|entry| entry.work.takes_batch());
        let rows = if in_sets { rows } else { rows.min(ROWS_MAX) };
        let take = planned.statements.take_keys(&rows, false);
        let mut look = self.connection.begin().await.named()?;
        let found = sqlx::query(AssertSqlSafe(take)).persistent(false).fetch_all(&mut *look).await.named()?;
        look.rollback().await.named()?;
        let attempt = |row: &PgRow| -> sqlx::Result<Attempt> {
            let attempts: Option<i32> = row.try_get(3)?;
            Ok(Attempt { key: Key(row.try_get(0)?), attempt: attempts.unwrap_or(0) + 1 })
        };
        found.iter().map(attempt).collect::<sqlx::Result<_>>().named()
    }

    /// Where the row stands now, and why.
    async fn became(&mut self, plan: &Plan, step: usize, attempt: Attempt, since: i64) -> Result<WatchedRow> {
        let (planned, Attempt { key, attempt }) = (&plan.steps[step], attempt);
        let statements = &planned.statements;
        let text = format!(
            "select t.{}::text from {} join {} as t on {}",
            statements.status(),
            statements.keys(1),
            statements.table(),
            statements.has_key("t")
        );
        let query = sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(text)).persistent(false);
        let columns = Key::columns([&key], statements.width());
        let query = columns.iter().fold(query, |query, column| query.bind(column));
        let state = query.fetch_optional(&mut self.connection).await.named()?.flatten();
        let (again_at, error): (Option<DateTime<Utc>>, Option<String>) =
            sqlx::query_as(include_str!("../sql/testing/row.sql"))
                .bind(plan.watch.id)
                .bind(&key.0)
                .bind(&planned.step.from)
                .bind(since)
                .fetch_one(&mut self.connection)
                .await
                .named()?;
        Ok(WatchedRow {
            watch: plan.watch.name.clone(),
            key: key.0,
            step: planned.step.from.clone(),
            handler: planned.step.handler.clone(),
            attempt,
            state,
            error,
            again_at,
            at: self.now,
        })
    }
}

fn endless(all: &[WatchedRow]) -> Error {
    let last = all.last().map(|row| format!("row {} by handler \"{}\"", row.key.join(", "), row.handler));
    Error::Conflict(format!(
        "still not done after {} attempts, the last at {}, with no time passing; does it snooze for no time, or insert \
         rows for itself?",
        all.len(),
        last.unwrap_or_default()
    ))
}

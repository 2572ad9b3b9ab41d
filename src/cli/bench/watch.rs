//! `bench watch`: how fast rows of somebody's own table move on, in both modes, beside the raw statements.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgRow},
};
use sqlx::{Connection, Row};
use tokio_util::sync::CancellationToken;

use super::figure::Figure;
use crate::{
    Error, Registry, Result, Worker,
    handler::sql::Sql,
    lifecycle::{
        finish::Finished,
        leased::{self, Cursor},
        register::{self, Identity},
        watch_plan::{Found, Planner, plan},
    },
    retry::RetryPolicy,
    run::transition::{Event, decide},
    watch::{Key, Plan, Planned, plan::TRANSACTION_MAX},
};

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// Rows in the table.
    pub(super) rows: u32,
    /// Rows taken at once.
    pub(super) batch: u32,
}

const NAME: &str = "watchbell.bench";
const LEASED: &str = "bench.noop";
const PAYLOAD: &str = r#"{"statement": "insert into watchbell_bench_effects (row_id) select id from claimed"}"#;

/// A table of its own, and one for what the handler writes.
const TABLES: &str = "drop table if exists watchbell_bench_rows, watchbell_bench_effects;
    create table watchbell_bench_rows (
        id bigint primary key, status text not null default 'pending', since timestamptz, note text) with (fillfactor = 70);
    create table watchbell_bench_effects (row_id bigint)";
const CLEAR: &str = "drop table if exists watchbell_bench_rows, watchbell_bench_effects;
    delete from watchbell.watches where name = 'watchbell.bench'";
const FILL: &str =
    "insert into watchbell_bench_rows (id, note) select i, 'row ' || i from generate_series(1, $1::bigint) i";
const WATCH: &str = "insert into watchbell.watches (name, table_name, handler, payload, since_column, batch_size) \
     values ($1, 'watchbell_bench_rows', $2, $3::jsonb, 'since', $4)";
/// From the first move to the last.
const TOOK: &str = "select extract(epoch from max(since) - min(since))::float8 from watchbell_bench_rows";
const LEFT: &str = "select exists (select from watchbell_bench_rows where status = 'pending')";

/// Measures each mode: the raw statements on two connections, then one worker.
pub(super) async fn measure(pool: &PgPool, how: Watch) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    let measured = both(pool, how, &mut figures).await;
    sqlx::raw_sql(CLEAR).execute(pool).await?;
    measured.map(|()| figures)
}

async fn both(pool: &PgPool, how: Watch, figures: &mut Vec<Figure>) -> Result<()> {
    let sql = Sql::new(pool.clone());
    for (handler, names) in [
        ("sql", ["watch_transactional_raw", "watch_transactional", "watch_transactional_of_raw"]),
        (LEASED, ["watch_leased_raw", "watch_leased", "watch_leased_of_raw"]),
    ] {
        let registry = Registry::new().transactional("sql", sql.clone()).handler(LEASED, async || {});
        let mut note = |name, value, unit, settings: String| {
            figures.push(Figure { name, value, unit, n: how.rows.into(), settings });
        };
        let plan = prepare(pool, handler, how, &registry).await?;
        let options = pool.connect_options();
        if handler == "sql" {
            tokio::try_join!(transactional(&options, &plan, how), transactional(&options, &plan, how))?;
        } else {
            tokio::try_join!(claimed(&options, &plan, how), claimed(&options, &plan, how))?;
        }
        let raw = rate(pool, how).await?;
        note(names[0], raw, "rows/s", format!("2 connections, batch {}", how.batch));
        prepare(pool, handler, how, &registry).await?;
        worked(pool, registry).await?;
        let worked = rate(pool, how).await?;
        note(names[1], worked, "rows/s", format!("1 worker, batch {}", how.batch));
        note(names[2], worked / raw, "ratio", String::new());
    }
    Ok(())
}

/// Fresh tables, a watch on them, and its plan.
async fn prepare(pool: &PgPool, handler: &str, how: Watch, registry: &Registry) -> Result<Arc<Plan>> {
    let mut conn = pool.acquire().await?;
    sqlx::raw_sql(CLEAR).execute(&mut *conn).await?;
    sqlx::raw_sql(TABLES).execute(&mut *conn).await?;
    sqlx::query(FILL).bind(i64::from(how.rows)).execute(&mut *conn).await?;
    let index = "create index on watchbell_bench_rows (id) where status = 'pending'";
    sqlx::raw_sql(index).execute(&mut *conn).await?;
    sqlx::raw_sql("vacuum analyze watchbell_bench_rows, watchbell.watch_claims").execute(&mut *conn).await?;
    let payload = if handler == "sql" { PAYLOAD } else { "{}" };
    let watch = sqlx::query(WATCH).bind(NAME).bind(handler).bind(payload);
    watch.bind(i32::try_from(how.batch).unwrap_or(100)).execute(&mut *conn).await?;
    let id =
        sqlx::query_scalar("select id from watchbell.watches where name = $1").bind(NAME).fetch_one(&mut *conn).await?;
    let planner = Planner { worker: 0, registry, transaction_max: TRANSACTION_MAX };
    match plan(&mut conn, id, &planner, false).await?.0 {
        Found::Planned(plan) => Ok(Arc::from(plan)),
        Found::Invalid(found) | Found::Unable(found) => {
            Err(Error::Conflict(format!("the watch that is measured is invalid: {}", found.reason)))
        }
        Found::Gone => Err(Error::Conflict("the watch that is measured was deleted".to_owned())),
    }
}

/// The statements of a transactional batch in a bare loop.
async fn transactional(options: &PgConnectOptions, plan: &Plan, how: Watch) -> Result<()> {
    let mut conn = options.clone().options(crate::worker::SETTINGS).connect().await?;
    let Planned { step, statements, .. } = &plan.steps[0];
    let insert = format!(
        "with claimed as materialized ({}) insert into watchbell_bench_effects (row_id) select id from claimed",
        statements.claimed(1)
    );
    let move_on = statements.move_rows(&plan.table.state(&step.from), &plan.table.state(&step.to));
    let take = statements.take_keys(&how.batch, false);
    loop {
        let mut transaction = conn.begin().await?;
        let rows = sqlx::query(AssertSqlSafe(take.clone())).fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            break;
        }
        let keys = rows.iter().map(|row: &PgRow| row.try_get(0).map(Key)).collect::<sqlx::Result<Vec<Key>>>()?;
        for statement in [&insert, &move_on] {
            let query = sqlx::query(AssertSqlSafe(statement.clone()));
            let columns = Key::columns(&keys, statements.width()).into_iter();
            columns.fold(query, |query, column| query.bind(column)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(conn.close().await?)
}

/// The statements of leased mode, claim and end, in a bare loop.
async fn claimed(options: &PgConnectOptions, plan: &Arc<Plan>, how: Watch) -> Result<()> {
    let mut conn = options.clone().options(crate::worker::SETTINGS).connect().await?;
    let worker = a_worker(&mut conn).await?;
    let (mut cursor, retry) = (Cursor::default(), RetryPolicy::default());
    loop {
        let claims = leased::claim(&mut conn, plan, 0, worker, how.batch.into(), &mut cursor).await?;
        let ended = claims.rows.iter().map(|row| {
            let verdict = decide(row.standing(), Event::Succeeded, &retry);
            Finished::of(row, Duration::ZERO, verdict)
        });
        let ended: Vec<Finished> = ended.collect();
        let batch: Vec<_> = ended.iter().filter_map(|ended| Some((ended.row.as_deref()?, ended))).collect();
        if !batch.is_empty() {
            leased::finish(&mut conn, &plan.steps[0], &batch).await?;
        } else if !claims.more {
            break;
        }
    }
    register::stop(&mut conn, worker).await?;
    Ok(conn.close().await?)
}

async fn a_worker(conn: &mut PgConnection) -> Result<i32> {
    let who = Identity {
        name: "bench raw".into(),
        host: "bench".into(),
        ip: None,
        pid: 0,
        handlers: vec![LEASED.into()],
        queues: None,
        labels: vec![],
        slots: 1,
        lease: Duration::from_secs(3600),
    };
    let worker = register::register(&mut *conn, &who, None).await?;
    sqlx::query("update watchbell.workers set state = 'running' where id = $1").bind(worker).execute(conn).await?;
    Ok(worker)
}

/// Lets one worker move all rows on.
async fn worked(pool: &PgPool, registry: Registry) -> Result<()> {
    let stop = CancellationToken::new();
    let worker = Worker::builder(pool.clone()).registry(registry).run(stop.clone().cancelled_owned());
    let worker = tokio::spawn(worker);
    while !worker.is_finished() && sqlx::query_scalar::<_, bool>(LEFT).fetch_one(pool).await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    worker.await.map_err(|e| Error::Conflict(format!("the measured worker broke down: {e}")))?
}

async fn rate(pool: &PgPool, how: Watch) -> Result<f64> {
    let took: Option<f64> = sqlx::query_scalar(TOOK).fetch_one(pool).await?;
    Ok(f64::from(how.rows) / took.unwrap_or_default())
}

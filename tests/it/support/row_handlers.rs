//! Handlers of watched rows in worker processes. What each did can be counted afterwards: `effects` are written in the
//! transaction that moves the row, `calls` outside of it, as a call to another system would be.

use std::time::Duration;

use serde::Deserialize;
use sqlx::PgPool;
use watchbell::handler::sql::Sql;
use watchbell::worker::Builder;
use watchbell::{Context, HandlerResult, Outcome, Row, Rows, Tx, snooze};

/// What they read of their rows.
#[derive(Deserialize)]
struct Watched {
    id: i64,
    name: Option<String>,
}

/// `sql`; `effect_rows` and `effect_row`, which takes its process down where a row is called deadly; `call`, and
/// `train`, which begins something elsewhere, keeps its name, and comes back for it.
pub fn add(worker: Builder, pool: &PgPool) -> Builder {
    let (calls, trains) = (pool.clone(), pool.clone());
    worker
        .transactional("sql", Sql::new(pool.clone()))
        .transactional("effect_rows", async |mut tx: Tx, rows: Rows<Watched>, ctx: Context| {
            let hosts: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let insert = "insert into effects (host, step, worker) select unnest($1::bigint[]), $2, $3";
            let insert = sqlx::query(insert).bind(hosts).bind(ctx.step()).bind(std::process::id().to_string());
            insert.execute(&mut *tx).await?;
            HandlerResult::Ok(())
        })
        .transactional("effect_row", async |mut tx: Tx, row: Row<Watched>, ctx: Context| {
            let insert = sqlx::query("insert into effects (host, step, worker) values ($1, $2, $3)");
            let insert = insert.bind(row.id).bind(ctx.step()).bind(std::process::id().to_string());
            insert.execute(&mut *tx).await?;
            if row.name.as_deref() == Some("deadly") {
                std::process::abort();
            }
            HandlerResult::Ok(())
        })
        .handler("call", move |row: Row<Watched>, ctx: Context| {
            let pool = calls.clone();
            async move {
                call(&pool, row.id, &ctx, "call", "").await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                HandlerResult::Ok(())
            }
        })
        .handler("train", move |row: Row<Watched>, ctx: Context| {
            let pool = trains.clone();
            async move {
                if let Some(job) = ctx.kept::<String>()? {
                    call(&pool, row.id, &ctx, "collect", &job).await?;
                    return HandlerResult::Ok(Outcome::Done);
                }
                let job = format!("{:016x}", fastrand::u64(..));
                call(&pool, row.id, &ctx, "submit", &job).await?;
                ctx.keep(&job)?;
                Ok(snooze(Duration::from_millis(50)))
            }
        })
}

async fn call(pool: &PgPool, host: i64, ctx: &Context, what: &str, job: &str) -> sqlx::Result<()> {
    let insert = "insert into calls (host, step, attempt, what, job) values ($1, $2, $3, $4, $5)";
    let insert = sqlx::query(insert).bind(host).bind(ctx.step()).bind(ctx.attempt()).bind(what).bind(job);
    insert.execute(pool).await.map(drop)
}

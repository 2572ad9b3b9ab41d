//! The raw limit: our own claim and finish statements in a bare loop, without a worker around them.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

use super::place::{HANDLER, QUEUE};
use crate::{
    Result,
    lifecycle::{
        claim::{Claimant, Lanes, Reach, claim, survey},
        finish::{Finished, finish},
        register::{self, Identity},
    },
    retry::RetryPolicy,
    run::transition::{Event, decide},
};

/// Drains the queue from two connections, `batch` runs a statement; returns runs per second.
pub(super) async fn drain(options: &PgConnectOptions, batch: usize) -> Result<f64> {
    let began = Instant::now();
    let (a, b) = tokio::join!(one(options.clone(), batch), one(options.clone(), batch));
    let runs = a? + b?;
    Ok(runs as f64 / began.elapsed().as_secs_f64())
}

async fn one(options: PgConnectOptions, batch: usize) -> Result<u64> {
    let mut conn = options.connect().await?;
    let who = Identity {
        name: "bench raw".into(),
        host: "bench".into(),
        ip: None,
        pid: 0,
        handlers: vec![HANDLER.into()],
        queues: Some(vec![QUEUE.into()]),
        labels: vec![],
        slots: 1,
        lease: Duration::from_secs(3600),
    };
    let worker = register::register(&mut conn, &who, None).await?;
    sqlx::query("update watchbell.workers set state = 'running' where id = $1").bind(worker).execute(&mut conn).await?;
    let who = Claimant { worker, queues: who.queues, handlers: who.handlers, labels: vec![] };
    let mut lanes = Lanes::default();
    survey(&mut conn, &who, &mut lanes, None).await?;
    let retry = RetryPolicy::default();
    let mut done = 0;
    loop {
        let runs = claim(&mut conn, &who, &mut lanes, Reach::Quick, batch as i64, None).await?;
        if runs.is_empty() {
            break;
        }
        let verdicts = runs
            .iter()
            .map(|run| Finished::of(run, Duration::ZERO, decide(run.standing(), Event::Succeeded, &retry)))
            .collect();
        done += finish(&mut conn, verdicts, None).await?.accepted.len() as u64;
    }
    register::stop(&mut conn, worker).await?;
    let _ = conn.close().await;
    Ok(done)
}

//! Crashed: rows that were in the hands of a worker that died.
//!
//! **In** batches of workers that are not alive. **Out** a crash charged to each of their rows, which is tried alone
//! from then on, and given up after three; the batches are forgotten. **Lock** those batches and claims, for one
//! statement. **Crash** nothing happened: any worker does it again.
//!
//! The dead worker's transaction left no trace: its batch was written before, on another connection, and would have
//! been deleted by the transaction itself.

use serde_json::Value;
use sqlx::{PgPool, Row, postgres::PgRow};

use crate::watch::Key;

const BATCH: &str = include_str!("../sql/8_watch_batch.sql");
const OVER: &str = include_str!("../sql/8_watch_batch_over.sql");
const CRASHED: &str = include_str!("../sql/8_watch_crashed.sql");

/// Which of a worker's open batches.
#[derive(Debug, Clone, Copy)]
pub struct Hand<'a> {
    /// The worker.
    pub worker: i32,
    /// The watch.
    pub watch: i64,
    /// The state its rows were taken from.
    pub step: &'a str,
    /// Which of those that it has open at once.
    pub lane: i16,
}

/// Notes the rows that handlers are about to get. False: the worker was declared dead and may hand out nothing.
pub async fn note(own: &PgPool, hand: Hand<'_>, keys: impl Iterator<Item = &Key>) -> sqlx::Result<bool> {
    let keys: Vec<Value> = keys.map(|key| Value::from(key.0.clone())).collect();
    let note = sqlx::query(BATCH).bind(hand.worker).bind(hand.watch).bind(hand.step).bind(hand.lane);
    note.bind(Value::from(keys)).execute(own).await.map(|done| done.rows_affected() > 0)
}

/// They have them no more.
pub async fn over<'e>(executor: impl sqlx::PgExecutor<'e>, hand: Hand<'_>) -> sqlx::Result<()> {
    let over = sqlx::query(OVER).bind(hand.worker).bind(hand.watch).bind(hand.step).bind(hand.lane);
    over.execute(executor).await.map(drop)
}

/// A row that was charged with a crash.
#[derive(Debug)]
pub struct Charged {
    /// The name of its watch; its number where that is gone.
    pub watch: String,
    /// The state that it was taken from.
    pub step: String,
    /// The row.
    pub key: Key,
    /// How often it has taken its worker down by now.
    pub crashes: i16,
}

/// Charges the rows of the dead; answers which.
pub async fn charge(own: &PgPool) -> sqlx::Result<Vec<Charged>> {
    let read = |row: &PgRow| {
        let (watch, step) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Charged { watch, step, key: Key(row.try_get(2)?), crashes: row.try_get(3)? })
    };
    sqlx::query(CRASHED).fetch_all(own).await?.iter().map(read).collect()
}

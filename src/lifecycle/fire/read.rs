//! A schedule's row as the planner takes it.

use chrono::TimeDelta;
use sqlx::{Row, postgres::PgRow};

use crate::schedule::{Dst, Misfire, Schedule, Spec};

fn milliseconds(row: &PgRow, column: &str) -> sqlx::Result<Option<TimeDelta>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(TimeDelta::milliseconds))
}

/// The row as the planner takes it.
pub(in crate::lifecycle) fn read(row: &PgRow) -> sqlx::Result<Result<Schedule, String>> {
    let word = |column: &str| row.try_get::<&str, _>(column);
    let spec = match read_spec(row)? {
        Ok(spec) => spec,
        Err(reason) => return Ok(Err(reason)),
    };
    let misfire = Misfire::from_columns(
        word("misfire")?,
        milliseconds(row, "misfire_grace_ms")?.unwrap_or_default(),
        milliseconds(row, "catch_up_window_ms")?.unwrap_or_default(),
        row.try_get::<i32, _>("catch_up_limit")?.unsigned_abs(),
    );
    let words = || -> Result<_, crate::schedule::UnknownWord> {
        Ok((
            word("status").unwrap_or_default().parse()?,
            word("overlap").unwrap_or_default().parse()?,
            word("first_fire").unwrap_or_default().parse()?,
            misfire?,
        ))
    };
    let (status, overlap, first_fire, misfire) = match words() {
        Ok(words) => words,
        Err(unknown) => return Ok(Err(unknown.to_string())),
    };
    Ok(Ok(Schedule {
        id: row.try_get("id")?,
        spec,
        status,
        effective_from: row.try_get("effective_from")?,
        anchor_at: row.try_get("anchor_at")?,
        first_fire,
        starts_at: row.try_get("starts_at")?,
        ends_at: row.try_get("ends_at")?,
        max_fires: row.try_get("max_fires")?,
        fires_count: row.try_get("fires_count")?,
        last_fire_at: row.try_get("last_fire_at")?,
        last_finished_at: row.try_get("last_finished_at")?,
        wake_at: row.try_get("wake_at")?,
        overlap,
        max_running: row.try_get::<i32, _>("max_running")?.unsigned_abs(),
        misfire,
        start_deadline: milliseconds(row, "start_deadline_ms")?,
        jitter: milliseconds(row, "jitter_ms")?.unwrap_or_default(),
    }))
}

fn read_spec(row: &PgRow) -> sqlx::Result<Result<Spec, String>> {
    Ok(Ok(match row.try_get::<&str, _>("kind")? {
        "cron" => {
            let (cron, zone): (&str, &str) = (row.try_get("cron")?, row.try_get("timezone")?);
            let dst: Dst = match row.try_get::<&str, _>("dst")?.parse() {
                Ok(dst) => dst,
                Err(unknown) => return Ok(Err(format!("{unknown}"))),
            };
            match Spec::cron(cron, zone, dst) {
                Ok(spec) => spec,
                Err(reason) => return Ok(Err(reason.to_string())),
            }
        }
        "fixed_delay" => Spec::FixedDelay(milliseconds(row, "fixed_delay_ms")?.unwrap_or_default()),
        "fixed_rate" => Spec::FixedRate(milliseconds(row, "fixed_rate_ms")?.unwrap_or_default()),
        _ => Spec::Once(row.try_get("run_at")?),
    }))
}

//! The schedules that `bench fire` stores, under names of their own, so that it disturbs nothing else.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::place::QUEUE;
use crate::{Error, Result, lifecycle::fire::fire};

/// Which schedules are ours.
const OURS: &str = "name like 'bench-fire:%'";

/// A fixed rate each, so that every one has its turn once in a period and so many are due each second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timetable {
    /// How many are stored.
    pub(super) schedules: u32,
    /// How many of them are due each second.
    pub(super) due_per_second: u32,
    /// Those of a second are all due at its beginning, instead of one after the other.
    pub(super) burst: bool,
}

impl Timetable {
    /// Refuses one whose schedules would have to fire more often than once a second.
    pub(super) fn check(self) -> Result<()> {
        if self.due_per_second > self.schedules {
            let problem = format!(
                "{} is more than --schedules {}: a schedule is due once a second at most",
                self.due_per_second, self.schedules
            );
            return Err(Error::invalid("--due-per-second", problem));
        }
        Ok(())
    }

    /// Milliseconds after which each is due again.
    fn period_ms(self) -> i64 {
        i64::from(self.schedules) * 1000 / i64::from(self.due_per_second)
    }

    /// Stores them in one transaction, planned as a worker leaves them and never due.
    ///
    /// Past the triggers, which check each row in 0.3 to 0.9 ms and note it in `activity`: a hundred thousand would
    /// take a minute. That locks the table for some seconds.
    pub(super) async fn store(self, conn: &mut PgConnection, handler: &str) -> Result<()> {
        let mut tx = conn.begin().await?;
        unchecked(&mut tx, "disable").await?;
        sqlx::query(
            "insert into watchbell.schedules (name, handler, queue, fixed_rate, status, wake_at) \
             select 'bench-fire:' || i, $1, $2, $3 * interval '1 ms', 'normal', 'infinity' \
             from generate_series(0, $4 - 1) i",
        )
        .bind(handler)
        .bind(QUEUE)
        .bind(self.period_ms())
        .bind(self.schedules as i32)
        .execute(&mut *tx)
        .await?;
        unchecked(&mut tx, "enable").await?;
        tx.commit().await?;
        sqlx::query("vacuum analyze watchbell.schedules").execute(conn).await?;
        Ok(())
    }

    /// Makes them due in turn, the first not sooner than `lead` from now; answers when that is.
    pub(super) async fn begin(self, conn: &mut PgConnection, lead: TimeDelta) -> Result<DateTime<Utc>> {
        let mut takes = TimeDelta::seconds(2);
        loop {
            let begin = self.begin_in(conn, lead + takes).await?;
            let left: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *conn).await?;
            if begin - left >= lead {
                return Ok(begin);
            }
            takes = takes * 3; // so many rows, or so busy a machine
        }
    }

    async fn begin_in(self, conn: &mut PgConnection, wait: TimeDelta) -> Result<DateTime<Utc>> {
        let begin: DateTime<Utc> = sqlx::query_scalar("select date_trunc('second', clock_timestamp() + $1)")
            .bind(wait)
            .fetch_one(&mut *conn)
            .await?;
        let (nth, due) = ("substr(name, 12)::bigint", self.due_per_second);
        let offset_ms = if self.burst { format!("{nth} / {due} * 1000") } else { format!("{nth} * 1000 / {due}") };
        // only what the engine writes
        let update = format!(
            "update watchbell.schedules s set wake_at = w.at, anchor_at = w.at \
             from (select id, $1 + ({offset_ms}) * interval '1 ms' as at from watchbell.schedules where {OURS}) w \
             where s.id = w.id"
        );
        sqlx::query(AssertSqlSafe(update)).bind(begin).execute(&mut *conn).await?;
        sqlx::query("vacuum analyze watchbell.schedules").execute(conn).await?;
        Ok(begin)
    }
}

/// Disables or enables the triggers of schedules; a transaction that fails leaves them as they were.
async fn unchecked(conn: &mut PgConnection, verb: &str) -> Result<()> {
    let alter = format!("alter table watchbell.schedules {verb} trigger user");
    sqlx::query(AssertSqlSafe(alter)).execute(conn).await?;
    Ok(())
}

/// The statements of fire in a bare loop, without a worker around them: schedules a second.
pub(super) async fn raw_fire(conn: &mut PgConnection, schedules: u32, batch: i64) -> Result<f64> {
    let due = format!(
        "update watchbell.schedules set wake_at = clock_timestamp(), anchor_at = clock_timestamp() \
         where name in (select 'bench-fire:' || i from generate_series(0, {schedules} - 1) i)"
    );
    sqlx::query(AssertSqlSafe(due)).execute(&mut *conn).await?;
    sqlx::query("vacuum watchbell.schedules").execute(&mut *conn).await?;
    let (began, mut fired) = (Instant::now(), 0);
    // with a short period the first are due again before the last have fired
    while fired < schedules as usize {
        let pass = fire(conn, batch, None).await?;
        fired += pass.schedules;
        if pass.schedules == 0 {
            break;
        }
    }
    Ok(fired as f64 / began.elapsed().as_secs_f64())
}

/// How long after each fire time since `begin` it was decided, in ms, sorted: the lag before the run exists.
pub(super) async fn decided(conn: &mut PgConnection, begin: DateTime<Utc>) -> Result<Vec<f64>> {
    let query = format!(
        "select (extract(epoch from f.decided_at - f.fire_at) * 1000)::float8 as ms \
         from watchbell.fires f join watchbell.schedules s on s.id = f.schedule_id \
         where s.{OURS} and f.fire_at >= $1 and f.run_id is not null order by ms"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(query)).bind(begin).fetch_all(conn).await?)
}

/// Removes them, and what is recorded of their fire times.
pub(super) async fn clear(conn: &mut PgConnection) -> Result<()> {
    let mut tx = conn.begin().await?;
    let gone = format!(
        "with gone as (delete from watchbell.schedules where {OURS} returning id) \
         delete from watchbell.fires f using gone where f.schedule_id = gone.id"
    );
    unchecked(&mut tx, "disable").await?;
    sqlx::query(AssertSqlSafe(gone)).execute(&mut *tx).await?;
    unchecked(&mut tx, "enable").await?;
    tx.commit().await?;
    Ok(())
}

/// Relates this process's monotonic clock to the database's, by the quickest of a few questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    here: Instant,
    there: DateTime<Utc>,
}

impl Clock {
    pub(super) async fn read(conn: &mut PgConnection) -> Result<Self> {
        let mut best: Option<(Duration, Self)> = None;
        for _ in 0..20 {
            let asked = Instant::now();
            let there = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *conn).await?;
            let took = asked.elapsed();
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, Self { here: asked + took / 2, there }));
            }
        }
        best.map(|(_, clock)| clock).ok_or_else(|| Error::Conflict("the database's clock was not read".into()))
    }

    /// How many milliseconds after `then`, a time of the database, `at` is.
    pub(super) fn since_ms(self, then: DateTime<Utc>, at: Instant) -> f64 {
        let passed = at.saturating_duration_since(self.here).as_secs_f64()
            - self.here.saturating_duration_since(at).as_secs_f64();
        passed * 1000.0 + (self.there - then).as_seconds_f64() * 1000.0
    }
}

//! How an engine's time goes on.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::Engine;
use crate::db::Named;
use crate::lifecycle::{prune, renew};
use crate::{Error, Result};

/// The engine's worker holds its lease so long; it is renewed whenever the time moves.
pub(super) const LEASE: Duration = Duration::from_secs(86_400);

impl Engine {
    /// The set time.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Sets the time, which only goes forward; nothing is run. Cut to whole microseconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time before [`Engine::now`].
    pub async fn set_now(&mut self, now: DateTime<Utc>) -> Result<()> {
        let now = now.trunc_subsecs(6);
        if now < self.now {
            let problem = format!("{now} is before {}, and time only goes forward", self.now);
            return Err(Error::invalid("now", problem));
        }
        self.turn(now).await.named()
    }

    /// Lets time pass; nothing is run. Counted from the database's time if that is later than the set one.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond 100 years; otherwise what the database answers.
    pub async fn advance(&mut self, by: Duration) -> Result<()> {
        self.catch_up().await?;
        let longest = TimeDelta::days(36_525);
        let by = TimeDelta::from_std(by).ok().filter(|by| *by <= longest);
        let by = by.ok_or_else(|| Error::invalid("advance", "more than 100 years"))?;
        self.set_now(self.now + by).await
    }

    /// The set time follows the database's clock where that is ahead: what was inserted at `now()` is due.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        let clock = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut self.connection);
        let clock: DateTime<Utc> = clock.await.named()?;
        if clock > self.now { self.turn(clock).await.named() } else { Ok(()) }
    }

    pub(super) async fn turn(&mut self, now: DateTime<Utc>) -> sqlx::Result<()> {
        let new_day = now.date_naive() != self.now.date_naive();
        self.now = now;
        self.clock.set(now);
        self.clock.show(&mut self.connection).await?;
        if new_day {
            // the history of that day has a partition of its own
            sqlx::query("select watchbell.make_days(1)").execute(&mut self.connection).await?;
        }
        let (worker, queues) = (self.who.worker, self.who.queues.as_deref());
        renew::renew(&mut self.connection, worker, LEASE, false, false, queues, Some(now)).await?;
        prune::resume(&mut self.connection, Some(now)).await.map(drop)
    }
}

//! The course of the demo: events as they happen, a summary now and then, and a worker killed.

use std::process::ExitStatus;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{self, Instant};

use super::account::{Account, Line, Tone};
use super::events::{Events, named};
use super::fleet::Fleet;
use super::scene::Scene;
use crate::error::{Error, Result};

/// How often the tables are read.
const EVERY: Duration = Duration::from_millis(100);
const SUMMARY_EVERY: Duration = Duration::from_secs(5);
/// When the worker with the long run is killed. Not earlier: workers judge others by their presence only
/// after 5 s of their own.
const KILL_AFTER: Duration = Duration::from_secs(8);

/// A worker that died with runs in hand.
struct Death {
    pid: u32,
    /// By the database's clock.
    at: DateTime<Utc>,
    /// Not taken over yet.
    runs: Vec<i64>,
}

pub(super) struct Show<'a> {
    account: &'a mut Account,
    fleet: &'a mut Fleet,
    scene: &'a mut Scene,
    began: Instant,
    events: Events,
    deaths: Vec<Death>,
    /// How long each take-over took, in seconds.
    takeovers: Vec<f64>,
    is_first_told: bool,
    is_kill_due: bool,
}

impl<'a> Show<'a> {
    pub(super) fn new(account: &'a mut Account, fleet: &'a mut Fleet, scene: &'a mut Scene, began: Instant) -> Self {
        let is_kill_due = fleet.pids().count() > 1;
        let (events, deaths, takeovers) = (Events::default(), vec![], vec![]);
        Self { account, fleet, scene, began, events, deaths, takeovers, is_first_told: false, is_kill_due }
    }

    /// Tells what happens until `end`, or until nobody reads any more.
    pub(super) async fn go_on(&mut self, end: Option<Instant>) -> Result<()> {
        let kill_at = Instant::now() + KILL_AFTER;
        let mut summary_at = Instant::now() + SUMMARY_EVERY;
        while end.is_none_or(|end| Instant::now() < end) && !self.account.is_closed() {
            time::sleep(EVERY).await;
            if self.is_kill_due && Instant::now() >= kill_at {
                self.kill().await?;
            }
            while let Some((pid, status)) = self.fleet.ended() {
                self.replace(pid, status).await?;
            }
            self.take_overs().await?;
            self.tell().await?;
            if Instant::now() >= summary_at {
                self.summary().await?;
                summary_at += SUMMARY_EVERY;
            }
        }
        Ok(())
    }

    /// The last events and the figures.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.take_overs().await?;
        self.tell().await?;
        let (normal, failed, cancelled, _, hosts, ..) = self.counts().await?;
        let worst = self.takeovers.iter().copied().reduce(f64::max);
        let worst = worst.map(|s| format!(" (at most {s:.1} s after the kill)")).unwrap_or_default();
        self.account.say(
            Tone::Loud,
            &format!(
                "\nended after {:.1} s: {hosts} rows of demo.hosts normal; {normal} runs normal, {failed} failed, {cancelled} cancelled; \
                 failed attempts: {}; runs taken over: {}{worst}",
                self.began.elapsed().as_secs_f64(),
                self.events.failed_attempts,
                self.takeovers.len()
            ),
        );
        Ok(())
    }

    async fn tell(&mut self) -> Result<()> {
        for line in self.events.fetch(self.scene, self.fleet).await? {
            self.account.line(&line);
        }
        if let (Some(at), false) = (self.events.first_normal, self.is_first_told) {
            self.is_first_told = true;
            let since_start = self.began.elapsed().as_secs_f64() - self.ago(at).await?;
            let text = format!("first row normal {since_start:.1} s after the start of the demo");
            self.note(at, String::new(), Tone::Loud, text);
        }
        Ok(())
    }

    /// How many seconds ago something happened, by the database's clock.
    async fn ago(&mut self, at: DateTime<Utc>) -> Result<f64> {
        Ok((self.scene.now().await? - at).as_seconds_f64())
    }

    /// Kills the worker that holds the long run, if one does.
    async fn kill(&mut self) -> Result<()> {
        let holder: Option<i32> = sqlx::query_scalar(
            "select w.pid from watchbell.runs_live r join watchbell.workers w on w.id = r.claimed_by
             where r.handler = 'slow' and r.status = 'running' and r.queue = $1 order by r.started_at limit 1",
        )
        .bind(self.scene.queue)
        .fetch_optional(&mut self.scene.connection)
        .await?;
        let holder = holder.and_then(|pid| u32::try_from(pid).ok());
        if let Some(pid) = holder.filter(|pid| self.fleet.pids().any(|known| known == *pid)) {
            self.is_kill_due = false;
            self.fleet.kill(pid)?;
        }
        Ok(())
    }

    /// Notes the runs of a worker that was killed, and starts another in its place.
    async fn replace(&mut self, pid: u32, status: ExitStatus) -> Result<()> {
        if let Some(code) = status.code() {
            let problem = format!("{} ended by itself with exit code {code}", named(self.fleet, pid));
            return Err(Error::Conflict(problem));
        }
        self.is_kill_due = false;
        let at = self.scene.now().await?;
        let held: Vec<(i64, String)> = sqlx::query_as(
            "select r.id, coalesce(r.schedule_name, r.handler)
             from watchbell.runs_live r join watchbell.workers w on w.id = r.claimed_by
             where w.pid = $1 and w.started_at >= $3 and r.status = 'running' and r.queue = $2 order by r.id",
        )
        .bind(i32::try_from(pid).unwrap_or_default())
        .bind(self.scene.queue)
        .bind(self.scene.since)
        .fetch_all(&mut self.scene.connection)
        .await?;
        let runs = held.iter().map(|(id, name)| format!("run {id} {name}")).collect::<Vec<_>>().join(", ");
        let runs = if runs.is_empty() { "no run".to_owned() } else { runs };
        self.note(at, named(self.fleet, pid), Tone::Loud, format!("killed (kill -9 {pid}) while it held {runs}"));
        self.deaths.push(Death { pid, at, runs: held.into_iter().map(|(id, _)| id).collect() });
        let new = self.fleet.add()?.pid;
        self.note(at, named(self.fleet, new), Tone::Plain, format!("started in place of {}", self.fleet.label(pid)));
        Ok(())
    }

    /// Tells of runs that another worker has started since their own died.
    async fn take_overs(&mut self) -> Result<()> {
        let mut deaths = std::mem::take(&mut self.deaths);
        for death in &mut deaths {
            let taken: Vec<(i64, String, DateTime<Utc>, i32)> = sqlx::query_as(
                "select r.id, coalesce(r.schedule_name, r.handler), r.started_at, w.pid
                 from watchbell.runs r join watchbell.workers w on w.id = r.claimed_by
                 where r.id = any($1) and w.pid <> $2 and r.started_at > $3",
            )
            .bind(&death.runs)
            .bind(i32::try_from(death.pid).unwrap_or_default())
            .bind(death.at)
            .fetch_all(&mut self.scene.connection)
            .await?;
            for (id, name, at, pid) in taken {
                death.runs.retain(|run| *run != id);
                let seconds = (at - death.at).as_seconds_f64();
                self.takeovers.push(seconds);
                let worker = u32::try_from(pid).map(|pid| named(self.fleet, pid)).unwrap_or_default();
                let text = format!("taken over from {} {seconds:.1} s after the kill", self.fleet.label(death.pid));
                self.account.line(&Line { at, worker, run: Some(id), name, text, tone: Tone::Loud });
            }
        }
        deaths.retain(|death| !death.runs.is_empty());
        self.deaths = deaths;
        Ok(())
    }

    async fn summary(&mut self) -> Result<()> {
        let (normal, failed, _, running, hosts, pending, now) = self.counts().await?;
        let workers = self.fleet.pids().count();
        let text = format!(
            "{workers} workers; runs: {normal} normal, {failed} failed, {running} running; \
             demo.hosts: {hosts} normal, {pending} pending"
        );
        self.note(now, String::new(), Tone::Quiet, text);
        Ok(())
    }

    /// Runs normal, failed, cancelled and running, hosts normal and pending, and the time.
    async fn counts(&mut self) -> Result<(i64, i64, i64, i64, i64, i64, DateTime<Utc>)> {
        Ok(sqlx::query_as(
            "select count(*) filter (where f.status = 'normal'), count(*) filter (where f.status = 'failed'),
                    count(*) filter (where f.status = 'cancelled'),
                    (select count(*) from watchbell.runs_live r where r.status = 'running' and r.queue = $1),
                    (select count(*) from demo.hosts h where h.status = 'normal'),
                    (select count(*) from demo.hosts h where h.status = 'pending'), clock_timestamp()
             from watchbell.runs_finished f where f.queue = $1 and f.finished_at >= $2",
        )
        .bind(self.scene.queue)
        .bind(self.scene.since)
        .fetch_one(&mut self.scene.connection)
        .await?)
    }

    fn note(&mut self, at: DateTime<Utc>, worker: String, tone: Tone, text: String) {
        self.account.line(&Line { at, worker, run: None, name: String::new(), text, tone });
    }
}

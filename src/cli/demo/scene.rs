//! What the demo puts into the database, and takes out of it again.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::fleet::Fleet;
use crate::db::{self, DatabaseUrl, Session};
use crate::error::{Error, Result};
use crate::migrate;

const SCENE: &str = include_str!("scene.sql");
const COMMENT: &str = "sample data of watchbell demo";

/// The database with the schema, the sample tables, their watch and the schedules.
pub(super) struct Scene {
    pub(super) connection: PgConnection,
    /// In a database that is not the demo's own, its runs keep to a queue of their own.
    pub(super) queue: &'static str,
    /// When it was set, by the database's clock.
    pub(super) since: DateTime<Utc>,
    /// Of the schema watchbell.
    pub(super) version: i32,
}

impl Scene {
    pub(super) async fn prepare(url: &str, is_private: bool) -> Result<Self> {
        let url: DatabaseUrl = url.parse()?;
        let mut connection = db::connect_as(&url, &Session::named("watchbell demo")).await?;
        let version = migrate::up(&mut connection).await?.to;
        let queue = if is_private { "default" } else { "demo" };
        let mut scene = Self { connection, queue, since: DateTime::UNIX_EPOCH, version };
        if !is_private {
            scene.refuse_foreign().await?;
            scene.clear().await?;
        }
        sqlx::query("select set_config('demo.queue', $1, false)").bind(queue).execute(&mut scene.connection).await?;
        sqlx::raw_sql(SCENE).execute(&mut scene.connection).await?;
        scene.since = scene.now().await?;
        Ok(scene)
    }

    pub(super) async fn now(&mut self) -> Result<DateTime<Utc>> {
        Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut self.connection).await?)
    }

    /// A schema of this name that no demo made is somebody's.
    async fn refuse_foreign(&mut self) -> Result<()> {
        let comment: Option<Option<String>> = sqlx::query_scalar(
            "select obj_description(n.oid, 'pg_namespace') from pg_catalog.pg_namespace n where n.nspname = 'demo'",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        match comment {
            Some(comment) if comment.as_deref() != Some(COMMENT) => Err(Error::Conflict(
                "this database has a schema demo that is not watchbell's; give the demo another database".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Removes the schedules, what waits of them, the watch and the sample tables.
    pub(super) async fn clear(&mut self) -> Result<()> {
        sqlx::raw_sql(
            "delete from watchbell.schedules where managed_by = 'watchbell demo';
             delete from watchbell.watches where managed_by = 'watchbell demo';
             select watchbell.cancel(r.id, 'the demo ended') from watchbell.runs_live r
             where r.queue = 'demo' and r.schedule_name like 'demo.%';
             drop schema if exists demo cascade",
        )
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// What there is to see, and to try.
    pub(super) fn invitation(&self, database: &str, fleet: &Fleet) -> String {
        let queue = if self.queue == "default" { ("", "") } else { (", queue", ", 'demo'") };
        let pid = fleet.pids().next().unwrap_or_default();
        format!(
            "
  demo.beat     cron         */2 * * * * *   beat    every other second
  demo.arrive   fixed_rate   2 s             sql     new rows in demo.hosts, pending
  demo.flaky    fixed_rate   5 s             flaky   fails at first, is retried
  demo.slow     fixed_delay  5 s             slow    takes {} s, goes on where it was
  demo.hello    once         in 2 s          hello
  demo.init     watch        demo.hosts      init_host   its rows go from pending to normal

  Try in another terminal:
    psql '{database}'
    INSERT INTO demo.hosts (name) VALUES ('yours');
    INSERT INTO watchbell.runs (handler{}) VALUES ('flaky'{});
    SELECT id, schedule_name, status, attempt FROM watchbell.runs ORDER BY id DESC LIMIT 10;
    SELECT * FROM watchbell.watch_counts('demo.init');
    UPDATE watchbell.schedules SET fixed_rate = '1 s' WHERE name = 'demo.arrive';
    kill -9 {pid}

",
            super::handlers::STEPS,
            queue.0,
            queue.1
        )
    }
}

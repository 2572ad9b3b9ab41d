//! A batch whose rows are taken by a statement that began before somebody else tried them. A row that failed stays as it
//! is, so that only what is recorded of it tells of the attempt; that record is younger than the statement's snapshot.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchbell::handler::Around;
use watchbell::handler::sql::Sql;
use watchbell::lifecycle::execute::Executor;
use watchbell::lifecycle::transact::{Ask, Line, Worked, transact};
use watchbell::watch::{Plan, read};
use watchbell::{HandlerResult, Outcome, Registry, Row, Tx, seconds, snooze};

use crate::support::Scene;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// The first transaction that comes to the gate waits there as long as 77 is held; all others pass. A statement that
/// asks it for each row has its snapshot by then, and no lock on the row.
const GATE: &str = "create function gate() returns boolean language plpgsql as $$ begin
        if pg_try_advisory_xact_lock(78) then perform pg_advisory_xact_lock_shared(77); end if;
        return true;
    end $$";

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

/// A watch over a few rows whose third does not succeed, with a gate before each row.
struct Gated {
    scene: Scene,
    executor: Arc<Executor>,
    line: Arc<Line>,
    workers: [i32; 2],
}

impl Gated {
    async fn new(handler: &str) -> Self {
        let mut scene = hosts(5).await;
        scene.psql(GATE).await;
        scene.psql("alter table effects add constraint poisonous check (host <> 3)").await;
        let statement = "insert into effects (host) select id from claimed";
        let payload = format!(r#"{{"statement": "{statement}"}}"#);
        let columns = "table_name, handler, filter, payload, max_attempts, mode, retry";
        let retry = r#"{"strategy": "fixed", "base": "1min", "jitter": false}"#;
        let values = format!("'hosts', '{handler}', 'gate()', '{payload}', 3, 'transactional', '{retry}'");
        let id = watch(&mut scene, "hosts", columns, &values).await;
        let pool = scene.database.pool.clone();
        let registry = Registry::new()
            .transactional("sql", Sql::new(pool.clone()))
            .transactional("write", async |mut tx: Tx, host: Row<Host>| {
                let write = sqlx::query("insert into effects (host) values ($1)").bind(host.id);
                write.execute(&mut *tx).await?;
                HandlerResult::Ok(())
            })
            .transactional(
                "wait",
                async |_: Tx, host: Row<Host>| {
                    if host.id == 3 { snooze(seconds(60)) } else { Outcome::Done }
                },
            );
        let watched = read::read(&mut scene.sql, id).await.unwrap().expect("the watch is there");
        let plan = Arc::new(Plan::of(&mut scene.sql, watched, &registry).await.unwrap());
        let executor =
            Executor { registry, around: Around::default(), pool: pool.clone(), grace: seconds(1), now: None };
        let line = Line { plan, step: 0, own: pool, limit: PATIENCE };
        let workers = [scene.worker("slow", &[handler]).await.id(), scene.worker("quick", &[handler]).await.id()];
        Self { scene, executor: Arc::new(executor), line: Arc::new(line), workers }
    }

    /// A batch of up to so many rows, of the first worker or of the second one.
    fn batch(&self, of: usize, rows: i64) -> impl Future<Output = Worked> + Send + 'static {
        let (executor, line) = (Arc::clone(&self.executor), Arc::clone(&self.line));
        let ask = Ask { worker: self.workers[of], lane: 0, rows, behind: None, stop: CancellationToken::new() };
        async move { transact(&executor, &line, ask).await.unwrap() }
    }

    /// The second worker's batch, from its beginning to its end while the first one stands before the rows; then the
    /// first one's.
    async fn race(&mut self) -> [Worked; 2] {
        self.race_of(5).await
    }

    async fn race_of(&mut self, quick: i64) -> [Worked; 2] {
        let mut keeper = self.scene.database.connect().await;
        sqlx::query("select pg_advisory_lock(77)").execute(&mut keeper).await.unwrap();
        let slow = tokio::spawn(self.batch(0, 5));
        let waits = "exists (select from pg_locks where locktype = 'advisory' and objid = 77 and not granted \
                             and database = (select oid from pg_database where datname = current_database()))";
        until_true(&self.scene.database.pool, waits, PATIENCE).await;
        let quick = self.batch(1, quick).await;
        sqlx::query("select pg_advisory_unlock(77)").execute(&mut keeper).await.unwrap();
        [quick, slow.await.unwrap()]
    }

    async fn at_pending(&mut self) -> Vec<i64> {
        self.scene.values("select id from hosts where status = 'pending' order by id").await
    }

    async fn attempts(&mut self) -> Vec<String> {
        let attempts =
            "select format('%s: %s %s', key[1], attempt, kind) from watchbell.watch_errors order by key, attempt";
        self.scene.values(attempts).await
    }
}

#[tokio::test]
async fn a_row_that_failed_since_is_not_tried_again_at_once() {
    for handler in ["sql", "write"] {
        let mut gated = Gated::new(handler).await;
        let [quick, slow] = gated.race().await;
        assert_eq!((quick.taken, quick.done, quick.retried), (5, 4, 1), "{handler}");
        // the four others are not at `pending` any more, which their locks tell; the third is as it was
        assert_eq!((slow.taken, slow.done, slow.failures.len()), (0, 0, 0), "{handler}");
        assert_eq!(gated.attempts().await, ["3: 1 error"], "{handler}");
        assert_eq!(gated.at_pending().await, [3]);
        // nothing is left of it that would be taken again and again in vain
        let next = gated.batch(0, 5).await;
        assert_eq!((next.taken, next.full), (0, false), "{handler}");

        gated.scene.psql("update watchbell.watch_claims set due_at = now() - interval '1 s'").await;
        let [quick, slow] = gated.race().await;
        assert_eq!((quick.taken, quick.retried, slow.taken), (1, 1, 0), "{handler}: its second attempt");
        assert_eq!(gated.attempts().await, ["3: 1 error", "3: 2 error"], "{handler}");

        gated.scene.psql("update watchbell.watch_claims set due_at = now() - interval '1 s'").await;
        let [quick, slow] = gated.race().await;
        assert_eq!((quick.taken, quick.failed, slow.taken), (1, 1, 0), "{handler}: its last attempt");
        assert_eq!(gated.attempts().await, ["3: 1 error", "3: 2 error", "3: 3 error"], "{handler}");
        assert!(gated.at_pending().await.is_empty());
    }
}

#[tokio::test]
async fn a_row_that_snoozes_since_is_left_alone() {
    let mut gated = Gated::new("wait").await;
    let [quick, slow] = gated.race().await;
    assert_eq!((quick.taken, quick.done, quick.retried), (5, 4, 0));
    assert_eq!((slow.taken, slow.failures.len()), (0, 0));
    assert!(gated.attempts().await.is_empty());
    let due = "select due_at - now() > interval '50 s' from watchbell.watch_claims";
    assert_eq!(gated.scene.values::<bool>(due).await, [true]);
}

#[tokio::test]
async fn the_rows_beside_it_that_nobody_tried_are_worked() {
    for handler in ["sql", "write", "wait"] {
        let mut gated = Gated::new(handler).await;
        let [quick, slow] = gated.race_of(3).await;
        assert_eq!((quick.taken, quick.done), (3, 2), "{handler}");
        assert_eq!((slow.taken, slow.done, slow.failures.len()), (2, 2, 0), "{handler}");
        assert_eq!(gated.at_pending().await, [3]);
    }
}

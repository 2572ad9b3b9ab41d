//! PostgreSQL itself crashes and restarts while rows are worked: their workers come back by themselves, each effect in
//! a transaction happens once, each leased row has one end, and nobody is charged with a crash.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Semaphore;
use watchbell::embedded::{Halt, Server};
use watchbell::{HandlerResult, Rows, Tx};

use crate::support::ask::one;
use crate::support::crew::{Running, hand, start};
use crate::support::database::install;
use crate::support::frozen::note_charges;
use crate::support::journal::Journal;
use crate::support::private_server;
use crate::support::process::Orders;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, TABLES, hosts, watch};

const ROWS: i64 = 900;

/// Until rows reach their end again, on a machine that is busy with other tests.
const AWAY_MAX: Duration = Duration::from_secs(20);

const TRANSACTIONAL: &str = r#"[
    {"from": "pending", "to": "fetched", "handler": "sql", "batch_size": 20, "payload":
        {"statement": "insert into effects (host, step) select id, status from claimed"}},
    {"from": "fetched", "to": "checked", "handler": "effect_row"},
    {"from": "checked", "to": "normal", "handler": "effect_rows", "batch_size": 20}]"#;

const LEASED: &str = r#"[
    {"from": "pending", "via": "calling", "to": "fetched", "handler": "host", "payload": {"ms": 200}},
    {"from": "fetched", "to": "normal", "handler": "host", "payload": {"ms": 200}}]"#;

/// Two workers on a server of its own, before rows of a table; its watch is on.
struct Stage {
    server: Server,
    pool: PgPool,
    journal: Journal,
    workers: Vec<Running>,
}

impl Stage {
    /// `None` where there is no server to break.
    async fn new(transitions: &str) -> Option<Self> {
        let server = private_server().await?;
        install(server.url()).await;
        let pool = PgPool::connect(server.url()).await.unwrap();
        let tables = format!(
            "{TABLES}; create index on hosts (id) where status = 'fetched';
             create index on hosts (id) where status = 'checked';
             insert into hosts (id) select generate_series(1, {ROWS}); analyze hosts"
        );
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&pool).await.unwrap();
        note_charges(&pool).await;
        let journal = Journal::new();
        // longer than a busy machine needs to bring a server back
        let lease = Duration::from_secs(45);
        let orders = |name| Orders { lease, ..Orders::new(server.url(), &journal, name) };
        let workers = ["a", "b"].map(|name| start(orders(name).worker()));
        let there = "(select count(*) from watchbell.workers where state = 'running' and presence) = 2";
        until_true(&pool, there, PATIENCE).await;
        let watch =
            "insert into watchbell.watches (name, table_name, transitions) values ('hosts', 'public.hosts', $1::jsonb)";
        sqlx::query(watch).bind(transitions).execute(&pool).await.unwrap();
        Some(Self { server, pool, journal, workers: workers.into() })
    }

    /// Crashes the server when so many rows have reached a state behind the first, and lets it recover.
    async fn crash(&mut self, halt: Halt, rows: i64) {
        let far = format!("(select count(*) from hosts where status not in ('pending', 'calling')) >= {rows}");
        until_true(&self.pool, &far, PATIENCE).await;
        let left = "hosts where status <> 'normal'";
        let then = self.count(left).await;
        assert!(then > 0, "all is over already");
        println!("stopped with {then} rows on their way");
        self.server.halt(halt).await.unwrap();
        self.server.resume().await.unwrap();
        let back = Instant::now();
        let then = self.count(left).await;
        let on = format!("(select count(*) from {left}) < {then}");
        println!("rows come to their end {:?} after the server is back", until_true(&self.pool, &on, PATIENCE).await);
        assert!(back.elapsed() < AWAY_MAX, "{:?}", back.elapsed());
    }

    /// All rows are through, no worker was given up, and none of what they left behind is there.
    async fn end(&mut self) {
        until_true(&self.pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;
        for worker in self.workers.drain(..) {
            assert!(!worker.has_ended());
            worker.stop().await;
        }
        assert_eq!(self.count("watchbell.workers").await, 2, "each kept its number");
        for of in ["charges", "watchbell.watch_errors", "watchbell.watch_claims", "watchbell.worker_batches"] {
            let left = AssertSqlSafe(format!("select to_jsonb(x)::text from {of} x"));
            let left: Vec<String> = sqlx::query_scalar(left).fetch_all(&self.pool).await.unwrap();
            assert!(left.is_empty(), "{of}: {left:?}");
        }
    }

    async fn count(&self, from: &str) -> i64 {
        one(&self.pool, &format!("select count(*) from {from}")).await
    }
}

/// Workers on threads of their own: beside them the test would see how far they are only when all is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn effects_in_transactions_happen_once_though_the_server_crashes() {
    let Some(mut stage) = Stage::new(TRANSACTIONAL).await else { return };
    stage.crash(Halt::Immediate, 150).await;
    stage.crash(Halt::Fast, 450).await;
    stage.crash(Halt::Immediate, ROWS).await;
    stage.end().await;
    let once = "select array_agg(n order by step) from (select step, count(*) as n from effects group by step) x";
    assert_eq!(one::<Vec<i64>>(&stage.pool, once).await, [ROWS; 3]);
    assert_eq!(stage.count("(select from effects group by host, step having count(*) > 1) x").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn leased_rows_have_one_end_though_the_server_crashes() {
    let Some(mut stage) = Stage::new(LEASED).await else { return };
    stage.crash(Halt::Immediate, 50).await;
    stage.crash(Halt::Fast, 200).await;
    stage.end().await;
    let done = "select array_agg(n) from (select sum(done)::bigint as n from watchbell.watch_totals group by step) x";
    assert_eq!(one::<Vec<i64>>(&stage.pool, done).await, [ROWS; 2]);
    let starts: Vec<_> = stage.journal.entries().into_iter().filter(|entry| entry.event == "start").collect();
    let passages: HashSet<i64> = starts.iter().map(|entry| entry.run).collect();
    assert_eq!(passages.len() as i64, 2 * ROWS);
    let attempts: HashSet<(i64, i64)> = starts.iter().map(|entry| (entry.run, entry.fence)).collect();
    assert_eq!(attempts.len(), starts.len(), "no claim is started twice");
}

/// What a batch had noted cannot be deleted at once where its session broke and the database answers no other either;
/// it must be later, or those rows would be charged when their worker ends, long after they have moved on.
#[tokio::test]
async fn rows_in_hand_when_a_session_broke_are_charged_to_nobody_later() {
    break_two_batches(None).await;
}

/// Nor does the step that begins anew know what the one before it had noted.
#[tokio::test]
async fn rows_in_hand_when_a_session_broke_before_an_edit_are_charged_to_nobody_later() {
    break_two_batches(Some("update watchbell.watches set description = 'edited'")).await;
}

async fn break_two_batches(edit: Option<&str>) {
    let mut scene = hosts(6).await;
    let pool = scene.database.pool.clone();
    let options = (*pool.connect_options()).clone().application_name("handlers");
    let own = PgPoolOptions::new().max_connections(6).connect_with(options).await.unwrap();
    let gate = Arc::new(Semaphore::new(1));
    let passes = Arc::clone(&gate);
    let init = move |_: Tx, _: Rows<serde_json::Value>| {
        let gate = Arc::clone(&passes);
        async move {
            gate.acquire().await.unwrap().forget();
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(&own, "one").transactional("init", init));
    watch(&mut scene, "hosts", "table_name, handler, batch_size", "'hosts', 'init', 2").await;
    // the first batch was full and is through: now two are open side by side
    until_true(&pool, "(select count(*) from watchbell.worker_batches) = 2", PATIENCE).await;
    let mut person = scene.database.connect().await;
    let lock = "begin; lock table watchbell.worker_batches in exclusive mode";
    sqlx::raw_sql(lock).execute(&mut person).await.unwrap();
    let broken = "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name = 'handlers'";
    sqlx::raw_sql(broken).execute(&pool).await.unwrap();
    gate.add_permits(1_000);
    let waits = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                 and query like '%delete from watchbell.worker_batches%'";
    until_true(&pool, &format!("(select count(*) {waits}) = 2"), PATIENCE).await;
    let now: String = scene.value("select clock_timestamp()::text").await;
    until_true(&pool, &format!("not exists (select {waits} and query_start < '{now}')"), PATIENCE).await;
    if let Some(edit) = edit {
        let planned: String = one(&pool, "select planned_at::text from watchbell.watches").await;
        scene.psql(edit).await;
        // longer than the step that ended waits for the lock, twice
        let tried = format!(
            "(select planned_at > '{planned}' and clock_timestamp() > planned_at + interval '4 s' from watchbell.watches)"
        );
        until_true(&pool, &tried, PATIENCE).await;
    }
    // the second lane finds nothing any more, and so notes nothing in place of what it had noted
    scene.psql("update hosts set status = 'elsewhere' where id > 4").await;
    sqlx::raw_sql("commit").execute(&mut person).await.unwrap();
    until_true(&pool, "not exists (select from hosts where status = 'pending')", PATIENCE).await;
    until_true(&pool, "not exists (select from watchbell.worker_batches)", PATIENCE).await;
    worker.stop().await;
}

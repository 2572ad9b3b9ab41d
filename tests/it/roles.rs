//! Least privilege: each role may do what it is for, and is clearly refused the rest.

use std::process::Command;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Row};
use watchbell::client::{self, NewRun, NewSchedule};
use watchbell::lifecycle::leased::find_faults;
use watchbell::lifecycle::prune::prune;
use watchbell::lifecycle::rescue::{declare_dead, orphans};
use watchbell::lifecycle::watch_plan::{Found, Planner, plan};
use watchbell::watch::plan::TRANSACTION_MAX;

use crate::rows::refusal;
use crate::support::crew::{hand, start};
use crate::support::scene::{BY_ALL, engine_session};
use crate::support::{Database, skip, wait};

/// A database with its roles; they belong to the server, so each test has names of its own.
struct Roles {
    database: Database,
    admin: PgConnection,
    prefix: String,
}

impl Roles {
    /// None where the tests' login may not make roles.
    async fn new() -> Option<Self> {
        let database = Database::fresh().await;
        let mut admin = database.connect_admin().await;
        let may = "select rolsuper from pg_roles where rolname = current_user";
        if !sqlx::query_scalar::<_, bool>(may).fetch_one(&mut admin).await.unwrap() {
            skip("making roles takes a superuser");
            return None;
        }
        let prefix: String = sqlx::query_scalar("select current_database()::text").fetch_one(&mut admin).await.unwrap();
        let mut roles = Self { database, admin, prefix };
        for _ in 0..2 {
            roles.sql(&script(&roles.prefix)).await; // again is harmless
        }
        Some(roles)
    }

    async fn sql(&mut self, text: &str) {
        let ran = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut self.admin).await;
        ran.unwrap_or_else(|e| panic!("{e}\n{text}"));
    }

    fn options(&self, role: &str) -> PgConnectOptions {
        let options: PgConnectOptions = self.database.url.parse().unwrap();
        options.username(&format!("{}_login_{role}", self.prefix)).password("secret")
    }

    /// A session of a login that is only a member of this role.
    async fn login(&mut self, role: &str) -> PgConnection {
        let prefix = self.prefix.clone();
        self.sql(&format!("create role {prefix}_login_{role} login password 'secret' in role {prefix}_{role}")).await;
        self.options(role).connect().await.unwrap()
    }

    /// Roles outlive their database.
    async fn drop(mut self) {
        let prefix = &self.prefix;
        let names: Vec<String> =
            sqlx::query_scalar("select rolname::text from pg_roles where starts_with(rolname, $1) order by 1")
                .bind(format!("{prefix}_"))
                .fetch_all(&mut self.admin)
                .await
                .unwrap();
        let sessions = "select pg_terminate_backend(pid) from pg_stat_activity where usename = any ($1)";
        sqlx::query(sessions).bind(&names).execute(&mut self.admin).await.unwrap();
        for name in &names {
            self.sql(&format!("reassign owned by {name} to current_user; drop owned by {name}; drop role {name}"))
                .await;
        }
    }
}

/// What the program prints.
fn script(prefix: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_watchbell")).args(["generate", "roles", "--prefix", prefix]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn ok(connection: &mut PgConnection, statement: &str) {
    let ran = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    ran.unwrap_or_else(|e| panic!("{statement}: {e}"));
}

async fn denied(connection: &mut PgConnection, statement: &str) {
    let refused = refusal(connection, statement).await;
    assert_eq!(refused.code, "42501", "{statement}: {refused:?}");
    assert!(refused.message.starts_with("permission denied for "), "{statement}: {refused:?}");
}

const VIEWS: [&str; 12] = [
    "upcoming",
    "running",
    "recent_failures",
    "queue_status",
    "worker_status",
    "schedule_history",
    "attention",
    "attention_schedules",
    "attention_runs",
    "attention_workers",
    "attention_watches",
    "attention_database",
];

#[tokio::test]
async fn a_producer_may_call_every_function_and_insert_what_people_write() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut producer = roles.login("producer").await;
    for statement in [
        "select watchbell.schedule('s', 'mail', cron => '0 * * * *', payload => '{\"a\": 1}')",
        "insert into watchbell.schedules (name, fixed_delay, handler) values ('d', '5 min', 'mail') returning id, name",
        "insert into watchbell.runs (handler, payload, unique_key) values ('mail', '{}', 'u') returning id",
        "select watchbell.enqueue('mail', '{\"to\": 1}', priority => 3)",
        "select watchbell.enqueue_many('mail', array['{}', '{}']::jsonb[])",
        "select watchbell.pause('s', 'why', now() + interval '1 h'); select watchbell.resume('s')",
        "select watchbell.run_now('s', '{\"b\": 2}')",
        "select watchbell.backfill('s', now() - interval '3 h', now(), dry_run => true)",
        "select watchbell.cancel_schedule('s'); select watchbell.retry(id) from watchbell.runs where status = 'cancelled'",
        "select watchbell.cancel(id) from watchbell.runs where status = 'pending'",
        "select watchbell.retry_failed('mail')",
        "select watchbell.pause_queue('default'); select watchbell.resume_queue('default')",
        "select watchbell.unschedule('d')",
    ] {
        ok(&mut producer, statement).await;
    }
    let unplanned = refusal(&mut producer, "select watchbell.skip_next('s')").await;
    assert_eq!(unplanned.code, "55000", "it is called, and there is nothing to skip");
    let nobody = refusal(&mut producer, "select watchbell.drain(1)").await;
    assert_eq!(nobody.code, "P0002");
    for view in VIEWS.iter().chain(&["backfills"]) {
        ok(&mut producer, &format!("select * from watchbell.{view}")).await;
    }
    // the same through the client
    let id = NewRun::new("mail").insert(&mut producer).await.unwrap().unwrap();
    client::cancel(&mut producer, id, None).await.unwrap();
    NewSchedule::cron("c", "@daily", "mail").insert(&mut producer).await.unwrap();
    let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let days = client::backfill(&mut producer, "c", now - chrono::TimeDelta::days(3), now, false).await.unwrap();
    assert_eq!(days.runs, 3);
    let who: String =
        sqlx::query_scalar("select distinct login from watchbell.activity").fetch_one(&mut roles.admin).await.unwrap();
    assert_eq!(who, format!("{}_login_producer", roles.prefix));
    drop(producer);
    roles.drop().await;
}

#[tokio::test]
async fn a_producer_may_not_write_the_systems_columns_nor_read_payloads_or_the_activity() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut producer = roles.login("producer").await;
    ok(&mut producer, "select watchbell.schedule('s', 'mail', cron => '0 * * * *')").await;
    for statement in [
        "insert into watchbell.runs (handler, status) values ('mail', 'running')",
        "insert into watchbell.runs_live (handler) values ('mail')",
        "insert into watchbell.schedules (name, cron, handler, wake_at) values ('x', '@daily', 'mail', now())",
        "insert into watchbell.worker_requests (request, worker_id) values ('drain', 1)",
        "update watchbell.schedules set status = 'done'",
        "update watchbell.schedules set cron = '@daily'",
        "update watchbell.runs set status = 'normal'",
        "delete from watchbell.schedules",
        "delete from watchbell.runs_live",
        "truncate watchbell.fires",
        "select payload from watchbell.runs",
        "select payload from watchbell.schedules",
        "select * from watchbell.activity",
        "select * from watchbell.run_output",
        "select watchbell.finish_run(1, 1, 1)",
        "select watchbell.drop_days('1 day')",
        "select watchbell.make_days()",
        "insert into watchbell.activity (at, actor, login, what, kind) values (now(), 'a', 'a', 'a', 'a')",
        "create table watchbell.mine (a int)",
    ] {
        denied(&mut producer, statement).await;
    }
    drop(producer);
    roles.drop().await;
}

#[tokio::test]
async fn a_viewer_reads_everything_that_people_look_at_and_changes_nothing() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut viewer = roles.login("viewer").await;
    roles
        .sql(
            "create table public.hosts (id int primary key, status text not null default 'pending'); \
             insert into public.hosts (id) values (1), (2); \
             set client_min_messages = error; \
             insert into watchbell.watches (name, table_name, handler, via_state) values ('hosts', 'public.hosts', 'mail', 'busy')",
        )
        .await;
    let waiting =
        "select concat_ws(' ', rows, problem) from watchbell.watch_states where coalesce(role, 'waiting') = 'waiting'";
    let told: String = sqlx::query_scalar(waiting).fetch_one(&mut viewer).await.unwrap();
    assert_eq!(told, "permission denied for table hosts");
    let granted = format!("grant select on public.hosts to {}_viewer", roles.prefix);
    roles.sql(&granted).await;
    let told: String = sqlx::query_scalar(waiting).fetch_one(&mut viewer).await.unwrap();
    assert_eq!(told, "2");
    for relation in VIEWS.iter().chain(&["runs", "schedules", "fires", "run_errors", "run_output", "activity"]) {
        ok(&mut viewer, &format!("select * from watchbell.{relation}")).await;
    }
    for relation in ["watches", "watch_status", "watch_states", "watch_errors", "watch_totals", "watch_faults"] {
        ok(&mut viewer, &format!("select * from watchbell.{relation}")).await;
    }
    client::Runs::new().fetch(&mut viewer).await.unwrap();
    client::Schedules::new().fetch(&mut viewer).await.unwrap();
    for statement in [
        "insert into watchbell.runs (handler) values ('mail')",
        "insert into watchbell.schedules (name, cron, handler) values ('x', '@daily', 'mail')",
        "update watchbell.queues set paused_at = now()",
        "delete from watchbell.activity",
        "select * from watchbell.runs_live",
        "select watchbell.enqueue('mail')",
        "select watchbell.pause('s')",
        "select watchbell.cancel(1)",
        "select watchbell.release_rows('hosts')",
    ] {
        denied(&mut viewer, statement).await;
    }
    drop(viewer);
    roles.drop().await;
}

#[tokio::test]
async fn who_may_look_sees_watches_and_the_rows_of_tables_that_he_may_read() {
    let Some(mut roles) = Roles::new().await else { return };
    roles
        .sql(
            "create table public.hosts (id int primary key, status text not null default 'pending');
             create table public.secrets (id int primary key, status text not null default 'pending');
             insert into watchbell.watches (name, table_name, handler, payload) values
                ('hosts', 'public.hosts', 'init', '{\"a\": 1}'), ('secrets', 'public.secrets', 'init', '{\"a\": 1}');
             select watchbell.wake_watch('hosts')",
        )
        .await;
    for (role, payload) in [("viewer", r#"{"a": 1}"#), ("producer", "null")] {
        let mut session = roles.login(role).await;
        roles.sql(&format!("grant select on public.hosts to {}_login_{role}", roles.prefix)).await;
        let watches = client::Watches::new().fetch(&mut session).await.unwrap();
        let seen: Vec<_> = watches.iter().map(|w| (w.name.as_str(), w.payload.get(), w.wakes)).collect();
        assert_eq!(seen, [("hosts", payload, true), ("secrets", payload, false)], "{role}");
        assert_eq!(client::watch_counts(&mut session, "hosts").await.is_ok(), role == "viewer", "{role}");
        assert!(client::watch_errors(&mut session, "hosts", None, 5).await.unwrap().is_empty());
        let refused = client::watch_counts(&mut session, "secrets").await.unwrap_err().to_string();
        let missing = if role == "viewer" { "table secrets" } else { "table watches" };
        assert_eq!(refused, format!("permission denied: {missing}"), "{role}");
        let printed = "select count(output) from watchbell.watch_errors";
        if role == "producer" {
            denied(&mut session, printed).await;
        } else {
            sqlx::query(printed).execute(&mut session).await.unwrap();
        }
        if role == "viewer" {
            client::test_watch(&mut session, "hosts", 5).await.unwrap();
        }
        // the screen of everything goes on without those counts
        let report = client::status(&mut session).await.unwrap();
        assert_eq!(report.watches.iter().map(|w| w.waiting).collect::<Vec<_>>()[1], None);
        denied(&mut session, "update watchbell.watches set filter = 'true'").await;
    }
    // a worker's login owns no table: its watch goes, the trigger stays with a word
    let mut worker = roles.login("worker").await;
    ok(&mut worker, "select watchbell.unwatch('hosts')").await;
    let left =
        "select count(*) from pg_trigger where tgrelid = 'public.hosts'::regclass and tgname = 'watchbell_status'";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut worker).await.unwrap(), 1);
    drop(worker);
    roles.drop().await;
}

async fn nothing() {}

#[tokio::test]
async fn a_worker_that_is_only_a_worker_does_all_that_workers_do() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut session = roles.login("worker").await;
    let options = roles.options("worker");
    let pool: PgPool = PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    let worker = start(hand(&pool, "w").handler("mail", nothing));
    NewSchedule::fixed_rate("s", Duration::from_secs(1), "mail").upsert(&pool).await.unwrap();
    let id = NewRun::new("mail").insert(&pool).await.unwrap().unwrap();
    client::insert_many(&pool, [NewRun::new("mail")]).await.unwrap();
    client::wait(&pool, id, Duration::from_secs(30)).await.unwrap().expect("it is over within 30 s");
    let fired = "select id from watchbell.runs where schedule_name = 's' limit 1";
    let fired: i64 = loop {
        if let Some(row) = sqlx::query(fired).fetch_optional(&pool).await.unwrap() {
            break row.get(0);
        }
        tokio::task::yield_now().await;
    };
    client::wait(&pool, watchbell::RunId(fired), Duration::from_secs(30)).await.unwrap().expect("over within 30 s");
    worker.stop().await;

    // what comes once a minute, or after a death
    ok(&mut session, "drop table if exists pg_temp.x; select watchbell.make_day('fires', '2020-01-01')").await;
    let pruned = prune(&mut session, Duration::from_secs(30 * 86400), None).await.unwrap();
    assert_eq!(pruned.dropped, ["fires_20200101"]);
    declare_dead(&mut session, 99, BY_ALL, None).await.unwrap();
    assert!(orphans(&mut session).await.unwrap().is_empty());
    let table =
        "create table public.hosts (id int primary key, status text); insert into public.hosts values (1, 'busy')";
    let grant = format!("grant select, update on public.hosts to {}_worker", roles.prefix);
    roles.sql(&format!("{table}; {grant}")).await;
    ok(
        &mut session,
        "set client_min_messages = error; select watchbell.watch('public.hosts', 'mail', via_state => 'busy')",
    )
    .await;
    assert_eq!(find_faults(&mut session, 1).await.unwrap(), Some(1));
    assert_eq!(client::release_rows(&mut session, "hosts", 10).await.unwrap(), 1);
    denied(&mut session, "create table watchbell.mine (a int)").await;
    denied(&mut session, "delete from watchbell.migrations").await;
    session.close().await.unwrap();
    pool.close().await;
    roles.drop().await;
}

#[tokio::test]
async fn the_owner_is_whose_members_migrate() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut owner = roles.login("owner").await;
    watchbell::migrate::check(&mut owner).await.unwrap();
    ok(
        &mut owner,
        "alter table watchbell.queues add column mine integer; alter table watchbell.queues drop column mine",
    )
    .await;
    ok(&mut owner, "select watchbell.make_days(20)").await;
    let mut engine = engine_session(&roles.database).await;
    let strangers: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c where c.relnamespace = 'watchbell'::regnamespace
           and c.relkind in ('r', 'p', 'v', 'S') and c.relowner <> to_regrole($1)",
    )
    .bind(format!("{}_owner", roles.prefix))
    .fetch_all(&mut engine)
    .await
    .unwrap();
    assert!(strangers.is_empty(), "{strangers:?}");
    drop((owner, engine));
    roles.drop().await;
}

#[test]
fn a_prefix_that_is_no_plain_name_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(["generate", "roles", "--prefix", "a; drop"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let answer = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(answer.contains("\"a; drop\" is not 1 to 50 lower case letters"), "{answer}");
}

#[tokio::test]
async fn the_script_gives_way_to_a_transaction_that_would_be_in_a_deadlock_with_it() {
    let Some(mut roles) = Roles::new().await else { return };
    // a second prefix takes everything over from the first
    let prefix = format!("{}_b", roles.prefix);
    let mut other = roles.database.connect_admin().await;
    let mut worker = roles.database.connect_admin().await;
    ok(&mut worker, "begin; select from watchbell.workers").await;
    let text = script(&prefix);
    let changes = tokio::spawn(async move { sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut other).await.map(drop) });
    // it has the tables that come before, and waits for this one
    let waits =
        "select exists (select from pg_locks l where not l.granted and l.relation = 'watchbell.workers'::regclass)";
    wait::until("the script to wait", Duration::from_secs(10), async || {
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut roles.admin).await.unwrap().then_some(())
    })
    .await;
    ok(&mut worker, "select from watchbell.activity; commit").await;
    changes.await.unwrap().unwrap();
    let owned = "select bool_and(c.relowner = $1::regrole) from pg_class c
                 where c.relnamespace = 'watchbell'::regnamespace and c.relkind in ('r', 'p', 'v')";
    let owned = sqlx::query_scalar::<_, bool>(owned).bind(format!("{prefix}_owner"));
    assert!(owned.fetch_one(&mut roles.admin).await.unwrap());
    roles.drop().await;
}

#[tokio::test]
async fn a_statement_that_a_worker_may_not_execute_costs_no_row() {
    let Some(mut roles) = Roles::new().await else { return };
    let mut worker = roles.login("worker").await;
    let prefix = roles.prefix.clone();
    roles
        .sql(&format!(
            "create table public.hosts (id int primary key, status text not null default 'pending'); \
             create table public.inventory (host int); \
             grant select, update on public.hosts to {prefix}_worker; \
             set client_min_messages = error; \
             insert into watchbell.watches (name, table_name, handler, payload) values \
             ('hosts', 'public.hosts', 'sql', '{{\"statement\": \"insert into inventory select id from claimed\"}}')"
        ))
        .await;
    let sql = watchbell::handler::sql::Sql::new(PgPool::connect_lazy("postgres://nowhere").unwrap());
    let registry = watchbell::Registry::new().transactional("sql", sql);
    let planner = Planner { worker: 1, registry: &registry, transaction_max: TRANSACTION_MAX };
    match plan(&mut worker, 1, &planner, true).await.unwrap().0 {
        Found::Invalid(found) => {
            assert_eq!(found.reason, "payload: statement: permission denied for table inventory");
        }
        found => panic!("{found:?}"),
    }
    roles.sql(&format!("grant insert on public.inventory to {prefix}_worker")).await;
    let (found, _) = plan(&mut worker, 1, &planner, true).await.unwrap();
    assert!(matches!(found, Found::Planned(_)), "{found:?}");
    worker.close().await.unwrap();
    roles.drop().await;
}

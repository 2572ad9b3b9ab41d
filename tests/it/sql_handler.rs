//! The handler `sql`: a statement and the end of its run are one transaction, for the logins it may use.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::{sync::oneshot, task::JoinHandle, time};
use watchbell::handler::sql::{Sql, check};
use watchbell::{Result, Worker};

use crate::support::database::with_database;
use crate::support::{Database, skip};

#[tokio::test]
async fn a_statement_and_the_end_of_its_run_are_one_commit() {
    let scene = Scene::new().await;
    scene.create("create table t (a bigint, b text, c jsonb)").await;
    let done = scene
        .run(json!({
            "statement": "insert into t values ($1::bigint, $2, $3::jsonb), ($1::bigint + 1, $4, null)",
            "args": [41, "x", {"k": [1]}, null]
        }))
        .await;
    assert_eq!(done.status, "normal", "{done:?}");
    let rows: Vec<(i64, Option<String>, Option<Value>)> =
        sqlx::query_as("select * from t order by a").fetch_all(&scene.database.pool).await.unwrap();
    assert_eq!(rows, [(41, Some("x".into()), Some(json!({"k": [1]}))), (42, None, None)]);
    assert_eq!(scene.xmin("t").await, scene.xmin("watchbell.runs_finished").await);

    // Its row count is in its output, once the writer's second is over.
    let mut output: Option<String> = None;
    for _ in 0..100 {
        let lines =
            sqlx::query_scalar("select convert_from(bytes, 'utf8') from watchbell.run_output where run_id = $1");
        output = lines.bind(done.id).fetch_optional(&scene.database.pool).await.unwrap();
        if output.is_some() {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(output.as_deref(), Some("2 rows\n"));
    scene.end().await;
}

#[tokio::test]
async fn what_another_attempt_would_meet_again_is_fatal() {
    let scene = Scene::new().await;
    scene.create("create table t (a bigint check (a > 0))").await;
    for (payload, expected) in [
        (json!({"statement": "selct 1"}), "syntax error at or near \"selct\" [42601]"),
        (json!({"statement": "select * from nowhere"}), "relation \"nowhere\" does not exist [42P01]"),
        (json!({"statement": "insert into t values ($1)", "args": [1]}), "You will need to rewrite or cast"),
        (json!({"statement": "select 1; select 2"}), "one run executes one statement"),
        (json!({"statement": "commit"}), "begins with COMMIT"),
        (json!({"statement": "/* x */ set role postgres"}), "the session is shared"),
        (json!({"statement": "vacuum t"}), "cannot run inside a transaction block [25001]"),
        (json!({"statement": "select $1, $2", "args": [1]}), ""),
        (json!({"statement": "do $$ begin commit; end $$"}), "invalid transaction termination [2D000]"),
        (json!({"statement": "select 1", "as": "nobody"}), "has no login \"nobody\" (it has: none)"),
        (json!({"sql": "select 1"}), "payload does not fit handler \"sql\": unknown field `sql`"),
    ] {
        let done = scene.run(payload.clone()).await;
        assert_eq!((done.status.as_str(), done.attempt), ("failed", 1), "{payload}: {done:?}");
        let error = done.error.unwrap();
        assert!(error.contains(expected), "{payload}: {error}");
    }
    // What depends on the data is tried again.
    let done = scene.run(json!({"statement": "insert into t values (-1)"})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2), "{done:?}");
    assert!(done.error.unwrap().contains("violates check constraint"));
    assert_eq!(scene.count("t").await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_statement_is_cancelled_with_its_run_and_at_its_timeout() {
    let scene = Scene::new().await;
    let long = json!({"statement": "select pg_sleep(60) /* long */"});
    let id = scene.enqueue(&long, "1 hour").await;
    let running = "select count(*) from pg_stat_activity
                   where query like 'select pg_sleep(60) /* long */' and state = 'active' and datname = current_database()";
    let active = async |expected: i64| {
        for _ in 0..200 {
            let count: i64 = sqlx::query_scalar(running).fetch_one(&scene.database.pool).await.unwrap();
            if count == expected {
                return;
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not {expected} active");
    };
    active(1).await;
    sqlx::query("select watchbell.cancel($1, 'enough')").bind(id).execute(&scene.database.pool).await.unwrap();
    let done = scene.ended(id).await;
    let said = done.error.as_deref().unwrap_or_default();
    let login: String = sqlx::query_scalar("select session_user::text").fetch_one(&scene.database.pool).await.unwrap();
    assert_eq!((done.status.as_str(), said), ("cancelled", &*format!("cancelled by {login}: enough")));
    active(0).await;

    let id = scene.enqueue(&long, "300 ms").await;
    let done = scene.ended(id).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2));
    assert!(done.error.as_deref().unwrap().contains("cancel"), "{done:?}");
    active(0).await;
    scene.end().await;
}

#[tokio::test]
async fn another_login_does_what_it_may_and_ends_the_run_with_it() {
    let database = Database::fresh().await;
    let Some(guest) = Guest::new(&database).await else { return };
    let pool = PgPool::connect_lazy(&guest.url).unwrap();
    let sql = Sql::new(database.pool.clone()).login("guest", pool.clone());
    let said = check(&sql, false).await.unwrap_err().to_string();
    assert!(said.contains("may not end runs") && said.contains("GRANT EXECUTE ON FUNCTION"), "{said}");
    let grants = format!(
        "create table public.own (a int); create table public.shared (a int, by text default session_user);
         grant insert on public.shared to {0};
         grant usage on schema watchbell to {0};
         grant execute on function watchbell.finish_run to {0}",
        guest.name
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&database.pool).await.unwrap();
    check(&sql, false).await.unwrap();

    let scene = Scene::with(database, sql).await;
    let done =
        scene.run(json!({"statement": "insert into public.shared values ($1::int)", "args": [7], "as": "guest"})).await;
    assert_eq!(done.status, "normal", "{done:?}");
    assert_eq!(scene.xmin("public.shared").await, scene.xmin("watchbell.runs_finished").await);
    let by: String = sqlx::query_scalar("select by from public.shared").fetch_one(&scene.database.pool).await.unwrap();
    assert_eq!(by, guest.name);

    let done = scene.run(json!({"statement": "insert into public.own values (1)", "as": "guest"})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 1));
    assert_eq!(done.error.as_deref(), Some("permission denied for table own [42501]"));
    // A role that was only set could be set back; this one is what it logged in as.
    let escape = "do $$ begin reset role; insert into public.own values (2); end $$";
    assert_eq!(scene.run(json!({"statement": escape, "as": "guest"})).await.status, "failed");
    assert_eq!(scene.count("public.own").await, 0);

    // Taken back while it ran: nothing of it stays.
    let slow =
        json!({"statement": "with s as (select pg_sleep(1)) insert into public.shared select 8 from s", "as": "guest"});
    let id = scene.enqueue(&slow, "1 hour").await;
    let mut taken = 0;
    while taken == 0 {
        time::sleep(Duration::from_millis(50)).await;
        let take =
            "update watchbell.runs_live set status = 'pending', claimed_by = null, run_at = now() + interval '1 day'
                    where id = $1 and status = 'running'";
        taken = sqlx::query(take).bind(id).execute(&scene.database.pool).await.unwrap().rows_affected();
    }
    time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.count("public.shared").await, 1, "the superseded attempt's row stayed");

    pool.close().await;
    let database = scene.end().await;
    guest.drop(&database).await;
}

#[tokio::test]
async fn a_superuser_and_another_database_are_refused() {
    let database = Database::fresh().await;
    let admin = PgPool::connect_lazy(&database.admin_url).unwrap();
    let is_superuser: bool = sqlx::query_scalar("select rolsuper from pg_roles where rolname = session_user")
        .fetch_one(&admin)
        .await
        .unwrap();
    if !is_superuser {
        return skip("there is no superuser to log in as");
    }
    let said = check(&Sql::new(admin.clone()), false).await.unwrap_err().to_string();
    assert!(said.contains("the worker's own login: role") && said.contains("--allow-superuser-sql"), "{said}");
    check(&Sql::new(admin.clone()), true).await.unwrap();
    let as_admin = Sql::new(database.pool.clone()).login("root", admin);
    let said = check(&as_admin, false).await.unwrap_err().to_string();
    assert!(said.contains("--sql-login root: role") && said.contains("is a superuser"), "{said}");

    let other = Database::fresh().await;
    let astray = Sql::new(database.pool.clone()).login("astray", other.pool.clone());
    let said = check(&astray, false).await.unwrap_err().to_string();
    assert!(said.contains("another database than the worker"), "{said}");
}

/// A login of its own, without rights.
struct Guest {
    name: String,
    url: String,
}

impl Guest {
    async fn new(database: &Database) -> Option<Self> {
        let mut admin = database.connect_admin().await;
        let name = format!("watchbell_guest_{}", std::process::id());
        let create = format!("create role {name} login password 'guest'");
        if let Err(e) = sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await {
            skip(&format!("cannot create a role: {e}"));
            return None;
        }
        let (_, address) = database.url.split_once('@').unwrap();
        let url = format!("postgres://{name}:guest@{address}");
        Some(Self { url: with_database(&url, &database_name(&database.url)), name })
    }

    async fn drop(self, database: &Database) {
        let mut admin = database.connect_admin().await;
        let drop = format!("drop owned by {0}; drop role {0}", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
    }
}

fn database_name(url: &str) -> String {
    let address = url.split('?').next().unwrap();
    address.rsplit('/').next().unwrap().to_owned()
}

/// A worker with the handler `sql` alone.
struct Scene {
    database: Database,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<()>>,
}

/// What became of a run.
#[derive(Debug)]
struct Done {
    id: i64,
    status: String,
    attempt: i32,
    error: Option<String>,
}

impl Scene {
    async fn new() -> Self {
        let database = Database::fresh().await;
        let sql = Sql::new(database.pool.clone());
        Self::with(database, sql).await
    }

    async fn with(database: Database, sql: Sql) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = Worker::builder(database.pool.clone()).transactional("sql", sql);
        let worker = tokio::spawn(worker.run(async move { drop(stopped.await) }));
        Self { database, stop, worker }
    }

    async fn create(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.database.pool).await.unwrap();
    }

    async fn enqueue(&self, payload: &Value, timeout: &str) -> i64 {
        sqlx::query_scalar(
            "insert into watchbell.runs (handler, payload, timeout, max_attempts, retry)
             values ('sql', $1, $2::interval, 2, '{\"strategy\": \"fixed\", \"base\": \"100 ms\"}') returning id",
        )
        .bind(payload)
        .bind(timeout)
        .fetch_one(&self.database.pool)
        .await
        .unwrap()
    }

    async fn run(&self, payload: Value) -> Done {
        let id = self.enqueue(&payload, "1 hour").await;
        self.ended(id).await
    }

    async fn ended(&self, id: i64) -> Done {
        for _ in 0..400 {
            let done = "select id, status, attempt, error from watchbell.runs_finished where id = $1";
            let done = sqlx::query_as(done).bind(id).fetch_optional(&self.database.pool).await.unwrap();
            if let Some((id, status, attempt, error)) = done {
                return Done { id, status, attempt, error };
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        panic!("run {id} did not end within 20 s");
    }

    async fn count(&self, table: &str) -> i64 {
        let count = format!("select count(*) from {table}");
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// The transaction that wrote the newest row of a table.
    async fn xmin(&self, table: &str) -> i64 {
        let xmin = format!("select max(xmin::text::bigint) from {table}");
        sqlx::query_scalar(AssertSqlSafe(xmin)).fetch_one(&self.database.pool).await.unwrap()
    }

    async fn end(self) -> Database {
        drop(self.stop);
        self.worker.await.unwrap().unwrap();
        self.database
    }
}

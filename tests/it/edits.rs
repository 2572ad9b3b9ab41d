//! An edit of a schedule is planned anew by a worker; what the engine writes is no edit.

use sqlx::{AssertSqlSafe, FromRow};

use crate::support::Database;

/// The columns that a trigger decides about.
#[derive(Debug, PartialEq)]
struct Plan {
    status: String,
    at_once: bool,
    version: i64,
    effective_from: String,
    paused: bool,
}

impl FromRow<'_, sqlx::postgres::PgRow> for Plan {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row;
        Ok(Self {
            status: row.try_get(0)?,
            at_once: row.try_get(1)?,
            version: row.try_get(2)?,
            effective_from: row.try_get(3)?,
            paused: row.try_get(4)?,
        })
    }
}

/// One schedule that a worker has planned, on a clock that stands at noon.
struct Scene {
    database: Database,
    connection: sqlx::PgConnection,
}

impl Scene {
    async fn new() -> Self {
        let database = Database::fresh().await;
        let mut scene = Self { connection: database.connect().await, database };
        scene.run("set timezone = 'UTC'").await;
        scene.run("set watchbell.now = '2030-01-01 11:00Z'").await;
        scene.run("insert into watchbell.schedules (name, cron, handler) values ('s', '@daily', 'h')").await;
        scene.run("update watchbell.schedules set status = 'normal', wake_at = '2030-01-02 00:00Z'").await;
        scene.run("set watchbell.now = '2030-01-01 12:00Z'").await;
        scene
    }

    async fn run(&mut self, statement: &str) {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection).await;
        done.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    async fn plan(&mut self) -> Plan {
        let plan = "select status, wake_at = '-infinity', version, effective_from::text, paused_at is not null
                    from watchbell.schedules";
        sqlx::query_as(plan).fetch_one(&mut self.connection).await.unwrap()
    }
}

fn untouched(version: i64) -> Plan {
    Plan {
        status: "normal".to_owned(),
        at_once: false,
        version,
        effective_from: "2030-01-01 11:00:00+00".to_owned(),
        paused: false,
    }
}

fn to_be_planned(version: i64) -> Plan {
    Plan {
        status: "pending".to_owned(),
        at_once: true,
        version,
        effective_from: "2030-01-01 12:00:00+00".to_owned(),
        paused: false,
    }
}

#[tokio::test]
async fn an_edit_of_the_times_is_planned_from_now() {
    for edit in [
        "cron = '@hourly'",
        "cron = null, fixed_delay = '5 min'",
        "cron = null, fixed_rate = '5 min'",
        "cron = '@every 5m'",
        "cron = null, run_at = '2031-01-01 00:00Z'",
        "timezone = 'Europe/Paris'",
        "dst = 'literal'",
        "starts_at = '2031-01-01 00:00Z'",
        "ends_at = '2031-01-01 00:00Z'",
        "first_fire = 'at_once'",
        "max_fires = 3",
    ] {
        let mut scene = Scene::new().await;
        scene.run(&format!("update watchbell.schedules set {edit}")).await;
        assert_eq!(scene.plan().await, to_be_planned(2), "{edit}");
    }
}

#[tokio::test]
async fn any_other_edit_leaves_the_plan_alone() {
    let mut scene = Scene::new().await;
    for (version, edit) in (2..).zip([
        "payload = '{\"a\": 1}'",
        "handler = 'i'",
        "priority = 1, description = 'x'",
        "timeout = null",
        "overlap = 'skip'",
        "tags = '{a}'",
        "name = 't'",
    ]) {
        scene.run(&format!("update watchbell.schedules set {edit}")).await;
        assert_eq!(scene.plan().await, untouched(version), "{edit}");
    }
}

#[tokio::test]
async fn the_same_again_is_no_edit() {
    let mut scene = Scene::new().await;
    for edit in
        ["cron = cron", "cron = '@daily', handler = 'h', payload = null", "declared_version = 7, cron = '@daily'"]
    {
        scene.run(&format!("update watchbell.schedules set {edit}")).await;
        assert_eq!(scene.plan().await, untouched(1), "{edit}");
    }
    let declared: i64 = sqlx::query_scalar("select declared_version from watchbell.schedules")
        .fetch_one(&scene.database.pool)
        .await
        .unwrap();
    assert_eq!(declared, 7);
}

#[tokio::test]
async fn what_the_engine_writes_is_no_edit() {
    let mut scene = Scene::new().await;
    scene
        .run(
            "update watchbell.schedules set wake_at = '2030-01-03 00:00Z', last_fire_at = now(), fires_count = 4,
             consecutive_failures = 2, last_status = 'failed', last_finished_at = now()",
        )
        .await;
    assert_eq!(scene.plan().await, untouched(1));
}

#[tokio::test]
async fn a_resumed_schedule_is_planned_from_now() {
    let mut scene = Scene::new().await;
    scene.run("update watchbell.schedules set paused_at = now(), paused_by = 'eve', pause_note = 'why'").await;
    assert_eq!(scene.plan().await, Plan { paused: true, ..untouched(1) });
    scene.run("update watchbell.schedules set paused_at = null").await;
    assert_eq!(scene.plan().await, to_be_planned(1));
    let forgotten: bool =
        sqlx::query_scalar("select num_nonnulls(paused_by, paused_until, pause_note) = 0 from watchbell.schedules")
            .fetch_one(&mut scene.connection)
            .await
            .unwrap();
    assert!(forgotten);
}

#[tokio::test]
async fn a_new_schedule_begins_with_a_clean_slate() {
    let mut scene = Scene::new().await;
    scene
        .run(
            "insert into watchbell.schedules (name, cron, handler, status, wake_at, version, fires_count, last_status,
                 created_by, error, anchor_at)
             values ('t', '@daily', 'h', 'done', 'infinity', 9, 9, 'failed', 'someone', 'no', now())",
        )
        .await;
    let clean: bool = sqlx::query_scalar(
        "select status = 'pending' and wake_at = '-infinity' and version = 1 and fires_count = 0 and last_status is null
             and created_by = session_user and error is null and anchor_at is null
             and effective_from = '2030-01-01 12:00Z' and created_at = '2030-01-01 12:00Z'
         from watchbell.schedules where name = 't'",
    )
    .fetch_one(&mut scene.connection)
    .await
    .unwrap();
    assert!(clean);
}

#[tokio::test]
async fn upcoming_lists_what_will_fire_soonest_first() {
    let mut scene = Scene::new().await;
    scene
        .run("insert into watchbell.schedules (name, cron, handler) values ('u', '@daily', 'h'), ('v', '@daily', 'h')")
        .await;
    scene.run("update watchbell.schedules set wake_at = '2030-01-01 00:00Z' where name = 'v'").await;
    let names: Vec<String> =
        sqlx::query_scalar("select name from watchbell.upcoming").fetch_all(&mut scene.connection).await.unwrap();
    assert_eq!(names, ["v", "s"]);
    scene.run("update watchbell.schedules set paused_at = now()").await;
    let names: Vec<String> =
        sqlx::query_scalar("select name from watchbell.upcoming").fetch_all(&mut scene.connection).await.unwrap();
    assert!(names.is_empty());
}

//! A run can be ended from outside a worker: cancelled by a person, or finished in a handler's own transaction.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::rows::refusal;
use crate::support::Database;

struct Scene {
    _database: Database,
    connection: PgConnection,
}

impl Scene {
    /// On a clock that stands at noon.
    async fn new() -> Self {
        let database = Database::fresh().await;
        let mut scene = Self { connection: database.connect().await, _database: database };
        scene.run("set timezone = 'UTC'").await;
        scene.run("select watchbell.make_day('runs_finished', '2030-01-01')").await;
        scene.run("set watchbell.now = '2030-01-01 12:00Z'").await;
        scene
    }

    async fn run(&mut self, statement: &str) {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection).await;
        done.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    async fn text(&mut self, query: &str) -> Option<String> {
        let query = AssertSqlSafe(format!("select ({query})::text"));
        sqlx::query_scalar(query).fetch_one(&mut self.connection).await.unwrap()
    }

    /// A schedule that a worker has fired, and its run, pending.
    async fn fired(&mut self, spec: &str, trigger: &str) {
        self.run(&format!("insert into watchbell.schedules (name, {spec}, handler) values ('s', '1 day', 'h')")).await;
        self.run("update watchbell.schedules set status = 'normal', wake_at = 'infinity', consecutive_failures = 3")
            .await;
        self.run(&format!(
            "insert into watchbell.runs_live (handler, schedule_id, schedule_name, trigger, fire_at, concurrency_key)
             select handler, id, name, '{trigger}', now(), 'k' from watchbell.schedules"
        ))
        .await;
        self.run("insert into watchbell.limits (key, running) values ('k', 1)").await;
    }

    async fn claimed(&mut self) {
        self.run(
            "update watchbell.runs_live set status = 'running', claimed_by = 7, fence = 3, attempt = 1,
                 started_at = '2030-01-01 11:59Z'",
        )
        .await;
    }
}

#[tokio::test]
async fn a_waiting_run_is_cancelled_at_once() {
    let mut scene = Scene::new().await;
    scene.run("insert into watchbell.runs (handler, payload, tags) values ('h', '{\"a\": 1}', '{t}')").await;
    let before = scene.text("select to_jsonb(r) - '{status,finished_at,error}'::text[] from watchbell.runs r").await;
    assert_eq!(scene.text("select watchbell.cancel(id, 'not needed') from watchbell.runs").await.unwrap(), "cancelled");
    let after = scene.text("select to_jsonb(r) - '{status,finished_at,error}'::text[] from watchbell.runs r").await;
    assert_eq!(before, after);
    let login = scene.text("session_user").await.unwrap();
    assert_eq!(
        scene.text("select concat_ws(' | ', status, finished_at, error) from watchbell.runs").await.unwrap(),
        format!("cancelled | 2030-01-01 12:00:00+00 | cancelled by {login}: not needed")
    );
    assert_eq!(scene.text("select watchbell.cancel(id) from watchbell.runs").await.unwrap(), "finished");
}

#[tokio::test]
async fn a_running_run_is_asked_to_stop_once() {
    let mut scene = Scene::new().await;
    scene.run("insert into watchbell.runs (handler) values ('h')").await;
    scene.claimed().await;
    for _ in 0..2 {
        assert_eq!(scene.text("select watchbell.cancel(id, 'why') from watchbell.runs").await.unwrap(), "requested");
    }
    let asked =
        "select string_agg(concat_ws(' ', request, run_id is not null, reason), ', ') from watchbell.worker_requests";
    assert_eq!(scene.text(asked).await.unwrap(), "cancel t why");
    assert_eq!(scene.text("select status from watchbell.runs").await.unwrap(), "running");
}

#[tokio::test]
async fn an_unknown_run_is_an_error_that_says_where_to_look() {
    let mut scene = Scene::new().await;
    let refusal = refusal(&mut scene.connection, "select watchbell.cancel(4711)").await;
    assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("P0002", "run 4711 does not exist"));
    assert!(refusal.hint.starts_with("List runs with: SELECT "), "{refusal:?}");
}

#[tokio::test]
async fn a_cancelled_fixed_delay_run_is_followed_by_the_next() {
    let mut scene = Scene::new().await;
    // Across a clock change a day is still 24 hours.
    scene.run("set timezone = 'Europe/Paris'").await;
    scene.run("select watchbell.make_day('runs_finished', '2030-03-30')").await;
    scene.run("set watchbell.now = '2030-03-30 12:00Z'").await;
    scene.fired("fixed_delay", "schedule").await;
    scene.run("select watchbell.cancel(id) from watchbell.runs").await;
    scene.run("set timezone = 'UTC'").await;
    assert_eq!(
        scene
            .text(
                "select concat_ws(' | ', wake_at, status, last_status, consecutive_failures) from watchbell.schedules"
            )
            .await
            .unwrap(),
        "2030-03-31 12:00:00+00 | normal | cancelled | 3"
    );
    assert_eq!(scene.text("select running from watchbell.limits").await.unwrap(), "1");
}

#[tokio::test]
async fn only_the_scheduled_run_of_a_schedule_that_waits_for_it_sets_the_next_time() {
    for (spec, trigger, change) in [
        ("fixed_rate", "schedule", "wake_at = wake_at"),
        ("fixed_delay", "run_now", "wake_at = wake_at"),
        ("fixed_delay", "schedule", "wake_at = '2030-01-09 00:00Z'"),
        ("fixed_delay", "schedule", "status = 'invalid'"),
    ] {
        let mut scene = Scene::new().await;
        scene.fired(spec, trigger).await;
        scene.run(&format!("update watchbell.schedules set {change}")).await;
        let before = scene.text("select wake_at || status from watchbell.schedules").await;
        scene.run("select watchbell.cancel(id) from watchbell.runs").await;
        assert_eq!(
            scene.text("select wake_at || status from watchbell.schedules").await,
            before,
            "{spec} {trigger} {change}"
        );
    }
}

#[tokio::test]
async fn a_fixed_delay_that_may_not_fire_again_is_done() {
    for limit in ["max_fires = 1", "ends_at = '2030-01-02 12:00Z'"] {
        let mut scene = Scene::new().await;
        scene.fired("fixed_delay", "schedule").await;
        scene.run(&format!("update watchbell.schedules set {limit}")).await;
        scene.run("update watchbell.schedules set fires_count = 1, status = 'normal', wake_at = 'infinity'").await;
        scene.run("select watchbell.cancel(id) from watchbell.runs").await;
        assert_eq!(
            scene.text("select status || wake_at from watchbell.schedules").await.unwrap(),
            "doneinfinity",
            "{limit}"
        );
    }
}

#[tokio::test]
async fn a_handler_finishes_its_run_in_its_own_transaction() {
    let mut scene = Scene::new().await;
    scene.fired("fixed_delay", "schedule").await;
    scene.claimed().await;
    scene.run("begin").await;
    assert_eq!(scene.text("select watchbell.finish_run(id, 3, 7) from watchbell.runs").await.unwrap(), "true");
    scene.run("rollback").await;
    assert_eq!(scene.text("select status from watchbell.runs").await.unwrap(), "running");

    assert_eq!(scene.text("select watchbell.finish_run(id, 3, 7) from watchbell.runs").await.unwrap(), "true");
    assert_eq!(
        scene
            .text("select concat_ws(' | ', status, finished_at, claimed_by, fence, attempt, error) from watchbell.runs")
            .await
            .unwrap(),
        "normal | 2030-01-01 12:00:00+00 | 7 | 3 | 1"
    );
    assert_eq!(scene.text("select running from watchbell.limits").await.unwrap(), "0");
    assert_eq!(
        scene
            .text(
                "select concat_ws(' | ', wake_at, last_status, last_started_at, last_finished_at, last_success_at, last_duration,
                     consecutive_failures) from watchbell.schedules"
            )
            .await
            .unwrap(),
        "2030-01-02 12:00:00+00 | normal | 2030-01-01 11:59:00+00 | 2030-01-01 12:00:00+00 | 2030-01-01 12:00:00+00 | 00:01:00 | 0"
    );
}

#[tokio::test]
async fn a_run_that_is_no_longer_ours_is_not_finished() {
    let mut scene = Scene::new().await;
    scene.run("insert into watchbell.runs (handler) values ('h')").await;
    assert_eq!(scene.text("select watchbell.finish_run(id, 0, 7) from watchbell.runs").await.unwrap(), "false");
    scene.claimed().await;
    for (fence, worker) in [(2, 7), (4, 7), (3, 8)] {
        let finish = format!("select watchbell.finish_run(id, {fence}, {worker}) from watchbell.runs");
        assert_eq!(scene.text(&finish).await.unwrap(), "false", "{finish}");
    }
    assert_eq!(scene.text("watchbell.finish_run(4711, 3, 7)").await.unwrap(), "false");
    assert_eq!(scene.text("select status from watchbell.runs").await.unwrap(), "running");
}

//! The jobs of `examples/jobs` against rows at their edges, in both of their forms.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use watchbell::client::ScheduleEdit;
use watchbell::handler::sql::Sql;
use watchbell::testing::Engine;
use watchbell::worker::Builder;
use watchbell::{Status, Worker};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::crew::{hand, start};
use crate::support::watched::work_until;

#[path = "../../examples/jobs/delete_expired_secrets.rs"]
mod delete_expired_secrets;
#[path = "../../examples/jobs/delete_old_audit_rows.rs"]
mod delete_old_audit_rows;
#[path = "../../examples/jobs/disable_idle_users.rs"]
mod disable_idle_users;
#[path = "../../examples/jobs/hosts.rs"]
mod hosts;
#[path = "../../examples/jobs/models.rs"]
mod models;

/// As in the program.
#[derive(Clone, Copy)]
pub enum Form {
    Rust,
    Sql,
}

async fn sql(connection: &mut PgConnection, text: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(connection).await.unwrap();
}

async fn names(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn audit_rows_go_when_they_are_older_than_so_many_days() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    sql(&mut connection, delete_old_audit_rows::SCHEMA).await;
    // in one transaction now() stands still, so that exactly 30 days are exactly 30 days
    let mut tx = connection.begin().await.unwrap();
    let rows = "insert into audit (at, what) values (now() - interval '720 hours', 'exactly'), \
                (now() - interval '720 hours 1 us', 'older'), (now() - interval '719 hours', 'younger'), \
                (now() + interval '1 day', 'ahead'), ('-infinity', 'of old')";
    sql(&mut tx, rows).await;
    assert_eq!(delete_old_audit_rows::delete(&mut tx, 0).await.unwrap(), 0, "0 is never");
    assert_eq!(delete_old_audit_rows::delete(&mut tx, -1).await.unwrap(), 0);
    assert_eq!(delete_old_audit_rows::delete(&mut tx, 30).await.unwrap(), 2);
    assert_eq!(names(&mut tx, "select what from audit order by 1").await, ["ahead", "exactly", "younger"]);
    sql(&mut tx, "insert into audit (at, what) select now() - interval '99 days', 'x' from generate_series(1, 10001)")
        .await;
    assert_eq!(delete_old_audit_rows::delete(&mut tx, 30).await.unwrap(), 10_000, "not all of a large table at once");
}

#[tokio::test]
async fn days_are_24_hours_in_every_time_zone() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    sql(&mut connection, delete_old_audit_rows::SCHEMA).await;
    sql(&mut connection, disable_idle_users::SCHEMA).await;
    // over any 365 days New York has two clock changes, over 200 days usually one: a calendar day would count them
    for zone in ["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu"] {
        for days in 1..=365 {
            let mut tx = connection.begin().await.unwrap();
            sql(&mut tx, &format!("set local time zone '{zone}'")).await;
            let rows = format!(
                "insert into audit (at, what) values (now() - interval '{0} hours', 'exactly'); \
                 insert into users (name, last_login_at) values ('exactly', now() - interval '{0} hours')",
                24 * days
            );
            sql(&mut tx, &rows).await;
            assert_eq!(delete_old_audit_rows::delete(&mut tx, days).await.unwrap(), 0, "{zone}, {days} days");
            assert_eq!(disable_idle_users::disable(&mut tx, days).await.unwrap(), 0, "{zone}, {days} days");
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn users_are_disabled_who_stay_away_for_so_many_days() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    sql(&mut connection, disable_idle_users::SCHEMA).await;
    let mut tx = connection.begin().await.unwrap();
    let rows = "insert into users (name, created_at, last_login_at, disabled_at) values \
                ('exactly', now() - interval '99 days', now() - interval '240 hours', null), \
                ('away', now() - interval '99 days', now() - interval '240 hours 1 us', null), \
                ('never came', now() - interval '11 days', null, null), \
                ('new', now() - interval '9 days', null, null), \
                ('out already', now() - interval '99 days', null, now() - interval '50 days')";
    sql(&mut tx, rows).await;
    assert_eq!(disable_idle_users::disable(&mut tx, 0).await.unwrap(), 0, "0 is never");
    assert_eq!(disable_idle_users::disable(&mut tx, 10).await.unwrap(), 2);
    let now_out = "select name from users where disabled_at = now() order by 1";
    assert_eq!(names(&mut tx, now_out).await, ["away", "never came"]);
    assert_eq!(disable_idle_users::disable(&mut tx, 10).await.unwrap(), 0, "once each");
}

#[tokio::test]
async fn secrets_go_at_the_moment_they_expire() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    sql(&mut connection, delete_expired_secrets::SCHEMA).await;
    let mut tx = connection.begin().await.unwrap();
    let rows = "insert into secrets (name, value, expires_at) values ('now', '', now()), \
                ('just', '', now() - interval '1 us'), ('soon', '', now() + interval '1 us'), \
                ('for ever', '', null), ('endless', '', 'infinity')";
    sql(&mut tx, rows).await;
    assert_eq!(delete_expired_secrets::delete(&mut tx).await.unwrap(), 2);
    assert_eq!(names(&mut tx, "select name from secrets order by 1").await, ["endless", "for ever", "soon"]);
}

#[tokio::test]
async fn hosts_are_set_up_once_each_in_either_form() {
    for form in [Form::Rust, Form::Sql] {
        let database = Database::fresh().await;
        let mut connection = database.connect().await;
        sql(&mut connection, hosts::SCHEMA).await;
        sql(
            &mut connection,
            "insert into hosts (address) select '10.0.' || i / 250 || '.' || i % 250 from generate_series(1, 500) i",
        )
        .await;
        sql(&mut connection, "insert into hosts (address, status) values ('old', 'normal'), ('nowhere', 'pending')")
            .await;
        let worker = |name| {
            let hand = hand(&database.pool, name).owner("jobs").transactional("sql", Sql::new(database.pool.clone()));
            start(hosts::add(hand, form))
        };
        let workers = vec![worker("one"), worker("two")];
        let set_up = "(select count(*) from hosts where status = 'normal') = 501";
        work_until(&database, workers, set_up).await;
        let done = "select count(*) from hosts h join inventory i on i.host_id = h.id where h.status = 'normal'";
        assert_eq!(one::<i64>(&database.pool, done).await, 500);
        let other: String =
            one(&database.pool, "select string_agg(address, ' ') from hosts where status <> 'normal'").await;
        assert_eq!(other, "nowhere", "it fails alone");
        assert_eq!(one::<i64>(&database.pool, "select count(*) from inventory").await, 500);
    }
}

#[tokio::test]
async fn models_go_through_both_steps_and_train_once() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    sql(&mut connection, models::SCHEMA).await;
    sql(&mut connection, "insert into models (name, version) select 'owl', i from generate_series(1, 5) i").await;
    let worker =
        |name| start(models::add(hand(&database.pool, name).owner("jobs").state(database.pool.clone()), Form::Rust));
    let workers = vec![worker("one"), worker("two")];
    work_until(&database, workers, "not exists (select from models where status <> 'normal')").await;
    let trained = "select format('%s %s %s', count(*), min(progress), max(progress)) from trainings";
    assert_eq!(one::<String>(&database.pool, trained).await, "5 100 100", "each training was started once");
    assert_eq!(one::<i64>(&database.pool, "select count(*) from watchbell.watch_claims").await, 0);
}

#[tokio::test]
async fn each_job_does_the_same_as_rust_and_as_a_statement_in_its_row() {
    for form in [Form::Rust, Form::Sql] {
        let database = Database::fresh().await;
        let pool = database.pool.clone();
        let mut connection = database.connect().await;
        for schema in [delete_old_audit_rows::SCHEMA, disable_idle_users::SCHEMA, delete_expired_secrets::SCHEMA] {
            sql(&mut connection, schema).await;
        }
        let rows = "insert into audit (at, what) values (now() - interval '91 days', 'old'), (now(), 'new'); \
                    insert into users (name, last_login_at) values ('away', now() - interval '181 days'), ('here', now()); \
                    insert into secrets (name, value, expires_at) values ('void', '', now()), ('good', '', null)";
        sql(&mut connection, rows).await;
        let worker: Builder = Worker::builder(pool.clone())
            .owner("jobs")
            .state(pool.clone())
            .transactional("sql", Sql::new(pool.clone()));
        let worker = delete_old_audit_rows::add(worker, form);
        let worker = disable_idle_users::add(worker, form);
        let worker = delete_expired_secrets::add(worker, form);
        let mut engine = Engine::of(worker).await.unwrap();
        let start: DateTime<Utc> = engine.now();
        let ran = engine.run_until(start + TimeDelta::hours(6)).await.unwrap();
        assert!(ran.iter().all(|ran| ran.status == Status::Normal), "{ran:?}");
        let counts = "select format('%s %s %s', (select count(*) from audit), \
                                    (select string_agg(name, ' ') from users where disabled_at is not null), \
                                    (select count(*) from secrets))";
        assert_eq!(one::<String>(&pool, counts).await, "1 away 1");

        // another number of days is an edit of the row
        let payload = match form {
            Form::Rust => json!({"days": 0}),
            Form::Sql => json!({"statement": delete_old_audit_rows::STATEMENT, "args": [0]}),
        };
        let edit = ScheduleEdit::of("delete_old_audit_rows").set("payload", payload.to_string());
        edit.apply(&mut connection).await.unwrap();
        sql(&mut connection, "update audit set at = '-infinity'").await;
        engine.run_until(start + TimeDelta::hours(12)).await.unwrap();
        assert_eq!(one::<i64>(&pool, "select count(*) from audit").await, 1, "0 is never");
    }
}

//! `watchbell::testing`: what users' tests are promised. Each on a database and at a time of its own.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use futures_util::FutureExt;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use watchbell::client::{self, NewRun, NewSchedule};
use watchbell::schedule::FirstFire;
use watchbell::testing::{self, Engine};
use watchbell::{
    Context, Error, HandlerOptions, HandlerResult, Outcome, Registry, State, Status, Tx, Worker, cron, fatal,
    retry_after, snooze,
};

use crate::support::Database;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// An engine at noon of the database's tomorrow, so that nothing but the test moves its time.
async fn engine(database: &Database, handlers: Registry) -> Engine {
    let mut engine = Engine::new(database.pool.clone(), handlers).await.unwrap();
    let tomorrow = engine.now() + TimeDelta::days(1);
    let noon = tomorrow.with_hour(12).and_then(|t| t.with_minute(0)?.with_second(0)?.with_nanosecond(0)).unwrap();
    engine.set_now(noon).await.unwrap();
    engine
}

async fn sent(ctx: Context) -> HandlerResult {
    ctx.log("to the post");
    ctx.log(format!("attempt {}", ctx.attempt()));
    Ok(())
}

async fn broken() -> HandlerResult {
    Err("no answer".into())
}

#[tokio::test]
async fn what_is_due_is_run_by_the_real_handler() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("mail", sent)).await;
    let id = NewRun::new("mail").insert(&engine.pool()).await.unwrap().unwrap();

    let ran = engine.run_due().await.unwrap();

    assert_eq!(ran.len(), 1);
    ran[0].assert(Status::Normal);
    assert_eq!((ran[0].id, ran[0].attempt, ran[0].at), (id, 1, engine.now()));
    assert_eq!(ran[0].output, ["to the post", "attempt 1"]);
    assert_eq!(engine.output(id).await.unwrap(), ran[0].output);
    assert_eq!(engine.row(id).await.unwrap().finished_at, Some(engine.now()));
    assert!(engine.run_due().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_retry_waits_for_its_time() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("mail", broken)).await;
    let run = NewRun::new("mail").max_attempts(2).retry(&json!({"strategy": "fixed", "base": "5m", "jitter": false}));
    let id = run.unwrap().insert(&engine.pool()).await.unwrap().unwrap();

    let first = engine.run_due().await.unwrap().remove(0);
    assert_eq!((first.status, first.again_at), (Status::Pending, Some(engine.now() + TimeDelta::minutes(5))));

    engine.advance(5 * MINUTE - Duration::from_micros(1)).await.unwrap();
    assert!(engine.run_due().await.unwrap().is_empty());
    engine.advance(Duration::from_micros(1)).await.unwrap();
    let second = engine.run_due().await.unwrap().remove(0);

    assert_eq!((second.attempt, second.status, second.error.as_deref()), (2, Status::Failed, Some("no answer")));
    let errors = engine.errors(id).await.unwrap();
    assert_eq!(errors.iter().map(|e| (e.attempt, e.kind.as_str())).collect::<Vec<_>>(), [(1, "error"), (2, "error")]);
    assert_eq!(errors[1].at - errors[0].at, TimeDelta::minutes(5));
}

#[tokio::test]
async fn every_way_to_end_is_real() {
    async fn outcome(payload: serde_json::Value, ctx: Context) -> HandlerResult<Outcome> {
        match payload["do"].as_str() {
            Some("panic") => panic!("out of paper"),
            Some("fatal") => Err(fatal("no such address")),
            Some("snooze") if ctx.attempt() == 1 && ctx.fence() == 1 => Ok(snooze(HOUR)),
            Some("later") => Err(retry_after("busy", 2 * HOUR)),
            Some("cancel") => Ok(Outcome::Cancel("not wanted".into())),
            _ => Ok(Outcome::Done),
        }
    }
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("do", outcome)).await;
    for what in ["panic", "fatal", "snooze", "later", "cancel"] {
        let run = NewRun::new("do").payload(&json!({"do": what})).unwrap().max_attempts(2);
        run.insert(&engine.pool()).await.unwrap();
    }

    let ran = engine.run_due().await.unwrap();

    let ends: Vec<_> = ran.iter().map(|ran| (ran.status, ran.error.as_deref())).collect();
    assert_eq!(ends[0], (Status::Pending, Some("out of paper")));
    assert_eq!(ends[1], (Status::Failed, Some("no such address")));
    assert_eq!((ends[2].0, ran[2].again_at), (Status::Pending, Some(engine.now() + TimeDelta::hours(1))));
    assert_eq!((ends[3].0, ran[3].again_at), (Status::Pending, Some(engine.now() + TimeDelta::hours(2))));
    assert_eq!(ends[4], (Status::Cancelled, Some("not wanted")));
    engine.advance(HOUR).await.unwrap();
    let again = engine.run_due().await.unwrap();
    let snoozed = again.iter().find(|again| again.id == ran[2].id).unwrap();
    assert_eq!((snoozed.attempt, snoozed.status), (1, Status::Normal), "a snooze uses no attempt");
}

#[tokio::test]
async fn a_day_of_schedules_is_run_at_its_times() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("report", sent).handler("sync", sent)).await;
    let pool = engine.pool();
    NewSchedule::cron("hourly", "0 * * * *", "report").upsert(&pool).await.unwrap();
    NewSchedule::fixed_delay("sync", 6 * HOUR, "sync").upsert(&pool).await.unwrap();
    let began = engine.now();

    let ran = engine.run_until(began + TimeDelta::days(1)).await.unwrap();

    let reports: Vec<_> = ran.iter().filter(|ran| ran.schedule.as_deref() == Some("hourly")).collect();
    let hours: Vec<_> = reports.iter().map(|ran| ran.at).collect();
    assert_eq!(hours, (1..=24).map(|h| began + TimeDelta::hours(h)).collect::<Vec<_>>());
    assert!(reports.iter().all(|ran| ran.fire_at == Some(ran.at) && ran.status == Status::Normal));
    let syncs = engine.runs().schedule("sync").fetch().await.unwrap();
    let waits: Vec<_> = syncs.windows(2).map(|two| two[1].run_at - two[0].finished_at.unwrap()).collect();
    assert!(waits.len() >= 3 && waits.iter().all(|wait| *wait == TimeDelta::hours(6)), "{waits:?}");
    assert_eq!(engine.now(), began + TimeDelta::days(1));
    assert_eq!(engine.fires("hourly").await.unwrap().len(), 24);
    assert_eq!(engine.schedule("hourly").await.unwrap().last_fire_at, Some(engine.now()));
}

#[tokio::test]
async fn a_transactional_handler_lives_and_ends_at_the_set_time() {
    async fn book(mut tx: Tx) -> HandlerResult {
        let insert = sqlx::query("insert into booked select watchbell.clock()");
        insert.execute(&mut *tx).await?;
        NewRun::new("mail").delay(MINUTE).insert(&mut *tx).await?;
        Ok(())
    }
    let database = Database::fresh().await;
    sqlx::query("create table booked (at timestamptz)").execute(&database.pool).await.unwrap();
    let mut engine = engine(&database, Registry::new().transactional("book", book).handler("mail", sent)).await;
    let every_hour = NewSchedule::fixed_delay("book", HOUR, "book").first_fire(FirstFire::AtOnce);
    every_hour.upsert(&engine.pool()).await.unwrap();

    let ran = engine.run_due().await.unwrap();

    assert_eq!(ran.len(), 1, "the next is due in an hour by the set time: {ran:?}");
    ran[0].assert(Status::Normal);
    let booked: Vec<DateTime<Utc>> =
        sqlx::query_scalar("select at from booked").fetch_all(&database.pool).await.unwrap();
    assert_eq!(booked, [engine.now()]);
    let mail = engine.enqueued().handler("mail").assert_one().await;
    assert_eq!(mail.run_at, engine.now() + TimeDelta::minutes(1));
    let next = engine.schedule("book").await.unwrap().next_fire_at;
    assert_eq!(next, Some(engine.now() + TimeDelta::hours(1)));
}

#[tokio::test]
async fn a_row_inserted_at_now_is_due_at_once_and_a_delay_counts_from_the_set_time() {
    let database = Database::fresh().await;
    let mut engine = Engine::new(database.pool.clone(), Registry::new().handler("mail", sent)).await.unwrap();
    // by anybody, at the database's time
    sqlx::query("insert into watchbell.runs (handler) values ('mail')").execute(&database.pool).await.unwrap();
    assert_eq!(engine.run_due().await.unwrap().len(), 1);

    engine.advance(HOUR).await.unwrap();
    let pool = testing::at_set_time(&database.pool);
    NewRun::new("mail").delay(MINUTE).insert(&pool).await.unwrap();
    assert!(engine.run_due().await.unwrap().is_empty());
    engine.advance(MINUTE).await.unwrap();
    assert_eq!(engine.run_due().await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_run_is_run_by_its_number_and_the_others_are_left_as_they_were() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("mail", sent)).await;
    let pool = engine.pool();
    let first = NewRun::new("mail").insert(&pool).await.unwrap().unwrap();
    let second = NewRun::new("mail").insert(&pool).await.unwrap().unwrap();
    let later = NewRun::new("mail").delay(HOUR).insert(&pool).await.unwrap().unwrap();
    let other = NewRun::new("fax").insert(&pool).await.unwrap().unwrap();

    engine.run(second).await.unwrap().assert(Status::Normal);

    assert_eq!(
        (engine.row(first).await.unwrap().status, engine.row(first).await.unwrap().attempt),
        (Status::Pending, 0)
    );
    for (id, why) in [(later, "it is due at"), (other, "does not have"), (second, "it is normal")] {
        let refusal = engine.run(id).await.unwrap_err();
        assert!(matches!(&refusal, Error::Conflict(text) if text.contains(why)), "{refusal}");
    }
}

#[tokio::test]
async fn stages_can_be_cranked_one_by_one() {
    let database = Database::fresh().await;
    let handlers = Registry::new().handler("mail", |ctx: Context| async move {
        assert!(!ctx.is_cancelled(), "asked to stop: {:?}", ctx.stop_reason());
    });
    let mut engine = engine(&database, handlers).await;
    let pool = engine.pool();
    let once = NewSchedule::once("once", engine.now() + TimeDelta::minutes(1), "mail");
    once.upsert(&pool).await.unwrap();
    assert_eq!(engine.fire().await.unwrap().runs, 0);
    engine.advance(MINUTE).await.unwrap();
    assert_eq!(engine.fire().await.unwrap().runs, 1);

    // claimed, and its worker dies
    let held = engine.claim(10).await.unwrap().remove(0);
    assert_eq!((held.attempt(), held.handler()), (1, "mail"));
    let id = held.id();
    assert_eq!(engine.row(id).await.unwrap().status, Status::Running);
    let lost = engine.lose(held).await.unwrap();
    assert_eq!(lost.status, Status::Pending);
    assert_eq!(engine.row(id).await.unwrap().crashes, 1);

    // given back: the attempt is unused
    engine.advance(HOUR).await.unwrap();
    let held = engine.claim(10).await.unwrap().remove(0);
    assert_eq!(held.attempt(), 2);
    engine.give_back(held).await.unwrap();
    assert_eq!(engine.row(id).await.unwrap().attempt, 1);

    // cancelled between claim and start: the handler sees it
    let held = engine.claim(10).await.unwrap().remove(0);
    client::cancel(&pool, id, Some("not wanted")).await.unwrap();
    let seen = engine.execute(held).await.unwrap();
    let who: String = sqlx::query_scalar("select session_user::text").fetch_one(&pool).await.unwrap();
    let why = format!("asked to stop: Some(Cancelled(\"cancelled by {who}: not wanted\"))");
    assert_eq!(seen.error, Some(why));

    // started too late: not at all
    let late = NewRun::new("mail").start_deadline(engine.now() + TimeDelta::minutes(1));
    let late = late.insert(&pool).await.unwrap().unwrap();
    let mut held = engine.claim(10).await.unwrap();
    let held = held.swap_remove(held.iter().position(|held| held.id() == late).unwrap());
    engine.advance(HOUR).await.unwrap();
    engine.execute(held).await.unwrap().assert(Status::Cancelled);
}

#[tokio::test]
async fn keyed_runs_run_one_after_the_other() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new().handler("mail", sent)).await;
    for _ in 0..3 {
        NewRun::new("mail").concurrency_key("account-7").insert(&engine.pool()).await.unwrap();
    }
    let mut held = engine.claim(10).await.unwrap();
    assert_eq!(held.len(), 1);
    engine.execute(held.remove(0)).await.unwrap();
    assert_eq!(engine.run_due().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_engine_takes_the_handlers_and_queues_of_a_worker() {
    let database = Database::fresh().await;
    let worker = Worker::builder(database.pool.clone()).handler("mail", sent).queues(["post"]);
    let mut engine = Engine::of(worker).await.unwrap();
    NewRun::new("mail").insert(&database.pool).await.unwrap();
    let posted = NewRun::new("mail").queue("post").insert(&database.pool).await.unwrap().unwrap();
    let ran = engine.run_due().await.unwrap();
    assert_eq!(ran.iter().map(|ran| ran.id).collect::<Vec<_>>(), [posted]);
    let refused = Engine::of(Worker::builder(database.pool.clone()).slots(0)).await.unwrap_err();
    assert_eq!(refused.to_string(), "slots: 0 is out of range 1 to 10000");
}

#[tokio::test]
async fn an_engine_takes_the_schedules_state_middleware_and_options_of_a_worker() {
    #[derive(Clone)]
    struct Mailer {
        from: String,
    }
    async fn digest(State(mailer): State<Mailer>, ctx: Context) {
        ctx.log(format!("from {}", mailer.from));
    }
    async fn slow(ctx: Context) -> HandlerResult {
        ctx.cancelled().await;
        Err("stopped".into())
    }
    let database = Database::fresh().await;
    let five_minutes = json!({"strategy": "fixed", "base": "5m", "jitter": false});
    let worker = Worker::builder(database.pool.clone())
        .owner("shop")
        .state(Mailer { from: "shop@example.com".to_owned() })
        .schedule("digest", cron("0 6 * * *"), digest)
        .handler_with("slow", slow, HandlerOptions::new().timeout(Duration::from_millis(20)).retry(&five_minutes))
        .around(|ctx, next| async move {
            ctx.log("around");
            next.run(ctx).await
        })
        .on_finish(|_| async { panic!("an engine calls no hooks") });
    let mut engine = Engine::of(worker).await.unwrap();
    assert_eq!(engine.schedule("digest").await.unwrap().managed_by.as_deref(), Some("shop"));

    let ran = engine.run_until(engine.now() + TimeDelta::days(2)).await.unwrap();
    let digests: Vec<_> = ran.iter().map(|ran| (ran.schedule.as_deref(), ran.at.hour(), ran.status)).collect();
    assert_eq!(digests, [(Some("digest"), 6, Status::Normal); 2]);
    assert!(ran.iter().all(|ran| ran.output == ["around", "from shop@example.com"]), "{ran:?}");

    NewRun::new("slow").insert(&engine.pool()).await.unwrap();
    let timed_out = engine.run_due().await.unwrap().remove(0);
    assert_eq!((timed_out.status, timed_out.error.as_deref()), (Status::Pending, Some("timed out: stopped")));
    assert_eq!(timed_out.output, ["around"]);
    assert_eq!(timed_out.again_at, Some(engine.now() + TimeDelta::minutes(5)));

    let needy = Worker::builder(database.pool.clone()).handler("digest", digest);
    let refused = Engine::of(needy).await.unwrap_err().to_string();
    assert!(refused.contains("Mailer"), "{refused}");
}

#[tokio::test]
async fn a_login_that_may_not_make_databases_is_told_what_to_do() {
    let server = Database::empty().await;
    let mut admin = server.connect_admin().await;
    let role = format!("watchbell_test_{}_tester", std::process::id());
    let create = format!("create role \"{role}\" login password 'pw'");
    if sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.is_err() {
        return crate::support::skip("the login may not create roles");
    }
    let options: PgConnectOptions = server.admin_url.parse().unwrap();
    let url = options.username(&role).password("pw").to_url_lossy().to_string();
    let refused = testing::Database::on(&url).await.unwrap_err();
    let drop = format!("drop role \"{role}\"");
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    assert!(matches!(refused, Error::Denied(_)), "{refused}");
    assert!(refused.to_string().contains("ALTER ROLE .. CREATEDB"), "{refused}");
}

#[tokio::test]
async fn what_goes_on_for_ever_is_refused() {
    let database = Database::fresh().await;
    let again = || async { snooze(Duration::ZERO) };
    let mut engine = engine(&database, Registry::new().handler("again", again)).await;
    NewRun::new("again").insert(&engine.pool()).await.unwrap();
    let refusal = engine.run_due().await.unwrap_err().to_string();
    assert!(
        refusal.starts_with("still not done after 100 attempts, the last of run 1, handler \"again\""),
        "{refusal}"
    );
}

#[tokio::test]
async fn time_only_goes_forward() {
    let database = Database::fresh().await;
    let mut engine = engine(&database, Registry::new()).await;
    let now = engine.now();
    let refusal = engine.set_now(now - TimeDelta::seconds(1)).await.unwrap_err().to_string();
    assert!(refusal.contains("time only goes forward"), "{refusal}");
    engine.set_now(now).await.unwrap();
    engine.run_due().await.unwrap();
    assert_eq!(engine.now(), now, "the database's clock is behind a time that was set ahead");
    // the next engine on the database finds the time where it stands
    let next = Engine::new(database.pool.clone(), Registry::new()).await.unwrap();
    assert_eq!(next.now(), now);
}

#[tokio::test]
async fn a_failed_assertion_says_what_was_there() {
    let database = Database::fresh().await;
    let engine = engine(&database, Registry::new().handler("mail", sent)).await;
    let empty = panic_of(engine.enqueued().handler("mail").assert_one()).await;
    assert!(
        empty.starts_with("expected 1 pending run of handler \"mail\", found 0; there are no runs at all"),
        "{empty}"
    );
    assert!(empty.contains("tests/it/testing.rs:"), "{empty}");

    let mail = NewRun::new("mail").payload(&json!({"to": {"name": "A"}, "n": 1})).unwrap();
    mail.clone().delay(5 * MINUTE).insert(&engine.pool()).await.unwrap();
    mail.tags(["vip"]).insert(&engine.pool()).await.unwrap();
    NewRun::new("fax").insert(&engine.pool()).await.unwrap();

    let selection = engine.enqueued().handler("mail").payload(json!({"to": {"name": "A"}}));
    let two = selection.clone().assert_count(2).await;
    assert!(two[0].id < two[1].id);
    selection.clone().tag("vip").due_by(engine.now()).assert_one().await;
    selection.clone().payload(json!({"to": "B"})).assert_none().await;
    let text = panic_of(selection.assert_one()).await;
    for part in [
        "expected 1 pending run of handler \"mail\" with a payload that contains {\"to\":{\"name\":\"A\"}}, found 2; there are:",
        "\n* run 1 \"mail\" pending, due in 5m {",
        "\n* run 2 \"mail\" pending, due now {",
        "\n  run 3 \"fax\" pending, due now, no such handler in this engine {}",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let ran = engine.runs().assert_none();
    assert!(panic_of(ran).await.starts_with("expected 0 runs, found 3"));
}

#[tokio::test]
async fn a_database_of_a_test_goes_with_it() {
    let server = Database::empty().await;
    let fresh = testing::Database::on(&server.admin_url).await.unwrap();
    let mut engine = Engine::new(fresh.pool(), Registry::new().handler("mail", sent)).await.unwrap();
    engine.advance(HOUR).await.unwrap();
    // its pool lives at the set time
    NewRun::new("mail").delay(MINUTE).insert(&fresh.pool()).await.unwrap();
    assert!(engine.run_due().await.unwrap().is_empty());

    let mut outside = PgConnection::connect(&fresh.url()).await.unwrap();
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut outside).await.unwrap();
    sqlx::query("create table mine (id integer)").execute(&mut outside).await.unwrap();
    outside.close().await.unwrap();
    drop(engine);
    fresh.pool().close().await;
    let copy = testing::Database::copy_of(&server.admin_url, &name).await.unwrap();
    sqlx::query("select id from mine").execute(&copy.pool()).await.unwrap();
    drop((copy, fresh));

    let left = "select count(*) from pg_database where datname = $1";
    let mut admin = server.connect_admin().await;
    let left: i64 = sqlx::query_scalar(left).bind(&name).fetch_one(&mut admin).await.unwrap();
    assert_eq!(left, 0, "{name} is still there");
    let refused = testing::Database::on("postgres://nobody@127.0.0.1:1/x").await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
}

/// What an assertion says when it fails.
async fn panic_of<T>(assertion: impl Future<Output = T>) -> String {
    let panic = AssertUnwindSafe(assertion).catch_unwind().await.err().expect("the assertion held");
    panic.downcast_ref::<String>().cloned().expect("its message is formatted")
}

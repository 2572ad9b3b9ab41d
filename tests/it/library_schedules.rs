//! One line adds a job: schedules that a program declares in its code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use watchbell::client::{Change, Declaration, Declared, NewSchedule};
use watchbell::schedule::Overlap;
use watchbell::worker::Builder;
use watchbell::{Context, Error, Tx, Worker, cron, fixed_delay, fixed_rate, hours, minutes, once, seconds};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(30);

async fn nothing() {}

async fn refusal(worker: Builder) -> String {
    let error = worker.run(async {}).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. } | Error::Conflict(_)), "{error:?}");
    error.to_string()
}

/// No server: what is wrong in the code is found before anyone connects.
fn unconnected() -> Builder {
    Worker::builder(PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap())
}

async fn names(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select name from watchbell.schedules order by name").fetch_all(pool).await.unwrap()
}

async fn declare(pool: &PgPool, declaration: Declaration) -> watchbell::Result<Declared> {
    declaration.apply(&mut pool.acquire().await.unwrap()).await
}

#[tokio::test]
async fn one_line_adds_a_job_of_each_kind() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(
        hand(pool, "one-line")
            .schedule("nightly", cron("0 2 * * *").timezone("Europe/Paris"), nothing)
            .schedule("sync", fixed_delay(minutes(5)), nothing)
            .schedule("beat", fixed_rate(seconds(1)).overlap(Overlap::Skip), nothing)
            .schedule("first", once(seconds(0)), |ctx: Context| async move {
                assert_eq!((ctx.schedule(), ctx.handler()), (Some("first"), "first"));
            })
            .schedule_transactional("within", once(seconds(0)), |mut tx: Tx| async move {
                sqlx::query("select 1").execute(&mut *tx).await.map(drop)
            }),
    );
    let ran = |name: &str| {
        format!("exists (select from watchbell.runs where schedule_name = '{name}' and status = 'normal')")
    };
    for name in ["beat", "first", "within"] {
        until_true(pool, &ran(name), SOON).await;
    }
    assert_eq!(names(pool).await, ["beat", "first", "nightly", "sync", "within"]);
    let said: bool = one(
        pool,
        "select bool_and(managed_by = 'app' and handler = name and declared_version = 0) and \
                bool_or(timezone = 'Europe/Paris' and cron = '0 2 * * *') and bool_or(overlap = 'skip') \
         from watchbell.schedules",
    )
    .await;
    assert!(said);
    worker.stop().await;
}

#[tokio::test]
async fn several_schedules_share_a_handler_and_give_it_typed_payloads() {
    #[derive(Serialize, Deserialize)]
    struct Region {
        region: String,
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let report = |of: Region, ctx: Context| async move { ctx.log(of.region) };
    let of = |region: &str| once(seconds(0)).payload(&Region { region: region.to_owned() });
    let worker = start(
        hand(pool, "shared")
            .handler("report", report)
            .declare(NewSchedule::new("report-eu", of("eu"), "report"))
            .declare(NewSchedule::new("report-us", of("us"), "report")),
    );
    let both = "select count(*) = 2 from watchbell.runs where handler = 'report' and status = 'normal'";
    until_true(pool, both, SOON).await;
    worker.stop().await;
    let payloads: String =
        one(pool, "select string_agg(payload->>'region', ' ' order by name) from watchbell.schedules").await;
    assert_eq!(payloads, "eu us");
}

#[tokio::test]
async fn a_second_start_leaves_what_is_the_same_untouched() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let release =
        || hand(pool, "again").schedule("nightly", cron("@daily"), nothing).schedule("later", once(hours(1)), nothing);
    let mut seen = vec![];
    for _ in 0..2 {
        let worker = start(release());
        until_true(pool, "select count(*) = 2 from watchbell.schedules where status = 'normal'", SOON).await;
        worker.stop().await;
        let rows =
            "select string_agg(format('%s %s %s', xmin, version, run_at), ', ' order by name) from watchbell.schedules";
        seen.push(one::<String>(pool, rows).await);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_relative_start_declared_by_three_replicas_is_one_schedule() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let calls = Arc::new(AtomicU32::new(0));
    let replica = |name: &str| {
        let calls = Arc::clone(&calls);
        let count = move || {
            calls.fetch_add(1, Ordering::Relaxed);
            nothing()
        };
        let wait = seconds(100_000);
        let rate = fixed_rate(hours(1)).starts_in(hours(2));
        start(
            hand(pool, name)
                .schedule("soon", once(seconds(1)), count)
                .schedule("far", once(wait), nothing)
                .schedule("rate", rate, nothing),
        )
    };
    let replicas = ["a", "b", "c"].map(replica);
    until_true(pool, "select count(*) = 3 from watchbell.workers where state = 'running'", SOON).await;
    until_true(pool, "select status = 'done' from watchbell.schedules where name = 'soon'", SOON).await;
    until_true(pool, "select count(*) = 1 from watchbell.runs where status = 'normal'", SOON).await;
    let anchors = "select string_agg(coalesce(run_at, starts_at)::text, ' ' order by name) from watchbell.schedules";
    let before: String = one(pool, anchors).await;
    // a later start, of one that asks for another moment even
    let late = start(hand(pool, "d").schedule("far", once(seconds(5)), nothing));
    until_true(pool, "select count(*) = 4 from watchbell.workers where state = 'running'", SOON).await;
    assert_eq!(one::<String>(pool, anchors).await, before);
    late.stop().await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_schedule_of_another_owner_stops_the_start_unless_it_is_adopted() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    sqlx::query(
        "insert into watchbell.schedules (name, cron, handler, managed_by, declared_version) \
         values ('by-hand', '@daily', 'h', null, null), ('theirs', '@daily', 'h', 'payroll', 9)",
    )
    .execute(pool)
    .await
    .unwrap();
    let billing = |name: &str| {
        hand(pool, "billing").owner("billing").schedule("new", cron("@daily"), nothing).schedule(
            name,
            cron("@hourly"),
            nothing,
        )
    };
    assert_eq!(
        refusal(billing("theirs")).await,
        "schedule \"theirs\" is managed by \"payroll\", so \"billing\" does not change it; take it over with \
         adopt(true), or choose another name"
    );
    assert_eq!(
        refusal(billing("by-hand")).await,
        "schedule \"by-hand\" was not declared by a program (managed_by is null), so \"billing\" does not change it; \
         take it over with adopt(true), or choose another name"
    );
    assert_eq!(names(pool).await, ["by-hand", "theirs"], "all or nothing");
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.workers").await, 0);

    for name in ["theirs", "by-hand"] {
        billing(name).adopt(true).run(async {}).await.unwrap();
        let row =
            "select bool_and(cron = '@hourly') from watchbell.schedules where managed_by = 'billing' and name <> 'new'";
        assert!(one::<bool>(pool, row).await, "{name}");
    }
}

#[tokio::test]
async fn replicas_of_two_releases_do_not_change_schedules_to_and_fro() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let release = |version, times: &str| {
        Declaration::of("app").version(version).schedule(NewSchedule::cron("nightly", times, "report"))
    };
    let cron = async || one::<String>(pool, "select cron from watchbell.schedules").await;
    let change = |declared: Declared| match () {
        () if !declared.inserted.is_empty() => Some(Change::Inserted),
        () if !declared.updated.is_empty() => Some(Change::Updated),
        () if !declared.unchanged.is_empty() => Some(Change::Unchanged),
        () => declared.newer.is_empty().then(|| panic!("nothing was declared")),
    };
    assert_eq!(change(declare(pool, release(2, "0 2 * * *")).await.unwrap()), Some(Change::Inserted));
    // replicas of the old release restart in between: nothing moves
    for _ in 0..2 {
        assert_eq!(change(declare(pool, release(1, "0 1 * * *")).await.unwrap()), None);
        assert_eq!(change(declare(pool, release(2, "0 2 * * *")).await.unwrap()), Some(Change::Unchanged));
    }
    // neither does a release from before versions were given
    assert_eq!(change(declare(pool, release(0, "0 0 * * *")).await.unwrap()), None);
    assert_eq!(change(declare(pool, release(3, "0 3 * * *")).await.unwrap()), Some(Change::Updated));
    assert_eq!(cron().await, "0 3 * * *");
}

#[tokio::test]
async fn what_is_no_longer_declared_is_named_and_removed_only_on_request() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let release = |version, names: &[&str]| {
        let schedules = names.iter().map(|&name| NewSchedule::cron(name, "@daily", "report"));
        schedules.fold(Declaration::of("app").version(version), Declaration::schedule)
    };
    NewSchedule::cron("by-hand", "@daily", "report").insert(pool).await.unwrap();
    declare(pool, Declaration::of("other").schedule(NewSchedule::cron("theirs", "@daily", "report"))).await.unwrap();
    declare(pool, release(1, &["a", "b", "c"])).await.unwrap();
    let named = declare(pool, release(2, &["a"])).await.unwrap();
    assert_eq!((named.undeclared, named.removed), (vec!["b".to_owned(), "c".to_owned()], vec![]));
    assert_eq!(names(pool).await, ["a", "b", "by-hand", "c", "theirs"]);

    declare(pool, release(3, &["a", "new"])).await.unwrap();
    // the older release neither removes nor names what the newer one brought
    let old = declare(pool, release(2, &["a"]).remove_undeclared(true)).await.unwrap();
    assert_eq!((old.undeclared, old.removed), (vec![], vec!["b".to_owned(), "c".to_owned()]));
    assert_eq!(names(pool).await, ["a", "by-hand", "new", "theirs"]);

    // an application that has none left still looks after its own
    let last = hand(pool, "last").owner("app").declared_version(4).remove_undeclared(true).handler("x", nothing);
    last.run(async {}).await.unwrap();
    assert_eq!(names(pool).await, ["by-hand", "theirs"]);
}

#[tokio::test]
async fn a_bad_schedule_stops_the_start_with_its_name_and_the_reason() {
    let bad = [
        (
            unconnected().schedule("nightly", cron("0 25 * * *"), nothing),
            "schedule \"nightly\": invalid cron expression \"0 25 * * *\": hour \"25\" is out of range 0-23",
        ),
        (
            unconnected().schedule("fast", fixed_delay(Duration::from_millis(10)), nothing),
            "schedule \"fast\": fixed_delay 10ms is shorter than the least of 1s",
        ),
        (
            unconnected().schedule("list", cron("@daily").payload(&[1, 2]), nothing),
            "schedule \"list\": payload must be a JSON object (got array)",
        ),
        (
            unconnected().schedule("two words", cron("@daily"), nothing),
            "schedule \"two words\": this is not a valid name",
        ),
        (
            unconnected().handler("h", nothing).declare(NewSchedule::cron("typo", "@daily", "hh")),
            "schedule \"typo\": no handler \"hh\" is registered in this worker",
        ),
        (
            unconnected()
                .handler("h", nothing)
                .declare(NewSchedule::cron("twice", "@daily", "h"))
                .declare(NewSchedule::cron("twice", "@hourly", "h")),
            "schedule \"twice\": is declared twice",
        ),
        (
            unconnected().schedule("a", cron("@daily"), nothing).remove_undeclared(true),
            "remove_undeclared: wants an owner(..): without one, schedules of other applications could be meant",
        ),
        (unconnected().owner("").handler("h", nothing), "owner: \"\" must have 1 to 256 bytes"),
    ];
    for (worker, sentence) in bad {
        assert_eq!(refusal(worker).await, sentence);
    }
    // and one that only the database refuses: nothing of the others stays, nor of its handlers
    let database = Database::fresh().await;
    let worker = hand(&database.pool, "bad").schedule("good", cron("@daily"), nothing);
    let sentence = refusal(worker.schedule("wrong", cron("@daily").priority(11), nothing)).await;
    assert_eq!(sentence, "schedule \"wrong\": priority 11 is out of range 0-9 (0 runs first)");
    assert!(names(&database.pool).await.is_empty());
    assert_eq!(one::<i64>(&database.pool, "select count(*) from watchbell.handlers").await, 0);
}

#[tokio::test]
async fn replicas_that_declare_in_any_order_at_the_same_moment_do_not_deadlock() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let release = |turn: usize| {
        let mut schedules: Vec<_> = (0..12).map(|n| NewSchedule::cron(format!("s{n}"), "@daily", "report")).collect();
        schedules.rotate_left(turn * 5 % 12);
        if turn % 2 == 1 {
            schedules.reverse();
        }
        // every second one changes them all
        let priority = i16::try_from(turn % 2).unwrap();
        let schedules = schedules.into_iter().map(|schedule| schedule.priority(priority));
        schedules.fold(Declaration::of("app"), Declaration::schedule)
    };
    // and a worker that fires and finishes what they declare
    let worker = start(hand(pool, "busy").schedule("beat", fixed_rate(seconds(1)), nothing).owner("beat"));
    let all: Vec<_> = (0..8)
        .map(|turn| {
            let (pool, release) = (pool.clone(), release(turn));
            tokio::spawn(async move {
                for _ in 0..5 {
                    declare(&pool, release.clone()).await.unwrap();
                }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    worker.stop().await;
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.schedules").await, 13);
    assert_eq!(
        one::<i64>(pool, "select count(distinct priority) from watchbell.schedules where name <> 'beat'").await,
        1
    );
}

#[tokio::test]
async fn a_declaration_waits_for_an_edit_that_is_about_to_commit() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let release = Declaration::of("app").schedule(NewSchedule::cron("nightly", "@daily", "report"));
    declare(pool, release.clone()).await.unwrap();
    let mut person = pool.begin().await.unwrap();
    sqlx::query("update watchbell.schedules set cron = '@hourly'").execute(&mut *person).await.unwrap();
    let theirs = pool.clone();
    let declaring = tokio::spawn(async move { declare(&theirs, release).await });
    let waits = "exists (select from pg_locks where not granted and database = (select oid from pg_database where \
                 datname = current_database()) or not granted and locktype = 'transactionid')";
    until_true(pool, waits, SOON).await;
    person.commit().await.unwrap();
    assert_eq!(declaring.await.unwrap().unwrap().updated, ["nightly"]);
}

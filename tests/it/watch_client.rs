//! A program declares its watches, reads them and steers them.

use serde_json::{Value, json};
use watchbell::client::{self, Change, Declaration, NewSchedule, NewWatch, Step, Watches};
use watchbell::worker::Builder;
use watchbell::{Error, Watch, cron, millis, minutes, seconds};

use crate::support::Database;
use crate::support::ask::one;
use crate::support::crew::{hand, start};

async fn nothing() {}

async fn database() -> Database {
    let database = Database::fresh().await;
    let tables = "create table public.hosts (id int primary key, state text not null default 'new', at timestamptz, n int); \
                  create table public.models (name text primary key, status text not null default 'pending')";
    sqlx::raw_sql(tables).execute(&database.pool).await.unwrap();
    database
}

fn hosts() -> Watch {
    Watch::table("hosts").status("state").from("new").via("busy").to("ready").on_error("broken").since("at")
}

fn models() -> Watch {
    Watch::table("public.models")
        .step(Step::from("pending").via("loading").to("loaded").handler("load").timeout(minutes(30)))
        .step(Step::from("loaded").to("normal").handler("train").max_attempts(1).timeout(None))
}

#[tokio::test]
async fn a_definition_becomes_a_row_of_the_same_words() {
    let database = database().await;
    let hosts = hosts()
        .handler("init")
        .key(["id"])
        .payload(&json!({"big": 12_345_678_901_234_567_890_u64}))
        .retry(&json!({"strategy": "fixed", "base": "1s"}))
        .rate(10, seconds(60))
        .max_running(5)
        .batch_size(7)
        .order_by("n desc")
        .filter("n is not null")
        .poll_interval(millis(250))
        .leased()
        .tags(["a b"])
        .owner("anna");
    let wanted = NewWatch::new("hosts", hosts).managed_by("me");
    assert_eq!(wanted.upsert(&database.pool).await.unwrap(), Change::Inserted);
    assert_eq!(wanted.upsert(&database.pool).await.unwrap(), Change::Unchanged);
    let row: Value = one(&database.pool, "select to_jsonb(w) from watchbell.watches w").await;
    for (column, value) in [
        ("table_name", json!("public.hosts")),
        ("handler", json!("init")),
        ("from_state", json!("new")),
        ("via_state", json!("busy")),
        ("to_state", json!("ready")),
        ("error_state", json!("broken")),
        ("since_column", json!("at")),
        ("rate_limit", json!(10)),
        ("rate_period", json!("00:01:00")),
        ("max_running", json!(5)),
        ("batch_size", json!(7)),
        ("order_by", json!("n desc")),
        ("poll_interval", json!("00:00:00.25")),
        ("mode", json!("leased")),
        ("timeout", json!("01:00:00")),
        ("version", json!(1)),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let again = NewWatch::new("hosts", Watch::table("hosts").status("state")).insert(&database.pool).await.unwrap_err();
    assert!(matches!(again, Error::Conflict(_)), "{again}");
}

#[tokio::test]
async fn steps_become_transitions_and_are_read_back() {
    let database = database().await;
    NewWatch::new("models", models()).insert(&database.pool).await.unwrap();
    let transitions: Value = one(&database.pool, "select transitions from watchbell.watches").await;
    assert_eq!(
        transitions,
        json!([
            {"from": "pending", "via": "loading", "to": "loaded", "handler": "load", "timeout": "1800000000 us"},
            {"from": "loaded", "to": "normal", "handler": "train", "max_attempts": 1, "timeout": null},
        ])
    );
    let row = Watches::new().name("models").fetch(&database.pool).await.unwrap().remove(0);
    let steps: Vec<_> = row.steps.iter().map(|s| (s.from.as_str(), s.via.as_deref(), s.to.as_str())).collect();
    assert_eq!(steps, [("pending", Some("loading"), "loaded"), ("loaded", None, "normal")]);
    assert_eq!((row.status.as_str(), row.done, row.timeout), ("pending", 0, Some(chrono::TimeDelta::hours(1))));
    sqlx::query("insert into public.models (name, status) values ('a', 'failed')")
        .execute(&database.pool)
        .await
        .unwrap();
    assert!(client::retry_watched_row(&database.pool, "models", &["a"]).await.unwrap());
    let counts = client::watch_counts(&database.pool, "models").await.unwrap();
    assert_eq!((counts[0].state.as_str(), counts[0].rows), ("pending", Some(1)));
    let tried = client::test_watch(&database.pool, "models", 5).await.unwrap();
    assert_eq!(tried[0].keys.as_ref().unwrap().get(), r#"[["a"]]"#);
    assert!(client::watch_errors(&database.pool, "models", None, 5).await.unwrap().is_empty());
    let unknown = client::unwatch(&database.pool, "model").await.unwrap_err();
    assert_eq!(unknown.to_string(), "watch \"model\" does not exist; did you mean \"models\"?");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    for (watch, problem) in [
        (models().handler("x"), "from, via, to and handler belong to its steps, since it has some"),
        (models().step(Step::from("x")), "step 3: has no \"to\""),
        (hosts().payload(&[1]), "payload must be a JSON object (got array)"),
        (hosts().retry(&json!({"base": "soon"})), "retry"),
        (hosts().poll_interval(millis(1)), "poll_interval 1ms is shorter than the least of 100ms"),
        (hosts().steps_json("[{"), "transitions are not valid JSON"),
    ] {
        let refused = Declaration::of("a").watch(NewWatch::new("x", watch)).check().unwrap_err().to_string();
        assert!(refused.starts_with("watch \"x\": ") && refused.contains(problem), "{refused}");
    }
}

#[tokio::test]
async fn watches_and_schedules_are_declared_together_or_not_at_all() {
    let database = database().await;
    let mut connection = database.connect().await;
    let both = |watch: Watch| {
        Declaration::of("shop")
            .schedule(NewSchedule::new("nightly", cron("@daily"), "report"))
            .watch(NewWatch::new("hosts", watch.handler("init")))
    };
    let wrong = both(Watch::table("public.host")).apply(&mut connection).await.unwrap_err();
    assert_eq!(wrong.to_string(), "watch \"hosts\": table public.host does not exist (Did you mean public.hosts?)");
    assert_eq!(one::<i64>(&database.pool, "select count(*) from watchbell.schedules").await, 0);
    let declared = both(hosts()).apply(&mut connection).await.unwrap();
    assert_eq!((declared.inserted, declared.watches.inserted), (vec!["nightly".to_owned()], vec!["hosts".to_owned()]));
    let other = Declaration::of("other").watch(NewWatch::new("hosts", hosts())).apply(&mut connection).await;
    assert!(other.unwrap_err().to_string().contains("is managed by \"shop\""));
    let gone = Declaration::of("shop").remove_undeclared(true).apply(&mut connection).await.unwrap();
    assert_eq!(gone.watches.removed, ["hosts"]);
    assert_eq!(one::<i64>(&database.pool, "select count(*) from watchbell.watches").await, 0);
}

#[tokio::test]
async fn a_worker_declares_its_watches_at_its_start() {
    let database = database().await;
    let pool = &database.pool;
    let worker = start(
        hand(pool, "w")
            .owner("shop")
            .watch("hosts", hosts(), nothing)
            .handler("load", nothing)
            .handler("train", nothing)
            .declare_watch(NewWatch::new("models", models())),
    );
    let declared = "select count(*) = 2 from watchbell.watches where managed_by = 'shop'";
    crate::support::wait::until_true(pool, declared, std::time::Duration::from_secs(30)).await;
    worker.stop().await;
    let missing: Builder = hand(pool, "w").handler("load", nothing).declare_watch(NewWatch::new("models", models()));
    let refused = missing.run(async {}).await.unwrap_err();
    assert_eq!(refused.to_string(), "watch \"models\": no handler \"train\" is registered in this worker");
}

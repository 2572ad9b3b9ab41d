//! What a person calls in psql about a watch does what it says.

use serde_json::Value;

use crate::rows::refusal;
use crate::support::{Scene, skip};

/// Twenty models: three pending, seven failed, ten done; a key of two columns and an enum.
async fn models() -> Scene {
    let mut scene = Scene::new().await;
    scene
        .psql(
            "create type public.st as enum ('pending', 'loading', 'loaded', 'normal', 'failed'); \
             create table public.models (a int, b text, status public.st default 'pending', since timestamptz default now(), \
                                         primary key (a, b)); \
             insert into public.models \
             select i, 'n,m', (case when i <= 3 then 'pending' when i <= 10 then 'failed' else 'normal' end)::public.st \
             from generate_series(1, 20) i; \
             insert into watchbell.handlers (name) values ('load'), ('train')",
        )
        .await;
    let id: i64 = scene
        .value(
            "select watchbell.watch('public.models', since_column => 'since', transitions => '[ \
                 {\"from\": \"pending\", \"via\": \"loading\", \"to\": \"loaded\", \"handler\": \"load\"}, \
                 {\"from\": \"loaded\", \"to\": \"normal\", \"handler\": \"train\"}]')",
        )
        .await;
    assert_eq!(id, 1);
    scene
}

#[tokio::test]
async fn watch_inserts_then_updates_then_leaves_alone() {
    let mut scene = models().await;
    scene.psql("create table public.hosts (id int primary key, status text)").await;
    let id: i64 = scene.value("select watchbell.watch('hosts', 'load')").await;
    assert_eq!(scene.value::<i64>("select watchbell.watch('public.hosts', 'load')").await, id);
    assert_eq!(scene.value::<i64>("select watchbell.watch('hosts', 'train', batch_size => 5)").await, id);
    scene.psql("select watchbell.pause_watch('hosts', 'why')").await;
    assert_eq!(scene.value::<i64>("select watchbell.watch('hosts', 'load')").await, id);
    let row: Value = scene.value("select to_jsonb(w) from watchbell.watches w where name = 'hosts'").await;
    assert_eq!(
        (row["version"].as_i64(), row["batch_size"].as_i64(), row["pause_note"].as_str()),
        (Some(3), Some(100), Some("why")),
        "what is not said has its default, and a pause stays"
    );
}

#[tokio::test]
async fn watch_takes_every_column_that_people_write() {
    let mut scene = Scene::new().await;
    let missing: Vec<String> = scene
        .values(
            "select a.attname::text from pg_attribute a
             where a.attrelid = 'watchbell.watches'::regclass and a.attnum > 0 and not a.attisdropped
               and a.attname <> all (select unnest(proargnames) from pg_proc
                                     where oid = 'watchbell.watch'::regproc)
               and watchbell.written_by_people(jsonb_build_object(a.attname, 1)) is not null",
        )
        .await;
    assert_eq!(missing, ["paused_at", "paused_by", "paused_until", "pause_note"]);
}

#[tokio::test]
async fn rows_are_counted_in_each_state_in_the_order_of_the_steps() {
    let mut scene = models().await;
    let count = "select format('%s %s %s %s %s', state, role, rows, capped, oldest is not null) \
                 from watchbell.watch_counts('models', cap => 9)";
    assert_eq!(
        scene.values::<String>(count).await,
        [
            "pending waiting 3 f t",
            "loading working 0 f f",
            "loaded waiting 0 f f",
            "normal done 9 t t",
            "failed failed 7 f t"
        ]
    );
    let mut admin = scene.database.connect_admin().await;
    let large = "update pg_class set reltuples = 2e6 where oid = 'public.models'::regclass";
    if sqlx::query(large).execute(&mut admin).await.is_err() {
        return skip("making a table look large takes a superuser");
    }
    let unknown: Vec<String> =
        scene.values("select state from watchbell.watch_counts('models') where rows is null").await;
    assert_eq!(unknown, ["pending", "loading", "loaded", "normal", "failed"], "nothing leads to them but the table");
    scene.psql("create index on public.models (a, b) where status = 'pending'").await;
    sqlx::query(large).execute(&mut admin).await.unwrap();
    let known = "select rows from watchbell.watch_counts('models') where state = 'pending'";
    assert_eq!(scene.value::<i64>(known).await, 3);
}

#[tokio::test]
async fn a_failed_row_goes_back_to_the_step_that_failed() {
    let mut scene = models().await;
    scene
        .psql(
            "insert into watchbell.watch_errors (watch_id, key, step, attempt, kind, message, at) values \
             (1, '{5,\"n,m\"}', 'pending', 1, 'error', 'no', now() - interval '1 min'), \
             (1, '{5,\"n,m\"}', 'loaded', 3, 'error', 'no', now()); \
             insert into watchbell.watch_claims (watch_id, key, step, attempt) values (1, '{6,\"n,m\"}', 'pending', 3)",
        )
        .await;
    let state = "select status::text from public.models where a = ";
    assert_eq!(scene.value::<i64>("select watchbell.retry_watch('models', key => '{5,\"n,m\"}')").await, 1);
    assert_eq!(scene.value::<String>(format!("{state}5")).await, "loaded");
    assert_eq!(scene.value::<i64>("select watchbell.retry_watch('models', key => '{1,\"n,m\"}')").await, 0);
    // a row that somebody has locked is left out
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; select * from public.models where a = 7 for update").execute(&mut other).await.unwrap();
    assert_eq!(scene.value::<i64>("select watchbell.retry_watch('models', max => 3)").await, 3);
    assert_eq!(scene.value::<i64>("select watchbell.retry_watch('models')").await, 2);
    assert_eq!(scene.value::<String>(format!("{state}7")).await, "failed");
    assert_eq!(scene.value::<String>(format!("{state}6")).await, "pending");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0, "its attempts begin anew");
    let noted = "select after from watchbell.activity where what = 'retry_watch' order by id desc limit 1";
    assert_eq!(scene.value::<Value>(noted).await["rows"], 2);
    let short = refusal(&mut scene.sql, "select watchbell.retry_watch('models', key => '{5}')").await;
    assert_eq!(short.message, "key {5} is not of 2 columns");
}

#[tokio::test]
async fn a_failed_row_that_is_named_by_a_moment_is_known_in_every_time_zone() {
    let mut scene = Scene::new().await;
    scene
        .psql(
            "create table public.days (at timestamptz primary key, status text not null); \
             insert into public.days values ('2031-01-01 00:00Z', 'failed')",
        )
        .await;
    let steps = r#"[{"from": "new", "to": "made", "handler": "a"}, {"from": "made", "to": "normal", "handler": "a"}]"#;
    scene
        .psql(format!(
            "set client_min_messages = error; select watchbell.watch('public.days', transitions => '{steps}')"
        ))
        .await;
    scene
        .psql(
            "insert into watchbell.watch_errors (watch_id, key, step, attempt, kind, message) \
             values (1, '{2031-01-01T00:00:00Z}', 'made', 3, 'error', 'no'); set timezone = 'Asia/Kolkata'",
        )
        .await;
    assert_eq!(scene.value::<i64>("select watchbell.retry_watch('days')").await, 1);
    assert_eq!(scene.value::<String>("select status from public.days").await, "made");
}

#[tokio::test]
async fn a_filter_says_which_column_is_whose() {
    let mut scene = models().await;
    scene
        .psql(
            "create table public.vips (a int); insert into public.vips values (2); \
             update watchbell.watches set transitions = jsonb_set(transitions, '{0,filter}', \
                 '\"exists (select from public.vips v where v.a = models.a)\"')",
        )
        .await;
    let tested: Vec<Value> =
        scene.values("select t.keys from watchbell.test_watch('models') t where t.keys <> '[]'").await;
    assert_eq!(tested, [serde_json::json!([["2", "n,m"]])]);
}

#[tokio::test]
async fn a_test_takes_nothing_and_tells_what_it_would_take() {
    let mut scene = models().await;
    scene.psql("create index on public.models (a, b) where status = 'pending'").await;
    scene.psql("insert into watchbell.watch_claims (watch_id, key, step, claimed_by) values (1, '{1,\"n,m\"}', 'pending', 7)").await;
    let tested: Vec<Value> = scene.values("select to_jsonb(t) from watchbell.test_watch('models') t").await;
    assert_eq!(tested[0]["keys"], serde_json::json!([["2", "n,m"], ["3", "n,m"]]), "without the one in work");
    assert_eq!((&tested[0]["by_index"], &tested[0]["missing_index"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(tested[1]["by_index"], false);
    assert_eq!(
        tested[1]["missing_index"],
        "CREATE INDEX CONCURRENTLY ON public.models (a, b) WHERE status = 'loaded';"
    );
    assert_eq!(scene.value::<i64>("select count(*) from public.models where status = 'pending'").await, 3);
}

#[tokio::test]
async fn a_pause_ends_and_a_watch_goes_with_what_was_remembered_of_its_rows() {
    let mut scene = models().await;
    scene.psql("select watchbell.pause_watch('models', 'why', watchbell.clock() + interval '1 h')").await;
    let status: Value = scene.value("select to_jsonb(s) from watchbell.watch_status s").await;
    assert_eq!((status["pause_note"].as_str(), status["steps"].as_i64()), (Some("why"), Some(2)));
    assert_eq!(status["handlers"], serde_json::json!(["load", "train"]));
    scene.psql("update watchbell.watches set wake_at = 'infinity', status = 'normal'").await;
    scene.psql("select watchbell.resume_watch('models')").await;
    let row: Value = scene.value("select to_jsonb(w) from watchbell.watches w").await;
    assert_eq!((&row["paused_until"], row["wake_at"].as_str()), (&Value::Null, Some("-infinity")));
    scene
        .psql(
            "insert into watchbell.watch_claims (watch_id, key, step) values (1, '{1,b}', 'pending'); \
             insert into watchbell.watch_totals (watch_id, step, worker_id, done) values (1, 'pending', 7, 5)",
        )
        .await;
    assert_eq!(scene.value::<i64>("select done from watchbell.watch_status").await, 5);
    scene.psql("select watchbell.unwatch('models')").await;
    let left = "select (select count(*) from watchbell.watch_claims) + (select count(*) from watchbell.watch_totals)";
    assert_eq!(scene.value::<i64>(left).await, 0);
    let unknown = refusal(&mut scene.sql, "select watchbell.pause_watch('model')").await;
    assert_eq!((unknown.code.as_str(), unknown.message.as_str()), ("P0002", "watch \"model\" does not exist"));
}

#[tokio::test]
async fn the_trigger_of_a_watched_table_tells_those_who_sleep() {
    let mut scene = models().await;
    let mut heard = sqlx::postgres::PgListener::connect(&scene.database.url).await.unwrap();
    heard.listen("watchbell").await.unwrap();
    assert!(scene.value::<bool>("select watchbell.wake_watch('models')").await);
    assert!(!scene.value::<bool>("select watchbell.wake_watch('models')").await);
    scene.psql("update public.models set status = 'pending' where a = 11").await;
    // workers that wait for runs, or for rows of another table, are not meant
    scene.psql("update watchbell.queues set sleepers_until = 'infinity'").await;
    scene.psql("insert into watchbell.watch_sleepers values ('watchbell.queues'::regclass, 'infinity')").await;
    scene.psql("update public.models set status = 'pending' where a = 11").await;
    scene.psql("insert into watchbell.watch_sleepers values ('public.models'::regclass, 'infinity')").await;
    scene.psql("update public.models set b = 'x' where a = 12").await; // not its state
    scene.psql("insert into public.models (a, b) values (21, 'x')").await;
    scene.psql("notify watchbell, 'end'").await;
    let mut payloads = vec![];
    while payloads.last().is_none_or(|last| last != "end") {
        payloads.push(heard.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(payloads, ["watches", "end"], "once, and only when somebody sleeps");
    assert!(scene.value::<bool>("select watchbell.unwake_watch('models')").await);
    assert!(!scene.value::<bool>("select watchbell.unwake_watch('models')").await);
}

#[tokio::test]
async fn a_watch_whose_table_is_gone_says_so() {
    let mut scene = models().await;
    scene.psql("drop table public.models").await;
    for call in ["retry_watch('models')", "watch_counts('models')", "test_watch('models')", "wake_watch('models')"] {
        let refused = refusal(&mut scene.sql, &format!("select * from watchbell.{call}")).await;
        assert_eq!(refused.code, "55000", "{call}");
        assert!(refused.message.contains("table public.models is not there any more"), "{}", refused.message);
    }
    scene.psql("select watchbell.unwatch('models')").await;
}

//! An edit of a watch holds for rows that are taken from then on; those in work, and those that wait, are not lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use watchbell::client::{WatchEdit, Watches};
use watchbell::{Error, HandlerResult, Row, Rows, Tx};

use crate::cli::execute;
use crate::rows::refusal;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, watch};
use crate::support::{Database, Scene};

const HOSTS: &str = "create table hosts (id bigint primary key, code bigint not null unique default 0,
                                         status text not null default 'pending');
    create index on hosts (id) where status = 'pending';
    create table effects (host bigint not null);";

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

#[tokio::test]
async fn rows_in_work_end_as_they_were_taken_and_each_is_called_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    execute(
        &database,
        &format!(
            "{HOSTS} insert into hosts (id, code) select i, i from generate_series(1, 60) i;
             insert into watchbell.watches (name, table_name, handler, via_state, batch_size)
             values ('hosts', 'hosts', 'init', 'busy', 10)"
        ),
    )
    .await;
    let (gate, called) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(vec![])));
    let (opens, calls) = (Arc::clone(&gate), Arc::clone(&called));
    let init = move |host: Row<Host>| {
        let (opens, calls) = (Arc::clone(&opens), Arc::clone(&calls));
        async move {
            calls.lock().unwrap().push(host.id);
            opens.acquire().await.unwrap().forget();
            HandlerResult::Ok(())
        }
    };
    let workers = [("one", 5), ("two", 5)]
        .map(|(name, slots)| start(hand(pool, name).slots(slots).handler("init", init.clone())));
    // the slots, and in each worker as many again as are claimed ahead while handlers were fast
    until_true(pool, "(select count(*) >= 10 from hosts where status = 'busy')", PATIENCE).await;
    let mut connection = pool.acquire().await.unwrap();
    let edit = WatchEdit::of("hosts").set("to_state", "done").set("via_state", "at it").set("batch_size", "3");
    assert_eq!(edit.apply(&mut connection).await.unwrap(), 2);
    gate.add_permits(60);
    until_true(pool, "not exists (select from hosts where status not in ('normal', 'done'))", PATIENCE).await;
    for worker in workers {
        worker.stop().await;
    }
    let mut called = called.lock().unwrap().clone();
    called.sort_unstable();
    assert_eq!(called, (1..=60).collect::<Vec<i64>>(), "each once");
    let by: Vec<(String, i64)> =
        sqlx::query_as("select status, count(*) from hosts group by 1 order by 1").fetch_all(pool).await.unwrap();
    assert!(by[0].0 == "done" && by[1].0 == "normal" && by[1].1 >= 10, "{by:?}");
    until_true(pool, "not exists (select from watchbell.watch_claims)", PATIENCE).await;
}

#[tokio::test]
async fn batches_that_are_open_while_the_watch_is_edited_take_effect_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    execute(
        &database,
        &format!(
            "{HOSTS} insert into hosts (id, code) select i, i from generate_series(1, 2000) i;
             insert into watchbell.watches (name, table_name, handler, batch_size) values ('hosts', 'hosts', 'init', 20)"
        ),
    )
    .await;
    let batches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&batches);
    let init = move |mut tx: Tx, rows: Rows<Host>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let insert = sqlx::query("insert into effects select unnest($1::bigint[]) from pg_sleep(0.01)");
            insert.bind(ids).execute(&mut *tx).await?;
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(pool, "one").transactional("init", init));
    let mut connection = pool.acquire().await.unwrap();
    for n in 1..=10 {
        until_true(pool, &format!("(select count(*) > {n} * 100 from effects)"), PATIENCE).await;
        let edit = WatchEdit::of("hosts").set("batch_size", (10 + n).to_string());
        // by another key from time to time, under the same rows
        let edit = if n % 2 == 0 { edit.set("key_columns", "{code}") } else { edit.unset("key_columns") };
        edit.apply(&mut connection).await.unwrap();
    }
    until_true(pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;
    worker.stop().await;
    let counts: (i64, i64) =
        sqlx::query_as("select count(*), count(distinct host) from effects").fetch_one(pool).await.unwrap();
    assert_eq!(counts, (2000, 2000), "in {} batches", batches.load(Ordering::Relaxed));
}

/// A watch with a claim that waits; in work, if a worker is given.
async fn claimed(worker: &str) -> (Scene, i64) {
    let mut scene = Scene::new().await;
    scene.psql(format!("{HOSTS} insert into hosts (id, code) values (1, 7), (2, 8)")).await;
    let id = watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'init'").await;
    let claim = "insert into watchbell.watch_claims (watch_id, key, step, attempt, claimed_by)";
    scene
        .psql(format!("{claim} values ({id}, '{{1}}', 'pending', 1, null), ({id}, '{{2}}', 'pending', 1, {worker})"))
        .await;
    (scene, id)
}

#[tokio::test]
async fn another_key_or_table_forgets_the_rows_that_wait_and_the_same_key_does_not() {
    let (mut scene, _) = claimed("null").await;
    let claims = "select count(*) from watchbell.watch_claims";
    scene.psql("set client_min_messages = error").await;
    for same in
        ["key_columns = '{id}'", "key_columns = null", "table_name = 'hosts'", "filter = 'id > 0', batch_size = 7"]
    {
        scene.psql(format!("update watchbell.watches set {same}")).await;
        assert_eq!(scene.value::<i64>(claims).await, 2, "{same}");
    }
    scene.psql("update watchbell.watches set key_columns = '{code}'").await;
    assert_eq!(scene.value::<i64>(claims).await, 0);

    let (mut scene, _) = claimed("null").await;
    scene
        .psql("create table machines (like hosts including all); update watchbell.watches set table_name = 'machines'")
        .await;
    assert_eq!(scene.value::<i64>(claims).await, 0);
}

#[tokio::test]
async fn a_key_is_not_changed_under_rows_in_work() {
    let (mut scene, id) = claimed("1").await;
    let said = refusal(&mut scene.sql, "update watchbell.watches set key_columns = '{code}'").await;
    let sentence = "watch \"hosts\": 1 row is in work under the old key; pause it, and change its key when none is";
    assert!(said.message == sentence, "{}", said.message);
    let said = WatchEdit::of("hosts").set("key_columns", "{code}").apply(&mut scene.sql).await.unwrap_err();
    assert!(matches!(&said, Error::Conflict(message) if message == sentence), "{said}");
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 2, "nothing was forgotten");
    // all else may be
    WatchEdit::of("hosts").set("filter", "code > 7").unset("timeout").apply(&mut scene.sql).await.unwrap();
    scene.psql(format!("update watchbell.watch_claims set claimed_by = null where watch_id = {id}")).await;
    assert_eq!(WatchEdit::of("hosts").set("key_columns", "{code}").apply(&mut scene.sql).await.unwrap(), 3);
}

#[tokio::test]
async fn an_edit_changes_what_it_says_and_names_what_it_cannot() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    execute(
        &database,
        &format!(
            "{HOSTS} insert into watchbell.watches (name, table_name, handler, via_state, filter, max_running, timeout)
             values ('hosts', 'hosts', 'init', 'busy', 'id > 0', 3, '1 min')"
        ),
    )
    .await;
    sqlx::query("set client_min_messages = error").execute(&mut connection).await.unwrap();
    let columns: Vec<String> = sqlx::query_scalar(
        "select a.attname::text from pg_attribute a
         where a.attrelid = 'watchbell.watches'::regclass and a.attnum > 0 and not a.attisdropped
           and a.attname !~ '^pause'
           and watchbell.written_by_people(jsonb_build_object(a.attname, 1)) is not null",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for column in columns.iter().filter(|column| *column != "name") {
        WatchEdit::of("hosts").unset(column).check().unwrap_or_else(|e| panic!("{column}: {e}"));
    }

    let edit = WatchEdit::of("hosts").unset("filter").unset("timeout").set("max_running", "5").set("name", "machines");
    assert_eq!(edit.apply(&mut connection).await.unwrap(), 2);
    let row = Watches::new().name("machines").fetch(&mut connection).await.unwrap().remove(0);
    assert_eq!((row.filter, row.timeout, row.max_running, row.version), (None, None, Some(5), 2));
    assert_eq!(row.steps[0].via.as_deref(), Some("busy"));
    let again = WatchEdit::of("machines").set("max_running", "5");
    assert_eq!(again.apply(&mut connection).await.unwrap(), 2, "the same is no edit");

    let steps = r#"[{"from": "pending", "to": "set up", "handler": "init"}, {"from": "set up", "to": "normal", "handler": "check"}]"#;
    let edit = WatchEdit::of("machines").set("transitions", steps);
    assert_eq!(edit.handlers(), ["init", "check"]);
    edit.apply(&mut connection).await.unwrap();
    let row = Watches::new().name("machines").fetch(&mut connection).await.unwrap().remove(0);
    assert_eq!((row.steps.len(), row.steps[0].via.as_deref()), (2, None), "in place of the handler and its via");
    let refused = WatchEdit::of("machines").set("to_state", "done").apply(&mut connection).await.unwrap_err();
    let said = "from, via, to and handler belong to its steps, since it has some: change these, or unset them";
    assert_eq!(refused.to_string(), format!("watch \"machines\": {said}"));
    let edit = WatchEdit::of("machines").unset("transitions").set("handler", "init");
    edit.apply(&mut connection).await.unwrap();

    for (edit, said) in [
        (WatchEdit::of("machine").set("handler", "x"), "watch \"machine\" does not exist; did you mean \"machines\"?"),
        (
            WatchEdit::of("machines").set("batchsize", "7"),
            "column: \"batchsize\" is none of a watch; did you mean \"batch_size\"?",
        ),
        (WatchEdit::of("machines").set("name", "a b"), "watch \"machines\": this is not a valid name"),
        (
            WatchEdit::of("machines").set("payload", "{x}"),
            "watch \"machines\": payload is not valid JSON: key must be a string at line 1 column 2",
        ),
    ] {
        assert_eq!(edit.apply(&mut connection).await.unwrap_err().to_string(), said);
    }
    for (column, value, said) in [
        ("filter", "idd > 0", "filter: column \"idd\" does not exist"),
        ("batch_size", "1001", "batch_size 1001 is out of range 1-1000"),
        ("status_column", "state", "table public.hosts has no column \"state\""),
        ("table_name", "host", "table host does not exist"),
    ] {
        let refused = WatchEdit::of("machines").set(column, value).apply(&mut connection).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let now = Watches::new().name("machines").fetch(&mut connection).await.unwrap().remove(0);
    assert_eq!(now.version, 4, "what is refused changes nothing");
}

//! Rows that stand at a state of work although nobody works on them are told, and can be put back; what a worker has
//! is never touched.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::sync::Semaphore;
use watchbell::client;
use watchbell::lifecycle::leased::find_faults;
use watchbell::{Context, HandlerResult};

use crate::cli::done;
use crate::rows::refusal;
use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// Six hosts at `busy`: 1 is claimed by a worker, 2 waits with a claim, the others nobody knows of. 7 is pending.
async fn stuck() -> (Scene, i64) {
    let mut scene = hosts(7).await;
    let id =
        watch(&mut scene, "hosts", "table_name, handler, via_state, since_column", "'hosts', 'init', 'busy', 'since'")
            .await;
    scene.psql("update hosts set status = 'busy' where id < 7").await;
    scene
        .psql(format!(
            "insert into watchbell.watch_claims (watch_id, key, step, claimed_by) values \
             ({id}, '{{1}}', 'pending', 7), ({id}, '{{2}}', 'pending', null)"
        ))
        .await;
    (scene, id)
}

const BUSY: &str = "select coalesce(string_agg(id::text, ' ' order by id), '') from hosts where status = 'busy'";

/// What a worker does once a minute: how much is wrong.
async fn look(scene: &mut Scene) -> i64 {
    scene.value("select watchbell.find_watch_faults(id) from watchbell.watches").await
}

async fn told(scene: &mut Scene) -> Vec<String> {
    scene
        .values(
            "select concat_ws(' ', severity, kind, subject || ';', reason, '$', command) from watchbell.attention_watches \
             where kind <> 'unserved_handler'",
        )
        .await
}

#[tokio::test]
async fn rows_that_nobody_has_go_back_and_those_in_work_stay() {
    let (mut scene, _) = stuck().await;
    // somebody has one locked
    let mut other = scene.connect().await;
    sqlx::raw_sql("begin; select from hosts where id = 6 for update").execute(&mut other).await.unwrap();
    assert!(client::release_row(&mut scene.sql, "hosts", &["3"]).await.unwrap());
    assert!(!client::release_row(&mut scene.sql, "hosts", &["1"]).await.unwrap(), "a worker has it");
    assert!(!client::release_row(&mut scene.sql, "hosts", &["7"]).await.unwrap(), "it is where it belongs");
    assert_eq!(client::release_rows(&mut scene.sql, "hosts", 1).await.unwrap(), 1);
    assert_eq!(client::release_rows(&mut scene.sql, "hosts", 1000).await.unwrap(), 2);
    assert_eq!(scene.value::<String>(BUSY).await, "1 6");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    let url = scene.database.url.clone();
    assert_eq!(done(&url, &["watch", "release", "hosts"]), "1\n");
    assert_eq!(done(&url, &["watch", "release", "hosts", "--key", "6"]), "0\n");
    assert_eq!(scene.value::<String>(BUSY).await, "1");
    let since: i64 = scene.value("select count(*) from hosts where status = 'pending' and since is not null").await;
    assert_eq!(since, 5, "the moment of the move, as at any other");
    let noted: Vec<i64> = scene
        .values("select (after->'rows')::bigint from watchbell.activity where what = 'release_rows' order by id")
        .await;
    assert_eq!(noted, [1, 1, 2, 1]);
    let short = refusal(&mut scene.sql, "select watchbell.release_rows('hosts', key => '{5,6}')").await;
    assert_eq!(short.message, "key {5,6} is not of 1 columns");
}

#[tokio::test]
async fn what_any_watch_of_the_table_has_in_work_stays() {
    let (mut scene, id) = stuck().await;
    scene.psql("create unique index on hosts (name, id); alter table hosts alter name set not null").await;
    let other = watch(
        &mut scene,
        "others",
        "table_name, handler, via_state, from_state, key_columns",
        "'hosts', 'init', 'busy', 'waiting', '{name,id}'",
    )
    .await;
    // by another key; and by a watch that was deleted while its worker goes on
    scene
        .psql(format!(
            "insert into watchbell.watch_claims (watch_id, key, step, claimed_by) values \
             ({other}, '{{host 3,3}}', 'waiting', 7), ({other} + 1, '{{4}}', 'pending', 7)"
        ))
        .await;
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 3);
    assert_eq!(scene.value::<String>(BUSY).await, "1 3 4");
    scene.psql(format!("delete from watchbell.watch_claims where watch_id > {id}")).await;
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 2);
}

#[tokio::test]
async fn keys_of_moments_are_told_alike_in_every_time_zone() {
    let mut scene = Scene::new().await;
    scene
        .psql(
            "create table days (at timestamptz, day date, status text default 'pending', primary key (at, day)); \
             insert into days (at, day, status) values ('2031-01-01 00:00:00Z', '2031-01-02', 'busy'), \
                                                       ('2031-02-01 00:00:00Z', '2031-02-02', 'busy')",
        )
        .await;
    let id = watch(&mut scene, "days", "table_name, handler, via_state", "'days', 'init', 'busy'").await;
    scene
        .psql(format!(
            "insert into watchbell.watch_claims (watch_id, key, step, claimed_by) \
             values ({id}, '{{2031-01-01T00:00:00Z,2031-01-02}}', 'pending', 7)"
        ))
        .await;
    scene.psql("set timezone = 'Asia/Kolkata'; set datestyle = 'German'").await;
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('days')").await, 1);
    assert_eq!(scene.value::<i32>("select extract(month from day)::int from days where status = 'busy'").await, 1);
}

#[tokio::test]
async fn rows_that_are_stuck_are_told_until_they_are_released() {
    let (mut scene, _) = stuck().await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    assert_eq!(look(&mut scene).await, 1);
    let all = "critical stuck hosts; 5 of its rows stand at \"busy\" and no worker has them: they stay there until they \
               are released $ watchbell watch release hosts";
    assert_eq!(told(&mut scene).await, [all]);
    scene.psql("select watchbell.release_rows('hosts', max => 4)").await;
    let one = "critical stuck hosts; 1 of its rows stands at \"busy\" and no worker has it: it stays there until it is \
               released $ watchbell watch release hosts";
    assert_eq!(told(&mut scene).await, [one]);
    scene.psql("select watchbell.release_rows('hosts')").await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    assert_eq!(look(&mut scene).await, 0);
}

#[tokio::test]
async fn one_worker_looks_once_a_minute_for_all() {
    let (mut scene, id) = stuck().await;
    assert_eq!(find_faults(&mut scene.sql, id).await.unwrap(), Some(1));
    scene.advance(TimeDelta::seconds(40)).await;
    assert_eq!(find_faults(&mut scene.sql, id).await.unwrap(), None);
    scene.advance(TimeDelta::seconds(20)).await;
    assert_eq!(find_faults(&mut scene.sql, id).await.unwrap(), Some(1));
    scene.psql("select watchbell.unwatch('hosts')").await;
    assert_eq!(find_faults(&mut scene.sql, id).await.unwrap(), None);
    let left = "select (select count(*) from watchbell.watch_looks) + (select count(*) from watchbell.watch_faults)";
    assert_eq!(scene.value::<i64>(left).await, 0);
}

#[tokio::test]
async fn a_state_of_work_that_was_edited_away_stays_known_while_rows_stand_there() {
    let (mut scene, _) = stuck().await;
    scene.psql("update watchbell.watches set via_state = 'working'").await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    assert_eq!(look(&mut scene).await, 1);
    assert!(told(&mut scene).await[0].contains("5 of its rows stand at \"busy\""));
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 5);
    // the one that a worker has may be left there yet
    assert_eq!(look(&mut scene).await, 0);
    let known = "select count(*) from watchbell.watch_faults";
    assert_eq!(scene.value::<i64>(known).await, 1);
    scene.psql("delete from watchbell.watch_claims").await;
    assert_eq!(look(&mut scene).await, 1, "its worker died");
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 1);
    assert_eq!(scene.value::<i64>(known).await, 0);
    scene.psql("update watchbell.watches set via_state = 'busy'; select watchbell.unwatch('hosts')").await;
    assert_eq!(scene.value::<i64>(known).await, 0, "a watch that is gone leaves none behind");
}

#[tokio::test]
async fn a_state_of_work_whose_label_was_renamed_hinders_no_release() {
    let (mut scene, _) = stuck().await;
    scene
        .psql(
            "drop index hosts_pending; create type state as enum ('pending', 'busy', 'normal', 'failed'); \
             alter table hosts alter status drop default, alter status type state using status::state",
        )
        .await;
    scene.psql("alter type state rename value 'busy' to 'working'").await;
    let counts = "select concat_ws(' ', state, rows, problem) from watchbell.watch_counts('hosts')";
    assert_eq!(
        scene.values::<String>(counts).await,
        ["pending 1", "busy 0 \"busy\" is no value of column \"status\"", "normal 0", "failed 0"]
    );
    scene.psql("update watchbell.watches set via_state = 'working'").await;
    assert_eq!(look(&mut scene).await, 1);
    assert!(told(&mut scene).await[0].contains("5 of its rows stand at \"working\""));
    assert_eq!(scene.value::<i64>("select watchbell.release_rows('hosts')").await, 5);
    assert_eq!(scene.value::<i64>("select count(*) from hosts where status = 'pending'").await, 6);
}

#[tokio::test]
async fn a_filter_that_fails_is_told_until_it_does_not() {
    let mut scene = hosts(9).await;
    watch(&mut scene, "hosts", "table_name, handler, filter", "'hosts', 'init', '10 / (id - 7) > 1'").await;
    assert_eq!(look(&mut scene).await, 1);
    let fails = "critical filter_fails hosts; rows in state \"pending\" are not taken: its filter fails: division by zero \
                 $ watchbell watch show hosts";
    assert_eq!(told(&mut scene).await, [fails]);
    scene.psql("delete from hosts where id = 7").await;
    assert_eq!(look(&mut scene).await, 0);
    assert_eq!(told(&mut scene).await, [""; 0]);
}

/// Tables whose keys are of every kind, four rows in each; the last key's text depends on the session.
const KEYS: [(&str, &str, &str); 4] = [
    ("moments", "at timestamptz, day date, plain timestamp", "now() + i * '1.5 h'::interval, current_date + i, now()"),
    (
        "ends",
        "at timestamptz, day date",
        "case i when 1 then 'infinity' when 2 then '-infinity' else now() end, 'infinity'::date - 0 * i",
    ),
    ("numbers", "n numeric, f float8, b boolean", "i + 0.5, i / 3.0, true"),
    ("words", "w named, u uuid, c char(9)", "'O''Brien, \"' || i, gen_random_uuid(), 'x'"),
];

#[tokio::test]
async fn whatever_names_a_row_it_is_known_whether_a_worker_has_it() {
    let mut scene = Scene::new().await;
    scene.psql("create domain named as text").await;
    for (table, columns, values) in KEYS {
        let key: Vec<&str> = columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
        let key = key.join(", ");
        scene
            .psql(format!(
                "create table {table} ({columns}, status text not null default 'pending', primary key ({key})); \
                 insert into {table} select {values} from generate_series(1, 4) i where i < 4 or '{table}' <> 'ends'"
            ))
            .await;
        watch(&mut scene, table, "table_name, handler, via_state", &format!("'{table}', 'wait', 'busy'")).await;
    }
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let wait = move |_: Context| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await?.forget();
            HandlerResult::Ok(())
        }
    };
    let worker = start(hand(&scene.database.pool, "one").slots(30).handler("wait", wait));
    until_true(&scene.database.pool, "(select count(*) = 15 from watchbell.watch_claims)", PATIENCE).await;
    scene.psql("set timezone = 'America/Caracas'; set datestyle = 'SQL, DMY'").await;
    for (table, ..) in KEYS {
        let released: i64 = scene.value(format!("select watchbell.release_rows('{table}')")).await;
        assert_eq!(released, 0, "{table}");
        let busy: i64 = scene.value(format!("select count(*) from {table} where status = 'busy'")).await;
        assert!(busy >= 3, "{table}");
    }
    gate.add_permits(15);
    until_true(&scene.database.pool, "not exists (select from watchbell.watch_claims)", PATIENCE).await;
    worker.stop().await;
    for (table, ..) in KEYS {
        scene.psql(format!("update {table} set status = 'busy'")).await;
        let released: i64 = scene.value(format!("select watchbell.release_rows('{table}')")).await;
        assert!(released >= 3, "{table}: a key that was told is found again");
    }
}

#[tokio::test]
async fn rows_at_work_are_released_by_nobody_however_often_it_is_tried() {
    let mut scene = hosts(400).await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'once', 'busy'").await;
    let pool = scene.database.pool.clone();
    let effects = pool.clone();
    let once = move |ctx: Context| {
        let effects = effects.clone();
        async move {
            let insert = sqlx::query("insert into effects (host) values ($1::bigint)");
            insert.bind(ctx.key().and_then(|key| key[0].parse::<i64>().ok())).execute(&effects).await?;
            HandlerResult::Ok(())
        }
    };
    let workers =
        [start(hand(&pool, "one").handler("once", once.clone())), start(hand(&pool, "two").handler("once", once))];
    let (mut released, mut left) = (0, true);
    while left {
        released += scene.value::<i64>("select watchbell.release_rows('hosts')").await;
        left = scene.value("select exists (select from hosts where status <> 'normal')").await;
    }
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(released, 0);
    assert_eq!(scene.value::<String>("select count(*) || ' ' || count(distinct host) from effects").await, "400 400");
}

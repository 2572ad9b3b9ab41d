//! Two watches that take the same rows: the later one is refused, or told where only a look at the rows would tell.

use crate::support::Scene;
use crate::support::crew::start;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, sql_hand, watch};

const SQL: &str = "'hosts', 'sql', '{\"statement\": \"insert into effects (host) select id from claimed\"}'";

async fn told(scene: &mut Scene) -> Vec<String> {
    scene
        .values(
            "select concat_ws(' ', severity, kind, subject || ';', reason) from watchbell.attention_watches \
             where kind not in ('unserved_handler', 'paused') order by 1",
        )
        .await
}

#[tokio::test]
async fn the_later_of_two_watches_that_take_the_same_rows_is_invalid_until_the_other_is_paused() {
    let mut scene = hosts(5).await;
    let columns = "table_name, handler, payload";
    watch(&mut scene, "first", columns, SQL).await;
    watch(&mut scene, "second", columns, SQL).await;
    watch(&mut scene, "other", &format!("{columns}, from_state"), &format!("{SQL}, 'waiting'")).await;
    watch(&mut scene, "part", &format!("{columns}, filter"), &format!("{SQL}, 'id > 100'")).await;
    watch(&mut scene, "again", &format!("{columns}, filter"), &format!("{SQL}, 'id > 100'")).await;
    let worker = start(sql_hand(&scene.database, "one"));
    let pool = scene.database.pool.clone();
    let planned = |all: &'static str| {
        format!("(select string_agg(name || ' ' || status, ', ' order by id) from watchbell.watches) = '{all}'")
    };
    let all = planned("first normal, second invalid, other normal, part normal, again invalid");
    until_true(&pool, &all, PATIENCE).await;
    let same = "delete or pause one of them, or give each a filter";
    let error: String = scene.value("select error from watchbell.watches where name = 'second'").await;
    assert_eq!(error, format!("table_name: watch \"first\" takes the same rows, those in state \"pending\"; {same}"));
    until_true(&pool, "(select count(*) = 5 from effects)", PATIENCE).await;
    // the first rests: the second takes its place, and gives it back
    scene.psql("select watchbell.pause_watch('first')").await;
    until_true(&pool, &planned("first normal, second normal, other normal, part normal, again invalid"), PATIENCE)
        .await;
    scene.psql("insert into hosts (id) values (6)").await;
    until_true(&pool, "(select count(*) = 6 from effects)", PATIENCE).await;
    scene
        .psql("select watchbell.resume_watch('first'); update watchbell.watches set filter = null where name = 'again'")
        .await;
    until_true(&pool, &all, PATIENCE).await;
    scene.psql("select watchbell.unwatch('first'); select watchbell.unwatch('part')").await;
    until_true(&pool, &planned("second normal, other normal, again invalid"), PATIENCE).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_watch_with_a_filter_beside_one_without_is_told() {
    let mut scene = hosts(1).await;
    let steps =
        r#"[{"from": "new", "to": "pending", "handler": "a"}, {"from": "pending", "to": "normal", "handler": "a"}]"#;
    watch(&mut scene, "steps", "table_name, transitions", &format!("'hosts', '{steps}'")).await;
    watch(&mut scene, "part", "table_name, handler, filter", "'hosts', 'init', 'id > 3'").await;
    watch(&mut scene, "rest", "table_name, handler, filter", "'hosts', 'init', 'id <= 3'").await;
    watch(&mut scene, "name", "table_name, handler, status_column", "'hosts', 'init', 'name'").await;
    let twice = |name| {
        format!(
            "warning taken_twice {name}; watch \"steps\" takes rows in state \"pending\" of public.hosts too and has no \
             filter: a row may be worked on by both"
        )
    };
    assert_eq!(told(&mut scene).await, [twice("part"), twice("rest")], "two filters may share rows fairly");
    scene.psql("select watchbell.pause_watch('steps')").await;
    assert_eq!(told(&mut scene).await, [""; 0]);
}

#[tokio::test]
async fn rows_that_were_given_up_are_told_for_an_hour() {
    let mut scene = hosts(5).await;
    let payload =
        r#"'hosts', 'sql', '{"statement": "insert into effects (host) select id / (id - 3) from claimed"}', 1"#;
    watch(&mut scene, "hosts", "table_name, handler, payload, max_attempts", payload).await;
    let worker = start(sql_hand(&scene.database, "one"));
    until_true(&scene.database.pool, "(select coalesce(sum(failed), 0) = 1 from watchbell.watch_totals)", PATIENCE)
        .await;
    worker.stop().await;
    let given_up = |rows: &str| {
        let rows = rows.to_owned();
        move |row: &String| {
            row.starts_with(&format!("warning given_up hosts; {rows} given up in its error state, the last "))
                && row.ends_with(" ago; mend what fails, then: watchbell watch retry hosts")
        }
    };
    let rows = told(&mut scene).await;
    assert!(rows.len() == 1 && given_up("1 of its rows was")(&rows[0]), "{rows:?}");
    // from here on by a clock of our own
    scene.psql("set watchbell.now = '2040-01-01 12:00Z'; update watchbell.watch_totals set failed = failed + 4").await;
    scene
        .psql(
            "set watchbell.now = '2040-01-01 12:50Z'; update watchbell.watch_totals set failed = failed + 3, done = 7",
        )
        .await;
    scene
        .psql("set watchbell.now = '2040-01-01 13:40Z'; update watchbell.watch_totals set done = 9, retried = 9")
        .await;
    let rows = told(&mut scene).await;
    assert!(
        rows.len() == 1 && given_up("7 of its rows were")(&rows[0]) && rows[0].contains("the last 50m ago"),
        "{rows:?}"
    );
    let since = "select since = '2040-01-01 12:00Z' from watchbell.attention_watches where kind = 'given_up'";
    assert!(scene.value::<bool>(since).await);
    scene.psql("set watchbell.now = '2040-01-01 13:51Z'").await;
    assert_eq!(told(&mut scene).await, [""; 0]);
    // what a worker that is gone had counted is added to number 0, and is no news
    scene
        .psql(
            "insert into watchbell.watch_totals (watch_id, step, worker_id, failed) \
             select id, 'pending', 0, 7 from watchbell.watches; \
             update watchbell.watch_totals set failed = failed + 7 where worker_id = 0",
        )
        .await;
    assert_eq!(told(&mut scene).await, [""; 0]);
}

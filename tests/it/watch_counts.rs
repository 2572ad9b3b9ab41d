//! What is counted of a watched table is what waits for a worker, and counting never reads a large table.

use serde_json::{Value, json};

use crate::support::watched::{hosts, watch};
use crate::support::{Scene, skip};

/// `state role rows capped problem` of each.
async fn counts(scene: &mut Scene, cap: i64) -> Vec<String> {
    scene
        .values(format!(
            "select concat_ws(' ', state, role, rows, case when capped then 'capped' end, problem) \
             from watchbell.watch_counts('hosts', {cap})"
        ))
        .await
}

#[tokio::test]
async fn rows_that_a_filter_leaves_out_do_not_wait() {
    let mut scene = hosts(100).await;
    watch(&mut scene, "hosts", "table_name, handler, filter", "'hosts', 'init', 'id % 10 = 0 and hosts.name <> ''x'''")
        .await;
    let expected = ["pending waiting 10", "pending left_out 90", "normal done 0", "failed failed 0"];
    assert_eq!(counts(&mut scene, 10_000).await, expected, "and a filter may name the table, as in a worker");
    let capped = ["pending waiting 3 capped", "pending left_out 3 capped", "normal done 0", "failed failed 0"];
    assert_eq!(counts(&mut scene, 3).await, capped, "of the first thirty");
    // an index that holds just what the filter lets through bounds the look by itself
    scene.psql("create index on hosts (id) where status = 'pending' and id % 10 = 0 and name <> 'x'").await;
    assert_eq!(counts(&mut scene, 10_000).await, ["pending waiting 10", "normal done 0", "failed failed 0"]);
    assert_eq!(counts(&mut scene, 3).await[0], "pending waiting 3 capped");
}

#[tokio::test]
async fn each_step_has_a_filter_of_its_own() {
    let mut scene = hosts(10).await;
    let steps = r#"[{"from": "pending", "to": "made", "handler": "make"},
                    {"from": "made", "to": "normal", "handler": "ask", "filter": "id > 3"}]"#;
    watch(&mut scene, "hosts", "table_name, transitions", &format!("'hosts', '{steps}'")).await;
    scene.psql("update hosts set status = 'made' where id in (1, 9)").await;
    let expected = ["pending waiting 8", "made waiting 1", "made left_out 1", "normal done 0", "failed failed 0"];
    assert_eq!(counts(&mut scene, 10_000).await, expected);
}

#[tokio::test]
async fn a_filter_that_fails_is_told_and_the_rest_is_counted() {
    let mut scene = hosts(10).await;
    watch(&mut scene, "hosts", "table_name, handler, filter", "'hosts', 'init', '10 / (id - 7) > 1'").await;
    watch(&mut scene, "others", "table_name, handler, from_state", "'hosts', 'init', 'waiting'").await;
    watch(&mut scene, "gone", "table_name, handler, from_state", "'hosts', 'init', 'lost'").await;
    scene.psql("update hosts set status = 'failed' where id = 1").await;
    let expected = ["pending waiting capped its filter fails: division by zero", "normal done 0", "failed failed 1"];
    assert_eq!(counts(&mut scene, 10_000).await, expected);
    scene
        .psql(
            "set client_min_messages = error; create table other (id int primary key, status text); \
                update watchbell.watches set table_name = 'other' where name = 'gone'; drop table other",
        )
        .await;
    let states: Vec<Value> = scene
        .values(
            "select to_jsonb(array[watch, state, role, rows::text, problem]) from watchbell.watch_states \
                 where role = 'waiting' or role is null order by watch",
        )
        .await;
    assert_eq!(
        states,
        [
            json!(["gone", null, null, null, "watch \"gone\": table public.other is gone"]),
            json!(["hosts", "pending", "waiting", null, "its filter fails: division by zero"]),
            json!(["others", "waiting", "waiting", "0", null]),
        ]
    );
}

#[tokio::test]
async fn a_large_table_is_read_by_its_index_or_not_at_all() {
    let mut scene = hosts(0).await;
    scene
        .psql(
            "insert into hosts (id, name, status) \
             select i, 'n', case when i % 20000 = 0 then 'pending' else 'normal' end from generate_series(1, 1000000) i",
        )
        .await;
    watch(&mut scene, "hosts", "table_name, handler, filter", "'hosts', 'init', 'name <> ''x'''").await;
    let mut admin = scene.database.connect_admin().await;
    sqlx::raw_sql("vacuum analyze hosts").execute(&mut admin).await.unwrap();
    let large = "update pg_class set reltuples = 1000001 where oid = 'public.hosts'::regclass";
    if sqlx::query(large).execute(&mut admin).await.is_err() {
        return skip("making a table look large takes a superuser");
    }
    // pages of the table that one look for what waits reads
    let looks =
        [("name <> 'x'", "50"), ("exists (select from effects e where e.host = hosts.id)", "0"), ("id > 100", "50")];
    for (filter, rows) in looks {
        let count = format!(
            "select c.rows::text from watchbell.watches w, \
                    watchbell.count_rows(w, 'pending', $f${filter}$f$, 10000, false) c"
        );
        scene.psql("select pg_stat_force_next_flush()").await;
        let read = "select heap_blks_read + heap_blks_hit from pg_statio_user_tables where relname = 'hosts'";
        let before: i64 = scene.value(read).await;
        assert_eq!(scene.value::<String>(count).await, rows, "{filter}");
        scene.psql("select pg_stat_force_next_flush()").await;
        let after: i64 = scene.value(read).await;
        assert!((0..=100).contains(&(after - before)), "{filter}: {} blocks", after - before);
    }
    scene.psql("drop index hosts_pending").await;
    sqlx::query(large).execute(&mut admin).await.unwrap();
    let all = counts(&mut scene, 10_000).await;
    assert_eq!(
        all,
        [
            "pending waiting capped no index leads to them, and the table has about 1000001 rows",
            "normal done 10000 capped",
            "failed failed capped no index leads to them, and the table has about 1000001 rows"
        ],
        "what is common is soon found"
    );
}

//! The owners of a table write in it while its rows are worked, in both modes: none of their statements fails, nothing
//! that they wrote is lost, and where they put a row it stays.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{Acquire, PgConnection, PgPool};
use tokio::task::JoinSet;
use watchbell::handler::sql::Sql;
use watchbell::{HandlerResult, Row};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::watched::{hosts, watch, work_until};

const ROWS: i64 = 2_000;
const OWNERS: i64 = 4;
/// Transactions of each owner.
const CHANGES: usize = 250;

/// What one owner knows of its rows: its last word about the state, and how often it wrote a note.
#[derive(Debug, Default)]
struct Known {
    word: HashMap<i64, &'static str>,
    notes: HashMap<i64, i64>,
}

/// Two statements in a transaction, each about a few of the owner's rows, over and over.
async fn own(mut sql: PgConnection, owner: i64) -> Known {
    sqlx::query("set application_name = 'owner'").execute(&mut sql).await.unwrap();
    let mut known = Known::default();
    for _ in 0..CHANGES {
        let mut tx = sql.begin().await.unwrap();
        for _ in 0..2 {
            let (change, word) = match fastrand::u32(..8) {
                0..3 => ("update hosts set note = note + 1 where id = any ($1) returning id", None),
                3..5 => ("update hosts set status = 'retired' where id = any ($1) returning id", Some("retired")),
                5..7 => {
                    let back =
                        "update hosts set status = 'pending' where id = any ($1) and status = 'retired' returning id";
                    (back, Some("pending"))
                }
                _ => ("delete from hosts where id = any ($1[1:1]) returning id", Some("deleted")),
            };
            let ids: Vec<i64> = (0..4).map(|_| fastrand::i64(0..ROWS / OWNERS) * OWNERS + owner).collect();
            let done: Vec<i64> = sqlx::query_scalar(change).bind(ids).fetch_all(&mut *tx).await.unwrap();
            for id in done {
                match word {
                    Some(word) => drop(known.word.insert(id, word)),
                    None => *known.notes.entry(id).or_default() += 1,
                }
            }
            // somebody thinks before the next statement
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..3))).await;
        }
        tx.commit().await.unwrap();
    }
    known
}

/// A table that remembers who moved its rows whereto.
async fn table() -> Scene {
    let mut scene = hosts(0).await;
    scene
        .psql(
            "alter table hosts add note bigint not null default 0;
             create table moves (host bigint, was text, became text, who text);
             create function move() returns trigger language plpgsql as $$ begin
                 insert into public.moves values (new.id, old.status, new.status, current_setting('application_name'));
                 return null;
             end $$;
             create trigger move after update on hosts for each row
                 when (new.status is distinct from old.status) execute function move()",
        )
        .await;
    scene.psql(format!("insert into hosts (id) select generate_series(0, {ROWS} - 1)")).await;
    scene
}

/// Lets the owners write while two workers are at it, and compares.
async fn write_and_work(scene: &mut Scene, workers: [watchbell::worker::Builder; 2]) {
    let workers = workers.map(start).into();
    let mut owners = JoinSet::new();
    for owner in 0..OWNERS {
        owners.spawn(own(scene.database.connect().await, owner));
    }
    let (mut word, mut notes) = (HashMap::new(), HashMap::new());
    while let Some(known) = owners.join_next().await {
        let known = known.unwrap();
        word.extend(known.word);
        notes.extend(known.notes);
    }
    let over = "not exists (select from hosts where status in ('pending', 'working'))";
    work_until(&scene.database, workers, over).await;
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(scene.value::<i64>(deadlocks).await, 0);
    let rows: Vec<(i64, String, i64)> =
        sqlx::query_as("select id, status, note from hosts").fetch_all(&scene.database.pool).await.unwrap();
    let rows: HashMap<i64, (String, i64)> = rows.into_iter().map(|(id, status, note)| (id, (status, note))).collect();
    for id in 0..ROWS {
        let expected = match word.get(&id) {
            Some(&"deleted") => None,
            Some(&"retired") => Some("retired"),
            _ => Some("normal"), // never touched, or put back at last
        };
        let expected = expected.map(|status| (status.to_owned(), notes.get(&id).copied().unwrap_or(0)));
        assert_eq!(rows.get(&id), expected.as_ref(), "row {id}");
    }
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 0);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);
    let counts = "select format('%s by owners, %s by workers', count(*) filter (where who = 'owner'),
                                count(*) filter (where who <> 'owner')) from moves";
    println!("moves: {}", scene.value::<String>(counts).await);
}

/// What workers moved, from where to where.
async fn moves(scene: &mut Scene) -> Vec<String> {
    let moves = "select distinct format('%s > %s', was, became) from moves where who <> 'owner' order by 1";
    scene.values(moves).await
}

/// Rows whose effects are fewer than their arrivals at the end, or, if `exactly`, more.
async fn wrong(scene: &mut Scene, exactly: bool) -> i64 {
    let differs = if exactly { "<>" } else { "<" };
    scene
        .value(format!(
            "select count(*) from (select host, count(*) as n from moves where became = 'normal' group by host) m
             full join (select host, count(*) as n from effects group by host) e using (host)
             where coalesce(e.n, 0) {differs} coalesce(m.n, 0)"
        ))
        .await
}

#[tokio::test]
async fn owners_write_while_rows_are_worked_in_transactions() {
    let mut scene = table().await;
    let statement = r#"{"statement": "insert into effects (host) select id from claimed"}"#;
    watch(
        &mut scene,
        "hosts",
        "table_name, handler, payload, batch_size",
        &format!("'hosts', 'sql', '{statement}', 5"),
    )
    .await;
    let pool = scene.database.pool.clone();
    let workers = ["a", "b"].map(|name| hand(&pool, name).transactional("sql", Sql::new(pool.clone())));
    write_and_work(&mut scene, workers).await;
    assert_eq!(moves(&mut scene).await, ["pending > normal"]);
    assert_eq!(wrong(&mut scene, true).await, 0, "an effect for each arrival, and no other");
}

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

#[tokio::test]
async fn owners_write_while_rows_are_leased() {
    let mut scene = table().await;
    watch(&mut scene, "hosts", "table_name, handler, via_state", "'hosts', 'call', 'working'").await;
    let pool = scene.database.pool.clone();
    let call = move |host: Row<Host>, pool: PgPool| async move {
        sqlx::query("insert into effects (host) values ($1)").bind(host.id).execute(&pool).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        HandlerResult::Ok(())
    };
    let workers = ["a", "b"].map(|name| {
        let pool = pool.clone();
        hand(&pool, name).handler("call", move |host: Row<Host>| call(host, pool.clone()))
    });
    write_and_work(&mut scene, workers).await;
    assert_eq!(moves(&mut scene).await, ["pending > working", "working > normal"]);
    assert_eq!(wrong(&mut scene, false).await, 0, "a call at least for each arrival");
    let done = "select (select sum(done)::bigint from watchbell.watch_totals)
                       = (select count(*) from moves where became = 'normal')";
    assert!(scene.value::<bool>(done).await, "each end is counted once");
}

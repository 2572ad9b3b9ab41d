//! Rows that no statement over a whole batch can take: each fails alone, as often as it may, and the others go on.

use watchbell::{Row, Tx};

use crate::support::crew::{hand, start};
use crate::support::watched::{hosts, sql_crew, watch, work_until};

const ROWS: i64 = 1_000;
const ATTEMPTS: i64 = 3;

#[tokio::test]
async fn poisonous_rows_fail_alone_after_their_attempts_and_halving_is_bounded() {
    let mut scene = hosts(ROWS as u32).await;
    // a sequence counts what is rolled back as well
    scene.psql("create sequence calls; alter table effects add constraint poisonous check (host % 142 <> 0)").await;
    let poison: Vec<i64> = (1..=ROWS).filter(|id| id % 142 == 0).collect();
    assert_eq!(poison.len(), 7);
    let statement = "with call as materialized (select nextval('calls')) \
                     insert into effects (host, worker) select id, pg_current_xact_id()::text from claimed, call";
    let columns = "table_name, handler, payload, retry, max_attempts";
    let retry = r#"{"strategy": "fixed", "base": "300ms", "jitter": false}"#;
    let values = format!("'hosts', 'sql', jsonb_build_object('statement', $s${statement}$s$), '{retry}', {ATTEMPTS}");
    watch(&mut scene, "hosts", columns, &values).await;
    let workers = sql_crew(&scene.database, 2);
    work_until(&scene.database, workers, "not exists (select from hosts where status = 'pending')").await;

    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed' order by id").await, poison);
    let good = ROWS - poison.len() as i64;
    assert_eq!(scene.value::<i64>("select count(*) from hosts where status = 'normal'").await, good);
    assert_eq!(scene.value::<Vec<i64>>("select array[count(*), count(distinct host)] from effects").await, [good; 2]);

    let attempts = "select format('%s: %s', key[1], string_agg(attempt || ' ' || kind, ', ' order by attempt))
                    from watchbell.watch_errors where message like '%\"poisonous\"%' group by key order by key[1]::bigint";
    let expected: Vec<String> = poison.iter().map(|id| format!("{id}: 1 error, 2 error, 3 error")).collect();
    assert_eq!(scene.values::<String>(attempts).await, expected);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 7 * ATTEMPTS);
    let totals = "select array[sum(done), sum(failed), sum(retried)]::bigint[] from watchbell.watch_totals";
    assert_eq!(scene.value::<Vec<i64>>(totals).await, [good, 7, 7 * (ATTEMPTS - 1)]);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);

    // of a hundred rows one is found in seven halvings, two calls each
    let calls = scene.value::<i64>("select last_value from calls").await;
    let commits = scene.value::<i64>("select count(distinct worker) from effects").await;
    println!("{calls} calls and {commits} transactions with an effect for {ROWS} rows");
    let batches = ROWS / 100 + 7 * ATTEMPTS;
    assert!(calls <= batches + 7 * ATTEMPTS * 2 * 7, "{calls} calls");
    assert!(commits <= batches, "{commits} transactions");
}

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

#[tokio::test]
async fn a_handler_that_keeps_its_transaction_fails_its_row_as_often_as_it_may() {
    let mut scene = hosts(5).await;
    let retry = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;
    let columns = "table_name, handler, retry, max_attempts";
    watch(&mut scene, "hosts", columns, &format!("'hosts', 'hoard', '{retry}', 2")).await;
    let hoard = async |tx: Tx, host: Row<Host>| {
        if host.id == 1 {
            tokio::spawn(async move {
                let _kept = tx;
                std::future::pending::<()>().await;
            });
        }
    };
    let worker = start(hand(&scene.database.pool, "one").transactional("hoard", hoard));
    work_until(&scene.database, vec![worker], "not exists (select from hosts where status = 'pending')").await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed'").await, [1]);
    let said = "select attempt || ': ' || message from watchbell.watch_errors order by 1";
    let kept = |attempt| format!("{attempt}: the handler kept its transaction beyond its end");
    assert_eq!(scene.values::<String>(said).await, [kept(1), kept(2)]);
}

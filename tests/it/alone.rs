//! What took two workers down runs alone in the third, and takes nothing with it that was claimed beside it.

use crate::support::Database;
use crate::support::ask::one;
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until;
use crate::support::watched::PATIENCE;

/// Starts workers, one after the other, until this condition holds; answers how many died.
async fn workers_until(database: &Database, over: &str) -> usize {
    let journal = Journal::new();
    for died in 0.. {
        let mut worker = Process::start(&Orders::new(&database.url, &journal, &format!("worker {died}")));
        let (ended, _) = until("it dies, or all is over", PATIENCE, async || {
            if worker.ended().is_some() {
                return Some(true);
            }
            one::<bool>(&database.pool, &format!("select {over}")).await.then_some(false)
        })
        .await;
        if !ended {
            return died;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_run_that_dies_alone_takes_no_run_with_it_that_was_claimed_beside_it() {
    let database = Database::fresh().await;
    // as two crashes leave them, whoever was to blame
    let suspects = "insert into watchbell.runs_live (handler, payload, crashes, max_attempts)
        select case when i = 3 then 'crash' else 'work' end, '{\"ms\": 0}', 2, 10 from generate_series(1, 6) i";
    sqlx::raw_sql(suspects).execute(&database.pool).await.unwrap();
    let died = workers_until(&database, "not exists (select from watchbell.runs_live)").await;
    let ends = "select array_agg(distinct concat_ws(' ', handler, status, crashes, attempt)) from watchbell.runs";
    assert_eq!(one::<Vec<String>>(&database.pool, ends).await, ["crash failed 3 1", "work normal 2 1"]);
    assert_eq!(died, 1);
    let alone = "select count(*) from watchbell.workers where alone is not null and state <> 'dead'";
    assert_eq!(one::<i64>(&database.pool, alone).await, 0, "whoever lives has nothing alone any more");
}

#[tokio::test]
async fn a_row_that_dies_alone_takes_no_row_with_it_that_was_claimed_beside_it() {
    let database = Database::fresh().await;
    let suspects = r#"create table hosts (id bigint primary key, kind text not null, status text not null default 'pending');
        create index on hosts (id) where status = 'pending';
        insert into hosts select i, case when i = 3 then 'bad' else 'good' end from generate_series(1, 6) i;
        insert into watchbell.watches (name, table_name, handler, payload, via_state, max_attempts, poll_interval, filter)
        values ('good', 'public.hosts', 'host', '{"ms": 0}', 'working', 10, '100 ms', 'kind = ''good'''),
               ('bad', 'public.hosts', 'crash', '{}', 'working', 10, '100 ms', 'kind = ''bad''');
        insert into watchbell.watch_claims (watch_id, key, step, fence, attempt, crashes)
        select w.id, array[h.id::text], 'pending', 1, 2, 2
        from hosts h join watchbell.watches w on w.name = h.kind"#;
    sqlx::raw_sql(suspects).execute(&database.pool).await.unwrap();
    let died =
        workers_until(&database, "not exists (select from hosts where status not in ('normal', 'failed'))").await;
    let ends = "select array_agg(distinct kind || ' ' || status order by kind || ' ' || status) from hosts";
    assert_eq!(one::<Vec<String>>(&database.pool, ends).await, ["bad failed", "good normal"]);
    let lost = "select array_agg(message) from watchbell.watch_errors where kind = 'crashed'";
    assert_eq!(one::<Vec<String>>(&database.pool, lost).await, ["its worker died, 3 times now"]);
    assert_eq!(died, 1);
}

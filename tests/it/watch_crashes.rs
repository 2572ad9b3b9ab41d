//! Workers die in the middle of a batch of somebody's rows.

use nix::sys::signal::Signal;

use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};
use crate::support::watched::{PATIENCE, hosts, watch};

#[tokio::test]
async fn rows_have_their_effect_once_whoever_is_killed_meanwhile() {
    let mut scene = hosts(20_000).await;
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'effect_rows'").await;
    let journal = Journal::new();
    let start = |name: &str| Process::start(&Orders::new(&scene.database.url, &journal, name));
    let mut workers: Vec<Process> = ["a", "b", "c"].map(start).into();
    for at in [2_000, 6_000, 10_000] {
        until_true(&scene.database.pool, &format!("(select count(*) from effects) > {at}"), PATIENCE).await;
        let mut victim = workers.remove(0);
        victim.kill();
        workers.push(start("another"));
    }
    until_true(&scene.database.pool, "not exists (select from hosts where status = 'pending')", PATIENCE).await;
    assert_eq!(scene.value::<i64>("select count(*) from hosts where status = 'normal'").await, 20_000);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 20_000);
    assert_eq!(scene.value::<i64>("select count(distinct host) from effects").await, 20_000);
    for worker in &workers {
        worker.send(Signal::SIGTERM);
    }
    for worker in &mut workers {
        until("it drains", PATIENCE, async || worker.ended().map(|ended| assert!(ended.success()))).await;
    }
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 0);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.worker_batches").await, 0);
}

#[tokio::test]
async fn a_row_that_takes_its_worker_down_is_given_up_and_the_others_go_on() {
    let mut scene = hosts(200).await;
    scene.psql("update hosts set name = 'deadly' where id = 17").await;
    watch(&mut scene, "hosts", "table_name, handler", "'hosts', 'effect_row'").await;
    let journal = Journal::new();
    let start = || Process::start(&Orders::new(&scene.database.url, &journal, "mortal"));
    let (mut workers, mut deaths) = ([start(), start()], 0);
    let over = "select not exists (select from hosts where status = 'pending')";
    let look = async || {
        for worker in &mut workers {
            if worker.ended().is_some() {
                *worker = start();
                deaths += 1;
            }
        }
        sqlx::query_scalar::<_, bool>(over).fetch_one(&scene.database.pool).await.unwrap().then_some(())
    };
    until("all rows end", 2 * PATIENCE, look).await;
    assert_eq!(scene.values::<i64>("select id from hosts where status = 'failed'").await, [17]);
    assert_eq!(scene.value::<i64>("select count(*) from effects").await, 199);
    assert_eq!(scene.value::<i64>("select count(distinct host) from effects").await, 199);
    assert!((2..=4).contains(&deaths), "{deaths} workers died");
    let said = "select message from watchbell.watch_errors where key = '{17}'";
    assert_eq!(scene.values::<String>(said).await, ["it took its worker down 3 times"]);
}

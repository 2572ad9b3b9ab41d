//! A row of somebody's takes down whoever works on it.

use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until;
use crate::support::watched::{PATIENCE, hosts, watch};

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

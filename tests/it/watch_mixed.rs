//! A machine of both modes under workers that are killed in the middle of each step: a call to another system, an
//! effect in the transaction that moves the row, and a training that is begun, slept over and collected.

use std::collections::BTreeSet;

use crate::support::frozen::{InHand, Named, assert_charged, note_charges};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// Enough that each worker is still at its step when it is caught there.
const ROWS: i64 = 1_500;

const MACHINE: &str = r#"[
    {"from": "pending", "via": "calling", "to": "called", "handler": "call"},
    {"from": "called", "to": "stored", "handler": "effect_row", "batch_size": 20},
    {"from": "stored", "via": "training", "to": "normal", "handler": "train"}]"#;

#[tokio::test]
async fn rows_go_through_both_modes_though_workers_are_killed_in_the_middle_of_each_step() {
    let mut scene = hosts(ROWS as u32).await;
    let pool = scene.database.pool.clone();
    scene
        .psql(
            "create index on hosts (id) where status = 'called'; create index on hosts (id) where status = 'stored';
             create table calls (host bigint, step text, attempt integer, what text, job text)",
        )
        .await;
    note_charges(&pool).await;
    let journal = Journal::new();
    let victim = async |step| {
        let orders = Orders { slots: 10, ..Orders::new(&scene.database.url, &journal, &format!("at {step}")) };
        (step, Named::start(&pool, &orders).await)
    };
    let mut victims: [_; 3] = tokio::join!(victim("pending"), victim("called"), victim("stored")).into();
    watch(&mut scene, "hosts", "table_name, transitions", &format!("'hosts', $t${MACHINE}$t$")).await;
    let (mut dead, mut heirs): (Vec<InHand>, Vec<Process>) = (vec![], vec![]);
    for (step, victim) in &mut victims {
        let in_hand = match *step {
            "called" => victim.freeze_in_transaction(&pool, step, true).await,
            _ => victim.freeze_with_claims(&pool, step).await,
        };
        victim.process.kill();
        println!("killed with {} rows in hand that stood at {step}", in_hand.rows.len());
        assert!(in_hand.charged.iter().any(|(of, _)| of == step), "{in_hand:?}");
        dead.push(in_hand);
        heirs.push(Process::start(&Orders::new(&scene.database.url, &journal, "heir")));
    }
    until_true(&pool, "not exists (select from hosts where status <> 'normal')", PATIENCE).await;

    // in the transaction: once; outside: once at least, and one end
    let effects = "select array[count(*), count(distinct host)] from effects where step = 'called'";
    assert_eq!(scene.value::<Vec<i64>>(effects).await, [ROWS, ROWS]);
    let called = "select count(distinct host) from calls where what = 'call'";
    assert_eq!(scene.value::<i64>(called).await, ROWS);
    let done = "select sum(done)::bigint from watchbell.watch_totals where step <> 'called' group by step";
    assert_eq!(scene.values::<i64>(done).await, [ROWS, ROWS]);

    // what was begun and kept is what was collected, and only who was killed began or collected twice
    let collected = "select array[count(distinct host), count(distinct (host, job))] from calls where what = 'collect'";
    assert_eq!(scene.value::<Vec<i64>>(collected).await, [ROWS, ROWS]);
    let unknown = "select count(*) from calls c where c.what = 'collect' and not exists (
                       select from calls s where s.what = 'submit' and (s.host, s.job) = (c.host, c.job))";
    assert_eq!(scene.value::<i64>(unknown).await, 0);
    let again = "select distinct host from calls where step = $1 group by host, what having count(*) > 1";
    for step in ["pending", "stored"] {
        let of_step = again.replace("$1", &format!("'{step}'"));
        let again: BTreeSet<i64> = scene.values::<i64>(of_step).await.into_iter().collect();
        let in_hand = dead.iter().flat_map(|dead| &dead.charged).filter(|(of, _)| of == step).map(|(_, host)| *host);
        let in_hand: BTreeSet<i64> = in_hand.collect();
        assert!(again.is_subset(&in_hand), "{step}: called again {again:?}, in hand {in_hand:?}");
    }

    // each crash is charged to the rows that were in hand, and nothing else went wrong
    assert_charged(&pool, &dead).await;
    let errors = "select format('%s %s %s', worker_id, step, key[1]) from watchbell.watch_errors
                  where kind = 'crashed' and message = 'its worker died'";
    let errors: BTreeSet<String> = scene.values::<String>(errors).await.into_iter().collect();
    let crashes = dead.iter().flat_map(|dead| dead.charged.iter().map(move |row| (dead.worker, row)));
    let crashes = crashes.filter(|(_, (step, _))| step != "called");
    let crashes: BTreeSet<String> = crashes.map(|(worker, (step, host))| format!("{worker} {step} {host}")).collect();
    assert_eq!(errors, crashes);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, crashes.len() as i64);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);
}

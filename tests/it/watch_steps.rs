//! A machine of several transactional steps under workers that are killed and frozen in the middle of each: a row's
//! effect at a step and its move are one commit, whoever dies meanwhile.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::Scene;
use crate::support::ask::one;
use crate::support::frozen::{InHand, Named, assert_charged, note_charges};
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::{until, until_true};
use crate::support::watched::{PATIENCE, hosts, watch};

const STEPS: [&str; 3] = ["pending", "fetched", "checked"];

/// Which steps are functions, whose rows are noted, and the steps.
type Machine = ([bool; 3], &'static str);

/// Handlers of whole batches: a statement, a function in Rust, a statement.
const BATCHES: Machine = (
    [false, true, false],
    r#"[
    {"from": "pending", "to": "fetched", "handler": "sql", "payload":
        {"statement": "insert into effects (host, step) select id, status from claimed"}},
    {"from": "fetched", "to": "checked", "handler": "effect_rows"},
    {"from": "checked", "to": "normal", "handler": "sql", "batch_size": 50, "payload":
        {"statement": "insert into effects (host, step) select id, status from claimed"}}]"#,
);
/// A statement, of batches so small that it is not over before a worker is caught in one; a function of single rows,
/// and one of batches.
const ROWS: Machine = (
    [false, true, true],
    r#"[
    {"from": "pending", "to": "fetched", "handler": "sql", "batch_size": 10, "payload":
        {"statement": "insert into effects (host, step) select id, status from claimed"}},
    {"from": "fetched", "to": "checked", "handler": "effect_row"},
    {"from": "checked", "to": "normal", "handler": "effect_rows"}]"#,
);

/// So many rows before such a machine, which does not run yet.
async fn machine(rows: u32) -> Scene {
    let mut scene = hosts(rows).await;
    for step in &STEPS[1..] {
        scene.psql(format!("create index on hosts (id) where status = '{step}'")).await;
    }
    note_charges(&scene.database.pool).await;
    scene
}

async fn switch_on(scene: &mut Scene, machine: Machine) {
    watch(scene, "hosts", "table_name, transitions", &format!("'hosts', $t${}$t$", machine.1)).await;
}

/// All rows are through, and each had its effect once at each step.
async fn assert_once(scene: &mut Scene, rows: i64) {
    until_true(&scene.database.pool, "not exists (select from hosts where status <> 'normal')", 4 * PATIENCE).await;
    let once = "select array_agg(n order by step) from (select step, count(*) as n from effects group by step) x";
    assert_eq!(scene.value::<Option<Vec<i64>>>(once).await, Some(vec![rows; 3]));
    let twice = "select count(*) from (select from effects group by host, step having count(*) > 1) x";
    assert_eq!(scene.value::<i64>(twice).await, 0);
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_errors").await, 0);
}

#[tokio::test]
async fn batches_have_their_effect_once_at_each_step_though_workers_are_killed_in_the_middle() {
    kill_at_each_step(BATCHES, 20_000).await;
}

#[tokio::test]
async fn single_rows_have_their_effect_once_at_each_step_though_workers_are_killed_in_the_middle() {
    kill_at_each_step(ROWS, 2_000).await;
}

async fn kill_at_each_step(of: Machine, rows: u32) {
    let mut scene = machine(rows).await;
    let pool = scene.database.pool.clone();
    let journal = Journal::new();
    let victim =
        async |step| Named::start(&pool, &Orders::new(&scene.database.url, &journal, &format!("at {step}"))).await;
    let victims: [Named; 3] = tokio::join!(victim(STEPS[0]), victim(STEPS[1]), victim(STEPS[2])).into();
    switch_on(&mut scene, of).await;
    let began = Instant::now();
    let (mut dead, mut heirs): (Vec<InHand>, Vec<Process>) = (vec![], vec![]);
    for ((step, noted), mut victim) in STEPS.into_iter().zip(of.0).zip(victims) {
        let in_hand = victim.freeze_in_transaction(&pool, step, noted).await;
        victim.process.kill();
        println!("killed with {} rows in hand at {step}, {:?} after the start", in_hand.rows.len(), began.elapsed());
        assert_eq!(in_hand.charged.iter().any(|(of, _)| of == step), noted);
        dead.push(in_hand);
        heirs.push(Process::start(&Orders::new(&scene.database.url, &journal, "heir")));
    }
    assert_once(&mut scene, rows.into()).await;
    println!("{rows} rows through three steps in {:?}", began.elapsed());
    assert_charged(&pool, &dead).await;
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.watch_claims").await, 0);
    for heir in &heirs {
        heir.send(Signal::SIGTERM);
    }
    for heir in &mut heirs {
        until("it drains", PATIENCE, async || heir.ended().map(|ended| assert!(ended.success()))).await;
    }
    assert_eq!(scene.value::<i64>("select count(*) from watchbell.worker_batches").await, 0);
}

/// A worker frozen at a step and declared dead, another that can take over, and the rows that the first has locked.
struct Frozen {
    zombie: Named,
    in_hand: InHand,
    locked: Vec<i64>,
    _heir: Process,
}

/// So many that a worker is still in the middle of each step when it is looked for there.
const MANY: u32 = 2_000;

async fn freeze(scene: &mut Scene, (step, noted): (&str, bool), watch_transaction: Duration) -> Frozen {
    let pool = scene.database.pool.clone();
    let journal = Journal::new();
    let lease = Duration::from_secs(2);
    let orders = Orders { lease, watch_transaction, ..Orders::new(&scene.database.url, &journal, "zombie") };
    let zombie = Named::start(&pool, &orders).await;
    switch_on(scene, ROWS).await;
    let in_hand = zombie.freeze_in_transaction(&pool, step, noted).await;
    let locked = "with free as materialized (select id from hosts for update skip locked)
                  select id from hosts except select id from free order by id";
    let locked = scene.values(locked).await;
    let _heir = Process::start(&Orders { name: "heir".to_owned(), ..orders });
    let dead = format!("exists (select from watchbell.workers where id = {} and state = 'dead')", in_hand.worker);
    until_true(&pool, &dead, PATIENCE).await;
    Frozen { zombie, in_hand, locked, _heir }
}

async fn until_it_works_anew(scene: &Scene, zombie: &Named, was: i32) {
    let anew = format!(
        "exists (select from watchbell.workers where name = '{}' and id > {was} and state = 'running' and presence)",
        zombie.name
    );
    until_true(&scene.database.pool, &anew, PATIENCE).await;
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_keeps_its_rows_while_its_transaction_stands() {
    let case = async |step, noted| {
        let mut scene = machine(MANY).await;
        let Frozen { zombie, in_hand, locked, _heir } = freeze(&mut scene, (step, noted), PATIENCE).await;
        // all others go through, and what it has locked stays where it is
        let rows: Vec<String> = locked.iter().map(i64::to_string).collect();
        let others = format!("from hosts where status <> 'normal' and id not in ({})", rows.join(", "));
        until_true(&scene.database.pool, &format!("not exists (select {others})"), PATIENCE).await;
        let left = "select id from hosts where status <> 'normal' order by id";
        assert_eq!(scene.values::<i64>(left).await, locked);
        // once it goes on, it deletes its note itself, and nothing is charged
        let noted = format!("exists (select from watchbell.worker_batches where worker_id = {})", in_hand.worker);
        until_true(&scene.database.pool, &format!("not {noted}"), PATIENCE).await;
        zombie.process.send(Signal::SIGCONT);
        until_it_works_anew(&scene, &zombie, in_hand.worker).await;
        assert_once(&mut scene, i64::from(MANY)).await;
        assert_charged(&scene.database.pool, &[in_hand]).await;
    };
    tokio::join!(case("pending", false), case("fetched", true));
}

#[tokio::test]
async fn a_worker_frozen_for_long_loses_its_transaction_and_its_rows_go_on_without_it() {
    let case = async |step, noted| {
        let mut scene = machine(MANY).await;
        // the server ends what is silent for twice as long and a second
        let limit = Duration::from_secs(1);
        let Frozen { zombie, in_hand, _heir, .. } = freeze(&mut scene, (step, noted), limit).await;
        assert_once(&mut scene, i64::from(MANY)).await;
        zombie.process.send(Signal::SIGCONT);
        until_it_works_anew(&scene, &zombie, in_hand.worker).await;
        assert_once(&mut scene, i64::from(MANY)).await;
        assert_charged(&scene.database.pool, &[in_hand]).await;
        assert_eq!(one::<i64>(&scene.database.pool, "select count(*) from watchbell.worker_batches").await, 0);
    };
    tokio::join!(case("pending", false), case("checked", true));
}

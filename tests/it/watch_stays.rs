//! Tables whose triggers keep a row where it stands without a word: it fails as if the table had refused, and is not
//! taken again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use watchbell::worker::Builder;
use watchbell::{HandlerResult, Row, Tx};

use crate::support::Scene;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

/// A row called `drop working` is not updated to `working`, one called `keep working` is, and with its old status.
const TRIGGER: &str = "create function stay() returns trigger language plpgsql as $$ begin
        if old.name = 'drop ' || new.status then return null; end if;
        if old.name = 'keep ' || new.status then new.status := old.status; end if;
        return new;
    end $$;
    create trigger stay before update on hosts for each row execute function stay()";

const ATTEMPTS: usize = 2;

#[derive(serde::Deserialize)]
struct Host {
    id: i64,
}

/// How often a handler was called for each row.
type Calls = Arc<Mutex<BTreeMap<i64, usize>>>;

/// Ten rows and a watch on them; the first two stay where they are, each in its way, when they are to go to this state.
async fn staying(state: &str, more: &str) -> Scene {
    let mut scene = hosts(10).await;
    scene.psql(TRIGGER).await;
    let names = format!("case id when 1 then 'drop {state}' else 'keep {state}' end");
    scene.psql(format!("update hosts set name = {names} where id < 3")).await;
    let (columns, values) = more.split_once(": ").unwrap();
    let retry = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;
    let columns = format!("table_name, handler, max_attempts, retry, {columns}");
    watch(&mut scene, "hosts", &columns, &format!("'hosts', 'init', {ATTEMPTS}, '{retry}', {values}")).await;
    scene
}

/// Works until the two have failed and the others are `normal`; answers the calls.
async fn work(scene: &Scene, init: impl FnOnce(Builder, Calls) -> Builder) -> BTreeMap<i64, usize> {
    let calls = Calls::default();
    let pool = scene.database.pool.clone();
    let worker = start(init(hand(&pool, "one"), Arc::clone(&calls)));
    let ended = "(select bool_and(status = case when id < 3 then 'failed' else 'normal' end) from hosts)";
    until_true(&pool, ended, PATIENCE).await;
    worker.stop().await;
    let calls = calls.lock().unwrap();
    calls.clone()
}

async fn said(scene: &mut Scene) -> Vec<String> {
    scene
        .values(
            "select format('%s %s: %s', key[1], attempt, message) from watchbell.watch_errors order by key, attempt",
        )
        .await
}

/// The same at each attempt of both.
fn each(sentence: &str) -> Vec<String> {
    let attempts = |row: usize| (1..=ATTEMPTS).map(move |attempt| format!("{row} {attempt}: {sentence}"));
    (1..3).flat_map(attempts).collect()
}

/// So many calls for the two that stay, and one for each other.
fn called(staying: usize) -> BTreeMap<i64, usize> {
    (1..=10).map(|id| (id, if id < 3 { staying } else { 1 })).filter(|(_, calls)| *calls > 0).collect()
}

fn leased(worker: Builder, calls: Calls) -> Builder {
    worker.handler("init", move |host: Row<Host>| {
        *calls.lock().unwrap().entry(host.id).or_default() += 1;
        async {}
    })
}

#[tokio::test]
async fn a_row_that_does_not_reach_via_is_not_started() {
    let mut scene = staying("working", "via_state: 'working'").await;
    assert_eq!(work(&scene, leased).await, called(0));
    assert_eq!(said(&mut scene).await, each(r#"could not be moved to "working": its table left it at "pending""#));
}

#[tokio::test]
async fn a_row_that_stays_after_its_handler_fails_as_often_as_it_may() {
    let mut scene = staying("normal", "mode: 'leased'").await;
    assert_eq!(work(&scene, leased).await, called(ATTEMPTS));
    assert_eq!(said(&mut scene).await, each(r#"could not be moved to "normal": its table left it at "pending""#));
    let mut scene = staying("normal", "via_state: 'working'").await;
    assert_eq!(work(&scene, leased).await, called(ATTEMPTS));
    assert_eq!(said(&mut scene).await, each(r#"could not be moved to "normal": its table left it at "working""#));
}

#[tokio::test]
async fn what_a_transactional_handler_did_for_a_row_that_stays_is_rolled_back() {
    let mut scene = staying("normal", "mode: 'transactional'").await;
    let init = |worker: Builder, calls: Calls| {
        worker.transactional("init", move |mut tx: Tx, host: Row<Host>| {
            *calls.lock().unwrap().entry(host.id).or_default() += 1;
            async move {
                let insert = sqlx::query("insert into effects (host) values ($1)").bind(host.id);
                insert.execute(&mut *tx).await?;
                HandlerResult::Ok(())
            }
        })
    };
    assert_eq!(work(&scene, init).await, called(ATTEMPTS));
    assert_eq!(said(&mut scene).await, each(r#"it cannot become "normal": its table left it at "pending""#));
    let effects = scene.values::<i64>("select host from effects order by host").await;
    assert_eq!(effects, (3..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_that_does_not_reach_the_error_state_either_waits_and_says_so() {
    let mut scene = staying("normal", "error_state, mode: 'normal', 'transactional'").await;
    let pool = scene.database.pool.clone();
    let handler = async |_: Tx, _: Row<Host>| HandlerResult::<()>::Err("no".into());
    let worker = start(hand(&pool, "one").transactional("init", handler));
    let waits =
        "(select count(*) = 2 from watchbell.watch_claims where attempt = 2 and due_at > now() + interval '20 s')";
    until_true(&pool, waits, PATIENCE).await;
    worker.stop().await;
    let last = "select distinct message from watchbell.watch_errors where key in ('{1}', '{2}') and attempt = 2";
    let sentence = r#"no; and it cannot become "normal": its table left it at "pending""#;
    assert_eq!(scene.values::<String>(last).await, [sentence]);
}

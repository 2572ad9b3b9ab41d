//! The guard that watches every other test is itself awake.

use sqlx::{AssertSqlSafe, Connection};
use watchbell::{Status, run::transition::allowed};

use crate::support::{Scene, guard};

/// One run in each status, and a statement that takes it from there to `to`.
fn change(from: Status, to: Status, id: i64) -> String {
    let live = |status: Status| !status.is_terminal();
    match (live(from), live(to)) {
        (true, true) => {
            let claimed_by = if to == Status::Running { "1" } else { "null" };
            let fence = i32::from(from == Status::Pending && to == Status::Running);
            format!(
                "update watchbell.runs_live set status = '{to}', claimed_by = {claimed_by}, fence = fence + {fence} \
                 where id = {id}"
            )
        }
        (true, false) => format!(
            "with gone as (delete from watchbell.runs_live where id = {id} returning *) {} from gone",
            into_history(&format!("'{to}'"))
        ),
        (false, true) => format!(
            "insert into watchbell.runs_live (id, handler, status, claimed_by) values ({id}, 'mail', '{to}', {})",
            if to == Status::Running { "1" } else { "null" }
        ),
        (false, false) => format!("update watchbell.runs_finished set status = '{to}' where id = {id}"),
    }
}

/// An insert into history of the rows that a FROM clause is to name.
fn into_history(status: &str) -> String {
    format!(
        "insert into watchbell.runs_finished (id, run_at, created_at, finished_at, fence, attempt, priority, \
             max_attempts, crashes, status, trigger, queue, handler, payload, created_by) \
         select id, run_at, created_at, now(), fence, attempt, priority, max_attempts, crashes, {status}, trigger, \
             queue, handler, payload, created_by"
    )
}

/// Brings a new run into a status, step by step as allowed.
async fn run_in(scene: &mut Scene, status: Status) -> i64 {
    let id = scene.enqueue("mail").await;
    if status != Status::Pending {
        scene.psql(change(Status::Pending, Status::Running, id)).await;
    }
    if status.is_terminal() {
        scene.psql(change(Status::Running, status, id)).await;
    }
    id
}

async fn refusal(scene: &mut Scene, statement: &str) -> Option<String> {
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut scene.sql).await {
        Ok(_) => None,
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(guard::REFUSED) => Some(e.message().to_owned()),
        Err(e) => panic!("{statement}: {e}"),
    }
}

#[tokio::test]
async fn the_guard_refuses_every_forbidden_pair_and_no_other() {
    let mut scene = Scene::new().await;
    for from in Status::ALL {
        for to in Status::ALL.into_iter().filter(|&to| to != from) {
            let id = run_in(&mut scene, from).await;
            let refused = refusal(&mut scene, &change(from, to, id)).await;
            assert_eq!(refused.is_none(), allowed(from, to), "{from} -> {to}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn the_guard_refuses_a_fence_that_falls_or_rises_without_a_claim() {
    let mut scene = Scene::new().await;
    let id = run_in(&mut scene, Status::Running).await;
    for fence in [0, 2] {
        let refused =
            refusal(&mut scene, &format!("update watchbell.runs_live set fence = {fence} where id = {id}")).await;
        let expected =
            format!("the fence of run {id} may not go from 1 to {fence} while it goes from running to running");
        assert_eq!(refused, Some(expected));
    }
    let claim = format!("update watchbell.runs_live set status = 'pending', claimed_by = null where id = {id}");
    assert_eq!(refusal(&mut scene, &claim).await, None);
    let unfenced = format!("update watchbell.runs_live set status = 'running', claimed_by = 2 where id = {id}");
    assert!(refusal(&mut scene, &unfenced).await.is_some());
}

#[tokio::test]
async fn the_guard_refuses_a_run_that_vanishes_ends_twice_or_stays_beside_its_end() {
    let mut scene = Scene::new().await;
    let id = run_in(&mut scene, Status::Running).await;
    let vanish = format!("delete from watchbell.runs_live where id = {id}");
    assert_eq!(refusal(&mut scene, &vanish).await, Some(format!("run {id} was deleted without an end")));
    let beside = format!("{} from watchbell.runs_live where id = {id}", into_history("'normal'"));
    assert_eq!(refusal(&mut scene, &beside).await, Some(format!("run {id} ended and is still live")));
    scene.psql(change(Status::Running, Status::Normal, id)).await;
    let again = format!("{} from watchbell.runs_finished where id = {id}", into_history("'normal'"));
    let refused = refusal(&mut scene, &again).await.unwrap();
    assert!(refused.starts_with("a run ended twice"), "{refused}");
}

#[tokio::test]
async fn the_guard_stands_in_days_made_later_and_can_be_sent_away() {
    let mut scene = Scene::new().await;
    scene.psql("select watchbell.make_day('runs_finished', current_date + 100)").await;
    let id = run_in(&mut scene, Status::Normal).await;
    let later = format!("{} from watchbell.runs_finished where id = {id}", into_history("'normal'"))
        .replace("now()", "now() + interval '100 days'");
    assert!(refusal(&mut scene, &later).await.is_some());
    let mut off = scene.connect().await;
    sqlx::raw_sql(guard::OFF).execute(&mut off).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(later)).execute(&mut off).await.unwrap();
    off.close().await.unwrap();
}

//! Leased rows, stage by stage and by hand: who gets a row, where it goes, and whose word counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};
use watchbell::lifecycle::claim::Claimed;
use watchbell::lifecycle::finish::Finished;
use watchbell::lifecycle::leased::{self, Became, Cursor, RowClaim};
use watchbell::run::transition::{Event, decide};
use watchbell::watch::{Plan, read};
use watchbell::{Context, Registry};

use crate::support::Scene;
use crate::support::scene::{BY_LEASE, Worker, failure};

const HOSTS: &str = "create table hosts (id bigint primary key, name text, status text not null default 'pending');
    create index on hosts (id) where status = 'pending';
    insert into hosts select i, 'host ' || i from generate_series(1, 10) i;";

const VIA: &str = "(name, table_name, handler, via_state) values ('hosts', 'public.hosts', 'work', 'working')";
const PLAIN: &str = "(name, table_name, handler) values ('hosts', 'public.hosts', 'work')";

/// A watched table, and whoever claims its rows.
struct Stage {
    scene: Scene,
    plan: Arc<Plan>,
    worker: Worker,
}

impl Stage {
    async fn new(table: &str, watch: &str) -> Self {
        let mut scene = Scene::new().await;
        scene.psql(table).await;
        let id = scene.value(format!("insert into watchbell.watches {watch} returning id")).await;
        let plan = plan(&mut scene.sql, id).await;
        let worker = scene.worker("a", &["work"]).await;
        Self { scene, plan, worker }
    }

    async fn claim_step(&mut self, step: usize, limit: i64) -> Vec<Claimed> {
        claim(&mut self.scene.sql, &self.plan, step, &self.worker, limit, &mut Cursor::default()).await
    }

    async fn claim(&mut self, limit: i64) -> Vec<Claimed> {
        self.claim_step(0, limit).await
    }

    async fn end(&mut self, row: &Claimed, event: Event) -> Became {
        finish(&mut self.scene.sql, &[verdict(row, event)]).await[0]
    }

    async fn states(&mut self, order: &str) -> Vec<String> {
        self.scene.values(format!("select status::text from hosts order by {order}")).await
    }

    async fn count(&mut self, what: &str) -> i64 {
        self.scene.value(format!("select count(*) from {what}")).await
    }
}

async fn plan(sql: &mut PgConnection, id: i64) -> Arc<Plan> {
    let watch = read::read(sql, id).await.unwrap().expect("the watch is there");
    let registry = Registry::new().handler("work", async |_: Context| {}).handler("next", async |_: Context| {});
    Arc::new(Plan::of(sql, watch, &registry).await.unwrap())
}

async fn claim(
    sql: &mut PgConnection,
    plan: &Arc<Plan>,
    step: usize,
    worker: &Worker,
    limit: i64,
    cursor: &mut Cursor,
) -> Vec<Claimed> {
    leased::claim(sql, plan, step, worker.id(), limit, cursor).await.unwrap().rows
}

fn verdict(row: &Claimed, event: Event) -> Finished {
    let retry = &row.row.as_ref().unwrap().planned().step.retry;
    Finished::of(row, Duration::ZERO, decide(row.standing(), event, retry))
}

async fn finish(sql: &mut PgConnection, verdicts: &[Finished]) -> Vec<Became> {
    let batch: Vec<(&RowClaim, &Finished)> = verdicts.iter().map(|f| (&**f.row.as_ref().unwrap(), f)).collect();
    leased::finish(sql, batch[0].0.planned(), &batch).await.unwrap()
}

fn keys(rows: &[Claimed]) -> Vec<String> {
    rows.iter().map(|row| row.row.as_ref().unwrap().key().join("/")).collect()
}

#[tokio::test]
async fn a_row_stands_at_via_while_it_is_worked_on_and_then_at_its_end() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    let rows = stage.claim(2).await;
    assert_eq!(keys(&rows), ["1", "2"]);
    assert_eq!(stage.states("id limit 3").await, ["working", "working", "pending"]);
    assert_eq!(stage.end(&rows[0], Event::Succeeded).await, Became::Moved);
    assert_eq!(stage.end(&rows[1], Event::Fatal { message: "no".into() }).await, Became::Moved);
    assert_eq!(stage.states("id limit 3").await, ["normal", "failed", "pending"]);
    assert_eq!(stage.count("watchbell.watch_claims").await, 0);
    let totals = "select array[done, failed, retried, changed] from watchbell.watch_totals";
    assert_eq!(stage.scene.value::<Vec<i64>>(totals).await, [1, 1, 0, 0]);
    let errors: Vec<String> = stage.scene.values("select kind || ': ' || message from watchbell.watch_errors").await;
    assert_eq!(errors, ["fatal: no"]);
}

#[tokio::test]
async fn a_row_is_claimed_by_one_worker_and_others_pass_over_it() {
    let mut stage = Stage::new(HOSTS, PLAIN).await;
    let other = stage.scene.worker("b", &["work"]).await;
    let first = stage.claim(4).await;
    let mut sql = stage.scene.connect().await;
    let second = claim(&mut sql, &stage.plan, 0, &other, 20, &mut Cursor::default()).await;
    assert_eq!((keys(&first).join(" "), keys(&second).join(" ")), ("1 2 3 4".into(), "5 6 7 8 9 10".into()));
    assert!(stage.claim(20).await.is_empty());
}

#[tokio::test]
async fn a_worker_without_its_lease_claims_nothing() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    stage.scene.silence(&stage.worker);
    stage.scene.advance(TimeDelta::seconds(16)).await;
    assert!(stage.claim(5).await.is_empty());
    assert_eq!(stage.count("hosts where status = 'pending'").await, 10);
}

#[tokio::test]
async fn a_failed_attempt_waits_at_from_and_the_last_one_ends_at_the_error_state() {
    for watch in [VIA, PLAIN] {
        let mut stage = Stage::new(HOSTS, watch).await;
        stage.scene.psql("delete from hosts where id > 1").await;
        for attempt in 1..=3 {
            let row = stage.claim(1).await.pop().expect("its next attempt is due");
            assert_eq!(row.attempt, attempt);
            assert_eq!(stage.end(&row, failure()).await, Became::Moved);
            if attempt < 3 {
                assert_eq!(stage.states("id").await, ["pending"]);
                assert!(stage.claim(1).await.is_empty(), "it waits");
                stage.scene.advance(TimeDelta::seconds(11)).await;
            }
        }
        assert_eq!(stage.states("id").await, ["failed"]);
        assert_eq!(stage.count("watchbell.watch_claims").await, 0);
        let attempts: Vec<i32> = stage.scene.values("select attempt from watchbell.watch_errors order by at").await;
        assert_eq!(attempts, [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_row_that_fails_again_and_again_waits_since_its_first_attempt() {
    let hosts =
        HOSTS.replace("name text,", "since timestamptz, name text,").replace("into hosts", "into hosts (id, name)");
    let watch = "(name, table_name, handler, via_state, since_column) values ('hosts', 'public.hosts', 'work', 'working', 'since')";
    let mut stage = Stage::new(&hosts, watch).await;
    stage.scene.psql("delete from hosts where id > 1").await;
    let began = stage.scene.now();
    for event in [Event::Snoozed { by: Duration::from_secs(1) }, failure(), failure()] {
        let row = stage.claim(1).await.pop().expect("it is due");
        stage.end(&row, event.clone()).await;
        let oldest = "select oldest from watchbell.watch_counts('hosts') where role = 'waiting'";
        let oldest: DateTime<Utc> = stage.scene.value(oldest).await;
        let snoozed = matches!(event, Event::Snoozed { .. });
        assert_eq!(oldest, if snoozed { stage.scene.now() } else { began }, "a snooze is no failure");
        stage.scene.advance(TimeDelta::seconds(11)).await;
    }
}

#[tokio::test]
async fn what_a_snooze_or_a_give_back_leaves_is_no_attempt() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    stage.scene.psql("delete from hosts where id > 1").await;
    for event in [Event::Snoozed { by: Duration::from_secs(60) }, Event::GivenBack] {
        let row = stage.claim(1).await.pop().unwrap();
        assert_eq!(row.attempt, 1);
        stage.end(&row, event).await;
        stage.scene.advance(TimeDelta::seconds(60)).await;
    }
    let row = stage.claim(1).await.pop().unwrap();
    assert_eq!((row.attempt, row.fence), (1, 3));
}

#[tokio::test]
async fn what_a_rows_owner_did_meanwhile_stays() {
    for watch in [VIA, PLAIN] {
        for end in [Event::Succeeded, failure(), Event::Snoozed { by: Duration::from_secs(9) }] {
            let mut stage = Stage::new(HOSTS, watch).await;
            let rows = stage.claim(3).await;
            stage.scene.psql("update hosts set status = 'retired' where id = 1; delete from hosts where id = 2").await;
            let ends: Vec<Finished> = rows.iter().map(|row| verdict(row, end.clone())).collect();
            let became = finish(&mut stage.scene.sql, &ends).await;
            assert_eq!(became, [Became::Changed, Became::Changed, Became::Moved]);
            assert_eq!(stage.states("id limit 1").await, ["retired"]);
            let left = stage.count("watchbell.watch_claims").await;
            assert_eq!(left, i64::from(end != Event::Succeeded), "only what waits keeps its claim");
            let changed: i64 = stage.scene.value("select changed from watchbell.watch_totals").await;
            assert_eq!(changed, 2);
        }
    }
}

#[tokio::test]
async fn a_row_that_a_person_has_locked_holds_up_no_other() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    let rows = stage.claim(3).await;
    let mut person = stage.scene.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("update hosts set name = 'x' where id = 2").execute(&mut *open).await.unwrap();
    let ends: Vec<Finished> = rows.iter().map(|row| verdict(row, Event::Succeeded)).collect();
    assert_eq!(finish(&mut stage.scene.sql, &ends).await, [Became::Moved, Became::Held, Became::Moved]);
    open.commit().await.unwrap();
    assert_eq!(finish(&mut stage.scene.sql, &ends[1..2]).await, [Became::Moved]);
    assert_eq!(finish(&mut stage.scene.sql, &ends).await, [Became::Superseded; 3]);
    assert_eq!(stage.states("id limit 3").await, ["normal"; 3]);
    assert_eq!(stage.scene.value::<String>("select name from hosts where id = 2").await, "x");
}

#[tokio::test]
async fn a_dead_workers_rows_go_on_elsewhere_and_its_late_end_is_refused() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    let mut heir = stage.scene.worker("heir", &["work"]).await;
    let row = stage.claim(1).await.pop().unwrap();
    stage.scene.silence(&stage.worker);
    stage.scene.advance(TimeDelta::seconds(16)).await;
    assert_eq!(stage.scene.judge(&heir, BY_LEASE).await.len(), 1);
    let plans = HashMap::from([(stage.plan.watch.id, Arc::clone(&stage.plan))]);
    let lost = leased::orphans(&mut stage.scene.sql, None).await.unwrap();
    let lost: Vec<Finished> = lost.iter().filter_map(|orphan| orphan.verdict(&plans, Event::WorkerLost)).collect();
    assert_eq!(finish(&mut stage.scene.sql, &lost).await, [Became::Moved]);
    assert_eq!(stage.states("id limit 1").await, ["pending"]);
    std::mem::swap(&mut stage.worker, &mut heir);
    let again = stage.claim(1).await.pop().unwrap();
    assert_eq!((keys(std::slice::from_ref(&again)), again.attempt, again.crashes), (vec!["1".to_owned()], 2, 1));
    assert_eq!((again.id, again.fence), (row.id, row.fence + 1), "the same passage, under a higher fence");
    assert_eq!(stage.end(&row, Event::Succeeded).await, Became::Superseded);
    assert_eq!(stage.states("id limit 1").await, ["working"]);
    assert_eq!(stage.end(&again, Event::Succeeded).await, Became::Moved);
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_given_back_as_it_was() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    let rows = stage.claim(2).await;
    let plans = HashMap::from([(stage.plan.watch.id, Arc::clone(&stage.plan))]);
    let strays = leased::strays(&mut stage.scene.sql, stage.worker.id(), &[-rows[0].id]).await.unwrap();
    let back: Vec<Finished> = strays.iter().filter_map(|stray| stray.verdict(&plans, Event::GivenBack)).collect();
    assert_eq!(keys(std::slice::from_ref(&rows[1])), back[0].row.as_ref().unwrap().key());
    assert_eq!(finish(&mut stage.scene.sql, &back).await, [Became::Moved]);
    assert_eq!(stage.states("id limit 3").await, ["working", "pending", "pending"]);
    assert_eq!(stage.claim(1).await.pop().unwrap().attempt, 1);
}

#[tokio::test]
async fn a_watch_that_was_edited_paused_or_deleted_claims_nothing_by_its_old_plan() {
    for change in ["update watchbell.watches set paused_at = now()", "delete from watchbell.watches"] {
        let mut stage = Stage::new(HOSTS, VIA).await;
        stage.scene.psql(change).await;
        assert!(stage.claim(5).await.is_empty(), "{change}");
        assert_eq!(stage.count("hosts where status = 'pending'").await, 10);
    }
}

#[tokio::test]
async fn a_row_that_took_three_workers_down_is_given_up_and_others_go_on() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    stage.scene.psql("update watchbell.watches set max_attempts = 9").await;
    stage.plan = plan(&mut stage.scene.sql, stage.plan.watch.id).await;
    let plans = HashMap::from([(stage.plan.watch.id, Arc::clone(&stage.plan))]);
    for crash in 1..=3 {
        let rows = stage.claim(1).await;
        assert_eq!(keys(&rows), ["1"], "crash {crash}");
        let dead = format!("update watchbell.workers set state = 'dead' where id = {}", stage.worker.id());
        stage.scene.psql(dead).await;
        let lost = leased::orphans(&mut stage.scene.sql, None).await.unwrap();
        let lost: Vec<Finished> = lost.iter().filter_map(|orphan| orphan.verdict(&plans, Event::WorkerLost)).collect();
        finish(&mut stage.scene.sql, &lost).await;
        stage.worker = stage.scene.worker("next", &["work"]).await;
    }
    assert_eq!(stage.states("id limit 2").await, ["failed", "pending"]);
    let said: Vec<String> = stage.scene.values("select message from watchbell.watch_errors order by at").await;
    assert_eq!(said, ["its worker died", "its worker died", "its worker died, 3 times now"]);
    assert_eq!(keys(&stage.claim(1).await), ["2"]);
}

#[tokio::test]
async fn a_number_of_a_passage_never_comes_again() {
    let mut stage = Stage::new(HOSTS, VIA).await;
    stage.scene.psql("delete from hosts where id > 1").await;
    let first = stage.claim(1).await.pop().unwrap();
    stage.end(&first, Event::Succeeded).await;
    stage.scene.psql("update hosts set status = 'pending'").await;
    let second = stage.claim(1).await.pop().unwrap();
    assert_eq!((first.fence, second.fence), (1, 1));
    assert_ne!(first.id, second.id);
    // the reply to the first end was lost and it is sent again, by the same worker
    assert_eq!(stage.end(&first, Event::Succeeded).await, Became::Superseded);
    assert_eq!(stage.states("id").await, ["working"]);
}

#[tokio::test]
async fn claims_of_rows_that_moved_on_are_swept_away_and_hold_up_no_other_step() {
    let steps = r#"(name, table_name, transitions) values ('hosts', 'public.hosts',
        '[{"from": "pending", "to": "ready", "handler": "work"}, {"from": "ready", "to": "normal", "handler": "next"}]')"#;
    let mut stage = Stage::new(HOSTS, steps).await;
    for row in stage.claim(4).await {
        stage.end(&row, failure()).await;
    }
    stage.scene.psql("update hosts set status = 'ready' where id in (1, 2); delete from hosts where id = 3").await;
    let moved = stage.claim_step(1, 1).await;
    assert_eq!((keys(&moved), moved[0].attempt), (vec!["1".to_owned()], 1), "a step counts its own attempts");
    let swept = leased::sweep(&mut stage.scene.sql, &stage.plan).await.unwrap();
    assert_eq!((swept.looked_at, swept.deleted), (3, 2));
    let left: Vec<String> = stage.scene.values("select key[1] || step from watchbell.watch_claims order by 1").await;
    assert_eq!(left, ["1ready", "4pending"]);
    stage.scene.psql("delete from watchbell.watches").await;
    assert!(leased::forget(&mut stage.scene.sql).await.unwrap());
    assert_eq!(stage.count("watchbell.watch_claims").await, 1, "what a live worker holds stays until it lets go");
}

#[tokio::test]
async fn looks_go_on_behind_rows_that_wait_and_begin_anew_at_the_end() {
    let mut stage = Stage::new(HOSTS, PLAIN).await;
    let (mut seen, mut cursor) = (vec![], Cursor::default());
    while seen.len() < 4 {
        let rows = claim(&mut stage.scene.sql, &stage.plan, 0, &stage.worker, 4, &mut cursor).await;
        seen.push(keys(&rows).join(" "));
        for row in rows {
            stage.end(&row, failure()).await;
        }
        if seen.len() == 3 {
            stage.scene.advance(TimeDelta::minutes(1)).await;
        }
    }
    assert_eq!(seen, ["1 2 3 4", "5 6 7 8", "9 10", "1 2 3 4"]);
}

#[tokio::test]
async fn keys_and_states_of_any_type_and_names_of_any_kind_work() {
    let table = r#"create schema "My Schema"; create type "My Schema"."the state" as enum ('new', 'in work', 'it''s done', 'broken');
        create table "My Schema"."Hosts ""x""" (
            "Site" uuid default gen_random_uuid(), at timestamptz default now(), no varchar(20),
            "The Status" "My Schema"."the state" not null default 'new', "Moved At" timestamptz,
            primary key ("Site", no, at));
        insert into "My Schema"."Hosts ""x""" (no) select 'a {"\' || i from generate_series(1, 5) i;"#;
    let watch = r#"(name, table_name, handler, status_column, from_state, via_state, to_state, error_state, since_column)
        values ('hosts', '"My Schema"."Hosts ""x"""', 'work', 'The Status', 'new', 'in work', 'it''s done', 'broken',
                'Moved At')"#;
    let mut stage = Stage::new(table, watch).await;
    let rows = stage.claim(3).await;
    assert_eq!(rows.len(), 3);
    let ends = [Event::Succeeded, Event::Fatal { message: "x".into() }, failure()];
    let ends: Vec<Finished> = rows.iter().zip(ends).map(|(row, event)| verdict(row, event)).collect();
    assert_eq!(finish(&mut stage.scene.sql, &ends).await, [Became::Moved; 3]);
    let query = r#"select "The Status"::text || coalesce(' moved', '') from "My Schema"."Hosts ""x""" where "Moved At" is not null order by 1"#;
    let moved: Vec<String> = stage.scene.values(query).await;
    assert_eq!(moved, ["broken moved", "it's done moved", "new moved"]);
    let swept = leased::sweep(&mut stage.scene.sql, &stage.plan).await.unwrap();
    assert_eq!((swept.looked_at, swept.deleted), (1, 0));

    let numbers = "create table hosts (a int, b smallint, status smallint not null default 1, primary key (a, b));
        insert into hosts (a, b) values (-1, 2), (3, 4);";
    let watch = "(name, table_name, handler, from_state, via_state, to_state, error_state) \
                 values ('n', 'public.hosts', 'work', '1', '2', '-3', '4')";
    let mut stage = Stage::new(numbers, watch).await;
    let rows = stage.claim(2).await;
    assert_eq!(keys(&rows), ["-1/2", "3/4"]);
    stage.end(&rows[0], Event::Succeeded).await;
    assert_eq!(stage.states("a").await, ["-3", "2"]);
}

#[tokio::test]
async fn an_end_finds_its_rows_by_their_keys_among_many() {
    let many =
        "create unlogged table hosts (id bigint primary key, status text not null) with (autovacuum_enabled = off);
        insert into hosts select i, 'normal' from generate_series(1, 200000) i;
        update hosts set status = 'pending' where id % 20000 = 0;
        create index on hosts (id) where status = 'pending';
        analyze hosts;";
    let mut stage = Stage::new(many, VIA).await;
    let reads = "select coalesce(pg_stat_get_xact_tuples_returned('hosts'::regclass), 0)";
    stage.scene.psql("begin").await;
    // the counter may still hold what the table's making read
    let before: i64 = stage.scene.value(reads).await;
    let rows = stage.claim(20).await;
    let ends: Vec<Finished> = rows.iter().map(|row| verdict(row, Event::Succeeded)).collect();
    assert_eq!(finish(&mut stage.scene.sql, &ends).await, [Became::Moved; 10]);
    let scanned: i64 = stage.scene.value(reads).await;
    stage.scene.psql("commit").await;
    assert_eq!(scanned - before, 0, "rows were read by a scan of the table");
}

#[tokio::test]
async fn a_row_has_one_key_in_sessions_of_any_time_zone_and_date_style() {
    let table = "create table hosts (at timestamptz, day date, hour timestamp, status text default 'pending', primary key (at, day, hour));
        insert into hosts values ('2026-03-01 12:00:00.000001+00', '2026-03-02', '2026-03-03 04:05:06'),
                                 ('infinity', '-infinity', 'infinity');";
    let mut stage = Stage::new(table, PLAIN).await;
    let other = stage.scene.worker("b", &["work"]).await;
    let rows = stage.claim(5).await;
    assert_eq!(keys(&rows)[0], "2026-03-01T12:00:00.000001Z/2026-03-02/2026-03-03T04:05:06");
    let mut sql = stage.scene.connect().await;
    sqlx::raw_sql("set time zone 'Asia/Tokyo'; set datestyle = 'German'").execute(&mut sql).await.unwrap();
    assert!(claim(&mut sql, &stage.plan, 0, &other, 5, &mut Cursor::default()).await.is_empty());
    let ends: Vec<Finished> = rows.iter().map(|row| verdict(row, Event::Succeeded)).collect();
    assert_eq!(finish(&mut sql, &ends).await, [Became::Moved; 2]);
}

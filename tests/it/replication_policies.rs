//! Each misfire policy with each overlap policy under three worker processes: a thousand fire times that passed
//! while nobody acted, twenty schedules with fifty each, and each of them is accounted for exactly once.
//!
//! The oracle knows nothing of the planner: it is the table of the documentation, slot by slot.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use crate::support::Database;
use crate::support::fleet::{
    Slot, accounted, assert_started_once, by_schedule, second, seconds_after, three, until_all_over,
};
use crate::support::journal::Journal;

const SLOTS: i64 = 50;
const LIMITED: i64 = 30;
const OVERLAPS: [&str; 5] = ["allow", "skip", "queue_one", "queue_all", "cancel_running"];

/// A misfire policy: its name in the schedules' names, columns and values, and how many slots it acts on.
const MISFIRES: [(&str, &str, &str, i64); 5] = [
    ("once", "misfire", "'fire_once'", 1),
    ("prompt", "misfire, misfire_grace", "'skip', '1 h'", 1),
    ("late", "misfire, misfire_grace", "'skip', '500 ms'", 0),
    ("all", "misfire", "'catch_up'", SLOTS),
    ("some", "misfire, catch_up_limit", "'catch_up', 30", LIMITED),
];

/// What is to become of the slots of one schedule, oldest first.
fn oracle(misfire: &str, acts_on: i64, overlap: &str) -> Vec<&'static str> {
    let passed_over = if misfire == "once" { "coalesced" } else { "skipped_misfire" };
    let mut all = vec![passed_over; usize::try_from(SLOTS - acts_on).unwrap()];
    for n in 0..acts_on {
        let newest = n == acts_on - 1;
        let acts = if newest { "run" } else { "caught_up" };
        all.push(match (overlap, n) {
            ("allow", _) | ("skip" | "queue_one" | "queue_all", 0) => acts,
            ("queue_one", 1) | ("queue_all", _) => "queued",
            ("cancel_running", _) if newest => acts,
            _ => "skipped_overlap",
        });
    }
    all
}

#[tokio::test]
async fn a_thousand_fire_times_of_every_policy_are_each_accounted_for_once() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let _fleet = three(&database, &journal).await;

    // written a minute ago, so to speak, and over by now: nobody acted on any of their slots
    let end = second(pool).await;
    let zero = end - TimeDelta::seconds(SLOTS + 1);
    let mut inserts = vec![];
    let mut expected: Vec<Slot> = vec![];
    for overlap in OVERLAPS {
        for (misfire, columns, values, acts_on) in MISFIRES {
            for (kind, spec) in [("cron", "'* * * * * *'"), ("fixed_rate", "'1 s'")] {
                inserts.push(format!(
                    "insert into watchbell.schedules (name, handler, payload, ends_at, overlap, {kind}, {columns}) \
                     select '{misfire}.{overlap}.{kind}.' || i, 'work', '{{\"ms\": 0}}', '{end}', '{overlap}', {spec}, \
                     {values} from generate_series(10, 19) i"
                ));
                for n in 10..20 {
                    let slots = seconds_after(zero, SLOTS).into_iter().zip(oracle(misfire, acts_on, overlap));
                    let name = format!("{misfire}.{overlap}.{kind}.{n}");
                    expected.extend(slots.map(|(slot, what)| (name.clone(), slot, what.to_owned())));
                }
            }
        }
    }
    expected.sort();
    // several sessions, so that several workers find something due at each moment
    let mut people = tokio::task::JoinSet::new();
    for some in inserts.chunks(13) {
        let (some, mut session) = (some.to_vec(), database.connect().await);
        people.spawn(async move {
            let clock = format!("set watchbell.now = '{zero}'");
            for statement in [clock].iter().chain(&some) {
                sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut session).await.unwrap();
            }
        });
    }
    people.join_all().await;
    until_all_over(pool).await;

    let seen = accounted(pool).await;
    assert_eq!(seen.len(), expected.len(), "fire times");
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected);
    }
    let acts = |what: &str| matches!(what, "run" | "caught_up" | "queued");
    let acting: BTreeSet<_> =
        expected.iter().filter(|(_, _, what)| acts(what)).map(|(name, slot, _)| (name.clone(), *slot)).collect();
    assert_started_once(&journal, &acting);
    assert!(journal.entries().iter().all(|e| e.attempt == 1), "nobody failed");
    for (name, noted) in by_schedule(&journal).into_iter().filter(|(name, _)| name.contains(".queue_all.")) {
        let order: Vec<_> = noted.iter().map(|(slot, entry)| (*slot, entry.event == "end")).collect();
        assert!(order.is_sorted(), "{name}: one after the other, oldest first: {order:?}");
    }
}

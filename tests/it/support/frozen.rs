//! A worker process caught in the middle of its work on watched rows, by SIGSTOP: what it has in hand can be read, and
//! cannot change any more.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, PgPool};

use super::ask::one;
use super::process::{Orders, Process};
use super::wait::{until, until_true};
use super::watched::PATIENCE;

/// A worker process whose handlers' sessions bear its name, which no other process of the test may have.
pub struct Named {
    pub process: Process,
    pub name: String,
}

/// What a frozen process has in hand.
#[derive(Debug)]
pub struct InHand {
    /// The worker's number.
    pub worker: i32,
    /// Rows that it holds, in a transaction or by claims.
    pub rows: BTreeSet<i64>,
    /// What is charged if it dies: rows that Rust handlers have in a transaction, and claims; of all steps.
    pub charged: BTreeSet<(String, i64)>,
}

impl Named {
    /// Starts it, and waits until it shows its presence.
    pub async fn start(pool: &PgPool, orders: &Orders) -> Self {
        let name = orders.name.clone();
        let mark = if orders.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}application_name={name}", orders.url);
        let process = Process::start(&Orders { url, ..orders.clone() });
        let there = format!("exists (select from watchbell.workers where name = '{name}' and presence)");
        until_true(pool, &there, PATIENCE).await;
        Self { process, name }
    }

    /// Freezes it while it holds rows of `hosts` that stand at this state inside a transaction; `noted`: those that it
    /// has handed to a function.
    pub async fn freeze_in_transaction(&self, pool: &PgPool, step: &str, noted: bool) -> InHand {
        let noted = if noted { "exists" } else { "not exists" };
        // what it has locked and not moved yet bears the number of its transaction
        let rows = format!(
            "select h.id from hosts h join pg_stat_activity a on a.backend_xid = h.xmax \
             where h.status = '{step}' and a.datname = current_database() and a.application_name = '{}' \
               and a.state = 'idle in transaction' and {noted} (
                 select from watchbell.worker_batches b join watchbell.workers w on w.id = b.worker_id
                 where w.name = a.application_name and b.step = h.status
                   and b.keys @> jsonb_build_array(jsonb_build_array(h.id::text)))",
            self.name
        );
        self.freeze_with(pool, &rows).await
    }

    /// Freezes it while it has claims of this step.
    pub async fn freeze_with_claims(&self, pool: &PgPool, step: &str) -> InHand {
        let rows = format!(
            "select c.key[1]::bigint from watchbell.watch_claims c join watchbell.workers w on w.id = c.claimed_by \
             where c.step = '{step}' and w.name = '{}'",
            self.name
        );
        self.freeze_with(pool, &rows).await
    }

    async fn freeze_with(&self, pool: &PgPool, rows: &str) -> InHand {
        let what = format!("{} is in the middle of: {rows}", self.name);
        let look = async || {
            self.process.send(Signal::SIGSTOP);
            // what it had sent is answered, and nothing more comes from it
            let now: String = one(pool, "select clock_timestamp()::text").await;
            let silent = format!(
                "not exists (select from pg_stat_activity where datname = current_database() and state = 'active' \
                 and query_start < '{now}' and pid <> pg_backend_pid())"
            );
            until_true(pool, &silent, PATIENCE).await;
            let rows: Vec<i64> = all(pool, rows).await;
            if rows.is_empty() {
                self.process.send(Signal::SIGCONT);
                return None;
            }
            Some(rows.into_iter().collect())
        };
        let (rows, _) = until(&what, PATIENCE, look).await;
        let worker = one(pool, &format!("select max(id) from watchbell.workers where name = '{}'", self.name)).await;
        let charged = format!(
            "select b.step, (e.value ->> 0)::bigint \
             from watchbell.worker_batches b cross join lateral jsonb_array_elements(b.keys) e where b.worker_id = {worker} \
             union all \
             select c.step, c.key[1]::bigint from watchbell.watch_claims c where c.claimed_by = {worker}"
        );
        let charged: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(charged)).fetch_all(pool).await.unwrap();
        InHand { worker, rows, charged: charged.into_iter().collect() }
    }
}

async fn all(pool: &PgPool, query: &str) -> Vec<i64> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(pool).await.unwrap()
}

/// Notes every crash that is charged to a row from now on, whoever charges it.
pub async fn note_charges(pool: &PgPool) {
    let note = "create table charges (step text, host bigint);
        create function note_charge() returns trigger language plpgsql as $$ begin
            if tg_op = 'INSERT' or new.crashes > old.crashes or new.step <> old.step then
                insert into public.charges values (new.step, new.key[1]::bigint);
            end if;
            return null;
        end $$;
        create trigger note_charge after insert or update on watchbell.watch_claims
            for each row when (new.crashes > 0) execute function note_charge();";
    sqlx::raw_sql(note).execute(pool).await.unwrap();
}

/// Asserts that the rows which these had in hand were charged with a crash, each once for each, and no others.
pub async fn assert_charged(pool: &PgPool, dead: &[InHand]) {
    let charges = "select step, host from charges order by step collate \"C\", host";
    let charges: Vec<(String, i64)> = sqlx::query_as(charges).fetch_all(pool).await.unwrap();
    let mut expected: Vec<(String, i64)> = dead.iter().flat_map(|dead| dead.charged.iter().cloned()).collect();
    expected.sort();
    let beside: Vec<_> = charges.iter().filter(|charge| !expected.contains(charge)).collect();
    let missing: Vec<_> = expected.iter().filter(|row| !charges.contains(row)).collect();
    assert!(beside.is_empty() && missing.is_empty(), "charged beside: {beside:?}; not charged: {missing:?}");
    assert_eq!(charges.len(), expected.len(), "each once: {charges:?}");
}

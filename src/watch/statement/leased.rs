//! The statements of leased mode: `watch_claims` says who has a row, and the row itself is free.
//!
//! Each is one statement, and so a transaction of its own: a worker that is frozen in the middle holds no lock. All
//! lock the user's row first and its claim second (the other order deadlocked about ten times in 100,000 rows), and
//! none waits for a row that somebody else holds.
//!
//! Plans are made once, often while `watch_claims` is empty, when a join would rather read all claims of the watch than
//! look up each: so each is looked up by its whole key in a lateral subselect, and what was locked is then written by
//! its place (`ctid`). Whoever changes a claim between snapshot and lock changes what guards it, and it is not ours.
//!
//! What belongs together is carried along or grouped, never joined: the engine's sessions have nested loops only, and
//! would compare the parts of 200 verdicts 40,000 times.

use super::{Statements, listed};
use crate::watch::{Step, Table, quote};

/// The SQL of one step in leased mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    statements: Statements,
    /// The watch as it was planned: what was edited, paused or deleted since claims nothing.
    version: i64,
    step: String,
    /// The states as in SQL: while the handler works, if it is another; after success; after the last failure.
    via: Option<String>,
    to: String,
    error: String,
    /// What a case over states is cast to.
    sql_type: String,
}

impl Leased {
    /// Of a step over its table.
    pub fn of(statements: &Statements, version: i64, table: &Table, step: &Step) -> Self {
        Self {
            version,
            statements: statements.clone(),
            step: quote::literal(&step.from),
            via: step.via.as_ref().map(|via| table.state(via)),
            to: table.state(&step.to),
            error: table.state(&step.error),
            sql_type: table.status.sql_type.clone(),
        }
    }

    /// Claims up to `limit` rows for a worker. Parameters: with `behind` the parts of the place to go on behind, then
    /// the worker and the limit.
    ///
    /// Answers the rows taken, in order, and then the claims made, which may be fewer: another worker was faster, or
    /// this one has lost its lease. Columns: key, then of a row taken its place and the row as JSON, of a claim its
    /// number, fence, attempt, crashes, kept data and the time. Fails where the table keeps a row from `via`.
    pub fn claim(&self, behind: bool) -> String {
        let s = &self.statements;
        let first = if behind { s.order.len() } else { 0 };
        let (worker, limit) = (format!("${}::integer", first + 1), format!("${}::bigint", first + 2));
        let (moved, all_moved) = self.via.as_ref().map_or_else(Default::default, |via| {
            let keys = s.key.iter().enumerate();
            let same = keys
                .map(|(n, column)| format!("t.{} = c.key[{}]::{}", quote::name(&column.name), n + 1, column.sql_type));
            let same = same.collect::<Vec<_>>().join(" and ");
            let since = self.since("(select watchbell.instant())");
            let moved = format!(
                ", moved as (\n    update {} as t set {} = {via}{since} from claims c where {same}\n    \
                     returning t.{}\n)",
                s.table, s.status, s.status
            );
            (moved, format!("\nwhere {}", self.all_moved(&s.from, "claims")))
        });
        format!(
            "with taken (key, place, shown) as materialized (
    {take}
), claims as (
    insert into watchbell.watch_claims as c (watch_id, key, step, claimed_by, claimed_at, fence, attempt, began_at)
    select {watch}, x.key, {step}, {worker}, i.now, 1, 1, i.now
    from taken x, (select watchbell.instant() as now offset 0) i
    where (select w.state = 'running' and w.lease_until > watchbell.instant()
           from watchbell.workers w where w.id = {worker})
      and (select w.paused_at is null and w.version = {version} from watchbell.watches w where w.id = {watch})
    on conflict (watch_id, key) do update
    set step = excluded.step, claimed_by = excluded.claimed_by, claimed_at = excluded.claimed_at, fence = c.fence + 1,
        id = case when c.step = excluded.step then c.id else excluded.id end,
        attempt = case when c.step = excluded.step then c.attempt + 1 else 1 end,
        began_at = case when c.step = excluded.step then c.began_at else excluded.began_at end,
        crashes = case when c.step = excluded.step then c.crashes else 0 end,
        data = case when c.step = excluded.step then c.data end,
        error = case when c.step = excluded.step then c.error end
    where c.claimed_by is null and (c.due_at <= (select watchbell.instant()) or c.step <> excluded.step)
    returning c.key, c.id, c.fence, c.attempt, c.crashes, c.data, c.claimed_at
){moved}
select x.key, x.place, x.shown, null::bigint, null::bigint, null::integer, null::smallint, null::text, null::timestamptz
from taken x
union all
select c.key, null, null, c.id, c.fence, c.attempt, c.crashes, c.data::text, c.claimed_at from claims c{all_moved}",
            take = s.take(&limit, behind),
            watch = s.watch,
            version = self.version,
            step = self.step,
        )
    }

    /// Ends claims, or gives them back, and moves their rows, as far as they still stand where the claim left them.
    ///
    /// Parameters are lists of claim, fence, worker, status, delay in ms, unstarted, crashed, kind, message, kept data
    /// and output, and then one list for each key column. Answers for each, by its number in the lists from 1, what became:
    /// `moved`, `changed` (the row had been moved or deleted; only the claim ended), `held` (somebody else has locked
    /// it: send it again), `superseded` (the claim is another's).
    pub fn finish(&self) -> String {
        let s = &self.statements;
        let standing = self.via.as_ref().unwrap_or(&s.from);
        // a row that is tried again stands at `from` already, unless it went to `via`
        let moves = if self.via.is_some() { "" } else { " and k.status <> 'pending'" };
        let all_moved = self.all_moved(standing, &format!("owned k where k.stands{moves}"));
        let parts = s.parts();
        let lists = listed((12..12 + s.width()).map(|n| format!("${n}::text[]")));
        format!(
            "with v as materialized (
    select k.*, {key} as key, (select watchbell.instant()) as now
    from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::bigint[], $6::boolean[], $7::boolean[],
                $8::text[], $9::text[], $10::text[], $11::bytea[], {lists}) with ordinality
         as k (id, fence, claimed_by, status, delay_ms, unstarted, crashed, kind, message, data, output, {parts}, n)
), u as materialized (
    select k.*, coalesce(t.{status} = {standing}, false) as stands
    from v k join {table} as t on {has_key}
    order by {key_order}
    for no key update of t skip locked
), free as materialized (
    select u.* from u
    union all
    select k.*, false from v k
    where (select count(*) from u) < (select count(*) from v)
      and not exists (select from {table} as t where {has_key})
), owned as materialized (
    select k.*, c.attempt - k.unstarted::integer as attempts, c.at
    from free k
    cross join lateral (
        select c.ctid as at, c.attempt from watchbell.watch_claims c
        where c.watch_id = {watch} and c.key = k.key and c.id = k.id and c.fence = k.fence
          and c.claimed_by = k.claimed_by
        offset 0
        for no key update of c skip locked
    ) c
), ended as (
    delete from watchbell.watch_claims c
    where c.ctid = any (array(select k.at from owned k where not (k.stands and k.status = 'pending')))
), waiting as (
    update watchbell.watch_claims c
    set claimed_by = null, claimed_at = null, attempt = k.attempts, crashes = c.crashes + k.crashed::integer,
        due_at = case when k.delay_ms is null then c.due_at else k.now + make_interval(secs => k.delay_ms / 1000.0) end,
        data = coalesce(k.data::jsonb, c.data), error = coalesce(k.message, c.error)
    from owned k
    where c.ctid = k.at and k.stands and k.status = 'pending'
), moved as (
    update {table} as t
    set {status} = (case k.status when 'normal' then {to} when 'pending' then {from} else {error} end)::{sql_type}{since}
    from owned k
    where {has_key} and k.stands{moves}
    returning t.{status}
), errors as (
    insert into watchbell.watch_errors (watch_id, key, step, attempt, worker_id, kind, message, output, at)
    select {watch}, k.key, {step}, k.attempts, k.claimed_by, k.kind, k.message, k.output, k.now
    from owned k where k.kind is not null
), totals as (
    insert into watchbell.watch_totals as t (watch_id, step, worker_id, done, failed, retried, changed, last_at)
    select {watch}, {step}, k.claimed_by, count(*) filter (where k.stands and k.status = 'normal'),
           count(*) filter (where k.stands and k.status not in ('normal', 'pending')),
           count(*) filter (where k.stands and k.status = 'pending' and k.kind is not null),
           count(*) filter (where not k.stands), max(k.now)
    from owned k group by k.claimed_by order by k.claimed_by
    on conflict (watch_id, step, worker_id) do update
    set done = t.done + excluded.done, failed = t.failed + excluded.failed, retried = t.retried + excluded.retried,
        changed = t.changed + excluded.changed, last_at = excluded.last_at
)
select n, (array['held', 'superseded', 'changed', 'moved'])[max(became)]
from (
    select k.n, 1 from v k
    union all
    select f.n, case when exists (select from watchbell.watch_claims c
                                  where c.watch_id = {watch} and c.key = f.key and c.id = f.id and c.fence = f.fence
                                    and c.claimed_by = f.claimed_by) then 1 else 2 end
    from free f where (select count(*) from owned) < (select count(*) from free)
    union all
    select o.n, 3 + o.stands::integer from owned o
) as e (n, became)
where {all_moved}
group by n",
            key = s.key_of_keys(),
            table = s.table,
            status = s.status,
            has_key = s.has_key("t"),
            key_order = s.key_order("t"),
            watch = s.watch,
            step = self.step,
            from = s.from,
            to = self.to,
            error = self.error,
            sql_type = self.sql_type,
            since = self.since("k.now"),
        )
    }

    /// That each of these rows has left where it stood: else the statement fails, and nothing of it is done. Asked once
    /// for all of them.
    fn all_moved(&self, standing: &str, rows: &str) -> String {
        let status = &self.statements.status;
        format!(
            "(select case when count(*) < (select count(*) from {rows}) then watchbell.stays(({standing})::text) else true end
       from moved m where m.{status} is distinct from {standing})"
        )
    }

    /// Deletes claims that wait for rows which are gone or stand elsewhere. Parameters: the key behind which to look,
    /// how many to look at. Answers how many it looked at, how many it deleted, and the last key.
    pub fn sweep(&self) -> String {
        let s = &self.statements;
        let keys = s.key.iter().enumerate();
        let same =
            keys.map(|(n, column)| format!("t.{} = k.key[{}]::{}", quote::name(&column.name), n + 1, column.sql_type));
        format!(
            "with k as materialized (
    select c.key from watchbell.watch_claims c
    where c.watch_id = {watch} and c.key > $1::text[] and c.step = {step} and c.claimed_by is null
    order by c.key
    limit $2
), stale as materialized (
    select c.at
    from k cross join lateral (
        select c.ctid as at from watchbell.watch_claims c
        where c.watch_id = {watch} and c.key = k.key and c.claimed_by is null and c.step = {step}
          and not exists (select from {table} as t where {same} and t.{status} = {from})
        offset 0
        for update of c skip locked
    ) c
), gone as (
    delete from watchbell.watch_claims c where c.ctid = any (array(select stale.at from stale)) returning c.key
)
select (select count(*) from k), (select count(*) from gone), (select max(k.key) from k)",
            watch = s.watch,
            step = self.step,
            table = s.table,
            status = s.status,
            from = s.from,
            same = same.collect::<Vec<_>>().join(" and "),
        )
    }

    fn since(&self, now: &str) -> String {
        self.statements.since.as_ref().map_or_else(String::new, |since| format!(", {since} = {now}"))
    }
}

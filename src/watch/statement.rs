//! The only SQL that is generated: over the names of one table, for one step.
//!
//! Keys go in and out as text, a list for each key column, and are cast to the columns' own types, so that the
//! table's indexes are used: `t."id" = k.k1::"pg_catalog"."int8"`, never `t."id"::text = k.k1`.

pub mod leased;

use std::fmt;

use super::{Column, Step, Table, order::By, quote};

/// The statements of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements {
    watch: i64,
    table: String,
    /// What the table is called where a filter can see it.
    alias: String,
    key: Vec<Column>,
    status: String,
    since: Option<String>,
    /// The state that rows are taken from, as in SQL.
    from: String,
    filter: Option<String>,
    /// What rows are ordered by, the key at its end: quoted name, type, descending.
    order: Vec<(String, String, bool)>,
    /// Whether a place in the order can be gone on from: all in one direction, nothing null.
    goes_on: bool,
}

impl Statements {
    /// Of a step of this watch over its table; `order` as it was read from the step.
    pub fn of(watch: i64, table: &Table, step: &Step, order: &[By]) -> Self {
        let asked = order.iter().filter_map(|by| Some((table.column(&by.column)?, by.desc)));
        // by key behind it, so that every order is complete; in its direction, so that it can be gone on from
        let last = order.last().is_some_and(|by| by.desc);
        let rest = table.key.iter().filter(|key| order.iter().all(|by| by.column != key.name));
        let order: Vec<(&Column, bool)> = asked.chain(rest.map(|key| (key, last))).collect();
        Self {
            watch,
            table: table.quoted(),
            alias: quote::name(&table.name),
            key: table.key.clone(),
            status: quote::name(&table.status.name),
            since: table.since.as_ref().map(|since| quote::name(&since.name)),
            from: table.state(&step.from),
            filter: step.filter.clone(),
            goes_on: order.iter().all(|(column, desc)| column.not_null && *desc == order[0].1),
            order: order.iter().map(|(by, desc)| (quote::name(&by.name), by.sql_type.clone(), *desc)).collect(),
        }
    }

    /// How many columns name a row.
    pub fn width(&self) -> usize {
        self.key.len()
    }

    /// Whether [`Self::take`] can go on behind a place.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The table, quoted.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The status column, quoted.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The key of a row as `watch_claims` has it: `array[t."id"::text collate "C"]`.
    ///
    /// The same text in every session, or two workers would claim one row: a moment is written in UTC, and a date in
    /// ISO's form, whatever the sessions' time zone and date style are.
    pub fn key_of(&self, alias: &str) -> String {
        let part = |column: &Column| {
            let name = format!("{alias}.{}", quote::name(&column.name));
            match column.sql_type.as_str() {
                r#""pg_catalog"."timestamptz""# => format!(
                    "(case when isfinite({name}) then (to_jsonb({name} at time zone 'UTC') #>> '{{}}') || 'Z' \
                     else {name}::text end) collate \"C\""
                ),
                r#""pg_catalog"."timestamp""# | r#""pg_catalog"."date""# => {
                    format!("(to_jsonb({name}) #>> '{{}}') collate \"C\"")
                }
                _ => format!("{name}::text collate \"C\""),
            }
        };
        format!("array[{}]", listed(self.key.iter().map(part)))
    }

    /// Keys as rows: `unnest($3::text[], $4::text[]) as k (k1, k2)`, the first parameter given.
    pub fn keys(&self, first: usize) -> String {
        let parameters = listed((first..first + self.width()).map(|n| format!("${n}::text[]")));
        format!("unnest({parameters}) as k ({})", self.parts())
    }

    /// The key of such a row as `watch_claims` has it: `array[k.k1 collate "C", ...]`.
    pub fn key_of_keys(&self) -> String {
        format!("array[{}]", listed((1..=self.width()).map(|n| format!("k.k{n} collate \"C\""))))
    }

    /// That a row of the table has the key of such a row: `t."id" = k.k1::"pg_catalog"."int8"`.
    pub fn has_key(&self, alias: &str) -> String {
        let part = |(n, column): (usize, &Column)| {
            format!("{alias}.{} = k.k{}::{}", quote::name(&column.name), n + 1, column.sql_type)
        };
        self.key.iter().enumerate().map(part).collect::<Vec<_>>().join(" and ")
    }

    /// The columns to order rows by so that all lock them in one order: `t."id"`.
    pub fn key_order(&self, alias: &str) -> String {
        listed(self.key.iter().map(|column| format!("{alias}.{}", quote::name(&column.name))))
    }

    /// Takes up to `limit` rows of the step and locks them: key (`text[]`), place in the order (`text[]`), row (JSON
    /// text), attempts at this step and crashes so far (both null when nothing is known of it). Rows that others have
    /// locked or claimed, and such as wait for their next attempt, are passed over.
    ///
    /// With `behind`, from a place in the order on: its parts are the parameters, as text.
    ///
    /// A claim that waits for another step is of no account: its owner has moved the row since.
    ///
    /// `offset 0` keeps the look at the claims what it is, one probe of its key for each row read: as a join it could
    /// be hashed, and the rows read would no longer come in order until there are enough.
    pub fn take(&self, limit: &dyn fmt::Display, behind: bool) -> String {
        self.taking(limit, behind, &self.row(), "")
    }

    /// The same without rows that another worker than this one has in hand: if it died with them, its locks are gone,
    /// and they must be charged with that before anybody tries them again.
    pub fn take_spared(&self, limit: &dyn fmt::Display, behind: bool, worker: i32) -> String {
        let spared = format!(
            "\n  and to_jsonb({}) not in (\n      \
                 select e.value from watchbell.worker_batches b cross join lateral jsonb_array_elements(b.keys) e\n      \
                 where b.watch_id = {} and b.step = ({})::text and b.worker_id <> {worker})",
            self.key_of(&self.alias),
            self.watch,
            self.from,
        );
        self.taking(limit, behind, &self.row(), &spared)
    }

    /// The same without the rows themselves: null in their place.
    pub fn take_keys(&self, limit: &dyn fmt::Display, behind: bool) -> String {
        self.taking(limit, behind, "null::text", "")
    }

    /// A row as JSON text. With the star it is the table's row, also where a column is called like the table.
    fn row(&self) -> String {
        format!("to_jsonb({}.*)::text", self.alias)
    }

    /// Inside of the look at the claims nothing may be called what a table might be: it would be read for the table.
    fn taking(&self, limit: &dyn fmt::Display, behind: bool, row: &str, spared: &str) -> String {
        let (alias, claimed) = (&self.alias, self.key_of(&self.alias));
        let place = listed(self.order.iter().map(|(column, _, _)| format!("{alias}.{column}::text")));
        format!(
            "select {claimed}, array[{place}], {row}, \
             watchbell_claim.watchbell_attempt, watchbell_claim.watchbell_crashes\n\
             from {} as {alias}\n\
             left join lateral (\n    \
                 select watchbell_c.attempt, watchbell_c.crashes, watchbell_c.claimed_by, watchbell_c.due_at\n    \
                 from watchbell.watch_claims watchbell_c\n    \
                 where watchbell_c.watch_id = {} and watchbell_c.key = {claimed}\n      \
                 and (watchbell_c.step = ({from})::text or watchbell_c.claimed_by is not null) offset 0\n\
             ) as watchbell_claim (watchbell_attempt, watchbell_crashes, watchbell_by, watchbell_due) on true\n\
             where {}{}{spared}\n  \
               and (watchbell_claim.watchbell_attempt is null\n       \
                    or (watchbell_claim.watchbell_by is null \
             and watchbell_claim.watchbell_due <= (select watchbell.instant())))\n\
             order by {}\nlimit {limit}\nfor no key update of {alias} skip locked",
            self.table,
            self.watch,
            self.condition(alias),
            if behind { self.behind() } else { String::new() },
            self.order_by(alias),
            from = self.from,
        )
    }

    /// That a row stands at the step's beginning, and meets its filter.
    pub fn condition(&self, alias: &str) -> String {
        let filter = self.filter.as_ref().map(|filter| format!("\n  and ({filter}\n)")).unwrap_or_default();
        format!("{alias}.{} = {}{filter}", self.status, self.from)
    }

    /// What rows are taken by: `t."priority" desc, t."id" desc`.
    pub fn order_by(&self, alias: &str) -> String {
        listed(
            self.order.iter().map(|(column, _, desc)| format!("{alias}.{column}{}", if *desc { " desc" } else { "" })),
        )
    }

    /// The columns of the index that fits, as a person would type them.
    pub fn indexed(&self, table: &Table, order: &[By]) -> String {
        let asked = order.iter().map(|by| (by.column.as_str(), by.desc));
        let last = order.last().is_some_and(|by| by.desc);
        let rest = table.key.iter().map(|key| key.name.as_str()).filter(|key| order.iter().all(|by| by.column != *key));
        let all: Vec<(&str, bool)> = asked.chain(rest.map(|key| (key, last))).collect();
        // an index is read backwards as well
        let mixed = all.iter().any(|(_, desc)| *desc != all[0].1);
        let column = |(name, desc): &(&str, bool)| {
            format!("{}{}", quote::shown(name), if mixed && *desc { " DESC" } else { "" })
        };
        listed(all.iter().map(column))
    }

    /// Moves rows that still stand at `from` on to `to`: both states as [`Table::state`] writes them. The keys are
    /// the parameters. Answers how many have left `from`: a trigger of the table may keep some there.
    pub fn move_rows(&self, from: &str, to: &str) -> String {
        let since = self.since.as_ref().map(|since| format!(", {since} = watchbell.instant()")).unwrap_or_default();
        format!(
            "with moved as (\nupdate {} as t set {status} = {to}{since}\nfrom {}\nwhere {} and t.{status} = {from}\n\
             returning t.{status}\n)\nselect count(*) from moved m where m.{status} is distinct from {from}",
            self.table,
            self.keys(1),
            self.has_key("t"),
            status = self.status,
        )
    }

    /// Locks the rows of these keys that still stand at the step's beginning and that nobody else has; answers their
    /// keys.
    pub fn lock(&self) -> String {
        format!(
            "select {}\nfrom {} as t\njoin {} on {}\nwhere t.{} = {}\norder by {}\nfor no key update of t skip locked",
            self.key_of("t"),
            self.table,
            self.keys(1),
            self.has_key("t"),
            self.status,
            self.from,
            self.key_order("t"),
        )
    }

    /// Whole rows by their keys, whose first parameter is given: what a handler `sql` sees as `claimed`.
    pub fn claimed(&self, first: usize) -> String {
        format!("select t.* from {} as t join {} on {}", self.table, self.keys(first), self.has_key("t"))
    }

    /// What is known of these rows now: key, attempts at this step, and whether somebody has one in hand or it waits for
    /// its next attempt. The keys are the parameters.
    pub fn known(&self) -> String {
        let (keys, key) = (self.keys(1), self.key_of_keys());
        format!(
            "select {key}, c.attempt, c.claimed_by is not null or c.due_at > watchbell.instant()\nfrom {keys}\n\
             cross join lateral (\n    \
                 select c.attempt, c.claimed_by, c.due_at from watchbell.watch_claims c\n    \
                 where c.watch_id = {} and c.key = {key} and (c.step = ({})::text or c.claimed_by is not null) offset 0\n\
             ) c",
            self.watch, self.from,
        )
    }

    /// Forgets what was known of these rows.
    pub fn forget(&self) -> String {
        let (keys, key) = (self.keys(1), self.key_of_keys());
        format!(
            "delete from watchbell.watch_claims c\nusing {keys}\nwhere c.watch_id = {} and c.key = {key}",
            self.watch
        )
    }

    fn behind(&self) -> String {
        let alias = &self.alias;
        let columns = listed(self.order.iter().map(|(column, _, _)| format!("{alias}.{column}")));
        let values = self.order.iter().enumerate().map(|(n, (_, sql_type, _))| format!("${}::text::{sql_type}", n + 1));
        let operator = if self.order[0].2 { "<" } else { ">" };
        format!("\n  and ({columns}) {operator} ({})", listed(values))
    }

    fn parts(&self) -> String {
        listed((1..=self.width()).map(|n| format!("k{n}")))
    }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::order;
    use super::*;

    fn table() -> Table {
        let column = |name: &str, sql_type: &str, not_null| Column::plain(name, sql_type, not_null);
        let (site, at) = (column("Site", "uuid", true), column("at", "timestamptz", false));
        let (no, status) = (column("no", "int8", true), column("status", "text", true));
        Table {
            oid: 1,
            schema: "public".to_owned(),
            name: "My \"hosts\"".to_owned(),
            key: vec![site.clone(), no.clone()],
            status: status.clone(),
            since: Some(at.clone()),
            columns: vec![site, no, status, at],
            deferred: None,
        }
    }

    fn step() -> Step {
        Step {
            from: "pending".to_owned(),
            via: None,
            to: "it's done".to_owned(),
            error: "failed".to_owned(),
            handler: "init".to_owned(),
            payload: "{}".to_owned(),
            retry: crate::retry::RetryPolicy::default(),
            max_attempts: 3,
            timeout: Some(Duration::from_secs(1)),
            order: None,
            filter: Some("region = 'eu' or true".to_owned()),
            batch: 100,
            rate: None,
            max_running: None,
            mode: None,
        }
    }

    #[test]
    fn rows_are_taken_in_order_by_what_an_index_holds() {
        let statements = Statements::of(7, &table(), &step(), &order::read("no desc").unwrap());
        assert_eq!(
            statements.take(&100, true),
            r#"select array["My ""hosts"""."Site"::text collate "C", "My ""hosts"""."no"::text collate "C"], array["My ""hosts"""."no"::text, "My ""hosts"""."Site"::text], to_jsonb("My ""hosts""".*)::text, watchbell_claim.watchbell_attempt, watchbell_claim.watchbell_crashes
from "public"."My ""hosts""" as "My ""hosts"""
left join lateral (
    select watchbell_c.attempt, watchbell_c.crashes, watchbell_c.claimed_by, watchbell_c.due_at
    from watchbell.watch_claims watchbell_c
    where watchbell_c.watch_id = 7 and watchbell_c.key = array["My ""hosts"""."Site"::text collate "C", "My ""hosts"""."no"::text collate "C"]
      and (watchbell_c.step = ('pending')::text or watchbell_c.claimed_by is not null) offset 0
) as watchbell_claim (watchbell_attempt, watchbell_crashes, watchbell_by, watchbell_due) on true
where "My ""hosts"""."status" = 'pending'
  and (region = 'eu' or true
)
  and ("My ""hosts"""."no", "My ""hosts"""."Site") < ($1::text::"pg_catalog"."int8", $2::text::"pg_catalog"."uuid")
  and (watchbell_claim.watchbell_attempt is null
       or (watchbell_claim.watchbell_by is null and watchbell_claim.watchbell_due <= (select watchbell.instant())))
order by "My ""hosts"""."no" desc, "My ""hosts"""."Site" desc
limit 100
for no key update of "My ""hosts""" skip locked"#
        );
        let table = table();
        let advice = table.index(&statements.indexed(&table, &order::read("no desc").unwrap()), &step());
        let wanted = r#"CREATE INDEX CONCURRENTLY ON public."My ""hosts""" (no, "Site") WHERE status = 'pending'"#;
        assert_eq!(advice, wanted);
    }

    #[test]
    fn rows_are_moved_by_keys_of_their_own_types() {
        let table = table();
        let statements = Statements::of(7, &table, &step(), &[]);
        assert_eq!(
            statements.move_rows(&table.state("pending"), &table.state("it's done")),
            r#"with moved as (
update "public"."My ""hosts""" as t set "status" = 'it''s done', "at" = watchbell.instant()
from unnest($1::text[], $2::text[]) as k (k1, k2)
where t."Site" = k.k1::"pg_catalog"."uuid" and t."no" = k.k2::"pg_catalog"."int8" and t."status" = 'pending'
returning t."status"
)
select count(*) from moved m where m."status" is distinct from 'pending'"#
        );
        assert!(statements.goes_on());
        assert!(!Statements::of(7, &table, &step(), &order::read("at").unwrap()).goes_on(), "it may be null");
        let mixed = order::read("no desc, \"Site\" asc").unwrap();
        let statements = Statements::of(7, &table, &step(), &mixed);
        assert!(!statements.goes_on());
        assert_eq!(statements.indexed(&table, &mixed), r#"no DESC, "Site""#);
    }
}

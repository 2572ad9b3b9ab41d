//! What a worker makes of a watch: a mode for each step, and the index that is missing.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    Statements, Step, Table, Watch,
    order::{self, By},
    quote,
    statement::leased::Leased,
    word::{self, Word},
};
use crate::{
    Error, Result, duration,
    handler::{Registry, lexer},
};

/// How long a transaction over rows may last, unless the worker's `watch_transaction` says otherwise.
pub const TRANSACTION_MAX: Duration = Duration::from_secs(5);

/// Whether an index was made for a part of a table, or begins with its status column.
const FITS: &str = "select i.indpred is not null or a.attname = $3 \
     from pg_catalog.pg_index i \
     join pg_catalog.pg_class c on c.oid = i.indexrelid \
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
     left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] \
     where n.nspname = $1 and c.relname = $2";

/// How rows are kept from others while a handler works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By their locks, in the transaction in which the handler works: effects exactly once.
    Transactional,
    /// By a row of `watch_claims`, under the worker's lease: handlers start at least once.
    Leased,
}

impl Mode {
    /// As the column `mode` says it; `auto` is `None`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any other word.
    pub fn read(text: &str) -> Result<Option<Self>> {
        match text {
            "auto" => Ok(None),
            "transactional" => Ok(Some(Self::Transactional)),
            "leased" => Ok(Some(Self::Leased)),
            _ => Err(Error::invalid("mode", format!("\"{text}\" is not one of auto, transactional, leased"))),
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Leased => "leased",
        }
    }
}

/// A watch, its table, and how each of its steps is worked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is asked for.
    pub watch: Watch,
    /// What is there.
    pub table: Table,
    /// In the order of the watch's steps.
    pub steps: Vec<Planned>,
    /// Statements that would make it faster.
    pub advice: Vec<String>,
}

/// How a step is worked.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// `None`: this worker does not have its handler, or cannot work it.
    pub mode: Option<Mode>,
    /// Why this mode, or why not.
    pub reason: String,
    /// This worker has its handler and cannot work it.
    pub invalid: bool,
    /// Longest time of one attempt there.
    pub timeout: Option<Duration>,
    /// Its SQL.
    pub statements: Statements,
    /// And what leased mode needs beside.
    pub leased: Leased,
}

impl Plan {
    /// Plans a watch with the handlers of this worker. Nothing is written and no row is locked.
    ///
    /// # Errors
    /// [`Error::Invalid`]: why none of its steps can be worked, in one sentence. [`Error::Database`]: nobody knows.
    pub async fn of(conn: &mut PgConnection, watch: Watch, registry: &Registry) -> Result<Self> {
        Self::within(conn, watch, registry, TRANSACTION_MAX).await
    }

    /// The same for a worker whose transactions over rows last at most so long.
    ///
    /// # Errors
    /// As of [`of`](Self::of).
    pub async fn within(
        conn: &mut PgConnection,
        watch: Watch,
        registry: &Registry,
        transaction_max: Duration,
    ) -> Result<Self> {
        let table = Table::resolve(conn, &watch).await?;
        let (mut steps, mut advice) = (vec![], vec![]);
        for step in &watch.steps {
            let order = order_of(&table, step)?;
            if let Some(filter) = &step.filter {
                lexer::condition(filter).map_err(|problem| Error::invalid("filter", problem))?;
            }
            let statements = Statements::of(watch.id, &table, step, &order);
            if !is_indexed(conn, &table, &statements).await? {
                advice.push(table.index(&statements.indexed(&table, &order), step));
            }
            let mut chosen = fits(step, registry).and_then(|()| choose(step, registry, transaction_max));
            if matches!(chosen, Ok((Some(Mode::Transactional), _))) {
                match try_statement(conn, step, &statements, registry).await {
                    Err(problem @ Error::Invalid { .. }) => chosen = Err(problem),
                    tried => tried?,
                }
            }
            let invalid = chosen.is_err();
            let nth = if watch.steps.len() > 1 { format!("step {}: ", steps.len() + 1) } else { String::new() };
            let (mode, reason) = chosen.unwrap_or_else(|problem| (None, format!("{nth}{problem}")));
            let asked = registry.get(&step.handler).and_then(|entry| entry.options.timeout_of(step.timeout));
            let within = (mode == Some(Mode::Transactional)).then_some(transaction_max);
            let timeout = asked.into_iter().chain(within).min();
            let leased = Leased::of(&statements, watch.version, &table, step);
            steps.push(Planned { step: step.clone(), mode, reason, invalid, timeout, statements, leased });
        }
        advice.dedup();
        Ok(Self { watch, table, steps, advice })
    }

    /// As the column `plan` has it, with the words that stand of its steps.
    pub fn json(&self, words: &[Word]) -> Value {
        json!({
            "version": self.watch.version,
            "steps": word::written(&self.watch.steps, words),
            "advice": self.advice,
            "table": self.table.shown(),
            "key": self.table.key.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        })
    }
}

fn order_of(table: &Table, step: &Step) -> Result<Vec<By>> {
    let Some(text) = &step.order else { return Ok(vec![]) };
    let refuse = |problem| Error::invalid("order_by", problem);
    let order = order::read(text).map_err(|said| refuse(said.trim_start_matches("order_by: ").to_owned()))?;
    match order.iter().find(|by| table.column(&by.column).is_none()) {
        Some(by) => Err(refuse(format!("{} has no column {}", table.shown(), quote::shown(&by.column)))),
        None => Ok(order),
    }
}

impl Planned {
    /// What this worker says of the step; nothing without its handler.
    pub fn word(&self, worker: i32) -> Option<Word> {
        (self.invalid || self.mode.is_some()).then(|| Word {
            from: self.step.from.clone(),
            handler: self.step.handler.clone(),
            mode: self.mode.map(|mode| mode.word().to_owned()),
            reason: self.reason.clone(),
            invalid: self.invalid,
            timeout_ms: self.timeout.and_then(|timeout| timeout.as_millis().try_into().ok()),
            worker,
        })
    }
}

/// A duration as people read it: `10s`.
pub(crate) fn words(time: Duration) -> String {
    chrono::TimeDelta::from_std(time).map_or_else(|_| format!("{time:?}"), duration::words)
}

/// What is wrong with a payload is the watch's fault: all of its rows would fail, and none is to blame.
fn fits(step: &Step, registry: &Registry) -> Result<()> {
    let Some(entry) = registry.get(&step.handler) else { return Ok(()) };
    entry.work.check_payload(&step.payload).map_err(|problem| Error::invalid("payload", problem))
}

/// The mode of a step, and why. None without its handler.
fn choose(step: &Step, registry: &Registry, transaction_max: Duration) -> Result<(Option<Mode>, String)> {
    let name = &step.handler;
    let Some(entry) = registry.get(name) else {
        return Ok((None, format!("no worker that has the handler \"{name}\" has planned it yet")));
    };
    let is_transactional = entry.work.is_part_of_the_move(&step.payload);
    let asked = step.asked_timeout().and_then(|asked| entry.options.timeout_of(Some(asked)));
    let too_long = asked.filter(|asked| *asked > transaction_max);
    Ok(match (step.mode, is_transactional, too_long) {
        (None, true, Some(asked)) => {
            let (asked, limit) = (words(asked), words(transaction_max));
            (Some(Mode::Leased), format!("its timeout of {asked} is longer than the {limit} of transactional mode"))
        }
        (None, true, None) => {
            (Some(Mode::Transactional), format!("the handler \"{name}\" works in the transaction that moves the rows"))
        }
        (None, false, _) => {
            (Some(Mode::Leased), format!("the handler \"{name}\" may take long or act outside the database"))
        }
        (Some(Mode::Transactional), false, _) => {
            let problem = format!("transactional, but the handler \"{name}\" takes no transaction; use auto or leased");
            return Err(Error::invalid("mode", problem));
        }
        (Some(Mode::Transactional), true, Some(asked)) => {
            let (asked, limit) = (words(asked), words(transaction_max));
            let problem = format!("{asked} is longer than the {limit} of transactional mode; use mode auto or leased");
            return Err(Error::invalid("timeout", problem));
        }
        // then its transaction is one of its own, for each row, and may be executed twice
        (Some(mode), _, _) => (Some(mode), "as asked for".to_owned()),
    })
}

/// Whether rows of the step are found by an index that holds only such rows, or begins with their state.
async fn is_indexed(conn: &mut PgConnection, table: &Table, statements: &Statements) -> Result<bool> {
    let explain = format!("explain (verbose, format json) {}", statements.take(&100, false));
    let plan: Value =
        sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_one(&mut *conn).await.map_err(untakable)?;
    let mut nodes = vec![&plan];
    let mut used = 0;
    while let Some(node) = nodes.pop() {
        match node {
            Value::Array(items) => nodes.extend(items),
            Value::Object(fields) => nodes.extend(fields.values()),
            _ => {}
        }
        let Some(relation) = node["Relation Name"].as_str().filter(|_| node["Schema"] != "watchbell") else { continue };
        let Some(index) = node["Index Name"].as_str() else { return Ok(false) };
        let schema = node["Schema"].as_str().unwrap_or(&table.schema);
        let fits: Option<bool> = sqlx::query_scalar(FITS)
            .bind(schema)
            .bind(index)
            .bind(&table.status.name)
            .fetch_optional(&mut *conn)
            .await?;
        if fits != Some(true) {
            tracing::debug!(relation, index, "this index was not made for the rows that are watched");
            return Ok(false);
        }
        used += 1;
    }
    Ok(used > 0)
}

/// The statement of a handler `sql` is tried before rows are given to it: what is wrong with it, or forbidden to the
/// worker's login, is the watch's fault, not the rows'.
pub(crate) async fn try_statement(
    conn: &mut PgConnection,
    step: &Step,
    statements: &Statements,
    registry: &Registry,
) -> Result<()> {
    let Some(entry) = registry.get(&step.handler) else { return Ok(()) };
    let Some(over) = entry.work.statement_over(&step.payload, &|first| statements.claimed(first)) else {
        return Ok(());
    };
    let over = over.map_err(|problem| Error::invalid("payload", problem))?;
    let types = vec!["text"; over.args].into_iter().chain(vec!["text[]"; statements.width()]).collect::<Vec<_>>();
    let prepare = format!("prepare watchbell_try ({}) as {}", types.join(", "), over.text);
    match sqlx::query(AssertSqlSafe(prepare)).persistent(false).execute(&mut *conn).await {
        Ok(_) => {
            // rights are asked for when it is about to be executed, and so by EXPLAIN; whatever else that says, rows tell
            let explain = format!("explain execute watchbell_try ({})", vec!["null"; types.len()].join(", "));
            let explained = sqlx::query(AssertSqlSafe(explain)).persistent(false).execute(&mut *conn).await;
            sqlx::query("deallocate watchbell_try").persistent(false).execute(conn).await?;
            match explained.as_ref().err().and_then(sqlx::Error::as_database_error) {
                Some(answer) if answer.code().as_deref() == Some("42501") => Err(unfit(answer)),
                _ => Ok(()),
            }
        }
        Err(error) => match error.as_database_error() {
            Some(answer) if is_the_rows_fault(answer) => Err(unfit(answer)),
            _ => Err(error.into()),
        },
    }
}

fn unfit(answer: &dyn sqlx::error::DatabaseError) -> Error {
    Error::invalid("payload", format!("statement: {}", answer.message()))
}

/// A condition or an order that the database does not understand is the row's fault.
fn untakable(error: sqlx::Error) -> Error {
    match error.as_database_error() {
        Some(answer) if is_the_rows_fault(answer) => Error::invalid("filter", answer.message().to_owned()),
        _ => error.into(),
    }
}

/// An answer that the same text would get again: what it says is wrong, unknown or forbidden.
fn is_the_rows_fault(answer: &dyn sqlx::error::DatabaseError) -> bool {
    answer.code().is_some_and(|code| ["0A", "22", "2D", "3F", "42"].contains(&code.get(..2).unwrap_or_default()))
}

//! A watch: rows of somebody's own table are the queue, and their status column is the state machine.
//!
//! ```text
//!  watchbell.watches ──read──► Watch { steps }                what is asked for
//!  pg_catalog ───────resolve─► Table { key, status, ... }     what is there
//!                     │
//!                    plan ───► Plan: a mode for each step, the missing index, or why it cannot be
//!                     │
//!                 statement ─► the only SQL that is generated: take rows, move rows, claimed rows
//! ```
//!
//! A row travels `from → (via) → to`, or to `error`. In *transactional* mode its lock is held while the handler works
//! in the same transaction, and `via` is never seen; in *leased* mode a row of `watch_claims` says who has it.
//!
//! Names come from the catalog and are quoted by [`quote`] alone. The one thing that is not is `filter`, a condition
//! in SQL: whoever may write that column acts with the rights of the worker's login.

pub mod order;
pub mod plan;
pub mod quote;
pub mod read;
pub mod statement;
pub mod table;
pub mod word;

use std::time::Duration;

pub use plan::{Mode, Plan, Planned};
pub use statement::Statements;
pub use table::{Column, Table};

use crate::retry::RetryPolicy;

/// A row of `watchbell.watches`.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The table as it was written.
    pub table_name: String,
    /// The columns that name a row; `None` means the primary key.
    pub key_columns: Option<Vec<String>>,
    /// The column with the state.
    pub status_column: String,
    /// The column that is set to the moment of each move.
    pub since_column: Option<String>,
    /// How long an idle worker waits between two looks.
    pub poll_interval: Duration,
    /// Rises with each edit.
    pub version: i64,
    /// Whether nobody may take rows.
    pub paused: bool,
    /// How long the pause goes on, if it ends by itself.
    pub paused_for: Option<Duration>,
    /// The plan that stands in its row.
    pub earlier: Option<serde_json::Value>,
    /// What it does with rows of which state.
    pub steps: Vec<Step>,
}

/// One transition, with all that was inherited from its watch filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Rows in this state are taken. Names the step: no other of its watch begins there.
    pub from: String,
    /// Their state while the handler works, in leased mode.
    pub via: Option<String>,
    /// After success.
    pub to: String,
    /// After the last failed attempt.
    pub error: String,
    /// What does the work.
    pub handler: String,
    /// Given to the handler: a JSON object, as text.
    pub payload: String,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Attempts before `error`.
    pub max_attempts: i16,
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// In which order: columns with `asc` or `desc`; `None` means by key.
    pub order: Option<String>,
    /// A condition in SQL.
    pub filter: Option<String>,
    /// Rows taken at once.
    pub batch: i64,
    /// How many rows may start in how long, over all workers.
    pub rate: Option<Rate>,
    /// Rows in work at once, over all workers.
    pub max_running: Option<i64>,
    /// The mode that was asked for; `None` leaves it to the plan.
    pub mode: Option<Mode>,
}

/// So many rows in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At most this many ...
    pub rows: i64,
    /// ... in this time.
    pub period: Duration,
}

/// What names a row: its key columns as text, in order; in SQL a `text[]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Vec<String>);

impl Key {
    /// Keys turned over: a list for each key column, as the statements take them.
    pub fn columns<'a>(keys: impl IntoIterator<Item = &'a Self>, width: usize) -> Vec<Vec<String>> {
        let mut columns = vec![vec![]; width];
        for key in keys {
            columns.iter_mut().zip(&key.0).for_each(|(column, part)| column.push(part.clone()));
        }
        columns
    }

    /// A number of its own, for the jitter of its delays: FNV-1a over its parts.
    pub fn seed(&self) -> u64 {
        let bytes = self.0.iter().flat_map(|part| part.bytes().chain([0]));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl std::fmt::Display for Key {
    /// One column as it is, several as a list in brackets: `(resnet, 3)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::handler::shown_key(&self.0))
    }
}

/// The timeout of a watch that says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(3600);

impl Step {
    /// The timeout that somebody asked for: not the one that every watch has, nor the same if somebody wrote it.
    pub fn asked_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|timeout| *timeout != TIMEOUT)
    }
}

impl Watch {
    /// The step that begins at this state.
    pub fn step(&self, from: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.from == from)
    }
}

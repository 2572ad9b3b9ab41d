//! Rows of a watched table, as handlers get them.

use std::{any::type_name, fmt, ops::Deref};

use serde::de::DeserializeOwned;

use super::{Context, FromContext, HandlerError, fatal, output::Stream};

/// The one row of a watched table that a call is about, read by serde from its columns.
///
/// In transactional mode each row has a savepoint of its own: what its handler wrote is undone with it alone. A
/// row that does not fit `T` fails at once, since another attempt would not help.
///
/// ```
/// use watchbell::{HandlerResult, Registry, Row, Tx};
///
/// #[derive(serde::Deserialize)]
/// struct Host { id: i64, name: String } // other columns are left out
///
/// async fn init_host(mut tx: Tx, host: Row<Host>) -> HandlerResult {
///     let insert = sqlx::query("insert into inventory (host_id, name) values ($1, $2)");
///     insert.bind(host.id).bind(&host.name).execute(&mut *tx).await?;
///     Ok(())
/// }
/// # let _ = Registry::new().transactional("init_host", init_host);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Row<T>(pub T);

/// All rows of a batch at once, for handlers that write in sets; up to the watch's `batch_size`.
///
/// In transactional mode a batch that fails is halved until the row that is at fault stands alone.
///
/// ```
/// use watchbell::{HandlerResult, Registry, Rows, Tx};
///
/// #[derive(serde::Deserialize)]
/// struct Order { id: i64 }
///
/// async fn invoice(mut tx: Tx, orders: Rows<Order>) -> HandlerResult {
///     let ids: Vec<i64> = orders.iter().map(|order| order.id).collect();
///     let insert = sqlx::query("insert into invoices (order_id) select unnest($1::bigint[])");
///     insert.bind(ids).execute(&mut *tx).await?;
///     Ok(())
/// }
/// # let _ = Registry::new().transactional("invoice", invoice);
/// ```
#[derive(Debug, Clone)]
pub struct Rows<T>(pub Vec<T>);

impl<T> Deref for Row<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for Rows<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: DeserializeOwned + Send + 'static> FromContext for Row<T> {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        match ctx.taken().map(|taken| taken.rows.as_slice()) {
            Some([row]) => read(row, ctx).map(Self),
            _ => Err(fatal(format!("handler \"{}\" takes a row, and no watch called it", ctx.handler()))),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> FromContext for Rows<T> {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        match ctx.taken() {
            Some(taken) => taken.rows.iter().map(|row| read(row, ctx)).collect::<Result<_, _>>().map(Self),
            None => Err(fatal(format!("handler \"{}\" takes rows, and no watch called it", ctx.handler()))),
        }
    }

    fn takes_batch() -> bool {
        true
    }
}

fn read<T: DeserializeOwned>(row: &str, ctx: &Context) -> Result<T, HandlerError> {
    serde_json::from_str(row).map_err(|e| {
        fatal(format!("a row does not fit {}, which handler \"{}\" takes: {e}", type_name::<T>(), ctx.handler()))
    })
}

/// A row's key for people: one column as it is, several as a list in brackets.
pub(crate) fn shown_key(key: &[String]) -> String {
    match key {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    }
}

/// The rows that a call of a handler is about, and where they come from.
pub(crate) struct Taken {
    /// The watch's name.
    pub(crate) watch: String,
    /// The state they were taken from.
    pub(crate) step: String,
    /// The key of each: its columns as text.
    pub(crate) keys: Vec<Vec<String>>,
    /// Each row, as JSON text: an object of its columns.
    pub(crate) rows: Vec<String>,
    /// Selects them whole, by their keys; takes the number of its first parameter.
    pub(crate) claimed: Box<dyn Fn(usize) -> String + Send + Sync>,
}

impl Taken {
    /// What a handler logs about them stands in this span; of several the key of the first, and how many they are.
    pub(crate) fn span(&self, attempt: i32) -> tracing::Span {
        let key = self.keys.first().map(|key| shown_key(key));
        let rows = (self.keys.len() > 1).then_some(self.keys.len());
        tracing::info_span!(target: "watchbell::watch", "row", watch = self.watch, step = self.step, key, rows, attempt)
    }

    /// What a handler prints about them goes to the log alone, in that span.
    pub(super) fn log(&self, stream: Stream, bytes: &[u8]) {
        if tracing::enabled!(target: "watchbell::watch", tracing::Level::DEBUG) {
            let text = String::from_utf8_lossy(bytes);
            for line in text.lines().filter(|line| !line.is_empty()) {
                tracing::debug!(target: "watchbell::watch", stream = stream.as_str(), "{line}");
            }
        }
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").field("watch", &self.watch).field("step", &self.step).field("keys", &self.keys).finish()
    }
}

/// A statement over rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementOver {
    /// The statement, `claimed` merged into it.
    pub text: String,
    /// How many parameters of its own it has; the keys' come behind them.
    pub args: usize,
}

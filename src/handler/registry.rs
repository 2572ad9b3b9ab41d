//! Handlers by name, and what may be one.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use super::{
    Context, HandlerOptions, IntoTransactionalHandler, NAME_BYTES_MAX, Need, Outcome, TransactionalHandler,
    extract::States, rows::StatementOver,
};
use crate::{Error, Result};

/// A boxed future, as handlers are called through.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Code that does the work of a run.
///
/// Async functions are handlers already (see [`IntoHandler`]); implement this for one with state of its own.
///
/// ```
/// use std::{future::Future, pin::Pin};
/// use watchbell::handler::{Handler, Need, Outcome};
/// use watchbell::{Context, Registry};
///
/// /// One handler for each table.
/// struct Purge { table: &'static str }
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// impl Handler for Purge {
///     fn call(&self, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
///         Box::pin(async move {
///             ctx.log(format!("purging {}", self.table));
///             Outcome::Done
///         })
///     }
///
///     fn needs(&self) -> Vec<Need> {
///         vec![Need::of::<Mailer>()] // a worker without `.state(Mailer)` does not start
///     }
/// }
///
/// let registry = Registry::new().handler("purge visits", Purge { table: "visits" }).state(Mailer);
/// # assert!(registry.check().is_ok());
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Does the work of one attempt.
    fn call(&self, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;

    /// State that it cannot do without; a worker that was not given it does not start.
    fn needs(&self) -> Vec<Need> {
        vec![]
    }

    /// Whether it takes all rows of a watch's batch at once, as one that asks for [`Rows`](super::Rows) does.
    fn takes_batch(&self) -> bool {
        false
    }

    /// Looks at the payload of a watch before rows are given to it; it must not wait.
    ///
    /// # Errors
    /// Why each row would fail, in one sentence. Then this worker takes none.
    fn check_payload(&self, payload: &str) -> Result<(), String> {
        let _ = payload;
        Ok(())
    }

    /// Whether its work ends when its future is dropped. Otherwise the worker waits for it beyond the grace.
    fn stops_when_dropped(&self) -> bool {
        true
    }
}

/// What can be registered as a handler: async functions of up to four arguments, and [`blocking`] ones.
///
/// Arguments are [`Context`], [`State<T>`](super::State), [`Payload<P>`](super::Payload) and types of your
/// own ([`FromContext`](super::FromContext)), in any order; the payload may also stand by itself, first or
/// last. `Args` tells the forms apart and is always inferred.
///
/// [`blocking`]: super::blocking()
///
/// ```
/// use watchbell::handler::{IntoHandler, Payload, State};
/// use watchbell::{Context, HandlerResult, Registry};
///
/// /// A name of its own for whatever can be a handler.
/// fn tagged<A>(registry: Registry, name: &str, handler: impl IntoHandler<A>) -> Registry {
///     registry.handler(format!("shop.{name}"), handler)
/// }
///
/// async fn bare() {}
/// async fn full(State(from): State<String>, ctx: Context, Payload(to): Payload<String>) -> HandlerResult {
///     ctx.log(format!("from {from} to {to}"));
///     Ok(())
/// }
///
/// let registry = tagged(tagged(Registry::new(), "bare", bare), "full", full);
/// # assert_eq!(registry.names(), ["shop.bare", "shop.full"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an async function of up to four of: the payload (first or last, any `serde::Deserialize` \
            that borrows nothing), `Context`, `State<T>`, `Payload<P>`; it returns `()`, an `Outcome`, or a `Result` of one of them"
)]
pub trait IntoHandler<Args>: Sized {
    /// As a handler.
    fn into_handler(self) -> Arc<dyn Handler>;
}

/// One handler, and what holds for its runs here.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) work: Work,
    pub(crate) options: HandlerOptions,
}

/// How a handler is called.
#[derive(Clone)]
pub(crate) enum Work {
    /// On its own; its end is recorded afterwards.
    Plain(Arc<dyn Handler>),
    /// Inside the transaction that records its end.
    Transactional(Arc<dyn TransactionalHandler>),
}

/// Handlers by name.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
    /// Options of handlers that are to be registered yet.
    waiting: BTreeMap<String, HandlerOptions>,
    states: Arc<States>,
    refused: Vec<String>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Registry {
    /// No handlers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler. A name given twice, empty or over 128 bytes is reported by [`Registry::check`].
    #[must_use]
    pub fn handler<Args>(mut self, name: impl Into<String>, handler: impl IntoHandler<Args>) -> Self {
        self.add(name.into(), Work::Plain(handler.into_handler()));
        self
    }

    /// Adds a handler with options for all of its runs here.
    #[must_use]
    pub fn handler_with<Args>(
        self,
        name: impl Into<String>,
        handler: impl IntoHandler<Args>,
        options: HandlerOptions,
    ) -> Self {
        let name = name.into();
        self.handler(name.clone(), handler).options(name, options)
    }

    /// Sets the options of a handler of any kind, registered before or after; the last ones count.
    #[must_use]
    pub fn options(mut self, name: impl Into<String>, options: HandlerOptions) -> Self {
        let name = name.into();
        match self.entries.get_mut(&name) {
            Some(entry) => entry.options = options,
            None => drop(self.waiting.insert(name, options)),
        }
        self
    }

    /// Adds a value for handlers that ask for a [`State`](super::State) of its type; one of each type.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        if !Arc::make_mut(&mut self.states).insert(value) {
            self.refused.push(format!("state of type {} is given twice", std::any::type_name::<T>()));
        }
        self
    }

    /// Adds a handler that gets the transaction in which its end is recorded.
    #[must_use]
    pub fn transactional<Args>(
        mut self,
        name: impl Into<String>,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        self.add(name.into(), Work::Transactional(handler.into_transactional_handler()));
        self
    }

    fn add(&mut self, name: String, work: Work) {
        let entry = Entry { work, options: self.waiting.remove(&name).unwrap_or_default() };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            self.refused.push(format!("handler name \"{name}\" must have 1 to {NAME_BYTES_MAX} bytes"));
        } else if self.entries.insert(name.clone(), entry).is_some() {
            self.refused.push(format!("handler \"{name}\" is registered twice"));
        }
    }

    /// Every name, sorted.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Refuses what was registered wrongly, and handlers whose state is missing, with all the reasons.
    pub fn check(&self) -> Result<()> {
        let mut refused = self.refused.clone();
        let unknown = |name| format!("options are given for \"{name}\", which is not registered");
        refused.extend(self.waiting.keys().map(unknown));
        for (name, entry) in &self.entries {
            let problem = entry.options.problem();
            refused.extend(problem.map(|problem| format!("options of handler \"{name}\": {problem}")));
            let missing = entry.work.needs().into_iter().filter(|need| !self.states.has(need));
            refused.extend(
                missing.map(|need| format!("handler \"{name}\" needs state of type {need}, and none was given")),
            );
        }
        if refused.is_empty() { Ok(()) } else { Err(Error::invalid("handlers", refused.join("; "))) }
    }

    /// What was refused so far, to be told where it came from.
    #[cfg(feature = "inventory")]
    pub(crate) fn refused(&mut self) -> &mut Vec<String> {
        &mut self.refused
    }

    pub(crate) fn states(&self) -> Arc<States> {
        Arc::clone(&self.states)
    }

    /// The handlers of which only so many runs may run at once.
    pub(crate) fn limited(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.options.most()?)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }
}

impl Work {
    /// Whether it works in the transaction that moves the rows of a step with this payload.
    pub(crate) fn is_part_of_the_move(&self, payload: &str) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Transactional(handler) => !handler.works_elsewhere(payload),
        }
    }

    /// Whether it takes all rows of a batch at once.
    pub(crate) fn takes_batch(&self) -> bool {
        match self {
            Self::Plain(handler) => handler.takes_batch(),
            Self::Transactional(handler) => handler.takes_batch(),
        }
    }

    /// Refuses the payload of a step with which each row would fail.
    pub(crate) fn check_payload(&self, payload: &str) -> Result<(), String> {
        match self {
            Self::Plain(handler) => handler.check_payload(payload),
            // a statement is tried on its table
            Self::Transactional(_) => Ok(()),
        }
    }

    /// The statement it would execute over rows of a table, if it is one that executes statements.
    pub(crate) fn statement_over(
        &self,
        payload: &str,
        claimed: &dyn Fn(usize) -> String,
    ) -> Option<Result<StatementOver, String>> {
        match self {
            Self::Plain(_) => None,
            Self::Transactional(handler) => handler.statement_over(payload, claimed),
        }
    }

    fn needs(&self) -> Vec<Need> {
        match self {
            Self::Plain(handler) => handler.needs(),
            Self::Transactional(handler) => handler.needs(),
        }
    }

    /// Whether dropping its future ends its work.
    pub(crate) fn stops_when_dropped(&self) -> bool {
        match self {
            Self::Plain(handler) => handler.stops_when_dropped(),
            Self::Transactional(_) => true,
        }
    }
}

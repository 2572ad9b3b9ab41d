//! Handlers by name, and what may be one.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use super::{Context, IntoTransactionalHandler, NAME_BYTES_MAX, Outcome, TransactionalHandler};
use crate::{Error, Result};

/// A boxed future, as handlers are called through.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Code that does the work of a run.
///
/// Async functions are handlers already (see [`IntoHandler`]); implement this for one with state of its own.
pub trait Handler: Send + Sync + 'static {
    /// Does the work of one attempt.
    fn call(&self, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;
}

/// What can be registered as a handler: async functions of `(payload, Context)`, `(payload)`, `(Context)`
/// or nothing. `Args` tells the forms apart and is always inferred.
pub trait IntoHandler<Args>: Sized {
    /// As a handler.
    fn into_handler(self) -> Arc<dyn Handler>;
}

/// How a handler is called.
#[derive(Clone)]
pub(crate) enum Entry {
    /// On its own; its end is recorded afterwards.
    Plain(Arc<dyn Handler>),
    /// Inside the transaction that records its end.
    Transactional(Arc<dyn TransactionalHandler>),
}

/// Handlers by name.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
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
        self.add(name.into(), Entry::Plain(handler.into_handler()));
        self
    }

    /// Adds a handler that gets the transaction in which its end is recorded.
    #[must_use]
    pub fn transactional<Args>(
        mut self,
        name: impl Into<String>,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        self.add(name.into(), Entry::Transactional(handler.into_transactional_handler()));
        self
    }

    fn add(&mut self, name: String, entry: Entry) {
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

    /// Refuses names that were registered wrongly, with all the reasons.
    pub fn check(&self) -> Result<()> {
        if self.refused.is_empty() { Ok(()) } else { Err(Error::invalid("handlers", self.refused.join("; "))) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }
}

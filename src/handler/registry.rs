//! Handlers by name, and what may be one.

use std::{collections::BTreeMap, fmt, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use serde::de::DeserializeOwned;

use super::{Context, IntoOutcome, IntoTransactionalHandler, NAME_BYTES_MAX, Outcome, TransactionalHandler, fatal};
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

/// An async function of known form.
struct Function<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

/// The payload as `P`; a payload that does not fit can never fit, so it is fatal.
pub(super) fn payload<P: DeserializeOwned>(ctx: &Context) -> std::result::Result<P, super::HandlerError> {
    serde_json::from_str(ctx.payload())
        .map_err(|e| fatal(format!("payload does not fit handler \"{}\": {e}", ctx.handler())))
}

macro_rules! function_handler {
    ($form:ident, [$($p:ident)?], ($($arg:ty),*), |$ctx:ident| $call:expr) => {
        /// A form of handler function.
        #[derive(Debug)]
        pub struct $form $(<$p>(PhantomData<$p>))?;

        impl<F, Fut $(, $p)?> Handler for Function<F, $form $(<$p>)?>
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
        {
            fn call(&self, $ctx: Context) -> Boxed<'_, Outcome> {
                Box::pin(async move {
                    let function = &self.function;
                    $call(function).await.into_outcome()
                })
            }
        }

        impl<F, Fut $(, $p)?> IntoHandler<$form $(<$p>)?> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
        {
            fn into_handler(self) -> Arc<dyn Handler> {
                Arc::new(Function::<F, $form $(<$p>)?> { function: self, args: PhantomData })
            }
        }
    };
}

function_handler!(Nothing, [], (), |_ctx| |function: &F| function());
function_handler!(ContextOnly, [], (Context), |ctx| |function: &F| function(ctx));

macro_rules! payload_handler {
    ($form:ident, ($($arg:ty),*), |$function:ident, $payload:ident, $ctx:ident| $call:expr) => {
        /// A form of handler function.
        #[derive(Debug)]
        pub struct $form<P>(PhantomData<P>);

        impl<F, Fut, P> Handler for Function<F, $form<P>>
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            P: DeserializeOwned + Send + 'static,
        {
            fn call(&self, $ctx: Context) -> Boxed<'_, Outcome> {
                let $function = &self.function;
                match payload::<P>(&$ctx) {
                    Ok($payload) => {
                        let future = $call;
                        Box::pin(async move { future.await.into_outcome() })
                    }
                    Err(error) => Box::pin(std::future::ready(Outcome::Failed(error))),
                }
            }
        }

        impl<F, Fut, P> IntoHandler<$form<P>> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            P: DeserializeOwned + Send + 'static,
        {
            fn into_handler(self) -> Arc<dyn Handler> {
                Arc::new(Function::<F, $form<P>> { function: self, args: PhantomData })
            }
        }
    };
}

payload_handler!(PayloadOnly, (P), |function, payload, ctx| function(payload));
payload_handler!(PayloadAndContext, (P, Context), |function, payload, ctx| function(payload, ctx));

/// Marks a value that implements [`Handler`] itself.
#[derive(Debug)]
pub struct Itself;

impl<H: Handler> IntoHandler<Itself> for H {
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(self)
    }
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

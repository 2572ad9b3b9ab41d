//! Async functions as handlers: of payload and context, of one of them, or of nothing.

use std::{future::Future, marker::PhantomData, sync::Arc};

use serde::de::DeserializeOwned;

use super::{Context, Handler, HandlerError, IntoHandler, IntoOutcome, Outcome, fatal, registry::Boxed};

/// An async function; `Args` says what it takes.
struct Function<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

/// A function of nothing.
#[derive(Debug)]
pub struct Nothing;
/// A function of the context.
#[derive(Debug)]
pub struct ContextOnly;
/// A function of the payload.
#[derive(Debug)]
pub struct PayloadOnly<P>(PhantomData<P>);
/// A function of payload and context.
#[derive(Debug)]
pub struct PayloadAndContext<P>(PhantomData<P>);
/// Marks a value that implements [`Handler`] itself.
#[derive(Debug)]
pub struct Itself;

/// The payload as `P`; one that does not fit can never fit, so the error is fatal.
pub(super) fn payload<P: DeserializeOwned>(ctx: &Context) -> Result<P, HandlerError> {
    serde_json::from_str(ctx.payload())
        .map_err(|e| fatal(format!("payload does not fit handler \"{}\": {e}", ctx.handler())))
}

impl<F, Fut> Handler for Function<F, Nothing>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
{
    fn call(&self, _: Context) -> Boxed<'_, Outcome> {
        Box::pin(async { (self.function)().await.into_outcome() })
    }
}

impl<F, Fut> Handler for Function<F, ContextOnly>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
{
    fn call(&self, ctx: Context) -> Boxed<'_, Outcome> {
        Box::pin(async { (self.function)(ctx).await.into_outcome() })
    }
}

impl<F, Fut, P> Handler for Function<F, PayloadOnly<P>>
where
    F: Fn(P) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
    P: DeserializeOwned + Send + 'static,
{
    fn call(&self, ctx: Context) -> Boxed<'_, Outcome> {
        Box::pin(async move {
            match payload::<P>(&ctx) {
                Ok(payload) => (self.function)(payload).await.into_outcome(),
                Err(error) => Outcome::Failed(error),
            }
        })
    }
}

impl<F, Fut, P> Handler for Function<F, PayloadAndContext<P>>
where
    F: Fn(P, Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
    P: DeserializeOwned + Send + 'static,
{
    fn call(&self, ctx: Context) -> Boxed<'_, Outcome> {
        Box::pin(async move {
            match payload::<P>(&ctx) {
                Ok(payload) => (self.function)(payload, ctx).await.into_outcome(),
                Err(error) => Outcome::Failed(error),
            }
        })
    }
}

/// Makes functions of one form handlers. A marker for each form keeps the four implementations apart.
macro_rules! into_handler {
    ($form:ty, [$($p:ident)?], ($($arg:ty),*)) => {
        impl<F, Fut $(, $p)?> IntoHandler<$form> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
        {
            fn into_handler(self) -> Arc<dyn Handler> {
                Arc::new(Function::<F, $form> { function: self, args: PhantomData })
            }
        }
    };
}

into_handler!(Nothing, [], ());
into_handler!(ContextOnly, [], (Context));
into_handler!(PayloadOnly<P>, [P], (P));
into_handler!(PayloadAndContext<P>, [P], (P, Context));

impl<H: Handler> IntoHandler<Itself> for H {
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(self)
    }
}

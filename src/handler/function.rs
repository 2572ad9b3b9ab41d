//! Async functions as handlers.

use std::{future::Future, marker::PhantomData, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    Context, FromContext, Handler, IntoHandler, IntoOutcome, Need, Outcome,
    forms::{Extracted, Form, PayloadFirst, PayloadLast, each_form},
    registry::Boxed,
};

/// An async function; `Args` says what it takes.
struct Function<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

/// Marks a value that implements [`Handler`] itself.
#[derive(Debug)]
pub struct Itself;

macro_rules! function {
    ($form:ty, [$($p:ident $pv:ident)?], [$($a:ident $av:ident),*], ($($arg:ident $value:ident),*)) => {
        impl<F, Fut $(, $p)? $(, $a)*> Handler for Function<F, $form>
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn call(&self, ctx: Context) -> Boxed<'_, Outcome> {
                Box::pin(async move {
                    match <$form as Form>::take(&ctx) {
                        Ok(($($value,)*)) => (self.function)($($value),*).await.into_outcome(),
                        Err(error) => Outcome::Failed(error),
                    }
                })
            }

            fn needs(&self) -> Vec<Need> {
                <$form as Form>::needs()
            }

            fn takes_batch(&self) -> bool {
                <$form as Form>::takes_batch()
            }
        }

        impl<F, Fut $(, $p)? $(, $a)*> IntoHandler<$form> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn into_handler(self) -> Arc<dyn Handler> {
                Arc::new(Function::<F, $form> { function: self, args: PhantomData })
            }
        }
    };
}

each_form!(function);

impl<H: Handler> IntoHandler<Itself> for H {
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(self)
    }
}

//! Functions that block their thread, on the runtime's pool of threads for that.

use std::{marker::PhantomData, panic::resume_unwind, sync::Arc};

use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tracing::Span;

use super::{
    Context, FromContext, Handler, IntoHandler, IntoOutcome, Need, Outcome,
    forms::{Extracted, Form, PayloadFirst, PayloadLast, each_form},
    registry::Boxed,
};

/// A function that blocks its thread; made by [`blocking()`].
#[derive(Debug)]
pub struct Blocking<F>(F);

/// A handler that blocks: heavy computing, or a library that waits.
///
/// It takes the arguments of an async handler and runs on tokio's pool of blocking threads (512 unless the
/// runtime says otherwise), so that heartbeats and other handlers go on.
///
/// A thread cannot be stopped from outside. When its time is over or it is cancelled, it is asked to stop
/// ([`Context::is_cancelled`]) and then waited for, however long that takes: the run stays `running`, its
/// slot and its place under `max_running` stay taken, and no other attempt starts beside it. What it returns
/// then counts: `Ok` is a success, late as it is; an error is the timeout or the cancellation.
///
/// Only two things end the attempt without the thread: a shutdown whose drain timeout and grace are over,
/// and the loss of the worker's lease. The run then starts elsewhere while the thread may still work until
/// the process ends; a warning names it.
///
/// ```
/// use watchbell::handler::blocking;
/// use watchbell::{Context, HandlerResult};
///
/// #[derive(serde::Deserialize)]
/// struct Render { frames: u32 }
///
/// fn render(job: Render, ctx: Context) -> HandlerResult {
///     for frame in 0..job.frames {
///         if ctx.is_cancelled() {
///             return Err("stopped".into());
///         }
///         ctx.log(format!("frame {frame}"));
///     }
///     Ok(())
/// }
/// # let _ = watchbell::Registry::new().handler("render", blocking(render));
/// ```
pub fn blocking<F>(function: F) -> Blocking<F> {
    Blocking(function)
}

/// Marks a blocking function of one form.
#[derive(Debug)]
pub struct Blocked<Args>(PhantomData<Args>);

struct Function<F, Args> {
    function: Arc<F>,
    args: PhantomData<fn(Args)>,
}

macro_rules! blocking {
    ($form:ty, [$($p:ident $pv:ident)?], [$($a:ident $av:ident),*], ($($arg:ident $value:ident),*)) => {
        impl<F, R $(, $p)? $(, $a)*> Handler for Function<F, $form>
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn call(&self, ctx: Context) -> Boxed<'_, Outcome> {
                Box::pin(async move {
                    match <$form as Form>::take(&ctx) {
                        Ok(($($value,)*)) => {
                            let function = Arc::clone(&self.function);
                            on_the_pool(move || function($($value),*).into_outcome()).await
                        }
                        Err(error) => Outcome::Failed(error),
                    }
                })
            }

            fn needs(&self) -> Vec<Need> {
                <$form as Form>::needs()
            }

            fn stops_when_dropped(&self) -> bool {
                false
            }
        }

        impl<F, R $(, $p)? $(, $a)*> IntoHandler<Blocked<$form>> for Blocking<F>
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn into_handler(self) -> Arc<dyn Handler> {
                Arc::new(Function::<F, $form> { function: Arc::new(self.0), args: PhantomData })
            }
        }
    };
}

each_form!(blocking);

/// A panic there is one here, with its message.
async fn on_the_pool(work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let span = Span::current();
    match spawn_blocking(move || span.in_scope(work)).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Outcome::Failed("the runtime shut down before the thread began".into()),
    }
}

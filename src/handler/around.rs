//! Code around every handler.

use std::{fmt, future::Future, sync::Arc};

use super::{Context, IntoOutcome, Outcome, registry::Boxed};

type Layer = Arc<dyn Fn(Context, Next) -> Boxed<'static, Outcome> + Send + Sync>;
type Work = Box<dyn FnOnce(Context) -> Boxed<'static, Outcome> + Send>;

/// What comes next inside a piece of code around handlers: the next such piece, in the end the handler.
pub struct Next {
    layers: Arc<[Layer]>,
    at: usize,
    work: Work,
}

impl Next {
    /// Calls it and answers how the attempt went. Not called: the handler does not run.
    ///
    /// A panic passes through; a future that is dropped after its grace ends here, in the `await`.
    pub fn run(self, ctx: Context) -> impl Future<Output = Outcome> + Send {
        self.step(ctx)
    }

    fn step(mut self, ctx: Context) -> Boxed<'static, Outcome> {
        let layer = self.layers.get(self.at).cloned();
        self.at += 1;
        match layer {
            Some(layer) => layer(ctx, self),
            None => (self.work)(ctx),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} of {})", self.at, self.layers.len())
    }
}

/// The pieces of code around every handler, the outermost first.
#[derive(Clone, Default)]
pub struct Around {
    layers: Arc<[Layer]>,
}

impl Around {
    /// With one more, inside all others.
    #[must_use]
    pub fn and<F, Fut>(self, layer: F) -> Self
    where
        F: Fn(Context, Next) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoOutcome,
    {
        let layer: Layer = Arc::new(move |ctx, next| {
            let future = layer(ctx, next);
            Box::pin(async move { future.await.into_outcome() })
        });
        Self { layers: self.layers.iter().cloned().chain([layer]).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// All of it around this work.
    pub(crate) fn call(
        &self,
        ctx: Context,
        work: impl FnOnce(Context) -> Boxed<'static, Outcome> + Send + 'static,
    ) -> Boxed<'static, Outcome> {
        Next { layers: Arc::clone(&self.layers), at: 0, work: Box::new(work) }.step(ctx)
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Around({})", self.layers.len())
    }
}

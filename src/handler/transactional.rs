//! Handlers that work inside the transaction that records their end.

use std::{
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use serde::de::DeserializeOwned;
use sqlx::{PgConnection, Postgres, Transaction};

use super::{Context, IntoOutcome, Outcome, function::payload, registry::Boxed};

type Slot = Arc<Mutex<Option<Transaction<'static, Postgres>>>>;

/// The transaction in which the run's end will be recorded, lent to a handler.
///
/// Dereferences to the connection: `sqlx::query("...").execute(&mut *tx)`. Whatever is written through it
/// is committed together with the run's end, or not at all; there is no commit to call. It goes back to
/// the worker when it is dropped, so a handler that keeps it beyond its end fails its run.
#[derive(Debug)]
pub struct Tx {
    transaction: Option<Transaction<'static, Postgres>>,
    slot: Slot,
}

/// The worker's end of a lent transaction.
pub(crate) struct Lent {
    slot: Slot,
}

impl Tx {
    pub(crate) fn lend(transaction: Transaction<'static, Postgres>) -> (Self, Lent) {
        let slot = Slot::default();
        (Self { transaction: Some(transaction), slot: Arc::clone(&slot) }, Lent { slot })
    }
}

impl Lent {
    /// The transaction, once the handler has dropped its [`Tx`].
    pub(crate) fn back(self) -> Option<Transaction<'static, Postgres>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.transaction {
            Some(transaction) => transaction,
            None => unreachable!("the transaction is only taken by drop"),
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.transaction {
            Some(transaction) => transaction,
            None => unreachable!("the transaction is only taken by drop"),
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.transaction.take();
    }
}

/// A handler whose writes and whose end are one transaction.
pub trait TransactionalHandler: Send + Sync + 'static {
    /// Does the work of one attempt inside `tx`.
    fn call(&self, tx: Tx, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;
}

/// What can be registered as a transactional handler: async functions of `(Tx, payload, Context)`,
/// `(Tx, payload)` or `(Tx)`. `Args` is always inferred.
pub trait IntoTransactionalHandler<Args>: Sized {
    /// As a transactional handler.
    fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler>;
}

struct Function<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

/// A function of the transaction alone.
#[derive(Debug)]
pub struct TxOnly;
/// A function of transaction and payload.
#[derive(Debug)]
pub struct TxPayload<P>(PhantomData<P>);
/// A function of transaction, payload and context.
#[derive(Debug)]
pub struct TxPayloadContext<P>(PhantomData<P>);
/// Marks a value that implements [`TransactionalHandler`] itself.
#[derive(Debug)]
pub struct Itself;

impl<F, Fut> TransactionalHandler for Function<F, TxOnly>
where
    F: Fn(Tx) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
{
    fn call(&self, tx: Tx, _: Context) -> Boxed<'_, Outcome> {
        let future = (self.function)(tx);
        Box::pin(async move { future.await.into_outcome() })
    }
}

impl<F, Fut, P> TransactionalHandler for Function<F, TxPayload<P>>
where
    F: Fn(Tx, P) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
    P: DeserializeOwned + Send + 'static,
{
    fn call(&self, tx: Tx, ctx: Context) -> Boxed<'_, Outcome> {
        Box::pin(async move {
            match payload::<P>(&ctx) {
                Ok(payload) => (self.function)(tx, payload).await.into_outcome(),
                Err(error) => Outcome::Failed(error),
            }
        })
    }
}

impl<F, Fut, P> TransactionalHandler for Function<F, TxPayloadContext<P>>
where
    F: Fn(Tx, P, Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
    P: DeserializeOwned + Send + 'static,
{
    fn call(&self, tx: Tx, ctx: Context) -> Boxed<'_, Outcome> {
        Box::pin(async move {
            match payload::<P>(&ctx) {
                Ok(payload) => (self.function)(tx, payload, ctx).await.into_outcome(),
                Err(error) => Outcome::Failed(error),
            }
        })
    }
}

macro_rules! into_transactional {
    ($form:ty, [$($p:ident)?], ($($arg:ty),*)) => {
        impl<F, Fut $(, $p)?> IntoTransactionalHandler<$form> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
        {
            fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler> {
                Arc::new(Function::<F, $form> { function: self, args: PhantomData })
            }
        }
    };
}

into_transactional!(TxOnly, [], (Tx));
into_transactional!(TxPayload<P>, [P], (Tx, P));
into_transactional!(TxPayloadContext<P>, [P], (Tx, P, Context));

impl<H: TransactionalHandler> IntoTransactionalHandler<Itself> for H {
    fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler> {
        Arc::new(self)
    }
}

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

use super::{
    Context, FromContext, IntoOutcome, Need, Outcome,
    forms::{Extracted, Form, PayloadFirst, PayloadLast, each_form},
    registry::Boxed,
    rows::StatementOver,
};

type Slot = Arc<Mutex<Option<Transaction<'static, Postgres>>>>;

/// The transaction in which the run's end will be recorded, lent to a handler.
///
/// Dereferences to the connection: `sqlx::query("...").execute(&mut *tx)`. Whatever is written through it
/// is committed together with the run's end, or not at all; there is no commit to call. It goes back to
/// the worker when it is dropped, so a handler that keeps it beyond its end fails its run.
///
/// ```
/// use watchbell::{HandlerResult, Registry, Tx};
///
/// #[derive(serde::Deserialize)]
/// struct Charge { account: i64, cents: i64 }
///
/// /// Exactly once: the balance and the run's end are one commit.
/// async fn charge(mut tx: Tx, charge: Charge) -> HandlerResult {
///     sqlx::query("update accounts set cents = cents - $1 where id = $2")
///         .bind(charge.cents)
///         .bind(charge.account)
///         .execute(&mut *tx)
///         .await?;
///     Ok(())
/// }
/// # let _ = Registry::new().transactional("charge", charge);
/// ```
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
///
/// ```
/// use std::{future::Future, pin::Pin};
/// use watchbell::handler::{IntoOutcome, Outcome, TransactionalHandler, Tx};
/// use watchbell::{Context, HandlerResult, Registry};
///
/// struct Purge { keep: &'static str }
///
/// impl Purge {
///     async fn purge(&self, mut tx: Tx) -> HandlerResult {
///         let delete = sqlx::query("delete from visits where at < now() - $1::interval").bind(self.keep);
///         delete.execute(&mut *tx).await?;
///         Ok(())
///     }
/// }
///
/// impl TransactionalHandler for Purge {
///     fn call(&self, tx: Tx, _: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
///         Box::pin(async move { self.purge(tx).await.into_outcome() })
///     }
/// }
///
/// let registry = Registry::new().transactional("purge", Purge { keep: "90 days" });
/// # assert_eq!(registry.names(), ["purge"]);
/// ```
pub trait TransactionalHandler: Send + Sync + 'static {
    /// Does the work of one attempt inside `tx`.
    fn call(&self, tx: Tx, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;

    /// State that it cannot do without; a worker that was not given it does not start.
    fn needs(&self) -> Vec<Need> {
        vec![]
    }

    /// Whether it takes all rows of a watch's batch at once, as one that asks for [`Rows`](super::Rows) does.
    fn takes_batch(&self) -> bool {
        false
    }

    /// The statement it would execute over the rows that `claimed` selects, given its first parameter's number.
    #[doc(hidden)]
    fn statement_over(
        &self,
        _payload: &str,
        _claimed: &dyn Fn(usize) -> String,
    ) -> Option<Result<StatementOver, String>> {
        None
    }
}

/// What can be registered as a transactional handler: async functions of [`Tx`], and then of the arguments
/// of any handler, at most four. `Args` is always inferred.
///
/// ```
/// use watchbell::handler::{IntoTransactionalHandler, Tx};
/// use watchbell::{HandlerResult, Registry};
///
/// fn tagged<A>(registry: Registry, name: &str, handler: impl IntoTransactionalHandler<A>) -> Registry {
///     registry.transactional(format!("shop.{name}"), handler)
/// }
///
/// async fn close(mut tx: Tx) -> HandlerResult {
///     sqlx::query("update orders set closed = true where paid").execute(&mut *tx).await?;
///     Ok(())
/// }
///
/// let registry = tagged(Registry::new(), "close", close);
/// # assert_eq!(registry.names(), ["shop.close"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transactional handler",
    note = "it is an async function of `Tx`, and then up to four of: the payload, `Context`, `State<T>`"
)]
pub trait IntoTransactionalHandler<Args>: Sized {
    /// As a transactional handler.
    fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler>;
}

struct Function<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

/// Marks a value that implements [`TransactionalHandler`] itself.
#[derive(Debug)]
pub struct Itself;

macro_rules! transactional {
    ($form:ty, [$($p:ident $pv:ident)?], [$($a:ident $av:ident),*], ($($arg:ident $value:ident),*)) => {
        impl<F, Fut $(, $p)? $(, $a)*> TransactionalHandler for Function<F, $form>
        where
            F: Fn(Tx $(, $arg)*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn call(&self, tx: Tx, ctx: Context) -> Boxed<'_, Outcome> {
                Box::pin(async move {
                    match <$form as Form>::take(&ctx) {
                        Ok(($($value,)*)) => (self.function)(tx $(, $value)*).await.into_outcome(),
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

        impl<F, Fut $(, $p)? $(, $a)*> IntoTransactionalHandler<$form> for F
        where
            F: Fn(Tx $(, $arg)*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoOutcome,
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler> {
                Arc::new(Function::<F, $form> { function: self, args: PhantomData })
            }
        }
    };
}

each_form!(transactional);

impl<H: TransactionalHandler> IntoTransactionalHandler<Itself> for H {
    fn into_transactional_handler(self) -> Arc<dyn TransactionalHandler> {
        Arc::new(self)
    }
}

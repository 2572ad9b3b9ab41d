//! What a function can ask for: the context, state, the payload.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{Context, HandlerError, fatal};

/// An argument of a handler that is made from its [`Context`].
///
/// [`Context`], [`State`] and [`Payload`] are; a type of your own may be, to be asked for like these.
///
/// ```
/// use watchbell::handler::{FromContext, Need};
/// use watchbell::{Context, HandlerError, fatal};
///
/// /// The tenant in whose name a run works: the part of its queue's name after the dash.
/// struct Tenant(String);
///
/// impl FromContext for Tenant {
///     fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
///         let (_, tenant) = ctx.queue().split_once('-').ok_or_else(|| fatal("this queue has no tenant"))?;
///         Ok(Self(tenant.to_owned()))
///     }
/// }
///
/// async fn invoices(tenant: Tenant) {}
/// # let _ = watchbell::Registry::new().handler("invoices", invoices);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument of a handler",
    note = "arguments are `Context`, `State<T>`, `Payload<P>`, and the payload itself, first or last"
)]
pub trait FromContext: Sized + Send + 'static {
    /// Makes it for one attempt.
    ///
    /// # Errors
    /// As of a handler: the attempt fails with it.
    fn from_context(ctx: &Context) -> Result<Self, HandlerError>;

    /// State that must have been given to the worker; asked for at its start.
    fn needs() -> Vec<Need> {
        vec![]
    }

    /// Whether it is made of all rows of a watch's batch, as [`Rows`](super::Rows) is.
    fn takes_batch() -> bool {
        false
    }
}

impl FromContext for Context {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        Ok(ctx.clone())
    }
}

/// A value that the worker was given by [`state`](crate::worker::Builder::state), cloned for each attempt.
///
/// A worker with a handler that asks for a type it was not given does not start.
///
/// ```
/// use watchbell::{HandlerResult, Registry, State};
///
/// #[derive(Clone)]
/// struct Mailer { from: String }
///
/// async fn mail(to: String, State(mailer): State<Mailer>) -> HandlerResult {
///     println!("from {} to {to}", mailer.from);
///     Ok(())
/// }
///
/// let registry = Registry::new().state(Mailer { from: "shop@example.com".to_owned() }).handler("mail", mail);
/// # assert!(registry.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromContext for State<T> {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        match ctx.state::<T>() {
            Some(value) => Ok(Self(value.clone())),
            None => Err(fatal(format!("no state of type {} was given to the worker", type_name::<T>()))),
        }
    }

    fn needs() -> Vec<Need> {
        vec![Need::of::<T>()]
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The payload, anywhere among the arguments; first or last it may also stand by itself.
///
/// ```
/// use watchbell::{Context, Payload, Registry};
///
/// #[derive(serde::Deserialize)]
/// struct Mail { to: String }
///
/// async fn mail(first: Context, Payload(mail): Payload<Mail>, last: Context) {
///     first.log(mail.to);
/// #   let _ = last;
/// }
/// # let _ = Registry::new().handler("mail", mail);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Payload<P>(pub P);

impl<P: DeserializeOwned + Send + 'static> FromContext for Payload<P> {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        payload(ctx).map(Self)
    }
}

/// The payload as `P`; one that does not fit can never fit, so the error is fatal.
pub(super) fn payload<P: DeserializeOwned>(ctx: &Context) -> Result<P, HandlerError> {
    serde_json::from_str(ctx.payload())
        .map_err(|e| fatal(format!("payload does not fit handler \"{}\": {e}", ctx.handler())))
}

/// A type of state that a handler cannot do without.
///
/// ```
/// use watchbell::handler::Need;
///
/// assert_eq!(Need::of::<String>().to_string(), "alloc::string::String");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    id: TypeId,
    name: &'static str,
}

impl Need {
    /// A need of a value of this type.
    pub fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Values of the application, one of each type.
#[derive(Clone, Default)]
pub(crate) struct States {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl States {
    /// False: there is one of this type already.
    pub(super) fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.by_type.insert(TypeId::of::<T>(), Arc::new(value)).is_none()
    }

    pub(super) fn get<T: 'static>(&self) -> Option<&T> {
        self.by_type.get(&TypeId::of::<T>())?.downcast_ref()
    }

    pub(super) fn has(&self, need: &Need) -> bool {
        self.by_type.contains_key(&need.id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.by_type.len())
    }
}

//! The forms of function that may be handlers: up to four arguments, the payload first, last or nowhere.
//!
//! A marker type for each form keeps their implementations apart; it is always inferred. Whatever calls
//! functions (plain, blocking, transactional) implements itself for all forms by `each_form!`.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::{Context, FromContext, HandlerError, Need, extract::payload};

/// A function of things that are made from the context; `T` is their tuple.
#[derive(Debug)]
pub struct Extracted<T>(PhantomData<T>);
/// A function of the payload, and then of such things.
#[derive(Debug)]
pub struct PayloadFirst<P, T>(PhantomData<(P, T)>);
/// A function of such things, and then of the payload.
#[derive(Debug)]
pub struct PayloadLast<T, P>(PhantomData<(T, P)>);

/// How the arguments of one form are made.
pub(super) trait Form: 'static {
    type Values: Send;

    fn take(ctx: &Context) -> Result<Self::Values, HandlerError>;

    fn needs() -> Vec<Need>;

    fn takes_batch() -> bool;
}

/// Calls a macro for each form with: the marker, the payload's type and variable if it takes one, the types
/// and variables made from the context, and all in the order of the arguments.
macro_rules! each_form {
    ($with:ident) => {
        $with!(Extracted<()>, [], [], ());
        $with!(Extracted<(A,)>, [], [A a], (A a));
        $with!(Extracted<(A, B)>, [], [A a, B b], (A a, B b));
        $with!(Extracted<(A, B, C)>, [], [A a, B b, C c], (A a, B b, C c));
        $with!(Extracted<(A, B, C, D)>, [], [A a, B b, C c, D d], (A a, B b, C c, D d));
        $with!(PayloadFirst<P, ()>, [P p], [], (P p));
        $with!(PayloadFirst<P, (A,)>, [P p], [A a], (P p, A a));
        $with!(PayloadFirst<P, (A, B)>, [P p], [A a, B b], (P p, A a, B b));
        $with!(PayloadFirst<P, (A, B, C)>, [P p], [A a, B b, C c], (P p, A a, B b, C c));
        $with!(PayloadLast<(A,), P>, [P p], [A a], (A a, P p));
        $with!(PayloadLast<(A, B), P>, [P p], [A a, B b], (A a, B b, P p));
        $with!(PayloadLast<(A, B, C), P>, [P p], [A a, B b, C c], (A a, B b, C c, P p));
    };
}
pub(super) use each_form;

macro_rules! form {
    ($form:ty, [$($p:ident $pv:ident)?], [$($a:ident $av:ident),*], ($($arg:ident $value:ident),*)) => {
        impl<$($p,)? $($a,)*> Form for $form
        where
            $($p: DeserializeOwned + Send + 'static,)?
            $($a: FromContext,)*
        {
            type Values = ($($arg,)*);

            fn take(_ctx: &Context) -> Result<Self::Values, HandlerError> {
                $(let $av = $a::from_context(_ctx)?;)*
                $(let $pv = payload::<$p>(_ctx)?;)?
                Ok(($($value,)*))
            }

            fn needs() -> Vec<Need> {
                let needs: [Vec<Need>; _] = [$($a::needs()),*];
                needs.concat()
            }

            fn takes_batch() -> bool {
                let any: [bool; _] = [$($a::takes_batch()),*];
                any.contains(&true)
            }
        }
    };
}

each_form!(form);

//! Code that does the work, looked up by name.
//!
//! A handler is an async function. It takes the payload (anything serde can read), the [`Context`], [`State`]
//! of the application, in short whatever it needs, and says how it went:
//!
//! ```
//! use watchbell::{Context, HandlerError, HandlerResult, fatal};
//!
//! #[derive(serde::Deserialize)]
//! struct Mail { to: String }
//!
//! async fn mail(mail: Mail, ctx: Context) -> HandlerResult {
//!     if !mail.to.contains('@') {
//!         return Err(fatal("no such address")); // another attempt would not help
//!     }
//!     std::fs::metadata("/").map_err(HandlerError::from)?; // plain `?` means: try again later
//!     ctx.log(format!("attempt {} sent to {}", ctx.attempt(), mail.to));
//!     Ok(())
//! }
//! # let _ = watchbell::Registry::new().handler("mail", mail);
//! ```

mod around;
mod blocking;
pub(crate) mod call;
mod context;
mod extract;
mod forms;
mod function;
#[cfg(feature = "http")]
pub mod http;
pub(crate) mod lexer;
mod options;
mod outcome;
mod output;
mod passage;
mod registry;
mod rows;
#[cfg(any(feature = "shell", feature = "http"))]
pub mod secret;
#[cfg(all(unix, feature = "shell"))]
pub mod shell;
pub mod sql;
mod transactional;

pub use around::{Around, Next};
pub use blocking::{Blocking, blocking};
pub(crate) use context::Facts;
pub use context::{Context, StopReason};
pub use extract::{FromContext, Need, Payload, State};
pub use options::HandlerOptions;
pub use outcome::{HandlerError, HandlerResult, IntoOutcome, Outcome, fatal, retry_after, snooze};
pub use output::Stream;
#[cfg(any(feature = "bin", all(unix, feature = "shell")))]
pub(crate) use output::size;
pub(crate) use output::{Batch, Outlet};
pub(crate) use passage::Passage;
pub(crate) use registry::{Boxed, Work};
pub use registry::{Handler, IntoHandler, Registry};
#[doc(hidden)]
pub use rows::StatementOver;
pub use rows::{Row, Rows};
pub(crate) use rows::{Taken, shown_key};
pub use transactional::{IntoTransactionalHandler, TransactionalHandler, Tx};

/// Longest handler name, in bytes.
///
/// ```
/// use watchbell::Registry;
/// use watchbell::handler::NAME_BYTES_MAX;
///
/// async fn report() {}
///
/// assert!(Registry::new().handler("x".repeat(NAME_BYTES_MAX), report).check().is_ok());
/// assert!(Registry::new().handler("x".repeat(NAME_BYTES_MAX + 1), report).check().is_err());
/// ```
pub const NAME_BYTES_MAX: usize = 128;

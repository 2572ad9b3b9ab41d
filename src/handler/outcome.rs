//! What a handler says about one attempt.

use std::{error::Error as StdError, fmt, time::Duration};

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

/// How one attempt ended, as the handler sees it.
///
/// ```
/// use watchbell::{Context, HandlerResult, Outcome, minutes};
///
/// async fn deliver(ctx: Context) -> HandlerResult<Outcome> {
///     let answer: u16 = ctx.payload().parse()?; // `?`: failed, another attempt follows
///     Ok(match answer {
///         200 => Outcome::Done,
///         503 => Outcome::Snooze(minutes(5)),
///         404 => Outcome::Cancel("nobody is there".to_owned()),
///         other => Outcome::Failed(format!("answer {other}").into()),
///     })
/// }
/// # let _ = watchbell::Registry::new().handler("deliver", deliver);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The work is done: the run becomes `normal`.
    Done,
    /// Call me again after this long; the attempt does not count.
    Snooze(Duration),
    /// It failed. The error says whether another attempt is wanted.
    Failed(HandlerError),
    /// Stop here without calling it a failure: the run becomes `cancelled`.
    Cancel(String),
    /// The handler ended the run itself, in a transaction of its own; false: it was superseded, and rolled back.
    #[doc(hidden)]
    Recorded(bool),
}

/// A snooze: `return Ok(snooze(Duration::from_secs(60)))` runs the handler again in a minute, without
/// using up an attempt.
///
/// ```
/// use watchbell::{HandlerResult, Outcome, minutes, snooze};
///
/// async fn collect() -> HandlerResult<Outcome> {
///     let is_there = std::fs::exists("/var/spool/orders.csv")?;
///     Ok(if is_there { Outcome::Done } else { snooze(minutes(1)) })
/// }
/// # let _ = watchbell::Registry::new().handler("collect", collect);
/// ```
pub fn snooze(by: Duration) -> Outcome {
    Outcome::Snooze(by)
}

/// What a handler returns: `()` or an [`Outcome`], or an error.
pub type HandlerResult<T = ()> = Result<T, HandlerError>;

/// Why an attempt failed.
///
/// Made from any error by `?`, which means: try again, by the run's retry policy. [`fatal`] makes one that
/// ends the run at once, [`retry_after`] one with its own delay.
pub struct HandlerError {
    pub(crate) source: Box<dyn StdError + Send + Sync>,
    pub(crate) fatal: bool,
    pub(crate) after: Option<Duration>,
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { source: error.into(), fatal: false, after: None }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("source", &self.source)
            .field("fatal", &self.fatal)
            .field("after", &self.after)
            .finish()
    }
}

impl fmt::Display for HandlerError {
    /// The error and its causes, separated by `: `, a cause left out where its text is already there. Of what
    /// PostgreSQL answered without the line of its own source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.source.to_string();
        let first: &(dyn StdError + 'static) = &*self.source;
        let mut next = Some(first);
        while let Some(error) = next {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            if let Some((answer, line)) = answer(error).and_then(|answer| Some((answer.message(), answer.line()?))) {
                text = text.replace(&format!("{answer} at line {line}"), answer);
                // its own text is not to be added once more
                next = None;
            } else {
                next = error.source();
            }
        }
        f.write_str(&text)
    }
}

/// What PostgreSQL answered, if this error is that answer.
fn answer<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e PgDatabaseError> {
    let answer = match error.downcast_ref() {
        Some(sqlx::Error::Database(answer)) => answer,
        _ => error.downcast_ref::<Box<dyn DatabaseError>>()?,
    };
    answer.try_downcast_ref()
}

/// An error after which another attempt would not help: the run becomes `failed` at once.
pub fn fatal(error: impl Into<Box<dyn StdError + Send + Sync>>) -> HandlerError {
    HandlerError { fatal: true, ..HandlerError::from(error) }
}

/// An error with its own delay before the next attempt, instead of the retry policy's.
///
/// ```
/// use watchbell::{HandlerResult, retry_after, seconds};
///
/// async fn call() -> HandlerResult {
///     let busy_for: Option<u64> = Some(30); // as the other side says
///     match busy_for {
///         Some(s) => Err(retry_after("the other side is busy", seconds(s))),
///         None => Ok(()),
///     }
/// }
/// # let _ = watchbell::Registry::new().handler("call", call);
/// ```
pub fn retry_after(error: impl Into<Box<dyn StdError + Send + Sync>>, delay: Duration) -> HandlerError {
    HandlerError { after: Some(delay), ..HandlerError::from(error) }
}

/// What an async handler may return.
///
/// ```
/// use watchbell::Outcome;
/// use watchbell::handler::IntoOutcome;
///
/// /// What a warehouse answers, as what its handlers return.
/// enum Answer { Packed, SoldOut }
///
/// impl IntoOutcome for Answer {
///     fn into_outcome(self) -> Outcome {
///         match self {
///             Self::Packed => Outcome::Done,
///             Self::SoldOut => Outcome::Cancel("sold out".to_owned()),
///         }
///     }
/// }
///
/// async fn pack() -> Answer { Answer::Packed }
/// # let _ = (watchbell::Registry::new().handler("pack", pack), Answer::SoldOut);
/// ```
pub trait IntoOutcome {
    /// As an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<T: IntoOutcome, E: Into<HandlerError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::Failed(error.into()),
        }
    }
}

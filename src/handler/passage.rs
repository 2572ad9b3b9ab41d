//! One passage of a watched row through a step, with what its handler keeps between two attempts.

use std::sync::{Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, HandlerError, fatal};

/// Longest text that a handler may keep, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What a claim knows of a row beside the row.
#[derive(Debug)]
pub(crate) struct Passage {
    /// The same at all attempts of this passage, and never again.
    pub(crate) id: i64,
    /// What an earlier attempt kept, as JSON text.
    pub(crate) data: Option<String>,
    /// What this one keeps.
    kept: Mutex<Option<String>>,
}

impl Passage {
    pub(crate) fn new(id: i64, data: Option<String>) -> Self {
        Self { id, data, kept: Mutex::default() }
    }

    /// What this attempt kept, if anything.
    pub(crate) fn kept(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Context {
    /// Keeps a value for the next attempt at this watched row: what was started elsewhere, how far it is.
    ///
    /// Written together with the attempt's end, be it a snooze, a failure or a shutdown, and read by
    /// [`Context::kept`]. The last value counts; gone when the row moves on. A worker that is killed takes what was
    /// not yet written with it.
    ///
    /// ```
    /// use watchbell::{Context, HandlerResult, Outcome, minutes, snooze};
    ///
    /// async fn train(ctx: Context) -> HandlerResult<Outcome> {
    ///     match ctx.kept::<String>()? {
    ///         None => {
    ///             ctx.keep(&"job-7")?; // as the cluster named what was started there
    ///             Ok(snooze(minutes(5)))
    ///         }
    ///         Some(job) => {
    ///             ctx.log(format!("{job} is done"));
    ///             Ok(Outcome::Done)
    ///         }
    ///     }
    /// }
    /// # let _ = watchbell::Registry::new().handler("train", train);
    /// ```
    ///
    /// # Errors
    /// Fatal where no watch calls in leased mode, and for more than 64 KiB of JSON.
    pub fn keep(&self, value: &(impl Serialize + ?Sized)) -> Result<(), HandlerError> {
        let Some(passage) = self.passage() else {
            return Err(fatal("only a watched row in leased mode keeps a value between two attempts"));
        };
        let text = serde_json::to_string(value).map_err(|e| fatal(format!("the value to keep: {e}")))?;
        if text.len() > KEPT_BYTES_MAX {
            let bytes = text.len();
            return Err(fatal(format!("the value to keep has {bytes} bytes, at most {KEPT_BYTES_MAX} are allowed")));
        }
        if text.contains("\\u0000") {
            return Err(fatal("the value to keep has a NUL character, which the database cannot hold"));
        }
        *passage.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        Ok(())
    }

    /// What an earlier attempt at this watched row kept; `None` at the first, and where no watch calls.
    ///
    /// # Errors
    /// Fatal if it does not fit `T`.
    pub fn kept<T: DeserializeOwned>(&self) -> Result<Option<T>, HandlerError> {
        let data = self.passage().and_then(|passage| passage.data.as_deref());
        let read = data.map(serde_json::from_str).transpose();
        read.map_err(|e| fatal(format!("what was kept does not fit handler \"{}\": {e}", self.handler())))
    }

    /// What outside systems can tell a repetition by: the same at every attempt, and no other work's.
    ///
    /// The run's number; for a watched row in leased mode the watch and the number of the row's passage through its
    /// step, such as `hosts:17`, another one when the row comes back to that step.
    ///
    /// ```
    /// fn headers(ctx: &watchbell::Context) -> [(&'static str, String); 1] {
    ///     [("idempotency-key", ctx.idempotency_key())]
    /// }
    /// ```
    pub fn idempotency_key(&self) -> String {
        match (self.watch(), self.passage()) {
            (Some(watch), Some(passage)) => format!("{watch}:{}", passage.id),
            _ => self.run_id().to_string(),
        }
    }
}

//! One passage of a watched row through a step, with what its handler keeps between two attempts.

use std::sync::{Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, HandlerError, fatal};

/// Longest text that a handler may keep, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Longest end of what an attempt printed that is kept with its error, in bytes.
const PRINTED_MAX: usize = 4096;

/// What a claim knows of a row beside the row.
#[derive(Debug)]
pub(crate) struct Passage {
    /// The same at all attempts of this passage, and never again.
    pub(crate) id: i64,
    /// What an earlier attempt kept, as JSON text.
    pub(crate) data: Option<String>,
    /// What this one keeps.
    kept: Mutex<Option<String>>,
    /// What it printed last.
    printed: Mutex<Printed>,
}

#[derive(Debug, Default)]
struct Printed {
    end: Vec<u8>,
    /// There was more before it.
    cut: bool,
}

impl Passage {
    pub(crate) fn new(id: i64, data: Option<String>) -> Self {
        Self { id, data, kept: Mutex::default(), printed: Mutex::default() }
    }

    /// What this attempt kept, if anything.
    pub(crate) fn kept(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers the end of what the handler prints: should it fail, its last lines are wanted.
    pub(super) fn print(&self, bytes: &[u8]) {
        let more = &bytes[bytes.len().saturating_sub(PRINTED_MAX)..];
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = (printed.end.len() + more.len()).saturating_sub(PRINTED_MAX);
        printed.cut |= excess > 0 || more.len() < bytes.len();
        printed.end.drain(..excess);
        printed.end.extend_from_slice(more);
    }

    /// The last lines that it printed, as UTF-8; `None` if there are none.
    pub(crate) fn printed(&self) -> Option<Vec<u8>> {
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&printed.end).replace('\0', "\u{fffd}");
        // what is left of a line that was cut says little
        let whole = text.split_once('\n').filter(|(_, rest)| printed.cut && !rest.trim().is_empty());
        let text = whole.map_or(text.as_str(), |(_, rest)| rest).trim_end();
        (!text.is_empty()).then(|| text.as_bytes().to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&[u8]]) -> Option<String> {
        let passage = Passage::new(1, None);
        pieces.iter().for_each(|piece| passage.print(piece));
        passage.printed().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_last_lines_are_kept_whole_and_as_text() {
        assert_eq!(printed(&[]), None);
        assert_eq!(printed(&[b"\n", b" \n"]), None);
        assert_eq!(printed(&[b"one\ntw", b"o\n"]).unwrap(), "one\ntwo");
        assert_eq!(printed(&[b"a\0b\xff\n"]).unwrap(), "a\u{fffd}b\u{fffd}");
        let long = "x".repeat(70);
        let lines: Vec<String> = (0..1000).map(|n| format!("{n} {long}\n")).collect();
        for kept in
            [printed(&lines.iter().map(String::as_bytes).collect::<Vec<_>>()), printed(&[lines.concat().as_bytes()])]
        {
            let kept = kept.unwrap();
            assert!(kept.len() < PRINTED_MAX && kept.len() > PRINTED_MAX - 80, "{}", kept.len());
            assert!(lines.concat().ends_with(&format!("\n{kept}\n")), "{kept}");
        }
        assert_eq!(printed(&[&[b'x'; 10_000]]).unwrap().len(), PRINTED_MAX, "one endless line");
    }
}

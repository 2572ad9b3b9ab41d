//! A run: one occurrence of work, from `pending` to its end.

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

pub mod transition;

/// The number of a run.
///
/// ```
/// use watchbell::RunId;
///
/// let id: RunId = "7".parse()?;
/// assert_eq!((id, id.to_string()), (RunId(7), "7".to_owned()));
/// assert_eq!(serde_json::to_string(&id).unwrap(), "7");
/// # Ok::<(), watchbell::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let id = text.parse().ok().filter(|id| *id > 0);
        id.map(Self).ok_or_else(|| Error::invalid("run id", format!("\"{text}\" must be a number from 1")))
    }
}

/// Where a run stands.
///
/// ```text
/// pending ─claim─► running ─finish─► normal | failed | cancelled
///    ▲                │
///    └─ retry, snooze, give back, rescue
/// ```
///
/// ```
/// use watchbell::Status;
///
/// assert_eq!("normal".parse(), Ok(Status::Normal));
/// assert_eq!(Status::Failed, "failed");
/// let over = Status::ALL.into_iter().filter(|status| status.is_terminal());
/// assert_eq!(over.map(Status::as_str).collect::<Vec<_>>(), ["normal", "failed", "cancelled"]);
/// assert!(!Status::Pending.is_terminal() && !Status::Running.is_terminal());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for its time or for a worker.
    Pending,
    /// A worker has claimed it.
    Running,
    /// Ended well.
    Normal,
    /// Ended badly: attempts used up, a fatal error, or it crashed its worker too often.
    Failed,
    /// Ended on request, or because it was not started in time.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Normal, Self::Failed, Self::Cancelled];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Normal => "normal",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a run in this status never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Normal | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<&str> for Status {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| format!("status \"{s}\" is not one of pending, running, normal, failed, cancelled"))
    }
}

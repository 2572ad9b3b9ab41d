//! A slot comes due while earlier runs of its schedule are open.

use super::words;

/// The most open runs `allow` adds to, and the most runs `queue_all` keeps waiting.
///
/// ```
/// use chrono::{TimeDelta, TimeZone, Utc};
/// use watchbell::schedule::{Open, Schedule, Spec, overlap::OPEN_MAX, plan};
///
/// let noon = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
/// let schedule = Schedule::new(1, Spec::FixedRate(TimeDelta::minutes(10)), noon); // overlap `allow`
/// let full = Open { total: OPEN_MAX, waiting: 0 };
/// assert_eq!(plan(&schedule, noon + TimeDelta::minutes(10), full)?.runs(), 0);
/// # Ok::<(), watchbell::schedule::Unplannable>(())
/// ```
pub const OPEN_MAX: u32 = 100;

/// What becomes of a slot that comes due while `max_running` runs are open.
///
/// ```
/// use watchbell::schedule::Overlap;
///
/// let sync = watchbell::cron("* * * * *").overlap(Overlap::Skip); // while the last one still runs
/// # let _ = sync;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// Start anyway, up to [`OPEN_MAX`] open runs.
    #[default]
    Allow,
    /// Drop it.
    Skip,
    /// Keep one waiting.
    QueueOne,
    /// Every slot waits its turn, up to [`OPEN_MAX`] of them.
    QueueAll,
    /// Ask the open runs to stop, and start when they have.
    CancelRunning,
}

words!(
    Overlap,
    "overlap",
    "allow, skip, queue_one, queue_all, cancel_running",
    Allow = "allow",
    Skip = "skip",
    QueueOne = "queue_one",
    QueueAll = "queue_all",
    CancelRunning = "cancel_running",
);

/// The open runs of a schedule, of those that its slots made (trigger `schedule` or `catch_up`).
///
/// ```
/// use chrono::{TimeDelta, TimeZone, Utc};
/// use watchbell::schedule::{Disposition, Open, Overlap, Schedule, Spec, plan};
///
/// let noon = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
/// let mut schedule = Schedule::new(1, Spec::FixedRate(TimeDelta::minutes(10)), noon);
/// schedule.overlap = Overlap::Skip;
/// let running = Open { total: 1, waiting: 0 };
/// let planned = plan(&schedule, noon + TimeDelta::minutes(10), running)?;
/// assert_eq!(planned.fires[0].disposition, Disposition::SkippedOverlap);
/// # Ok::<(), watchbell::schedule::Unplannable>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// Waiting, retrying and running.
    pub total: u32,
    /// Of these, pending.
    pub waiting: u32,
}

/// What a due slot may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Start.
    Run,
    /// Start when an earlier run has ended.
    Wait,
    /// Nothing.
    Drop,
}

impl Overlap {
    /// Whether its runs must wait for one another, by a concurrency key of the schedule.
    pub(super) fn serializes(self) -> bool {
        matches!(self, Self::QueueOne | Self::QueueAll | Self::CancelRunning)
    }

    /// Under `CancelRunning`: whether the open runs are to be asked to stop, as the `due` slots do not fit beside
    /// them, and how many of the oldest due ones are dropped, because the newer would stop them at once.
    pub(super) fn make_room(self, max_running: u32, due: u64, open: Open) -> (bool, u64) {
        if self != Self::CancelRunning {
            return (false, 0);
        }
        let most = u64::from(max_running.max(1));
        (due > 0 && open.total > 0 && u64::from(open.total) + due.min(most) > most, due.saturating_sub(most))
    }

    /// Decides one slot, and counts the run it makes into `open`.
    ///
    /// `CancelRunning` comes here after the open runs were asked to stop: what is left waits for them.
    pub(super) fn admit(self, max_running: u32, open: &mut Open) -> Admission {
        let free = open.total < max_running.max(1);
        let admission = match self {
            Self::Allow if open.total < OPEN_MAX => Admission::Run,
            Self::Allow => Admission::Drop,
            _ if free => Admission::Run,
            Self::Skip => Admission::Drop,
            Self::QueueOne if open.waiting == 0 => Admission::Wait,
            Self::QueueAll if open.waiting < OPEN_MAX => Admission::Wait,
            Self::QueueOne | Self::QueueAll => Admission::Drop,
            Self::CancelRunning => Admission::Wait,
        };
        open.total += u32::from(admission != Admission::Drop);
        open.waiting += u32::from(admission == Admission::Wait);
        admission
    }
}

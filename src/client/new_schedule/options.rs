//! What may be said of a schedule beside its name, its times and its handler.

use super::*;

impl NewSchedule {
    /// The zone of the wall clock that `cron` goes by: `UTC` or an Area/Location name.
    #[must_use]
    pub fn timezone(self, zone: impl Into<String>) -> Self {
        Self { timezone: zone.into(), ..self }
    }

    /// What a clock change does to a fixed time of day.
    #[must_use]
    pub fn dst(self, dst: Dst) -> Self {
        Self { dst, ..self }
    }

    /// What each run gets: any value that becomes a JSON object of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be written as JSON, is no object or is too large.
    pub fn payload(self, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = json_text(&self.subject(), payload)?;
        check::payload(&text).map_err(|problem| Error::invalid(self.subject(), problem))?;
        Ok(Self { payload: Some(text), ..self })
    }

    /// As [`payload`](Self::payload), from JSON text, which is sent as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not JSON, no object or too large.
    pub fn payload_json(self, text: &str) -> Result<Self> {
        let raw: &RawValue = serde_json::from_str(text)
            .map_err(|e| Error::invalid(self.subject(), format!("payload is not valid JSON: {e}")))?;
        self.payload(raw)
    }

    /// The queue of its runs.
    #[must_use]
    pub fn queue(self, name: impl Into<String>) -> Self {
        Self { queue: Some(name.into()), ..self }
    }

    /// 0 (runs first) to 9.
    #[must_use]
    pub fn priority(self, priority: i16) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// How often each run is tried in all, 1 to 100.
    #[must_use]
    pub fn max_attempts(self, attempts: i16) -> Self {
        Self { max_attempts: Some(attempts), ..self }
    }

    /// How long to wait before each further attempt: `{"strategy": "fixed", "base": "30s"}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the key at fault, see [`RetryPolicy::from_json`](crate::retry::RetryPolicy::from_json).
    pub fn retry(self, policy: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = retry_text(&self.subject(), policy)?;
        Ok(Self { retry: Some(text), ..self })
    }

    /// How long one attempt may take; `None` is without limit.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into().map_or(Timeout::None, Timeout::Of), ..self }
    }

    /// What becomes of a fire time while `max_running` of its runs are open.
    #[must_use]
    pub fn overlap(self, overlap: Overlap) -> Self {
        Self { overlap, ..self }
    }

    /// How many open runs `overlap` counts as too many: 1 to 100.
    #[must_use]
    pub fn max_running(self, runs: i32) -> Self {
        Self { max_running: Some(runs), ..self }
    }

    /// What becomes of fire times that passed while no worker could act.
    #[must_use]
    pub fn misfire(self, misfire: Misfire) -> Self {
        Self { misfire, ..self }
    }

    /// A run not started so long after it was due ends as cancelled.
    #[must_use]
    pub fn start_deadline(self, limit: Duration) -> Self {
        Self { start_deadline: Some(limit), ..self }
    }

    /// Each run is put off by up to this much; how much follows from the schedule and the fire time.
    #[must_use]
    pub fn jitter(self, most: Duration) -> Self {
        Self { jitter: Some(most), ..self }
    }

    /// Pauses it after so many failures in a row; at least 1.
    #[must_use]
    pub fn pause_after_failures(self, failures: i32) -> Self {
        Self { pause_after_failures: Some(failures), ..self }
    }

    /// Runs with this key share a limit of how many run at a time; 1 to 256 bytes.
    #[must_use]
    pub fn concurrency_key(self, key: impl Into<String>) -> Self {
        Self { concurrency_key: Some(key.into()), ..self }
    }

    /// Where the first fire time of a fixed delay or rate lies, without `starts_at`.
    #[must_use]
    pub fn first_fire(self, first: FirstFire) -> Self {
        Self { first_fire: first, ..self }
    }

    /// Nothing fires before it.
    #[must_use]
    pub fn starts_at(self, at: DateTime<Utc>) -> Self {
        Self { starts_at: Some(at), ..self }
    }

    /// Nothing fires at or after it.
    #[must_use]
    pub fn ends_at(self, at: DateTime<Utc>) -> Self {
        Self { ends_at: Some(at), ..self }
    }

    /// Done after so many runs; at least 1.
    #[must_use]
    pub fn max_fires(self, runs: i64) -> Self {
        Self { max_fires: Some(runs), ..self }
    }

    /// Only workers with these labels run it: `label=value[,label=value]`.
    #[must_use]
    pub fn target(self, selector: impl Into<String>) -> Self {
        Self { target: Some(selector.into()), ..self }
    }

    /// What it is for; at most 8192 bytes.
    #[must_use]
    pub fn description(self, text: impl Into<String>) -> Self {
        Self { description: Some(text.into()), ..self }
    }

    /// Who is asked when it fails.
    #[must_use]
    pub fn owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(owner.into()), ..self }
    }

    /// Where it says what to do when it fails; at most 2048 bytes.
    #[must_use]
    pub fn runbook_url(self, url: impl Into<String>) -> Self {
        Self { runbook_url: Some(url.into()), ..self }
    }

    /// Words to filter by; at most 100 and 8192 bytes.
    #[must_use]
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), ..self }
    }

    /// The program or file that its definition comes from.
    #[must_use]
    pub fn managed_by(self, name: impl Into<String>) -> Self {
        Self { managed_by: Some(name.into()), ..self }
    }

    /// Rises with the declaring program: an upsert with a lower one than the schedule's changes nothing.
    #[must_use]
    pub fn declared_version(self, version: i64) -> Self {
        Self { declared_version: Some(version), ..self }
    }
}

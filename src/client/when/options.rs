//! What may be said of a schedule beside its name, its times and its handler.

/// Writes the options once for every type that has a [`When`](super::When): `options!(When)` for itself,
/// `options!(NewSchedule.when)` for one that holds it in a field.
macro_rules! options {
    ($type:ident $(.$when:ident)?) => {
        impl $type {
            /// The zone of the wall clock that `cron` goes by: `UTC` or an Area/Location name.
            #[must_use]
            pub fn timezone(mut self, zone: impl Into<String>) -> Self {
                self$(.$when)?.timezone = zone.into();
                self
            }

            /// What a clock change does to a fixed time of day.
            #[must_use]
            pub fn dst(mut self, dst: Dst) -> Self {
                self$(.$when)?.dst = dst;
                self
            }

            /// The queue of its runs.
            #[must_use]
            pub fn queue(mut self, name: impl Into<String>) -> Self {
                self$(.$when)?.queue = Some(name.into());
                self
            }

            /// 0 (runs first) to 9.
            #[must_use]
            pub fn priority(mut self, priority: i16) -> Self {
                self$(.$when)?.priority = Some(priority);
                self
            }

            /// How often each run is tried in all, 1 to 100.
            #[must_use]
            pub fn max_attempts(mut self, attempts: i16) -> Self {
                self$(.$when)?.max_attempts = Some(attempts);
                self
            }

            /// How long one attempt may take; `None` is without limit.
            #[must_use]
            pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
                self$(.$when)?.timeout = timeout.into().map_or(Timeout::None, Timeout::Of);
                self
            }

            /// What becomes of a fire time while `max_running` of its runs are open.
            #[must_use]
            pub fn overlap(mut self, overlap: Overlap) -> Self {
                self$(.$when)?.overlap = overlap;
                self
            }

            /// How many open runs `overlap` counts as too many: 1 to 100.
            #[must_use]
            pub fn max_running(mut self, runs: i32) -> Self {
                self$(.$when)?.max_running = Some(runs);
                self
            }

            /// What becomes of fire times that passed while no worker could act.
            #[must_use]
            pub fn misfire(mut self, misfire: Misfire) -> Self {
                self$(.$when)?.misfire = misfire;
                self
            }

            /// A run not started so long after it was due ends as cancelled.
            #[must_use]
            pub fn start_deadline(mut self, limit: Duration) -> Self {
                self$(.$when)?.start_deadline = Some(limit);
                self
            }

            /// Each run is put off by up to this much; how much follows from the schedule and the fire time.
            #[must_use]
            pub fn jitter(mut self, most: Duration) -> Self {
                self$(.$when)?.jitter = Some(most);
                self
            }

            /// Pauses it after so many failures in a row; at least 1.
            #[must_use]
            pub fn pause_after_failures(mut self, failures: i32) -> Self {
                self$(.$when)?.pause_after_failures = Some(failures);
                self
            }

            /// Runs with this key share a limit of how many run at a time; 1 to 256 bytes.
            #[must_use]
            pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
                self$(.$when)?.concurrency_key = Some(key.into());
                self
            }

            /// Where the first fire time of a fixed delay or rate lies, without `starts_at`.
            #[must_use]
            pub fn first_fire(mut self, first: FirstFire) -> Self {
                self$(.$when)?.first_fire = first;
                self
            }

            /// Nothing fires before it.
            #[must_use]
            pub fn starts_at(mut self, at: DateTime<Utc>) -> Self {
                self$(.$when)?.starts_at = Some(Moment::At(at));
                self
            }

            /// Nothing fires before so long after it is first declared. Later declarations keep that instant.
            #[must_use]
            pub fn starts_in(mut self, delay: Duration) -> Self {
                self$(.$when)?.starts_at = Some(Moment::In(delay));
                self
            }

            /// Nothing fires at or after it.
            #[must_use]
            pub fn ends_at(mut self, at: DateTime<Utc>) -> Self {
                self$(.$when)?.ends_at = Some(at);
                self
            }

            /// Done after so many runs; at least 1.
            #[must_use]
            pub fn max_fires(mut self, runs: i64) -> Self {
                self$(.$when)?.max_fires = Some(runs);
                self
            }

            /// Of a fixed delay: restarts its run on any end, after a pause that grows from the delay to 5 minutes.
            ///
            /// Without a timeout, and with one attempt a run: the schedule restarts it. A run that lived for a minute
            /// has the shortest pause again. To stop it, pause the schedule and cancel its runs, or delete it.
            #[must_use]
            pub fn keep_alive(mut self) -> Self {
                self$(.$when)?.keep_alive = true;
                self
            }

            /// How many runs of it are open at once, each restarted by itself: 1 to 100, with `keep_alive`.
            #[must_use]
            pub fn copies(mut self, runs: i32) -> Self {
                self$(.$when)?.copies = Some(runs);
                self
            }

            /// Only workers with these labels run it: `label=value[,label=value]`, or `all`, or `all:label=value`.
            ///
            /// With `all` each fire time is one run on each live worker that matches, and `overlap` counts what each
            /// has open by itself.
            #[must_use]
            pub fn target(mut self, selector: impl Into<String>) -> Self {
                self$(.$when)?.target = Some(selector.into());
                self
            }

            /// What it is for; at most 8192 bytes.
            #[must_use]
            pub fn description(mut self, text: impl Into<String>) -> Self {
                self$(.$when)?.description = Some(text.into());
                self
            }

            /// Who is asked when it fails.
            #[must_use]
            pub fn owner(mut self, owner: impl Into<String>) -> Self {
                self$(.$when)?.owner = Some(owner.into());
                self
            }

            /// Where it says what to do when it fails; at most 2048 bytes.
            #[must_use]
            pub fn runbook_url(mut self, url: impl Into<String>) -> Self {
                self$(.$when)?.runbook_url = Some(url.into());
                self
            }

            /// The end of each of its runs is posted there as JSON; at most 2048 bytes.
            #[must_use]
            pub fn callback_url(mut self, url: impl Into<String>) -> Self {
                self$(.$when)?.callback_url = Some(url.into());
                self
            }

            /// The end of each of its runs is told on this channel by NOTIFY; at most 63 bytes.
            #[must_use]
            pub fn notify_channel(mut self, channel: impl Into<String>) -> Self {
                self$(.$when)?.notify_channel = Some(channel.into());
                self
            }

            /// Words to filter by; at most 100 and 8192 bytes.
            #[must_use]
            pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
                self$(.$when)?.tags = tags.into_iter().map(Into::into).collect();
                self
            }
        }
    };
}
pub(in crate::client) use options;

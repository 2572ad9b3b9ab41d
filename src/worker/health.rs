//! Whether a worker can do its work now: for the endpoints `/healthz` and `/readyz` of whoever serves them.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use super::shared::{Phase, Shared, locked};

/// Heartbeats come once a second; without one for so long the database counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A poller that has nothing to do looks every 10 s, and one look may take 10 s.
const POLL_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Tells whether a worker is ready, from before its start to after its end. Cheap to clone.
///
/// It asks nobody: it tells what the worker's own loops saw last, so it may be asked as often as one likes.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::Worker;
///
/// async fn report() {}
///
/// let builder = Worker::builder(pool).handler("report", report);
/// let health = builder.health(); // for the state of your own web server
/// let worker = builder.start().await?;
/// let readiness = health.ready();
/// println!("{}\n{readiness}", if readiness.is_ready() { 200 } else { 503 });
/// for check in readiness.checks.iter().filter(|check| !check.ok) {
///     eprintln!("{} fails: {}", check.name, check.detail);
/// }
/// # worker.join().await
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Health {
    worker: Arc<OnceLock<Weak<Shared>>>,
}

/// What a worker's readiness is made of.
///
/// ```
/// use watchbell::worker::{Check, Health};
///
/// let readiness = Health::default().ready(); // of no worker
/// assert!(!readiness.is_ready());
/// let Check { name, ok, detail, .. } = &readiness.checks[0];
/// assert_eq!((*name, *ok, detail.as_str()), ("worker", false, "starting"));
/// assert_eq!(readiness.to_string(), "FAIL worker: starting\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// `database`, `schema` and `polling`, or only `worker` before its start and after its end.
    pub checks: Vec<Check>,
}

/// One thing that must be well.
///
/// ```
/// use watchbell::worker::Check;
///
/// fn alarm(check: &Check) -> Option<String> {
///     (!check.ok).then(|| format!("{}: {}", check.name, check.detail))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What was seen, for people.
    pub detail: String,
}

impl Check {
    fn of(name: &'static str, seen: Result<String, String>) -> Self {
        let ok = seen.is_ok();
        let (Ok(detail) | Err(detail)) = seen;
        Self { name, ok, detail }
    }
}

impl Readiness {
    /// Whether all checks are well.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// One line for each check.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { name, ok, detail } in &self.checks {
            writeln!(f, "{} {name}: {detail}", if *ok { "ok  " } else { "FAIL" })?;
        }
        Ok(())
    }
}

impl Health {
    /// The worker starts.
    pub(super) fn watch(&self, shared: &Arc<Shared>) {
        let _ = self.worker.set(Arc::downgrade(shared));
    }

    /// Whether it has its database, knows the schema, and polls. Draining it is not ready.
    pub fn ready(&self) -> Readiness {
        let checks = match self.worker.get().map(Weak::upgrade) {
            None => vec![Check::of("worker", Err("starting".to_owned()))],
            Some(Some(shared)) if shared.phase() < Phase::Over => {
                vec![
                    Check::of("database", database(&shared)),
                    Check::of("schema", schema(&shared)),
                    Check::of("polling", polling(&shared)),
                ]
            }
            Some(_) => vec![Check::of("worker", Err("stopped".to_owned()))],
        };
        Readiness { checks }
    }
}

fn database(shared: &Shared) -> Result<String, String> {
    let beat = *locked(&shared.beat);
    let silent = beat.last.elapsed();
    let said = format!("last heartbeat {:.1} s ago", silent.as_secs_f64());
    match beat.unbroken_since {
        None if locked(&shared.heard).is_none() => Err("no heartbeat was answered yet".to_owned()),
        None => Err(format!("{said}; trying again")),
        Some(_) if silent > SILENCE_MAX => Err(format!("{said}, more than {} s", SILENCE_MAX.as_secs())),
        Some(_) => Ok(said),
    }
}

fn schema(shared: &Shared) -> Result<String, String> {
    match locked(&shared.schema_problem).clone() {
        Some(problem) => Err(problem),
        None => Ok(format!("fits this build, which brings version {}", crate::migrate::VERSION)),
    }
}

fn polling(shared: &Shared) -> Result<String, String> {
    let polling = locked(&shared.polling).clone();
    let silent = polling.last.elapsed();
    let said = format!("last look {:.1} s ago", silent.as_secs_f64());
    match polling.problem {
        _ if shared.phase() > Phase::Running => Err("draining: it claims nothing more".to_owned()),
        Some(problem) => Err(format!("{said}; {problem}")),
        None if silent > POLL_SILENCE_MAX => Err(format!("{said}, more than {} s", POLL_SILENCE_MAX.as_secs())),
        None => Ok(said),
    }
}

//! A worker is put together: handlers, schedules, options.

use std::{future::Future, time::Duration};

use sqlx::PgPool;

use super::{
    Config, Handle, Health, RowEvent, RunEvent, Worker,
    declare::Jobs,
    hooks::{Hooks, Occasion},
};
use crate::{
    Result,
    client::{NewSchedule, NewWatch, Watch, When},
    handler::{Around, Context, HandlerOptions, IntoHandler, IntoOutcome, IntoTransactionalHandler, Next, Registry},
};

/// Puts a [`Worker`] together.
///
/// ```no_run
/// use watchbell::{Worker, cron, fixed_delay, minutes};
///
/// async fn report() {}
/// async fn sync() {}
///
/// # async fn start(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// Worker::builder(pool)
///     .schedule("nightly", cron("0 2 * * *").timezone("Europe/Paris"), report)
///     .schedule("sync", fixed_delay(minutes(5)), sync)
///     .run(std::future::pending())
///     .await
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(super) pool: PgPool,
    pub(super) registry: Registry,
    pub(super) config: Config,
    pub(super) jobs: Jobs,
    pub(super) around: Around,
    pub(super) hooks: Hooks,
    pub(super) health: Health,
}

/// What a test runs by hand: all but the hooks.
#[cfg(feature = "testing")]
pub(crate) struct Parts {
    pub(crate) pool: PgPool,
    pub(crate) registry: Registry,
    pub(crate) config: Config,
    pub(crate) jobs: Jobs,
    pub(crate) around: Around,
}

/// Handlers and schedules.
impl Builder {
    #[cfg(feature = "testing")]
    pub(crate) fn into_parts(self) -> Parts {
        let Self { pool, registry, config, jobs, around, hooks: _, health: _ } = self;
        Parts { pool, registry, config, jobs, around }
    }

    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            registry: Registry::new(),
            config: Config::default(),
            jobs: Jobs::default(),
            around: Around::default(),
            hooks: Hooks::default(),
            health: Health::default(),
        }
    }

    /// Adds a handler: an async function of payload and [`crate::Context`], or a [`crate::Handler`].
    pub fn handler<Args>(mut self, name: impl Into<String>, handler: impl IntoHandler<Args>) -> Self {
        self.registry = self.registry.handler(name, handler);
        self
    }

    /// Adds a handler that gets the transaction in which its end is recorded: its writes and the run's end
    /// happen together, exactly once.
    pub fn transactional<Args>(
        mut self,
        name: impl Into<String>,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        self.registry = self.registry.transactional(name, handler);
        self
    }

    /// Adds a handler with options for all of its runs here: how many at once, how long, when again.
    pub fn handler_with<Args>(
        mut self,
        name: impl Into<String>,
        handler: impl IntoHandler<Args>,
        options: HandlerOptions,
    ) -> Self {
        self.registry = self.registry.handler_with(name, handler, options);
        self
    }

    /// Sets the options of a handler of any kind by its name; a scheduled job's handler has the job's name.
    pub fn options(mut self, name: impl Into<String>, options: HandlerOptions) -> Self {
        self.registry = self.registry.options(name, options);
        self
    }

    /// Adds a value for handlers that ask for a [`State`](crate::State) of its type; one of each type.
    ///
    /// It is cloned for each attempt: a pool, an `Arc`, a client. A handler that asks for a type that was not
    /// given stops the start.
    ///
    /// ```no_run
    /// use watchbell::{State, Worker, cron};
    ///
    /// #[derive(Clone)]
    /// struct Mailer { from: String }
    ///
    /// async fn digest(State(mailer): State<Mailer>) {
    ///     println!("from {}", mailer.from);
    /// }
    ///
    /// # fn builder(pool: sqlx::PgPool) -> watchbell::worker::Builder {
    /// Worker::builder(pool)
    ///     .state(Mailer { from: "shop@example.com".to_owned() })
    ///     .schedule("digest", cron("@daily"), digest)
    /// # }
    /// ```
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.registry = self.registry.state(value);
        self
    }

    /// Adds all that [`submit!`](crate::submit) registered anywhere in the program, by file and line.
    #[cfg(feature = "inventory")]
    pub fn plugins(self) -> Self {
        super::Plugin::add_all(self)
    }

    /// Sets all handlers and states at once, in place of those added before.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Adds a job: a handler, and the schedule of the same name that starts it.
    ///
    /// The schedule is declared when the worker starts, by every replica, in one transaction with all others:
    /// what is the same already stays untouched, plan and all. A bad one stops the start with its name and
    /// the reason, and so does a name that somebody else manages (see [`Builder::owner`]).
    pub fn schedule<Args>(self, name: impl Into<String>, when: When, handler: impl IntoHandler<Args>) -> Self {
        let name = name.into();
        self.handler(name.clone(), handler).declare(NewSchedule::new(name.clone(), when, name))
    }

    /// As [`Builder::schedule`], with a handler that gets the transaction in which its end is recorded.
    pub fn schedule_transactional<Args>(
        self,
        name: impl Into<String>,
        when: When,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        let name = name.into();
        self.transactional(name.clone(), handler).declare(NewSchedule::new(name.clone(), when, name))
    }

    /// Adds a schedule for a handler of this worker that has a name of its own; several may share it.
    ///
    /// ```no_run
    /// use watchbell::client::NewSchedule;
    /// use watchbell::{Worker, cron};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Region { region: String }
    ///
    /// async fn report(of: Region) {}
    ///
    /// # fn builder(pool: sqlx::PgPool) -> watchbell::worker::Builder {
    /// let report_of = |region: &str| cron("@daily").payload(&Region { region: region.to_owned() });
    /// Worker::builder(pool)
    ///     .handler("report", report)
    ///     .declare(NewSchedule::new("report-eu", report_of("eu"), "report"))
    ///     .declare(NewSchedule::new("report-us", report_of("us"), "report"))
    /// # }
    /// ```
    pub fn declare(mut self, schedule: NewSchedule) -> Self {
        self.jobs.declaration.push(schedule);
        self
    }

    /// Adds a handler, and the watch of the same name whose rows it gets; declared as [`Builder::schedule`] does.
    ///
    /// ```no_run
    /// use watchbell::client::{NewWatch, Step};
    /// use watchbell::{Watch, Worker};
    ///
    /// async fn init_host() {}
    /// async fn download() {}
    /// async fn train() {}
    ///
    /// # fn builder(pool: sqlx::PgPool) -> watchbell::worker::Builder {
    /// let models = Watch::table("public.models")
    ///     .step(Step::from("pending").via("downloading").to("downloaded").handler("download"))
    ///     .step(Step::from("downloaded").via("training").to("normal").handler("train"));
    /// Worker::builder(pool)
    ///     .watch("hosts", Watch::table("public.hosts").via("initialising"), init_host)
    ///     .handler("download", download)
    ///     .handler("train", train)
    ///     .declare_watch(NewWatch::new("models", models))
    /// # }
    /// ```
    pub fn watch<Args>(self, name: impl Into<String>, watch: Watch, handler: impl IntoHandler<Args>) -> Self {
        let name = name.into();
        self.handler(name.clone(), handler).declare_watch(NewWatch::new(name.clone(), watch.handler(name)))
    }

    /// As [`Builder::watch`], with a handler that gets the transaction in which its rows are moved on.
    pub fn watch_transactional<Args>(
        self,
        name: impl Into<String>,
        watch: Watch,
        handler: impl IntoTransactionalHandler<Args>,
    ) -> Self {
        let name = name.into();
        self.transactional(name.clone(), handler).declare_watch(NewWatch::new(name.clone(), watch.handler(name)))
    }

    /// Adds a watch for handlers of this worker that have names of their own.
    pub fn declare_watch(mut self, watch: NewWatch) -> Self {
        self.jobs.declaration.push_watch(watch);
        self
    }

    /// The application's name, which its schedules and watches carry as `managed_by`; `app` by default, at most 256 bytes.
    ///
    /// Give each application on a database its own: one does not touch another's schedules. Neither does it
    /// touch one that a person wrote by SQL, unless `managed_by` says its name or [`Builder::adopt`] allows it.
    /// The owner's schedules that are no longer declared are named in a warning at the start. Programs that
    /// name no owner are one owner: where their schedules have the same names they overwrite each other, and
    /// all that shows it is a warning at each start that changes one.
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.jobs.declaration.set_owner(name.into());
        self.jobs.owned = true;
        self
    }

    /// The release that declares the schedules: the higher one wins, whichever starts last. 0 by default.
    ///
    /// Raise it with each release that changes schedules, so that replicas of two releases side by side do
    /// not change them to and fro.
    pub fn declared_version(mut self, version: i64) -> Self {
        self.jobs.declaration = self.jobs.declaration.version(version);
        self
    }

    /// Takes over declared schedules that somebody else manages, instead of refusing to start.
    ///
    /// For one release: with two applications that both adopt, a schedule belongs to the last one started.
    pub fn adopt(mut self, adopt: bool) -> Self {
        self.jobs.declaration = self.jobs.declaration.adopt(adopt);
        self
    }

    /// Deletes the owner's schedules that this release no longer declares; their runs stay.
    ///
    /// Wants an [`Builder::owner`]. What a higher [`Builder::declared_version`] declared is left alone.
    pub fn remove_undeclared(mut self, remove: bool) -> Self {
        self.jobs.declaration = self.jobs.declaration.remove_undeclared(remove);
        self
    }
}

/// What happens around handlers.
impl Builder {
    /// Puts code around every handler: it runs before, after, or instead of it. The first added is outermost.
    ///
    /// It sees the [`Outcome`](crate::Outcome) and may answer another. The run's timeout and grace are for
    /// all of it together. A panic passes through; hooks hear of it. Around a transactional handler it runs
    /// inside the transaction, which is open before the first and committed, if the outcome is `Done`, after
    /// the last: one that does not call `next` and answers `Done` records that end.
    ///
    /// ```no_run
    /// # fn builder(worker: watchbell::worker::Builder) -> watchbell::worker::Builder {
    /// worker.around(|ctx, next| async move {
    ///     let began = std::time::Instant::now();
    ///     let outcome = next.run(ctx.clone()).await;
    ///     println!("{} {outcome:?} in {:?}", ctx.handler(), began.elapsed());
    ///     outcome
    /// })
    /// # }
    /// ```
    pub fn around<F, Fut>(mut self, code: F) -> Self
    where
        F: Fn(Context, Next) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoOutcome,
    {
        self.around = self.around.and(code);
        self
    }

    /// Is told when a handler is about to be called.
    ///
    /// Hooks are told after the fact, apart from the runs, one event after the other: they delay nothing, and
    /// a panic in one is logged. Each call may take 10 s. When 10,000 events wait, more are dropped.
    pub fn on_start<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook(Occasion::Start, hook)
    }

    /// Is told when the database has accepted a run's end: `normal`, `failed` or `cancelled`.
    pub fn on_finish<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook(Occasion::Finish, hook)
    }

    /// Is told when a run goes back to be run again: after an error, a snooze, or an interruption.
    ///
    /// A run that goes back to be run at once may start again, on this worker too, before this is told.
    pub fn on_retry<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook(Occasion::Retry, hook)
    }

    /// Is told when this worker lost a run it was executing: its lease, or the end it wrote was refused.
    pub fn on_lost<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook(Occasion::Lost, hook)
    }

    /// Is told when the database has accepted that an attempt at a row of a watch failed, the last one or not.
    ///
    /// In both modes, for this worker's own attempts. A row that succeeds or snoozes is not told, nor one that its
    /// owner moved or deleted meanwhile.
    pub fn on_row_failed<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(RowEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.add_of_rows(hook);
        self
    }

    fn hook<F, Fut>(mut self, occasion: Occasion, hook: F) -> Self
    where
        F: Fn(RunEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.add(occasion, hook);
        self
    }
}

/// Options, and the start.
impl Builder {
    /// Sets all options at once.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How many runs at once, 1 to 10,000; 100 by default.
    pub fn slots(mut self, slots: usize) -> Self {
        self.config.slots = slots;
        self
    }

    /// Which queues to serve; all by default.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.config.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a label for runs with a `target`.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.config.labels.push(format!("{key}={value}"));
        self
    }

    /// How many bytes are kept of what one attempt prints, half of them from its start, half from its end; 4 KiB
    /// to 4 MiB, 256 KiB by default.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.config.output_limit = bytes;
        self
    }

    /// How long to wait for runs to end when told to stop; 3 minutes by default.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// Shows the values of the whole database to the recorder of [`metrics`](crate::metrics) too, not only the
    /// worker's own; off by default. Install the recorder first.
    ///
    /// ```no_run
    /// # fn builder(worker: watchbell::worker::Builder) -> watchbell::worker::Builder {
    /// worker.cluster_metrics(true)
    /// # }
    /// ```
    pub fn cluster_metrics(mut self, show: bool) -> Self {
        self.config.cluster_metrics = show;
        self
    }

    /// Tells whether the worker is ready, from now until after its end.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Works until `shutdown` completes, then drains: stops claiming, waits up to the drain timeout for runs
    /// to end, asks the rest to stop, gives back what has not ended.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a bad option, handler or schedule,
    /// [`Error::Conflict`](crate::Error::Conflict) for a schedule of another owner,
    /// [`Error::Schema`](crate::Error::Schema) when the database must be migrated,
    /// [`Error::Unreachable`](crate::Error::Unreachable) when it cannot be reached at the start. Later the
    /// worker reconnects for ever.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        self.run_with(shutdown, std::future::pending()).await
    }

    /// Like [`Builder::run`]; when `force` completes during the drain, handlers are stopped at once.
    pub async fn run_with(
        self,
        shutdown: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        Worker::open(self).await?.work(shutdown, force).await
    }

    /// Starts it in a task of its own and answers a handle once it is registered.
    ///
    /// ```no_run
    /// # async fn start(builder: watchbell::worker::Builder) -> watchbell::Result<()> {
    /// let worker = builder.start().await?;
    /// println!("worker {}", worker.worker_id());
    /// worker.shutdown();
    /// worker.join().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Builder::run`], all of them before it answers.
    pub async fn start(self) -> Result<Handle> {
        Handle::start(self).await
    }
}

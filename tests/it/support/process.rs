//! Workers in processes of their own, to be killed, stopped and continued.
//!
//! The test binary runs itself, told by a variable to do nothing but [`worker_in_its_own_process`]. Such a
//! process ends with its test: by its pid when the test ends, and by itself when its standard input does.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use watchbell::worker::Config;
use watchbell::{Context, HandlerResult, Tx, Worker, once, seconds};

use super::journal::{Journal, note};
use super::row_handlers;

const ORDERS: &str = "WATCHBELL_TEST_WORKER";

/// What the worker in the process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    pub url: String,
    pub journal: PathBuf,
    pub name: String,
    pub labels: Vec<String>,
    pub slots: usize,
    pub lease: Duration,
    /// Short, so that a test need not wait until its workers may judge one another.
    pub settle: Duration,
    pub drain_timeout: Duration,
    pub grace: Duration,
    pub watch_transaction: Duration,
    /// Schedules that it declares at its start; each fires once, so many seconds after its first declaration.
    pub declares: Vec<(String, u64)>,
}

impl Orders {
    pub fn new(url: &str, journal: &Journal, name: &str) -> Self {
        Self {
            url: url.to_owned(),
            journal: journal.path().to_owned(),
            name: name.to_owned(),
            labels: vec![],
            slots: 20,
            lease: Duration::from_secs(15),
            settle: Duration::from_millis(500),
            drain_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            watch_transaction: Duration::from_secs(5),
            declares: vec![],
        }
    }

    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.name.clone_from(&self.name);
        config.labels.clone_from(&self.labels);
        config.slots = self.slots;
        config.lease = self.lease;
        config.settle = self.settle;
        config.drain_timeout = self.drain_timeout;
        config.grace = self.grace;
        config.watch_transaction = self.watch_transaction;
        config
    }

    /// The worker itself, in whichever process: `work` notes its start and end; `fail` its failure, so many times;
    /// `crash` aborts its process; `effect` writes a row in its run's transaction. [`row_handlers`] are for watches.
    pub fn worker(&self) -> watchbell::worker::Builder {
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&self.url).unwrap();
        let (work, crash, effect) = (self.journal.clone(), self.journal.clone(), self.journal.clone());
        let host = self.journal.clone();
        let (fail, declared) = (self.journal.clone(), self.journal.clone());
        let worker = Worker::builder(pool.clone()).config(self.config());
        let worker = self.declares.iter().fold(worker, |worker, (name, after_s)| {
            let journal = declared.clone();
            worker.schedule(name, once(seconds(*after_s)), move |ctx: Context| {
                note(&journal, &ctx, "start");
                std::future::ready(HandlerResult::Ok(()))
            })
        });
        let worker = worker
            .handler("fail", move |task: Flaky, ctx: Context| {
                let journal = fail.clone();
                async move {
                    note(&journal, &ctx, "start");
                    tokio::time::sleep(Duration::from_millis(task.ms)).await;
                    if ctx.attempt() <= task.times {
                        note(&journal, &ctx, "fail");
                        return Err("not yet".into());
                    }
                    note(&journal, &ctx, "end");
                    HandlerResult::Ok(())
                }
            })
            .handler("work", move |task: Task, ctx: Context| {
                let journal = work.clone();
                async move {
                    note(&journal, &ctx, "start");
                    tokio::select! {
                        () = tokio::time::sleep(task.takes(&ctx)) => note(&journal, &ctx, "end"),
                        () = ctx.cancelled() => {
                            note(&journal, &ctx, "stop");
                            return Err("asked to stop".into());
                        }
                    }
                    HandlerResult::Ok(())
                }
            })
            .handler("host", move |task: Task, ctx: Context| {
                let journal = host.clone();
                async move {
                    note(&journal, &ctx, "start");
                    tokio::select! {
                        () = tokio::time::sleep(task.takes(&ctx)) => HandlerResult::Ok(()),
                        () = ctx.cancelled() => {
                            note(&journal, &ctx, "stop");
                            Err("asked to stop".into())
                        }
                    }
                }
            })
            .handler("crash", move |ctx: Context| {
                let journal = crash.clone();
                async move {
                    note(&journal, &ctx, "start");
                    die();
                }
            })
            .transactional("effect", move |mut tx: Tx, task: Task, ctx: Context| {
                let journal = effect.clone();
                async move {
                    note(&journal, &ctx, "start");
                    let insert = sqlx::query("insert into effects (run_id, attempt) values ($1, $2)");
                    insert.bind(ctx.run_id().0).bind(ctx.attempt()).execute(&mut *tx).await?;
                    tokio::time::sleep(task.takes(&ctx)).await;
                    HandlerResult::Ok(())
                }
            });
        row_handlers::add(worker, &pool)
    }
}

/// The payload of `work` and `effect`: how long the first attempt takes, and every other.
#[derive(Deserialize)]
struct Task {
    ms: u64,
    #[serde(default)]
    again_ms: u64,
}

/// The payload of `fail`: how long an attempt takes, and how many of them fail.
#[derive(Deserialize)]
struct Flaky {
    ms: u64,
    times: i32,
}

impl Task {
    fn takes(&self, ctx: &Context) -> Duration {
        Duration::from_millis(if ctx.attempt() == 1 { self.ms } else { self.again_ms })
    }
}

/// Typed as a handler's end, which it never reaches.
fn die() {
    std::process::abort()
}

/// A worker in a process of its own; killed when this is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(orders: &Orders) -> Self {
        Self::start_with(orders, &[])
    }

    /// With variables of the environment of its own.
    pub fn start_with(orders: &Orders, variables: &[(&str, &OsStr)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "support::process::worker_in_its_own_process", "--nocapture"]);
        command.env(ORDERS, serde_json::to_string(orders).unwrap());
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Self { child: command.spawn().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// As by `kill -9`: no destructor runs, no connection is closed in good order.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn worker_in_its_own_process() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    // the test that started this process holds the other end: with it this process ends
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::abort();
    });
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let shutdown = async move { terminate.recv().await.unwrap() };
        let force = async move { interrupt.recv().await.unwrap() };
        orders.worker().run_with(shutdown, force).await
    });
    ended.unwrap();
}

//! Commands as the handler `shell` runs them, and what is left of them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::PgPool;
use watchbell::handler::shell::Shell;

use super::ask;
use super::wait::until;

/// Every program, and lines for `sh`.
pub fn anything() -> Shell {
    Shell::new().any_program().commands("sh")
}

/// Inserts a run of `shell` with one attempt; `more` are further columns and their values.
pub async fn command(pool: &PgPool, payload: &Value, more: &[(&str, &str)]) -> i64 {
    let payload = format!("'{}'", payload.to_string().replace('\'', "''"));
    let mut columns = vec![("payload", payload.as_str())];
    if !more.iter().any(|(column, _)| *column == "max_attempts") {
        columns.push(("max_attempts", "1"));
    }
    columns.extend_from_slice(more);
    ask::insert(pool, "shell", &columns).await
}

/// Everything that a run wrote to one stream, or to all (`%`).
pub async fn printed(pool: &PgPool, run: i64, stream: &str) -> Vec<u8> {
    let query = "select coalesce(string_agg(bytes, '' order by attempt, seq), '') from watchbell.run_output \
                 where run_id = $1 and stream like $2";
    sqlx::query_scalar(query).bind(run).bind(stream).fetch_one(pool).await.unwrap()
}

pub async fn printed_text(pool: &PgPool, run: i64, stream: &str) -> String {
    String::from_utf8(printed(pool, run, stream).await).unwrap()
}

/// A directory of one test, that every account may write into; removed with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("watchbell-shell-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&dir, open).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The process ids that commands wrote into this file, once there are so many.
    pub async fn pids(&self, file: &str, count: usize) -> Vec<i32> {
        let path = self.0.join(file);
        let look = async || {
            let text = std::fs::read_to_string(&path).ok()?;
            let pids: Vec<i32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
            (pids.len() >= count).then_some(pids)
        };
        until(&format!("{count} processes in {file}"), Duration::from_secs(20), look).await.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a process still runs; one that has ended and was not waited for does not.
pub fn is_alive(pid: i32) -> bool {
    let is_zombie = |stat: &str| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !is_zombie(&stat),
        Err(_) => kill(Pid::from_raw(pid), None).is_ok(),
    }
}

/// Waits until none of them runs.
pub async fn until_gone(pids: &[i32], limit: Duration) -> Duration {
    let look = async || (!pids.iter().any(|&pid| is_alive(pid))).then_some(());
    until(&format!("processes {pids:?} are gone"), limit, look).await.1
}

/// The program `watchbell` as a worker in a process of its own; killed when this is dropped.
pub struct Program(Child);

impl Program {
    /// `watchbell worker run` with these options and nothing of the test's environment but PATH.
    pub fn worker(url: &str, options: &[&str]) -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_watchbell")), "warn", url, options)
    }

    /// The same, silent about runs that fail.
    pub fn quiet_worker(url: &str, options: &[&str]) -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_watchbell")), "error", url, options)
    }

    /// The same with these variables too; writes all that it can tell into this file.
    pub fn worker_telling(log: &Path, variables: &[(&str, &str)], url: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
        command.stderr(std::fs::File::create(log).unwrap());
        Self::start_with(command, variables, "trace", url, options)
    }

    /// The same from a copy of the program, as another account.
    pub fn worker_as(program: &Path, uid: u32, url: &str, options: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.uid(uid).gid(uid).current_dir("/");
        Self::start(command, "warn", url, options)
    }

    fn start(program: Command, level: &str, url: &str, options: &[&str]) -> Self {
        Self::start_with(program, &[], level, url, options)
    }

    fn start_with(mut program: Command, variables: &[(&str, &str)], level: &str, url: &str, options: &[&str]) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        program.env_clear().env("PATH", path).env("WATCHBELL_DATABASE_URL", url);
        program.envs(variables.iter().copied());
        program.args(["--log-level", level, "worker", "run", "--exit-with-parent"]).args(options);
        Self(program.stdin(Stdio::piped()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! The handler `shell`: a command in processes of its own.
//!
//! Its payload is `{"argv": ["/opt/jobs/dump", "orders"]}`, or `{"command": "a line for a shell"}` where the
//! worker's configuration allows that. Nothing is allowed that the configuration does not name: a row in a
//! database must never be enough to run code on a host.
//!
//! ```no_run
//! use watchbell::{Registry, handler::shell::{Limit, Shell}};
//!
//! let shell = Shell::new().program("cat").program("/opt/jobs/").limit(Limit::Cpu, 600);
//! shell.check()?; // says which program is not there
//! let registry = Registry::new().handler("shell", shell);
//! # let _ = registry;
//! # Ok::<(), watchbell::Error>(())
//! ```
//!
//! **Around the command**: an empty environment but for `PATH`, the variables that the configuration passes on,
//! those of the payload, and `WATCHBELL_RUN_ID`, `_ATTEMPT`, `_FENCE`, `_HANDLER`, `_SCHEDULE` and `_FIRE_AT`;
//! directory `/`, no standard input, umask 022, no core dumps, no new privileges.
//!
//! **For a watched row** the standard input is the row as JSON, an object of its columns, where the payload gives none.
//! In place of the run's number there are `WATCHBELL_WATCH`, `_STEP`, `_KEY` (of several columns a JSON list), `_ROW`
//! (the row again, if it is no longer than 100 KiB) and `_IDEMPOTENCY_KEY`, the same at each attempt.
//!
//! **Its end** is its exit code: one of `success_exit_codes` (0) is success, one of `fatal_exit_codes` ends the
//! run as failed, any other and every signal is a failed attempt.
//!
//! **Stopping**: at a timeout, cancel, shutdown or lost lease the command and all its descendants get SIGTERM,
//! and SIGKILL before the worker's grace is over. What a command leaves behind when it ends has a second to end
//! too. If the worker itself is killed, so is the command; if it is frozen, when its lease is over.
//!
//! **Output** goes to `run_output`, standard output and error apart and in the order in which they were read.
//!
//! **Secrets** ([`Shell::secrets`]) may be referred to in the values of `env` and in `stdin`, and are masked.

mod account;
mod exit;
mod guardian;
mod limits;
mod payload;
mod prepared;
mod printed;
mod process;
mod programs;
mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use self::{account::Account, payload::Payload, prepared::Prepared, programs::Programs};
use super::secret::{Mask, Secrets};
use super::{Context, Handler, HandlerError, Outcome, fatal};
use crate::{Error, Result};

pub use limits::Limit;
#[cfg(feature = "bin")]
pub(crate) use payload::umask;

/// Where programs are looked up that are given by name.
///
/// ```
/// use watchbell::handler::shell::{PATH, Shell};
///
/// let shell = Shell::new().path(format!("/opt/jobs:{PATH}")).program("nightly.sh");
/// # let _ = shell;
/// ```
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The handler `shell`, and what the worker's configuration lets it do: nothing until a program is allowed.
#[derive(Debug, Clone)]
pub struct Shell {
    argv: bool,
    line: Option<String>,
    programs: Programs,
    env: Vec<String>,
    path: String,
    cwd: PathBuf,
    accounts: Vec<String>,
    umask: u32,
    limits: BTreeMap<Limit, u64>,
    new_privileges: bool,
    secrets: Secrets,
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

impl Shell {
    /// Allows nothing yet.
    pub fn new() -> Self {
        Self {
            argv: true,
            line: None,
            programs: Programs::default(),
            env: vec![],
            path: PATH.to_owned(),
            cwd: PathBuf::from("/"),
            accounts: vec![],
            umask: 0o022,
            limits: BTreeMap::from([(Limit::Core, 0)]),
            new_privileges: false,
            secrets: Secrets::default(),
        }
    }

    /// Allows a program: an absolute path, a name that is looked up in PATH, or with a slash at the end a
    /// directory with all programs directly in it. An interpreter (`sh`, `python3`, `env`) can run anything.
    #[must_use]
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.programs.allowed.push(program.into());
        self
    }

    /// Allows every program there is.
    #[must_use]
    pub fn any_program(mut self) -> Self {
        self.programs.any = true;
        self
    }

    /// Allows payloads with `command`, a line for this shell (`sh`, `bash` or an absolute path), which must be
    /// an allowed program too: such a line can run anything.
    #[must_use]
    pub fn commands(mut self, shell: impl Into<String>) -> Self {
        self.line = Some(shell.into());
        self
    }

    /// Whether payloads with `argv` are allowed; they are by default.
    #[must_use]
    pub fn argv(mut self, allowed: bool) -> Self {
        self.argv = allowed;
        self
    }

    /// Passes this variable of the worker's environment on to commands.
    #[must_use]
    pub fn pass_env(mut self, name: impl Into<String>) -> Self {
        self.env.push(name.into());
        self
    }

    /// Sets `PATH` for commands, and for finding them; [`PATH`] by default.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets the directory that commands start in, where the payload names none; `/` by default.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = dir.into();
        self
    }

    /// Allows an account, `user` or `user:group`, which needs a worker that is root. The first is that of all
    /// commands whose payload names none.
    #[must_use]
    pub fn run_as(mut self, account: impl Into<String>) -> Self {
        self.accounts.push(account.into());
        self
    }

    /// Sets the mask of the permissions of new files; 0o022 by default.
    #[must_use]
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = umask & 0o777;
        self
    }

    /// Sets a limit on each process of a command. Payloads may set lower ones, and those that are not set here.
    #[must_use]
    pub fn limit(mut self, limit: Limit, value: u64) -> Self {
        self.limits.insert(limit, value);
        self
    }

    /// Lets commands gain privileges (sudo, setuid programs), on Linux; what such a process does, the worker
    /// may be unable to stop.
    #[must_use]
    pub fn allow_new_privileges(mut self) -> Self {
        self.new_privileges = true;
        self
    }

    /// The secrets that payloads may refer to, in the values of `env` and in `stdin`; none by default. In what the
    /// command prints, and in errors, `***` stands for those that its payload referred to.
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Says what of the configuration could not work on this machine.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no program or one that is not there, a shell that is not allowed, an account that
    /// does not exist or needs root, a variable that must not be passed on, a directory that is not there.
    pub fn check(&self) -> Result<()> {
        let invalid = |what: &str, problem: String| Err(Error::invalid(format!("shell: {what}"), problem));
        if !self.programs.any && self.programs.allowed.is_empty() {
            return invalid("programs", "none is allowed, so no command could be run".to_owned());
        }
        if let Some(problem) = self.programs.problem(&self.path) {
            return invalid("programs", problem);
        }
        if let Some(shell) = &self.line
            && self.programs.find(shell, &self.path).is_err()
        {
            let problem = format!("a command line can run anything, so {shell:?} must be among them");
            return invalid("programs", problem);
        }
        if !self.cwd.is_absolute() || !self.cwd.is_dir() {
            return invalid("cwd", format!("{} is no directory by an absolute path", self.cwd.display()));
        }
        for name in &self.env {
            if let Err(problem) = passable(name) {
                return invalid("env", problem);
            }
        }
        for account in &self.accounts {
            if let Err(problem) = Account::find(account) {
                return invalid("run_as", problem);
            }
        }
        limits::raw(&self.limits).map(drop).or_else(|problem| invalid("limits", problem))
    }

    async fn run(&self, ctx: &Context) -> Result<Outcome, HandlerError> {
        let unfit = |problem: String| fatal(format!("payload of handler \"{}\": {problem}", ctx.handler()));
        let mut object = serde_json::from_str(ctx.payload()).map_err(|e| unfit(e.to_string()))?;
        let mask = secrets::resolve(&mut object, &self.secrets).await?;
        let payload = Payload::read(&object).map_err(unfit);
        let ended = async { self.execute(&payload?, &mask, ctx).await };
        match ended.await {
            Ok(Outcome::Failed(error)) | Err(error) => Err(mask.error(&error)),
            Ok(outcome) => Ok(outcome),
        }
    }

    async fn execute(&self, payload: &Payload, mask: &Mask, ctx: &Context) -> Result<Outcome, HandlerError> {
        let Prepared { program, command, setup, stdin } = self.prepare(payload, ctx)?;
        match process::run(command, setup, stdin, mask, ctx).await {
            Ok(ended) => Ok(exit::outcome(&ended, payload, ctx)),
            Err(error) => Err(exit::not_started(&program, &error)),
        }
    }
}

impl Handler for Shell {
    fn call(&self, ctx: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(async move { self.run(&ctx).await.unwrap_or_else(Outcome::Failed) })
    }

    /// All that is known before the row is: the keys, the account and whether the program is allowed.
    fn check_payload(&self, payload: &str) -> Result<(), String> {
        self.fits(payload)
    }
}

/// Makes this process's memory and environment unreadable to others of its account, commands included; also
/// disables its core dumps. For a worker that is started with the database's password in its environment.
///
/// ```no_run
/// use watchbell::handler::shell;
///
/// shell::hide_environment(); // first thing in `main`
/// let url = std::env::var("DATABASE_URL");
/// # let _ = url;
/// ```
pub fn hide_environment() {
    guardian::hide();
}

/// Refuses to pass on what would tell commands where the database is, or is a variable of the worker's.
fn passable(name: &str) -> Result<(), String> {
    let of_database = name.ends_with("DATABASE_URL") || ["PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE"].contains(&name);
    let value = std::env::var(name).unwrap_or_default();
    if of_database || value.starts_with("postgres://") || value.starts_with("postgresql://") {
        return Err(format!("{name} tells how to reach the database, which no command may know"));
    }
    if name.starts_with("WATCHBELL_") || name == "PATH" || name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot be passed on; PATH has an option of its own"));
    }
    Ok(())
}

/// The page's Rust, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../../docs/shell.md")]
struct Page;

//! A command with everything around it, from the payload and the worker's configuration.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use chrono::SecondsFormat;
use serde_json::{Map, Value};

use super::payload::{Payload, What};
use super::programs::Refused;
use super::{Shell, account::Account, guardian::Setup, limits};
use crate::handler::secret::refers;
use crate::handler::{Context, HandlerError, fatal};

/// Ready to be started.
#[derive(Debug)]
pub(super) struct Prepared {
    /// For messages.
    pub(super) program: String,
    pub(super) command: Command,
    pub(super) setup: Setup,
    pub(super) stdin: Option<Vec<u8>>,
}

impl Shell {
    /// What a payload asks for, as far as the configuration allows it.
    pub(super) fn prepare(&self, payload: &Payload, ctx: &Context) -> Result<Prepared, HandlerError> {
        let account = self.account(payload.run_as.as_deref()).map_err(fatal)?;
        let limits = limits::merged(&self.limits, &payload.limits).and_then(|limits| limits::raw(&limits));
        let (program, arguments) = self.program_of(&payload.what)?;
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("PATH", &self.path);
        for name in &self.env {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(account) = &account {
            command.env("HOME", &account.home).env("USER", &account.name).env("LOGNAME", &account.name);
        }
        command.envs(payload.env.iter().map(|(name, value)| (name, value)));
        command.envs(facts(ctx));
        let cwd = payload.cwd.as_ref().map_or(self.cwd.as_os_str(), std::ffi::OsStr::new);
        let setup = Setup {
            cwd: CString::new(cwd.as_bytes()).map_err(fatal)?,
            umask: payload.umask.unwrap_or(self.umask) as _,
            limits: limits.map_err(fatal)?,
            account: account.and_then(|account| account.ids),
            new_privileges: self.new_privileges,
            // a little sooner than others may start the run
            lease: ctx.lease().map(|lease| lease - lease / 30),
        };
        let stdin = payload.stdin.clone().or_else(|| ctx.row().map(str::to_owned)).map(String::into_bytes);
        Ok(Prepared { program: program.display().to_string(), command, setup, stdin })
    }

    /// Refuses what no row could change: unknown keys, an account or a program that is not allowed.
    pub(super) fn fits(&self, payload: &str) -> Result<(), String> {
        let object: Map<String, Value> = serde_json::from_str(payload).map_err(|e| e.to_string())?;
        if object.values().any(refers) {
            return Ok(()); // secrets are read for an attempt only
        }
        let payload = Payload::read(&object)?;
        self.account(payload.run_as.as_deref())?;
        match self.program_of(&payload.what) {
            // one that is not there may be on another host, or may come
            Err(error) if error.fatal => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    fn program_of<'a>(&'a self, what: &'a What) -> Result<(PathBuf, Vec<&'a str>), HandlerError> {
        let (name, arguments): (&str, Vec<&str>) = match (what, &self.line) {
            (What::Argv(_), _) if !self.argv => {
                return Err(fatal("\"argv\" is not enabled in this worker's configuration; see --enable-shell"));
            }
            (What::Argv(argv), _) => (&argv[0], argv[1..].iter().map(String::as_str).collect()),
            (What::Command(line), Some(shell)) => (shell, vec!["-c", line]),
            (What::Command(_), None) => {
                return Err(fatal(
                    "\"command\" is not enabled in this worker's configuration; use \"argv\", or see --enable-shell-command",
                ));
            }
        };
        match self.programs.find(name, &self.path) {
            Ok(program) => Ok((program, arguments)),
            Err(Refused::NotAllowed(problem)) => Err(fatal(problem)),
            Err(Refused::NotFound(problem)) => Err(format!("exit code 127: {problem}").into()),
        }
    }

    fn account(&self, asked: Option<&str>) -> Result<Option<Account>, String> {
        let name = match asked {
            None => self.accounts.first().map(String::as_str),
            Some(name) if self.accounts.iter().any(|allowed| allowed == name) => Some(name),
            Some(name) => {
                let list = if self.accounts.is_empty() { "none".to_owned() } else { self.accounts.join(", ") };
                return Err(format!(
                    "\"run_as\" {name:?} is not allowed by this worker's configuration (allowed: {list})"
                ));
            }
        };
        name.map(Account::find).transpose()
    }
}

/// Longest row that fits a variable, in bytes: Linux starts no program with one of 128 KiB.
const ROW_BYTES_MAX: usize = 100 * 1024;

/// What a command can know of its run, or of its row.
fn facts(ctx: &Context) -> impl Iterator<Item = (&'static str, String)> {
    let fire_at = ctx.fire_at().map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let key = ctx.key().map(|key| match key {
        [one] => one.clone(),
        several => serde_json::json!(several).to_string(),
    });
    [
        ("WATCHBELL_RUN_ID", ctx.watch().is_none().then(|| ctx.run_id().to_string())),
        ("WATCHBELL_WATCH", ctx.watch().map(str::to_owned)),
        ("WATCHBELL_STEP", ctx.step().map(str::to_owned)),
        ("WATCHBELL_KEY", key),
        ("WATCHBELL_ROW", ctx.row().filter(|row| row.len() <= ROW_BYTES_MAX).map(str::to_owned)),
        ("WATCHBELL_IDEMPOTENCY_KEY", ctx.watch().map(|_| ctx.idempotency_key())),
        ("WATCHBELL_ATTEMPT", Some(ctx.attempt().to_string())),
        ("WATCHBELL_FENCE", Some(ctx.fence().to_string())),
        ("WATCHBELL_HANDLER", Some(ctx.handler().to_owned())),
        ("WATCHBELL_SCHEDULE", ctx.schedule().map(str::to_owned)),
        ("WATCHBELL_FIRE_AT", fire_at),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
}

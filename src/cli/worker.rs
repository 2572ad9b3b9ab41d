//! `watchbell worker`: a process that runs what is due.

mod http;
mod listen;
mod run;
#[cfg(unix)]
mod shell;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

use super::Setting;
use super::file::Effective;
use super::output::{Column, note};
use super::value;
use crate::db::DatabaseUrl;
use crate::error::{Error, Result};
use crate::handler::secret::{Secret, Secrets};
use crate::worker::Config;
use http::HttpArgs;
use listen::ListenArgs;

pub(super) use run::work;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run what is due until told to stop (Ctrl-C or SIGTERM; twice to stop handlers at once).
    Run(Box<WorkerArgs>),
    /// What the options of `worker run` are set to, and by what: an option, a variable, a file or the default.
    Config(Box<WorkerArgs>),
}

/// How a worker behaves; every option is also an environment variable.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Take options from this TOML file too, or from none [default: watchbell.toml in ~/.config, then in /etc].
    ///
    /// Options and environment variables are stronger than the file.
    #[arg(id = "config", long = "config", env = "WATCHBELL_CONFIG", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its name for people [default: host name and process id].
    #[arg(long, env = "WATCHBELL_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Serve only these queues, with commas between them [default: all].
    #[arg(long, env = "WATCHBELL_QUEUES", value_name = "NAMES", value_delimiter = ',')]
    queues: Option<Vec<String>>,
    /// Serve only these handlers of those there are, with commas between them [default: all].
    #[arg(long, env = "WATCHBELL_HANDLERS", value_name = "NAMES", value_delimiter = ',')]
    pub(super) handlers: Option<Vec<String>>,
    /// Labels for a run's target, with commas between them; host and ip are there by themselves.
    #[arg(long, env = "WATCHBELL_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = value::label)]
    labels: Vec<String>,
    /// How many runs at once, 1 to 10000.
    #[arg(long, env = "WATCHBELL_SLOTS", value_name = "N", default_value_t = 100, value_parser = value::number(1..=10_000))]
    slots: u32,
    /// How many runs beyond the slots are claimed ahead while handlers are fast, 0 to 10000.
    #[arg(long, env = "WATCHBELL_PREFETCH", value_name = "N", default_value_t = 1000, value_parser = value::number(0..=10_000))]
    prefetch: u32,
    /// Connections for handlers, 1 to 1000; the worker itself needs up to 4 more.
    #[arg(long, env = "WATCHBELL_POOL", value_name = "N", default_value_t = 10, value_parser = value::number(1..=1000))]
    pub(super) pool: u32,
    /// How long a silent worker keeps its runs, 2s to 1h.
    #[arg(long, env = "WATCHBELL_LEASE", value_name = "DURATION", default_value = "15s", value_parser = value::seconds(2..=3600))]
    lease: Duration,
    /// How long to wait for runs to end when told to stop, 0s to 1d.
    #[arg(long, env = "WATCHBELL_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "3m", value_parser = value::seconds(0..=86_400))]
    drain_timeout: Duration,
    /// How long a handler that was asked to stop may take, 0s to 1h.
    #[arg(long, env = "WATCHBELL_GRACE", value_name = "DURATION", default_value = "5s", value_parser = value::seconds(0..=3600))]
    grace: Duration,
    /// How long finished runs are kept, 1d to 3650d.
    #[arg(long, env = "WATCHBELL_RETENTION", value_name = "DURATION", default_value = "30d", value_parser = value::seconds(86_400..=3650 * 86_400))]
    retention: Duration,
    /// How many bytes are kept of what one attempt prints, half from its start, half from its end, 4KiB to 4MiB.
    #[arg(long, env = "WATCHBELL_OUTPUT_LIMIT", value_name = "SIZE", default_value = "256KiB", value_parser = value::bytes(4096..=4 << 20))]
    output_limit: u64,
    /// Do what is due, then exit.
    #[arg(long, env = "WATCHBELL_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,
    /// Stop handlers and exit at once when standard input is closed, as it is when the parent process ends.
    #[arg(long, env = "WATCHBELL_EXIT_WITH_PARENT", value_parser = BoolishValueParser::new())]
    pub(super) exit_with_parent: bool,
    /// Serve the sample handlers of `watchbell demo`.
    #[arg(long, hide = true)]
    demo_handlers: bool,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) secrets: SecretArgs,
    #[command(flatten)]
    pub(super) sql: SqlArgs,
    #[command(flatten)]
    pub(super) http: HttpArgs,
    #[cfg(unix)]
    #[command(flatten)]
    pub(super) shell: shell::ShellArgs,
}

/// Which secrets payloads may refer to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Secrets")]
pub(super) struct SecretArgs {
    /// Let payloads refer to this secret by {"$secret": "NAME"}; NAME@HOST=... for calls of this host only.
    ///
    /// The value is in an environment variable (NAME=env:VARIABLE) or a file (NAME=file:/path). May be given
    /// several times, in the variable with blanks between.
    #[arg(
        long = "secret",
        env = "WATCHBELL_SECRETS",
        hide_env_values = true,
        value_name = "NAME=SOURCE",
        value_delimiter = ' '
    )]
    secrets: Vec<Secret>,
}

impl SecretArgs {
    /// The declared secrets, all of which can be read now.
    pub(super) async fn declared(&self) -> Result<Secrets> {
        let secrets: Secrets = self.secrets.iter().cloned().collect();
        secrets.check().await?;
        Ok(secrets)
    }
}

/// Whether and how the handler `sql` may run statements.
#[derive(Debug, Args)]
#[command(next_help_heading = "The handler sql")]
pub(super) struct SqlArgs {
    /// Let runs of the handler sql execute statements with the worker's own login.
    #[arg(long, env = "WATCHBELL_ENABLE_SQL", value_parser = BoolishValueParser::new())]
    pub(super) enable_sql: bool,
    /// Let payloads pick this login by its name ("as"); may be given several times, in the variable with blanks between.
    #[arg(
        long = "sql-login", env = "WATCHBELL_SQL_LOGINS", hide_env_values = true, value_name = "NAME=URL",
        value_delimiter = ' ', value_parser = sql_login, requires = "enable_sql"
    )]
    pub(super) sql_logins: Vec<SqlLogin>,
    /// Let statements run even where the login is a superuser, who can do anything on the database's host.
    #[arg(long, env = "WATCHBELL_ALLOW_SUPERUSER_SQL", value_parser = BoolishValueParser::new(), requires = "enable_sql")]
    pub(super) allow_superuser_sql: bool,
}

/// A login that a payload of the handler `sql` may pick by its name.
#[derive(Debug, Clone)]
pub(super) struct SqlLogin {
    pub(super) name: String,
    pub(super) url: DatabaseUrl,
}

/// What is wrong with it is said without the URL, which has a password in it.
fn sql_login(text: &str) -> Result<SqlLogin, String> {
    let (name, url) = text.split_once('=').ok_or("must be NAME=URL")?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        return Err("must begin with a name of letters, digits and _ - .".to_owned());
    }
    let url = url.parse().map_err(|e: Error| e.to_string())?;
    Ok(SqlLogin { name: name.to_owned(), url })
}

impl WorkerArgs {
    /// The worker's options, checked.
    pub(super) fn config(&self) -> Result<Config> {
        let config = Config {
            name: self.name.clone().unwrap_or_default(),
            queues: self.queues.clone(),
            labels: self.labels.clone(),
            slots: self.slots as usize,
            prefetch: self.prefetch as usize,
            lease: self.lease,
            drain_timeout: self.drain_timeout,
            grace: self.grace,
            retention: self.retention,
            output_limit: usize::try_from(self.output_limit).unwrap_or(usize::MAX),
            once: self.once,
            ..Config::default()
        };
        config.check()?;
        Ok(config)
    }
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => work(&args, &setting.database()?).await,
        Verb::Config(args) => {
            args.config()?;
            show(setting)
        }
    }
}

/// Without what may be a password.
fn show(setting: &Setting) -> Result<ExitCode> {
    if let Some(url) = setting.database_if_any()? {
        note(&format!("database: {url}"));
    }
    let columns: &[Column<Effective>] =
        &[("OPTION", |row| row.option.clone()), ("VALUE", |row| row.value.clone()), ("FROM", |row| row.source.clone())];
    setting.output.list(&setting.effective, columns, |row| row.option.clone())?;
    Ok(ExitCode::SUCCESS)
}

//! The command line program: `watchbell <noun> <verb>`, one file for each noun.
//!
//! Data goes to standard output, all else to standard error. What ends a command becomes its exit code
//! in one place, `exit.rs`.

mod bench;
mod confirm;
mod connect;
mod cron;
mod demo;
mod enqueue;
mod exit;
mod file;
mod generate;
mod handlers;
mod migrate;
mod output;
mod queue;
mod repeat;
mod runs;
mod schedule;
mod status;
mod up;
mod value;
mod version;
mod wait;
mod watch;
mod worker;
mod workers;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Result;
use crate::telemetry;
use file::{Effective, File};
use output::{Format, Output};

/// Jobs on PostgreSQL: insert a row, and replicated workers run it on time, once, and to the end.
#[derive(Debug, Parser)]
#[command(name = "watchbell", version, arg_required_else_help = true, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// The database: postgres://user:password@host:5432/name, with commas between several hosts.
    ///
    /// If not given: WATCHBELL_DATABASE_URL, then DATABASE_URL, then PGHOST, PGDATABASE and the like.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    database_url: Option<String>,
    /// How results are written: a table for people, or text for programs.
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    output: Format,
    /// The same as --output json.
    #[arg(long, global = true, conflicts_with = "output", help_heading = "Global options")]
    json: bool,
    /// What is logged to standard error: off, error, warn, info, debug, trace, or filters such as info,sqlx=debug.
    ///
    /// If not given: warn, and info for worker run and up.
    #[arg(long, global = true, value_name = "LEVEL", env = "WATCHBELL_LOG", help_heading = "Global options")]
    log_level: Option<String>,
    /// How it is logged.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "WATCHBELL_LOG_FORMAT",
        help_heading = "Global options"
    )]
    log_format: telemetry::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on a private PostgreSQL, with live samples.
    Demo(demo::DemoArgs),
    /// Migrations and a worker in one process; a private PostgreSQL if no database is configured.
    Up(Box<up::UpArgs>),
    /// Worker processes.
    #[command(subcommand)]
    Worker(worker::Verb),
    /// One run, as soon as possible or later.
    Enqueue(Box<enqueue::EnqueueArgs>),
    /// What to do and when.
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// When an expression fires; no database needed.
    #[command(subcommand)]
    Cron(cron::Verb),
    /// Tables of your own whose rows are the queue.
    #[command(subcommand)]
    Watch(watch::Verb),
    /// Occurrences of work: waiting, running and over.
    #[command(subcommand)]
    Runs(runs::Verb),
    /// What waits where, and whether it may start.
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Who serves what, and what nobody serves.
    #[command(subcommand)]
    Handlers(handlers::Verb),
    /// The processes that do the work: which there are, and draining them.
    #[command(subcommand)]
    Workers(workers::Verb),
    /// One screen: workers, queues, what fires, runs and failed, and what needs a person; exits with 1 if anything does.
    Status(status::StatusArgs),
    /// The schema's versions.
    #[command(subcommand)]
    Migrate(migrate::Verb),
    /// Files that fit this version: roles.
    #[command(subcommand)]
    Generate(generate::Verb),
    /// Load tests.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// The versions of this build and of the database's schema.
    Version,
}

impl Command {
    /// Whether its log tells what it does. (The demo has an account of its own.)
    fn tells(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Worker(_))
    }

    /// Whether it stays and works.
    fn is_long(&self) -> bool {
        matches!(self, Self::Demo(_) | Self::Up(_) | Self::Worker(_))
    }
}

/// What a command is run with, beside its own arguments.
#[derive(Debug)]
pub(crate) struct Setting {
    database_url: Option<String>,
    file: Option<File>,
    /// Of the command that shows it.
    effective: Vec<Effective>,
    output: Output,
}

/// Parses the process's arguments, runs the command and says how it ended.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let file = match File::append(&Cli::command(), &mut arguments) {
        Ok(file) => file,
        Err(error) => return exit::of_error(&error),
    };
    let (cli, effective) = match parse(arguments, file.as_ref()) {
        Ok(parsed) => parsed,
        Err(error) => return exit::of_usage(&error, &Cli::command(), file.as_ref()),
    };
    let default_level = if cli.command.tells() { "info" } else { "warn" };
    if let Err(error) = telemetry::init(cli.global.log_level.as_deref().unwrap_or(default_level), cli.global.log_format)
    {
        return exit::of_error(&error);
    }
    if let Some(file) = &file {
        tracing::info!(file = %file.path().display(), "options are taken from the configuration file too");
    }
    let format = if cli.global.json { Format::Json } else { cli.global.output };
    let output = Output::new(format);
    let setting = Setting { database_url: cli.global.database_url, file, effective, output };
    let runtime = if cli.command.is_long() || matches!(cli.command, Command::Bench(_)) {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::of_error(&crate::Error::io("starting the runtime", error)),
    };
    match runtime.block_on(run(cli.command, &setting)) {
        Ok(code) => code,
        Err(error) => exit::of_error(&error),
    }
}

/// The command, and what its options are set to if it shows that.
fn parse(arguments: Vec<OsString>, file: Option<&File>) -> Result<(Cli, Vec<Effective>), clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let shows = matches!(cli.command, Command::Worker(worker::Verb::Config(_)));
    let effective = if shows { File::effective(&Cli::command(), &matches, file) } else { vec![] };
    Ok((cli, effective))
}

async fn run(command: Command, setting: &Setting) -> Result<ExitCode> {
    // These end in their own order when interrupted; the others have nothing to put in order.
    match command {
        Command::Demo(args) => return demo::run(args, setting).await,
        Command::Up(args) => return up::run(*args, setting).await,
        Command::Worker(verb) => return worker::run(verb, setting).await,
        Command::Bench(verb) => return bench::run(verb, setting).await,
        _ => {}
    }
    tokio::select! {
        result = brief(command, setting) => result,
        _ = tokio::signal::ctrl_c() => Ok(exit::interrupted()),
    }
}

async fn brief(command: Command, setting: &Setting) -> Result<ExitCode> {
    match command {
        Command::Enqueue(args) => enqueue::run(*args, setting).await,
        Command::Cron(verb) => cron::run(verb, setting).await,
        Command::Schedule(verb) => schedule::run(verb, setting).await,
        Command::Watch(verb) => watch::run(verb, setting).await,
        Command::Runs(verb) => runs::run(verb, setting).await,
        Command::Queue(verb) => queue::run(verb, setting).await,
        Command::Handlers(verb) => handlers::run(verb, setting).await,
        Command::Workers(verb) => workers::run(verb, setting).await,
        Command::Status(args) => status::run(&args, setting).await,
        Command::Migrate(verb) => migrate::run(verb, setting).await,
        Command::Generate(verb) => generate::run(verb, setting),
        Command::Version => version::run(setting).await,
        Command::Demo(_) | Command::Up(_) | Command::Worker(_) | Command::Bench(_) => Ok(ExitCode::SUCCESS),
    }
}

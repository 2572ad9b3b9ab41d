//! `watchbell demo`: everything on a private PostgreSQL, removed at its end.
//!
//! Three worker processes of this same program serve schedules of every kind while this process tells what
//! happens, as the tables say it. After a few seconds it kills the worker that holds the long run, so that
//! one sees another take the run over. The workers end with this process however it ends (their standard
//! input is closed), and so does the server (see [`crate::embedded`]).

mod account;
mod events;
mod fleet;
mod handlers;
mod scene;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::Setting;
use super::value;
use crate::embedded::{Options, Server};
use crate::error::Result;
use account::{Account, Tone};
use fleet::Fleet;
use scene::Scene;
use show::Show;

pub(super) use handlers::{HANDLERS, handlers};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How many worker processes, 1 to 16.
    #[arg(long, env = "WATCHBELL_DEMO_WORKERS", value_name = "N", default_value_t = 3, value_parser = value::number(1..=16))]
    pub(super) workers: u32,
    /// End by itself so many seconds after the workers' start, 1 to 86400 [default: at Ctrl-C].
    #[arg(long, value_name = "N", value_parser = value::number(1..=86_400))]
    pub(super) seconds: Option<u32>,
}

/// Only `--database-url` leads to another database than a private one: a demo should not find its way into
/// whatever the environment happens to name.
pub(super) async fn run(args: DemoArgs, setting: &Setting) -> Result<ExitCode> {
    let began = Instant::now();
    let mut account = Account::new();
    account.title("watchbell demo");
    let (url, server) = match &setting.database_url {
        Some(url) => (url.clone(), None),
        None => {
            account.text("  starting a private PostgreSQL in a temporary directory\n");
            let server = Server::start(Options::throwaway().setting("fsync", "off")).await?;
            (server.url().to_owned(), Some(server))
        }
    };
    let result = play(&args, began, &mut account, &url, server.is_some()).await;
    if let Some(server) = server {
        server.stop().await?;
    }
    result?;
    account.say(Tone::Quiet, "everything is stopped and removed");
    Ok(ExitCode::SUCCESS)
}

async fn play(args: &DemoArgs, began: Instant, account: &mut Account, url: &str, is_private: bool) -> Result<()> {
    let shown = if is_private { url.to_owned() } else { url.parse::<crate::db::DatabaseUrl>()?.to_string() };
    account.fact("database", &shown, began.elapsed());
    let mut stop = stop_signals()?;
    let mut scene = Scene::prepare(url, is_private).await?;
    account.fact("schema", &format!("watchbell version {}, sample tables in demo", scene.version), began.elapsed());
    let mut fleet = Fleet::start(args.workers, url, scene.queue).await?;
    account.fact("workers", &fleet.to_string(), began.elapsed());
    account.fact("metrics", &fleet.pages(), began.elapsed());
    account.text(&scene.invitation(&shown, &fleet));

    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds)));
    let mut show = Show::new(account, &mut fleet, &mut scene, began);
    let result = tokio::select! {
        result = show.go_on(end) => result,
        () = &mut stop => Ok(()),
    };
    let told = if result.is_ok() { show.close().await } else { Ok(()) };
    fleet.stop().await;
    let cleared = if is_private { Ok(()) } else { scene.clear().await };
    result.and(told).and(cleared)
}

/// Completes at Ctrl-C, SIGTERM or the end of the terminal.
#[cfg(unix)]
fn stop_signals() -> Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| crate::Error::io("listening for signals", e));
    let (mut interrupt, mut terminate, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }))
}

#[cfg(not(unix))]
fn stop_signals() -> Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    Ok(Box::pin(async { drop(tokio::signal::ctrl_c().await) }))
}

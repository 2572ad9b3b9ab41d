//! `watchbell schedule`: what to do and when.

mod add;
mod definition;
mod list;
mod next;
mod show;
mod steer;

use std::process::ExitCode;

use clap::Subcommand;

use super::Setting;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a schedule: what to do (the handler) and when.
    Add(Box<add::AddArgs>),
    /// List schedules by name.
    List(list::ListArgs),
    /// Show one: its definition, what comes next, its last runs and who changed it.
    Show(show::ShowArgs),
    /// Change what is given, and nothing else.
    Edit(Box<add::EditArgs>),
    /// Stop it from firing; its open runs go on.
    Pause(steer::PauseArgs),
    /// Let it fire again, from now on.
    Resume(steer::ResumeArgs),
    /// Make a run at once; its fire times stay as they are.
    RunNow(steer::RunNowArgs),
    /// Skip its next fire time; each call skips one more.
    Skip(steer::SkipArgs),
    /// Only its next fire times, one a line.
    Next(next::NextArgs),
    /// Make runs for fire times of the past that have none.
    Backfill(steer::BackfillArgs),
    /// Delete schedules; their runs stay.
    Delete(steer::DeleteArgs),
}

pub(super) async fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    match verb {
        Verb::Add(args) => add::add(*args, setting).await?,
        Verb::List(args) => list::list(args, setting).await?,
        Verb::Show(args) => show::show(args, setting).await?,
        Verb::Edit(args) => add::edit(*args, setting).await?,
        Verb::Pause(args) => steer::pause(args, setting).await?,
        Verb::Resume(args) => steer::resume(args, setting).await?,
        Verb::RunNow(args) => return steer::run_now(args, setting).await,
        Verb::Skip(args) => steer::skip(args, setting).await?,
        Verb::Next(args) => next::next(args, setting).await?,
        Verb::Backfill(args) => steer::backfill(args, setting).await?,
        Verb::Delete(args) => steer::delete(args, setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

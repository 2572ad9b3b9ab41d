//! `watchbell generate`: files that fit this version, to be looked at and used elsewhere.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Setting;
use crate::error::{Error, Result};

const ROLES: &str = include_str!("generate/roles.sql");

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// SQL that makes the roles viewer, producer, worker and owner, and grants each what it needs.
    Roles(RolesArgs),
}

#[derive(Debug, Args)]
pub(super) struct RolesArgs {
    /// What the roles' names begin with. Roles belong to the whole server: two databases on it that are to have
    /// different people need different names.
    #[arg(long, value_name = "NAME", default_value = "watchbell")]
    prefix: String,
}

pub(super) fn run(verb: Verb, setting: &Setting) -> Result<ExitCode> {
    let Verb::Roles(args) = verb;
    let text = roles(&args.prefix)?;
    setting.output.one(&serde_json::json!({ "sql": text }), &text, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// The script for one prefix. The names stand in it unquoted, so they must be plain.
fn roles(prefix: &str) -> Result<String> {
    let plain = prefix.starts_with(|c: char| c.is_ascii_lowercase())
        && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || prefix.len() > 50 {
        let problem = format!("\"{prefix}\" is not 1 to 50 lower case letters, digits and _, a letter first");
        return Err(Error::invalid("--prefix", problem));
    }
    Ok(ROLES.replace("{prefix}", prefix))
}

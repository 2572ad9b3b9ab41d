//! How a command ends: its exit code and its last words on standard error.
//!
//! 0 ok · 1 failed · 2 usage · 3 not found · 4 conflict · 5 database unreachable · 6 schema missing or
//! mismatched · 7 permission denied · 124 a wait timed out · 130 interrupted.

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

use super::file::File;
use super::output::note;
use crate::error::Error;

/// What was waited for failed.
pub(crate) const FAILED: u8 = 1;
/// It was not over in time.
pub(crate) const TIMED_OUT: u8 = 124;

/// Ctrl-C ended the command.
pub(crate) fn interrupted() -> ExitCode {
    ExitCode::from(130)
}

/// Says what went wrong and answers the code for it.
pub(crate) fn of_error(error: &Error) -> ExitCode {
    note(&format!("error: {}", sentence(error)));
    if let Some(hint) = hint(error) {
        note(&format!("hint: {hint}"));
    }
    ExitCode::from(code(error))
}

/// Every error's exit code.
pub(crate) fn code(error: &Error) -> u8 {
    match error {
        Error::Invalid { .. } => 2,
        Error::NotFound { .. } => 3,
        Error::Conflict(_) => 4,
        Error::Unreachable { .. } | Error::Standby { .. } => 5,
        Error::Schema(_) => 6,
        Error::Denied(_) | Error::Full(_) => 7,
        Error::Database(error) => of_database(error),
        Error::Io { .. } => FAILED,
    }
}

fn of_database(error: &sqlx::Error) -> u8 {
    let answer = match error {
        sqlx::Error::Database(answer) => answer,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => return 5,
        _ => return FAILED,
    };
    match answer.code().as_deref() {
        Some("P0002") => 3,
        // Lost or refused sessions, a server that starts or stops, and a primary that is none any more.
        Some("57P01" | "57P02" | "57P03" | "25006") => 5,
        Some("23505" | "55000") => 4,
        Some("3F000") => 6,
        Some("42501" | "28000" | "28P01") => 7,
        // Our checks use the classes of values and constraints.
        Some(code) if code.starts_with("22") || code.starts_with("23") => 2,
        Some(code) if code.starts_with("08") || code.starts_with("53") => 5,
        _ => FAILED,
    }
}

fn sentence(error: &Error) -> String {
    match error {
        // Without the driver's own preface and line numbers of the server's source.
        Error::Database(sqlx::Error::Database(answer)) => answer.message().to_owned(),
        error => error.to_string(),
    }
}

fn hint(error: &Error) -> Option<String> {
    let Error::Database(sqlx::Error::Database(answer)) = error else { return None };
    let answer = answer.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?;
    answer.hint().filter(|hint| !hint.is_empty()).map(str::to_owned)
}

/// Help and versions go to standard output, usage errors to standard error; a closed pipe is no matter.
pub(crate) fn of_usage(error: &clap::Error, command: &clap::Command, file: Option<&File>) -> ExitCode {
    match bad_value(error, command, file).or_else(|| bad_choice(error, file)) {
        Some(sentence) => note(&format!("error: {sentence}")),
        None => {
            let _ = error.print();
        }
    }
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    ExitCode::from(if is_help { 0 } else { 2 })
}

/// `--slots 0: must be 1 to 10000`, or with the environment variable or the line of the file that holds the value.
fn bad_value(error: &clap::Error, command: &clap::Command, file: Option<&File>) -> Option<String> {
    use std::error::Error as _;
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let argument = error.get(ContextKind::InvalidArg)?.to_string();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let option = argument.split([' ', '=']).next()?.trim_matches(['<', '>', '.']);
    let known = find(command, option);
    let is_given =
        std::env::args().any(|arg| arg == option || arg.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
    let variable = known.and_then(clap::Arg::get_env).filter(|_| !is_given);
    let of_file = file.and_then(|file| file.place(option.strip_prefix("--")?, &value));
    let of_variable = variable.map(|name| name.to_string_lossy().into_owned());
    let source = of_file.or(of_variable).unwrap_or_else(|| option.to_owned());
    // A value that may hold a password is not repeated.
    let value = if known.is_some_and(clap::Arg::is_hide_env_values_set) { String::new() } else { format!(" {value}") };
    Some(format!("{source}{value}: {}", error.source()?))
}

/// A value of the file that is none of those there are; on the command line clap says it well.
fn bad_choice(error: &clap::Error, file: Option<&File>) -> Option<String> {
    if error.kind() != ErrorKind::InvalidValue {
        return None;
    }
    let argument = error.get(ContextKind::InvalidArg)?.to_string();
    let long = argument.strip_prefix("--")?.split([' ', '=']).next()?.to_owned();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let place = file?.place(&long, &value)?;
    if value.is_empty() {
        return Some(format!("{place}: must not be empty"));
    }
    let known = error.get(ContextKind::ValidValue).map(ToString::to_string).unwrap_or_default();
    Some(format!("{place} {value}: must be one of {known}"))
}

/// The option of this name, of the command or any below it.
fn find<'a>(command: &'a clap::Command, option: &str) -> Option<&'a clap::Arg> {
    let long = option.strip_prefix("--")?;
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    own.or_else(|| command.get_subcommands().find_map(|sub| find(sub, option)))
}

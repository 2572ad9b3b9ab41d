//! The program's log, on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; in colour on a terminal, unless NO_COLOR is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Sends this process's log to standard error.
///
/// `level` is one of off, error, warn, info, debug, trace, or filters such as `info,sqlx=debug`. The driver
/// repeats each statement in its own log: that is left out below `debug`.
pub(crate) fn init(level: &str, format: Format) -> Result<()> {
    let filter = filter(level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        Format::Text => log.with_ansi(colour).with_target(false).init(),
        Format::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter> {
    let invalid = |problem: String| Error::invalid(format!("--log-level {level}"), problem);
    let is_plain = !level.contains(['=', ',', '[']);
    // The filter's own parser would take an unknown word for the name of a module.
    if is_plain && !LEVELS.contains(&level) {
        return Err(invalid(format!("must be one of {}, or filters such as info,sqlx=debug", LEVELS.join(", "))));
    }
    let directives = match level {
        "error" | "warn" | "info" => format!("{level},sqlx::query=off"),
        _ => level.to_owned(),
    };
    EnvFilter::builder().parse(directives).map_err(|e| invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        assert_eq!(
            filter("verbose").unwrap_err().to_string(),
            "--log-level verbose: must be one of off, error, warn, info, debug, trace, or filters such as info,sqlx=debug"
        );
        assert!(filter("info,sqlx=").is_err() || filter("a=loud").is_err());
        filter("info,sqlx=debug").unwrap();
    }
}

//! What the end of a command means for its run.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::payload::Payload;
use super::process::Ended;
use crate::handler::{Context, HandlerError, Outcome, fatal};

/// Longest piece of standard error in a message, in characters.
const WORDS_MAX: usize = 300;

/// The outcome of an attempt whose command ran.
pub(super) fn outcome(ended: &Ended, payload: &Payload, ctx: &Context) -> Outcome {
    if let Some(stopped) = ended.stopped {
        return Outcome::Failed(stopped.words(ctx.stop_reason().as_ref()).into());
    }
    let Some(status) = ended.status else {
        return Outcome::Failed("the process that guards the command was killed, and the command with it".into());
    };
    let code = status.code();
    if code.is_some_and(|code| payload.success_exit_codes.contains(&code)) {
        return Outcome::Done;
    }
    let message = match last_line(&ended.last_words) {
        Some(line) => format!("{}: {line}", words(status)),
        None => words(status),
    };
    let is_fatal = code.is_some_and(|code| payload.fatal_exit_codes.contains(&code));
    Outcome::Failed(if is_fatal { fatal(message) } else { message.into() })
}

/// The outcome of an attempt whose command could not be started.
pub(super) fn not_started(program: &str, error: &io::Error) -> HandlerError {
    let failed = |words: &str| HandlerError::from(format!("{words}: {error}"));
    match error.raw_os_error().map(Errno::from_raw) {
        // another worker may have it
        Some(Errno::ENOENT) => failed(&format!("exit code 127: {program}, its interpreter or \"cwd\" was not found")),
        Some(Errno::EACCES | Errno::ENOEXEC) => failed(&format!("exit code 126: {program} could not be executed")),
        Some(Errno::E2BIG) => fatal(format!("arguments and environment are longer than this system allows: {error}")),
        _ => failed(&format!("{program} could not be started")),
    }
}

/// Exit code or signal, with what is known of it.
fn words(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        let meaning = match code {
            126 => " (found, but not executable)",
            127 => " (command not found)",
            _ => "",
        };
        return format!("exit code {code}{meaning}");
    }
    let Some(number) = status.signal() else { return status.to_string() };
    let name = Signal::try_from(number).map_or_else(|_| "unknown".to_owned(), |signal| signal.to_string());
    let meaning = match Signal::try_from(number) {
        Ok(Signal::SIGXCPU) => ", its limit of cpu time",
        Ok(Signal::SIGXFSZ) => ", its limit of file size",
        _ => "",
    };
    format!("killed by signal {number} ({name}{meaning})")
}

/// The last line that says something, as text without control characters.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_signals_are_named() {
        let exited = |code: i32| words(ExitStatus::from_raw(code << 8));
        assert_eq!(exited(3), "exit code 3");
        assert_eq!(exited(126), "exit code 126 (found, but not executable)");
        assert_eq!(exited(127), "exit code 127 (command not found)");
        assert_eq!(words(ExitStatus::from_raw(9)), "killed by signal 9 (SIGKILL)");
        assert_eq!(words(ExitStatus::from_raw(24)), "killed by signal 24 (SIGXCPU, its limit of cpu time)");
    }

    #[test]
    fn last_words_are_one_line_of_text() {
        assert_eq!(last_line(b"a\nb \x1b[31m\0c\xff\n\n"), Some("b  [31m c\u{fffd}".to_owned()));
        assert_eq!(last_line(b" \n"), None);
    }
}

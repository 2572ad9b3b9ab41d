//! The command line program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = watchbell::embedded::supervise() {
        return code;
    }
    ExitCode::SUCCESS
}

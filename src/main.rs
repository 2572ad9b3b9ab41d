//! The command line program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First: this process may be the one that watches over a private PostgreSQL.
    if let Some(code) = watchbell::embedded::supervise() {
        return code;
    }
    watchbell::cli::main()
}

//! Whether a person means it: asked on a terminal, said with `--yes` elsewhere.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::error::{Error, Result};

/// Goes on if `yes`, or if the person at the terminal types y; `deed` is what would be done.
pub(super) fn confirm(yes: bool, deed: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::invalid("--yes", format!("is missing, and there is no terminal to ask: this would {deed}")));
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{deed}? [y/N] ").and_then(|()| io::stderr().flush());
    asked.and_then(|()| io::stdin().lock().read_line(&mut answer)).map_err(|e| Error::io("asking", e))?;
    if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Error::Conflict("nothing is changed".to_owned()))
    }
}

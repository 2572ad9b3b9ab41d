//! The server's log, and the reason in it when a start fails.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::{Error, Result};

/// A log larger than this is set aside at the next start.
const BYTES_MAX: u64 = 10 * 1024 * 1024;

/// The file that a server writes its messages to.
pub(super) struct Log {
    path: PathBuf,
}

/// What one start has written.
pub(super) struct Said(String);

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens it for appending, after setting aside one that has grown large; also how long it is.
    pub(super) fn open(&self) -> Result<(File, u64)> {
        let length = |log: &PathBuf| fs::metadata(log).map_or(0, |log| log.len());
        if length(&self.path) > BYTES_MAX {
            // Only a rename in our own directory; if it fails, the log grows on.
            let _ = fs::rename(&self.path, self.path.with_extension("log.1"));
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let file = file.map_err(|e| Error::io(format!("opening {}", self.path.display()), e))?;
        Ok((file, length(&self.path)))
    }

    /// What was written behind the first `from` bytes.
    pub(super) fn since(&self, from: u64) -> Said {
        let mut bytes = Vec::new();
        // An unreadable log is an empty one: it only improves a message.
        let _ = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_end(&mut bytes)
        });
        Said(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The message for a failed start: `problem`, the server's own reason, and where to read more.
    pub(super) fn explain(&self, problem: &str, said: &Said) -> String {
        let fatal = said.0.lines().rev().find_map(|line| line.split_once("FATAL:  "));
        let reason = fatal.map(|(_, reason)| format!(": {reason}")).unwrap_or_default();
        format!("{problem}{reason}; see {}", self.path.display())
    }
}

impl Said {
    /// Somebody took the port between our look and the server's.
    pub(super) fn port_is_taken(&self) -> bool {
        self.0.contains("could not create any TCP/IP sockets")
    }

    /// The cluster's last server, or sessions of its killed postmaster, are not quite gone.
    pub(super) fn predecessor_is_there(&self) -> bool {
        self.0.contains("is still in use") || self.0.contains("lock file \"postmaster.pid\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_is_explained_by_the_last_fatal_line() {
        let said = Said("LOG:  starting\n2026-01-01 UTC [1] FATAL:  no room\nHINT:  more\n".to_owned());
        let log = Log::new("/x/postgres.log".into());
        assert_eq!(log.explain("it ended", &said), "it ended: no room; see /x/postgres.log");
        assert_eq!(log.explain("it ended", &Said(String::new())), "it ended; see /x/postgres.log");
    }
}

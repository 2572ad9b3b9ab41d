//! The account the server runs under: PostgreSQL refuses root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, geteuid};
use serde::{Deserialize, Serialize};

use super::unavailable;
use crate::{Error, Result};

/// Whom the server's programs run as when this process is root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// `postgres`, else `nobody`; None when this process is not root and starts the server as itself.
    pub(super) fn for_server() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            let found = User::from_name(name).map_err(|e| Error::io(format!("looking up user {name}"), e.into()))?;
            if let Some(user) = found {
                return Ok(Some(Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(unavailable("PostgreSQL does not run as root, and there is neither a user postgres nor nobody; add one"))
    }

    /// Makes `command` run as this account; std then also drops root's supplementary groups.
    pub(super) fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory to this account.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(|e| Error::io(format!("giving {} to user {}", path.display(), self.name), e))
    }

    /// Refuses a directory that this account cannot enter: a root-only home for instance.
    pub(super) fn check_reach(&self, dir: &Path) -> Result<()> {
        self.barrier(dir).map_or(Ok(()), |closed| {
            let (dir, name, closed) = (dir.display(), &self.name, closed.display());
            Err(unavailable(format!(
                "the server runs as user {name}, who cannot enter {closed} and so not reach {dir}; choose another place"
            )))
        })
    }

    /// The outermost directory on the way to `dir` that this account cannot enter.
    pub(super) fn barrier(&self, dir: &Path) -> Option<PathBuf> {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mut way: Vec<&Path> = dir.ancestors().collect();
        way.reverse();
        let closed = |step: &Path| {
            // What cannot be seen, or does not exist yet, is not known to be closed.
            fs::metadata(step).is_ok_and(|found| {
                let shift = if found.uid() == self.uid {
                    6
                } else if found.gid() == self.gid {
                    3
                } else {
                    0
                };
                found.is_dir() && (found.mode() >> shift) & 1 == 0
            })
        };
        way.into_iter().find(|step| closed(step)).map(Path::to_owned)
    }
}

//! A running server as its `postmaster.pid` tells it, and how one is ended.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Halt;

/// How often a process that should end is looked at; a throwaway server takes some 20 ms.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The contents of a `postmaster.pid`.
///
/// Lines: pid, data directory, start time, port, socket directory, address, shared memory key, state.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    ready: bool,
}

impl Postmaster {
    /// The server on the cluster in `data`, if one wrote its file completely and is still there.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let [pid, _, _, port, socket_dir, _, _, state, ..] = lines[..] else { return None };
        let (pid, port) = (pid.parse().ok()?, port.parse().ok()?);
        is_alive(pid).then(|| Self { pid, port, socket_dir: socket_dir.into(), ready: state == "ready" })
    }

    /// Whether it takes connections: it says so, and its socket answers.
    pub(super) fn is_ready(&self) -> bool {
        self.ready && UnixStream::connect(self.socket_dir.join(format!(".s.PGSQL.{}", self.port))).is_ok()
    }
}

/// Whether a process of this id runs, ours or another user's.
///
/// On Linux one that has ended and that nobody has reaped (the first process of many containers never does)
/// does not count.
pub(super) fn is_alive(pid: u32) -> bool {
    let exists = pid.try_into().is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
    // "23613 (postgres) Z 1 …": the name may hold anything, so look behind its last bracket.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    exists && !stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// Ends the server `pid`, first as asked, then more and more roughly; false when even SIGKILL did not.
///
/// `is_gone` tells when it has ended: a parent asks for the exit code, anyone else looks at the pid file.
pub(super) fn end(pid: u32, how: Halt, mut is_gone: impl FnMut() -> bool) -> bool {
    let steps = [(Signal::SIGINT, 30), (Signal::SIGQUIT, 6), (Signal::SIGKILL, 5)];
    let skipped = match how {
        Halt::Fast => 0,
        Halt::Immediate => 1,
        Halt::Kill => 2,
    };
    let Ok(pid) = pid.try_into().map(Pid::from_raw) else { return false };
    for (signal, seconds) in steps.into_iter().skip(skipped) {
        // It may have gone by itself a moment ago; `is_gone` tells.
        let _ = kill(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            if is_gone() {
                return true;
            }
            sleep(LOOK_EVERY);
        }
    }
    false
}

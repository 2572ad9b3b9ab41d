//! The process between the worker and a command, and all that happens between fork and exec.
//!
//! ```text
//!   worker ─fork─► guardian ─fork─► command ─► its children, wherever they hide
//!      └── socket ────┘ B: heartbeat · T: ask to stop · K, or the worker's end: kill all
//!                       back: the command's status
//! ```
//!
//! A process group alone is not enough: a grandchild that called `setsid` has left it, and nothing would tell a
//! group that its worker was killed. The guardian never executes another program. On Linux whatever
//! loses its parent below it becomes its child, so it finds every descendant, kills until none is left, and only
//! then ends itself. The socket tells it that the worker is gone, missing heartbeats tell that it is frozen.
//!
//! **In** a prepared command, one socket. **Out** the command's wait status, then the socket's end when nobody is
//! left. **Lock** none. **Crash** of the worker: the socket ends, all are killed at once; of the guardian: the
//! kernel kills the command (Linux), and the worker reports a failure.
//!
//! Both processes come from a process with threads, so until exec only system calls may be made: nothing here
//! allocates, locks or panics.
#![expect(unsafe_code, reason = "fork, and the calls between fork and exec, are unsafe")]

mod watch;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::libc::{self, c_int};

use watch::Guardian;

/// To the guardian: SIGTERM for the command and all its descendants.
pub(super) const TERMINATE: u8 = b'T';
/// To the guardian: SIGKILL for all of them. The end of the socket means the same.
pub(super) const KILL: u8 = b'K';
/// To the guardian: the worker's heartbeat was heard. Without one for a lease, all are killed.
pub(super) const BEAT: u8 = b'B';
/// From the guardian, after the command's status: it left processes behind, which were killed.
pub(super) const LEFT: u8 = b'L';

/// What the command's process changes about itself before exec.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) umask: libc::mode_t,
    /// Resource and limit, soft and hard alike.
    pub(super) limits: Vec<(c_int, libc::rlim_t)>,
    pub(super) account: Option<Ids>,
    pub(super) new_privileges: bool,
    /// How long all may go on without a heartbeat.
    pub(super) lease: Option<Duration>,
}

/// An account as the system calls want it.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    pub(super) uid: libc::uid_t,
    pub(super) gid: libc::gid_t,
    pub(super) groups: Vec<libc::gid_t>,
}

/// Lets `command` be started under a guardian that holds this end of the socket.
pub(super) fn guard(command: &mut Command, socket: OwnedFd, setup: Setup) {
    // the guardian's own group: neither Ctrl-C nor a kill of the worker's group is for it
    command.process_group(0);
    // SAFETY: `divide` makes system calls only
    unsafe {
        command.pre_exec(move || divide(socket.as_raw_fd(), &setup));
    }
}

/// Makes what this process has in memory and environment unreadable to others of the same account.
pub(super) fn hide() {
    #[cfg(target_os = "linux")]
    // SAFETY: changes a flag of this process
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// How high this process itself may go.
pub(super) fn hard_limit(resource: c_int) -> io::Result<libc::rlim_t> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes into a value of this frame
    sound(unsafe { libc::getrlimit(resource as _, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

/// After the first fork: one process stays as the guardian, a second becomes the command.
fn divide(socket: RawFd, setup: &Setup) -> io::Result<()> {
    // SAFETY: system calls on values of this frame
    unsafe {
        #[cfg(target_os = "linux")]
        sound(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
        let command = libc::fork();
        sound(command)?;
        if command > 0 {
            Guardian::new(socket, command, setup.lease).run();
        }
        sound(libc::setpgid(0, 0))?;
        close_on_exec();
        libc::umask(setup.umask);
        for &(resource, limit) in &setup.limits {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            sound(libc::setrlimit(resource as _, &raw const limit))?;
        }
        if let Some(ids) = &setup.account {
            sound(libc::setgroups(ids.groups.len() as _, ids.groups.as_ptr()))?;
            sound(libc::setgid(ids.gid))?;
            sound(libc::setuid(ids.uid))?;
        }
        #[cfg(target_os = "linux")]
        {
            if !setup.new_privileges {
                sound(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            }
            // the guardian has one thread, so its end is the end of the process
            sound(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        }
    }
    Ok(())
}

fn sound(answer: c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The command gets its three pipes and nothing else, also of what the worker itself was started with.
unsafe fn close_on_exec() {
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        for fd in 3..1024 {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

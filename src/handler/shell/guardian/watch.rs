//! What the guardian does as long as anybody below it lives.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::libc::{self, c_int, pid_t};

use super::{BEAT, KILL, LEFT, TERMINATE, hide};

/// How long what a command leaves behind may go on, to write its last words. In milliseconds.
const LINGER_MS: i64 = 1000;

/// One process, with nothing but system calls.
pub(super) struct Guardian {
    socket: RawFd,
    command: pid_t,
    /// Not reaped yet, so that its process id, and its group's, is no one else's.
    runs: bool,
    terminating: bool,
    killing: bool,
    /// When what the command left behind has to be gone.
    linger_until: Option<i64>,
    /// Those outside of the group that got SIGTERM last: a second one would mean something else to some.
    told: [pid_t; 64],
    told_next: usize,
    /// Milliseconds without a heartbeat after which another worker may have the run.
    lease: Option<i64>,
    beat: i64,
}

impl Guardian {
    pub(super) fn new(socket: RawFd, command: pid_t, lease: Option<Duration>) -> Self {
        Self {
            socket,
            command,
            runs: true,
            terminating: false,
            killing: false,
            linger_until: None,
            told: [0; 64],
            told_next: 0,
            lease: lease.map(|lease| lease.as_millis() as i64),
            beat: now_ms(),
        }
    }

    /// Lives as long as any descendant.
    pub(super) unsafe fn run(mut self) -> ! {
        unsafe {
            let signals = self.settle();
            let mut pause = 10;
            loop {
                self.reap();
                if self.linger_until.is_some_and(|until| now_ms() >= until) && !self.killing {
                    self.killing = true;
                    self.say(&[LEFT]);
                }
                let lease_left = self.lease.map(|lease| self.beat + lease - now_ms());
                if lease_left.is_some_and(|left| left <= 0) {
                    // the worker is frozen, or its control thread: it cannot see itself that its lease is over
                    self.killing = true;
                }
                let mut wait = if signals < 0 { 20 } else { lease_left.unwrap_or(-1) };
                if self.killing {
                    self.kill_all();
                    wait = pause;
                    pause = (pause * 2).min(1000);
                } else if let Some(until) = self.linger_until {
                    wait = (until - now_ms()).clamp(1, LINGER_MS);
                }
                self.listen(signals, wait as c_int);
            }
        }
    }

    /// Lets go of everything that is the worker's; answers what tells of children that ended, or -1.
    unsafe fn settle(&self) -> RawFd {
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            // the worker's signal handlers are still set here, and write into the worker's pipes
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::setpgid(self.command, self.command);
            close_all_but(self.socket);
            libc::chdir(c"/".as_ptr());
            hide();
            #[cfg(target_os = "linux")]
            {
                libc::prctl(libc::PR_SET_NAME, c"watchbell-guard".as_ptr(), 0, 0, 0);
                let mut children: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut children);
                libc::sigaddset(&raw mut children, libc::SIGCHLD);
                libc::signalfd(-1, &raw const children, libc::SFD_NONBLOCK)
            }
            #[cfg(not(target_os = "linux"))]
            -1
        }
    }

    /// Takes note of all that ended; ends itself with the last.
    unsafe fn reap(&mut self) {
        unsafe {
            let mut some = false;
            loop {
                let mut status = 0;
                let child = libc::waitpid(-1, &raw mut status, libc::WNOHANG);
                if child < 0 {
                    if errno() == libc::EINTR {
                        continue;
                    }
                    if errno() == libc::ECHILD && !self.left_in_group() {
                        libc::_exit(0);
                    }
                    break;
                }
                if child == 0 {
                    break;
                }
                some = true;
                if child == self.command {
                    self.runs = false;
                    self.say(&status.to_ne_bytes());
                    if !self.terminating {
                        self.linger_until = Some(now_ms() + LINGER_MS);
                    }
                }
            }
            if some && self.terminating && !self.killing {
                // some that hid behind a parent may be ours only now
                self.terminate_adopted();
            }
        }
    }

    /// Where orphans do not become our children, only the group says whether somebody is left.
    unsafe fn left_in_group(&self) -> bool {
        cfg!(not(target_os = "linux")) && unsafe { libc::kill(-self.command, 0) } == 0
    }

    /// Waits for an order, for the end of a child, or so many milliseconds.
    unsafe fn listen(&mut self, signals: RawFd, wait: c_int) {
        unsafe {
            let mut polled = [
                libc::pollfd { fd: self.socket, events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: signals, events: libc::POLLIN, revents: 0 },
            ];
            if libc::poll(polled.as_mut_ptr(), 2, wait) <= 0 {
                return;
            }
            if polled[1].revents != 0 {
                let mut ignored = [0_u8; 1024];
                libc::read(signals, ignored.as_mut_ptr().cast(), ignored.len());
            }
            if polled[0].revents != 0 {
                let mut order = 0_u8;
                let read = libc::read(self.socket, (&raw mut order).cast(), 1);
                match (read, order) {
                    (1, TERMINATE) => self.terminate_all(),
                    (1, KILL) => self.killing = true,
                    (1, BEAT) => self.beat = now_ms(),
                    (1, _) => {}
                    _ if read < 0 && errno() == libc::EINTR => {}
                    _ => {
                        // the worker is gone, or has dropped the run
                        self.killing = true;
                        libc::close(self.socket);
                        self.socket = -1;
                    }
                }
            }
        }
    }

    unsafe fn terminate_all(&mut self) {
        unsafe {
            self.terminating = true;
            self.linger_until = None;
            if self.runs {
                libc::kill(-self.command, libc::SIGTERM);
                libc::kill(-self.command, libc::SIGCONT); // one that is stopped would not hear it
            }
            self.terminate_adopted();
        }
    }

    /// Asks those that left the group and have lost their parents, each once.
    unsafe fn terminate_adopted(&mut self) {
        unsafe {
            each_child(|child| {
                if libc::getpgid(child) != self.command && !self.told.contains(&child) {
                    libc::kill(child, libc::SIGTERM);
                    self.told[self.told_next % 64] = child;
                    self.told_next = self.told_next.wrapping_add(1);
                }
            });
        }
    }

    /// One round: those whose parents die in it become ours for the next.
    unsafe fn kill_all(&self) {
        unsafe {
            let known = each_child(|child| {
                libc::kill(child, libc::SIGKILL);
            });
            if self.runs || !known {
                libc::kill(-self.command, libc::SIGKILL);
            }
        }
    }

    unsafe fn say(&self, bytes: &[u8]) {
        unsafe {
            libc::write(self.socket, bytes.as_ptr().cast(), bytes.len());
        }
    }
}

/// Calls `act` for every child there is, those included that lost their parents; false where that is not known.
#[cfg(target_os = "linux")]
unsafe fn each_child(mut act: impl FnMut(pid_t)) -> bool {
    unsafe {
        let list = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if list < 0 {
            return false;
        }
        let mut text = [0_u8; 4096];
        let read = libc::read(list, text.as_mut_ptr().cast(), text.len());
        libc::close(list);
        let mut child: pid_t = 0;
        // a number that the buffer cuts off is left to the next round
        for &byte in text.iter().take(usize::try_from(read).unwrap_or(0)) {
            if byte.is_ascii_digit() {
                child = child.wrapping_mul(10).wrapping_add(pid_t::from(byte - b'0'));
            } else if child > 0 {
                act(child);
                child = 0;
            }
        }
        read >= 0
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn each_child(_: impl FnMut(pid_t)) -> bool {
    false
}

/// Closes what the worker had open: its pipes would stay open here, and its connections.
unsafe fn close_all_but(kept: RawFd) {
    unsafe {
        #[cfg(target_os = "linux")]
        {
            let kept = kept.unsigned_abs();
            let below = kept == 0 || libc::syscall(libc::SYS_close_range, 0, kept - 1, 0) == 0;
            if below && libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0) == 0 {
                return;
            }
        }
        let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536);
        for fd in (0..most as RawFd).filter(|&fd| fd != kept) {
            libc::close(fd);
        }
    }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Milliseconds of a clock that nobody sets.
fn now_ms() -> i64 {
    // SAFETY: writes into a value of this frame
    unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        now.tv_sec as i64 * 1000 + now.tv_nsec as i64 / 1_000_000
    }
}

//! A command that runs: our end of its guardian, and its three pipes.

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time;

use super::guardian::{self, BEAT, KILL, LEFT, Setup, TERMINATE};
use crate::handler::{Context, StopReason, Stream};

/// Read at once from a pipe, which holds 64 KiB.
const READ: usize = 32 * 1024;

/// Of the grace, what is kept for the kill itself and for reading what is left in the pipes.
const RESERVE_MAX: Duration = Duration::from_millis(500);

/// How long the pipes are read after the last process ended. They end with it, unless it gave them away.
const READ_ON: Duration = Duration::from_secs(1);

/// Longest end of standard error that stands in a message.
const LAST_WORDS: usize = 1024;

/// A command with all its descendants. Dropped, all of them are killed.
#[derive(Debug)]
pub(super) struct Process {
    guardian: Child,
    socket: UnixStream,
    /// The same for heartbeats; the context has it only as long as this.
    _pulse: Arc<StdStream>,
    status: Option<ExitStatus>,
    said: Vec<u8>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// None when the guardian was killed.
    pub(super) status: Option<ExitStatus>,
    /// It was asked to stop, and did not end before by itself.
    pub(super) stopped: Option<Stopped>,
    /// The end of what it wrote to standard error.
    pub(super) last_words: Vec<u8>,
}

/// How a command took it that it had to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It ended after SIGTERM.
    Asked,
    /// It had this long, and was killed.
    Killed(Duration),
}

/// Starts a command and stays with it to its end, which comes at most a grace after the context says stop.
pub(super) async fn run(command: Command, setup: Setup, stdin: Option<Vec<u8>>, ctx: &Context) -> io::Result<Ended> {
    let (mut process, pipes) = Process::spawn(command, setup, stdin.is_some(), ctx)?;
    let mut last_words = vec![];
    let printing = async {
        tokio::join!(
            feed(pipes.0, stdin),
            pump(pipes.1, |bytes| ctx.output(Stream::Stdout, bytes)),
            pump(pipes.2, |bytes| {
                ctx.output(Stream::Stderr, bytes);
                keep_end(&mut last_words, bytes);
            })
        )
    };
    let (stopped, ()) = {
        tokio::pin!(printing);
        let ending = process.end(ctx);
        tokio::pin!(ending);
        let mut printed = false;
        let stopped = loop {
            tokio::select! {
                stopped = &mut ending => break stopped,
                _ = &mut printing, if !printed => printed = true,
            }
        };
        if !printed {
            let _ = time::timeout(READ_ON, printing).await;
        }
        (stopped, ())
    };
    if process.said.contains(&LEFT) {
        ctx.log("[processes that the command left behind were killed]");
    }
    Ok(Ended { status: process.status, stopped, last_words })
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

impl Process {
    fn spawn(mut command: Command, setup: Setup, stdin: bool, ctx: &Context) -> io::Result<(Self, Pipes)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let pulse = Arc::new(ours.try_clone()?);
        let socket = UnixStream::from_std(ours)?;
        guardian::guard(&mut command, theirs.into(), setup);
        command.stdin(if stdin { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
        // dropped with its end of the socket: the guardian's is the only one that is left
        let mut guardian = tokio::process::Command::from(command).spawn()?;
        let pipes = (guardian.stdin.take(), guardian.stdout.take(), guardian.stderr.take());
        let weak = Arc::downgrade(&pulse);
        ctx.on_beat(move || {
            if let Some(socket) = weak.upgrade() {
                // a full socket or none at all: nobody waits for this one
                let _ = (&*socket).write(&[BEAT]);
            }
        });
        Ok((Self { guardian, socket, _pulse: pulse, status: None, said: vec![] }, pipes))
    }

    /// Waits until nobody is left; when the context says stop, asks, and then kills.
    async fn end(&mut self, ctx: &Context) -> Option<Stopped> {
        tokio::select! {
            biased;
            () = self.over() => return None,
            () = ctx.cancelled() => {}
        }
        // one that has ended and only left something behind was not stopped
        let was_over = self.status.is_some();
        let grace = ctx.grace();
        let patience = grace - (grace / 5).min(RESERVE_MAX);
        let mut how = Stopped::Asked;
        if patience.is_zero() || !self.tell(TERMINATE) || time::timeout(patience, self.over()).await.is_err() {
            how = Stopped::Killed(patience);
            self.tell(KILL);
            self.over().await;
        }
        (!was_over).then_some(how)
    }

    /// Completes when the guardian has ended, and so everybody.
    async fn over(&mut self) {
        let mut bytes = [0; 16];
        loop {
            // an error means the same as the end: nobody is there
            let read = self.socket.read(&mut bytes).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            self.said.extend_from_slice(&bytes[..read]);
            if let Some(status) = self.said.first_chunk::<4>().filter(|_| self.status.is_none()) {
                self.status = Some(ExitStatus::from_raw(i32::from_ne_bytes(*status)));
                self.said.drain(..4);
            }
        }
        let _ = self.guardian.wait().await;
    }

    /// One byte into an empty socket: false only when nobody is there.
    fn tell(&self, order: u8) -> bool {
        self.socket.try_write(&[order]).is_ok()
    }
}

/// Writes what the command reads. One that does not read it all is no error.
async fn feed(pipe: Option<ChildStdin>, bytes: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(bytes)) = (pipe, bytes) {
        let _ = pipe.write_all(&bytes).await;
    }
}

/// Reads to the end, always: a command never waits for the database.
async fn pump(pipe: Option<impl AsyncReadExt + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut bytes = vec![0; READ];
    while let Ok(read) = pipe.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        take(&bytes[..read]);
    }
}

/// Keeps the last bytes of all.
fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    let more = &bytes[bytes.len().saturating_sub(LAST_WORDS)..];
    let excess = (kept.len() + more.len()).saturating_sub(LAST_WORDS);
    kept.drain(..excess);
    kept.extend_from_slice(more);
}

impl Stopped {
    /// In words.
    pub(super) fn words(self, reason: Option<&StopReason>) -> String {
        let why = match reason {
            Some(StopReason::LeaseLost) => " (the worker lost its lease)",
            _ => "",
        };
        match self {
            Self::Asked => format!("stopped by SIGTERM{why}"),
            Self::Killed(patience) if patience.is_zero() => format!("killed by SIGKILL{why}"),
            Self::Killed(patience) => format!("did not end within {patience:?} after SIGTERM and was killed{why}"),
        }
    }
}

//! The worker processes of the demo.

use std::fmt;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time;

use crate::error::{Error, Result};
use crate::server::{self, DEFAULT_PORT};

/// How long a worker that was told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(4);

/// The workers, also those that are gone.
pub(super) struct Fleet {
    url: String,
    queue: &'static str,
    members: Vec<Member>,
    /// Where the next ones listen for HTTP; a dead one's address is for its successor.
    addresses: Vec<SocketAddr>,
}

/// One of them.
pub(super) struct Member {
    pub(super) label: String,
    pub(super) pid: u32,
    address: Option<SocketAddr>,
    /// None when it is gone.
    child: Option<Child>,
}

impl Fleet {
    pub(super) async fn start(count: u32, url: &str, queue: &'static str) -> Result<Self> {
        let mut fleet = Self { url: url.to_owned(), queue, members: vec![], addresses: vec![] };
        for port in (DEFAULT_PORT..).take(count as usize) {
            fleet.addresses.push(server::free(port).await?);
            fleet.add()?;
        }
        Ok(fleet)
    }

    /// Where the metrics of each worker are.
    pub(super) fn pages(&self) -> String {
        let there = self.members.iter().filter_map(|member| Some((&member.label, member.address?)));
        let pages: Vec<_> = there.map(|(label, address)| format!("http://{address}/metrics ({label})")).collect();
        pages.join(", ")
    }

    /// Starts one more.
    pub(super) fn add(&mut self) -> Result<&Member> {
        let label = format!("w{}", self.members.len() + 1);
        let program = std::env::current_exe().map_err(|e| Error::io("finding this program's own file", e))?;
        let mut command = Command::new(program);
        command
            .args([
                "--log-level",
                "error",
                "worker",
                "run",
                "--config",
                "none",
                "--exit-with-parent",
                "--demo-handlers",
                "--enable-sql",
            ])
            .args(["--slots", "10", "--pool", "4", "--drain-timeout", "1s", "--name", &label])
            .args(["--queues", self.queue]);
        let address = self.addresses.pop();
        if let Some(address) = address {
            command.args(["--listen", &address.to_string(), "--listen-nearby"]);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WATCHBELL_")) {
            command.env_remove(name);
        }
        // By the environment: arguments can be read by everyone on the machine.
        command.env("WATCHBELL_DATABASE_URL", &self.url);
        // Our end of its standard input is what keeps it alive.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        // A group of its own: Ctrl-C in the terminal is for the demo alone.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(|e| Error::io("starting a worker", e))?;
        let pid = child.id().unwrap_or_default();
        self.members.push(Member { label, pid, address, child: Some(child) });
        Ok(&self.members[self.members.len() - 1])
    }

    /// Those that are there.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.members.iter().filter(|member| member.child.is_some()).map(|member| member.pid)
    }

    /// What a process is called here.
    pub(super) fn label(&self, pid: u32) -> &str {
        let member = self.members.iter().rev().find(|member| member.pid == pid);
        member.map_or("", |member| &member.label)
    }

    /// Sends SIGKILL.
    pub(super) fn kill(&mut self, pid: u32) -> Result<()> {
        let member = self.members.iter_mut().find(|member| member.pid == pid);
        match member.and_then(|member| member.child.as_mut()) {
            Some(child) => child.start_kill().map_err(|e| Error::io("killing a worker", e)),
            None => Ok(()),
        }
    }

    /// One that has ended since the last call.
    pub(super) fn ended(&mut self) -> Option<(u32, ExitStatus)> {
        self.members.iter_mut().find_map(|member| {
            let status = member.child.as_mut()?.try_wait().ok()??;
            member.child = None;
            self.addresses.extend(member.address.take());
            Some((member.pid, status))
        })
    }

    /// Ends all of them.
    pub(super) async fn stop(&mut self) {
        let mut children: Vec<Child> = self.members.iter_mut().filter_map(|member| member.child.take()).collect();
        children.iter_mut().for_each(|child| drop(child.stdin.take()));
        for child in &mut children {
            if time::timeout(STOP_MAX, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, member) in self.members.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{} (pid {})", member.label, member.pid)?;
        }
        Ok(())
    }
}

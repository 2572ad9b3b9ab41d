//! Our end of the supervisor process.

use std::io::{self, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::cluster::Cluster;
use super::orders::{Orders, Ready, Report, VERB, receive, send};
use super::postmaster::{Postmaster, end, is_alive};
use super::supervisor::remove;
use super::{Halt, unavailable};
use crate::{Error, Result};

/// A supervisor and its server. Closing `orders` tells it to finish.
#[derive(Debug)]
pub(super) struct Supervised {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    pub(super) cluster: Cluster,
    throwaway: bool,
}

impl Supervised {
    /// Starts `program` as supervisor and waits until the server takes connections.
    pub(super) fn launch(program: &Path, orders: &Orders, cluster: &Cluster) -> Result<(Self, Ready)> {
        let doing = || format!("starting {} as supervisor", program.display());
        let mut command = Command::new(program);
        command.arg(VERB).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: Ctrl-C in the terminal is for us alone.
        let mut child = command.process_group(0).spawn().map_err(|e| Error::io(doing(), e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::io(doing(), io::ErrorKind::BrokenPipe.into()));
        };
        let (reports, throwaway) = (BufReader::new(stdout), orders.throwaway);
        let mut supervisor = Self { child, orders: stdin, reports, cluster: cluster.clone(), throwaway };
        match supervisor.ask(orders)? {
            Report::Ready(ready) => Ok((supervisor, ready)),
            answer => Err(unavailable(format!("the supervisor answered {answer:?}"))),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one order and waits for the answer.
    pub(super) fn ask(&mut self, order: &impl serde::Serialize) -> Result<Report> {
        let report = send(&mut self.orders, order).and_then(|()| receive(&mut self.reports));
        match report.map_err(|e| Error::io("talking to the server's supervisor", e))? {
            Some(Report::Failed(problem)) => Err(unavailable(problem)),
            Some(report) => Ok(report),
            None => Err(unavailable("its supervisor ended; the program given as supervisor must call supervise()")),
        }
    }

    /// Lets the supervisor finish; if it was killed, does its work.
    pub(super) fn finish(self, ready: &Ready) -> Result<()> {
        let Self { mut child, orders, cluster, throwaway, .. } = self;
        drop(orders);
        let status = child.wait().map_err(|e| Error::io("waiting for the server's supervisor", e))?;
        if status.success() {
            return Ok(());
        }
        // Its file proves that the id is still the server's and not given to some other process.
        let is_server = Postmaster::of(&cluster.data()).is_some_and(|found| found.pid == ready.pid);
        let how = if throwaway { Halt::Immediate } else { Halt::Fast };
        if is_server && !end(ready.pid, how, || !is_alive(ready.pid)) {
            return Err(Error::Conflict(format!("the server, process {}, does not end", ready.pid)));
        }
        if cluster.is_elsewhere(&ready.socket_dir) {
            remove(&ready.socket_dir);
        }
        if throwaway {
            remove(&cluster.dir);
        }
        Ok(())
    }
}

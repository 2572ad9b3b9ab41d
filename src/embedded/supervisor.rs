//! The process between us and the server: it outlives us by the moment it takes to end the server.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use super::Halt;
use super::cluster::Cluster;
use super::orders::{Order, Orders, Ready, Report, VERB, receive, send};
use super::postmaster::{Postmaster, end};

/// A start takes 50 ms, and as long as recovery after a crash needs.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a start tries again while the sessions of a killed server still hold its shared memory.
const PREDECESSOR_MAX: Duration = Duration::from_secs(15);

/// Lives as a supervisor if this process was started as one: call it first thing in `main`.
///
/// Returns None at once in any other process. A supervisor returns its exit code when its parent is gone
/// and the server has ended.
pub fn supervise() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != VERB {
        return None;
    }
    // From here on only the end of standard input, or kill -9, ends this process. The server gets an empty
    // mask again: std resets it in every child.
    if let Err(e) = SigSet::all().thread_block() {
        eprintln!("watchbell supervisor: blocking signals: {e}");
        return Some(ExitCode::FAILURE);
    }
    close_inherited();
    let mut orders_in = BufReader::new(io::stdin());
    let orders = match receive::<Orders>(&mut orders_in) {
        Ok(Some(orders)) => orders,
        Ok(None) => return Some(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("watchbell supervisor: reading orders: {e}");
            return Some(ExitCode::FAILURE);
        }
    };
    let supervisor = Supervisor::new(orders);
    let (orders_tx, orders_rx) = mpsc::channel();
    let gone = Arc::clone(&supervisor.parent_gone);
    thread::spawn(move || {
        while let Ok(Some(order)) = receive(&mut orders_in) {
            if orders_tx.send(order).is_err() {
                break;
            }
        }
        gone.store(true, Ordering::Release);
    });
    Some(supervisor.run(&orders_rx))
}

/// Closes what the parent left open to its children, except for the standard three.
fn close_inherited() {
    let Ok(open) = fs::read_dir("/dev/fd") else { return };
    let open: Vec<i32> = open.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The descriptor of the listing itself is among them and closed already.
        let _ = nix::unistd::close(fd);
    }
}

struct Supervisor {
    orders: Orders,
    cluster: Cluster,
    server: Option<Child>,
    /// Held until this process ends: the next supervisor of this directory waits for it.
    lock: Option<File>,
    /// A socket directory outside of the cluster's, to be removed with the server.
    elsewhere: Option<PathBuf>,
    parent_gone: Arc<AtomicBool>,
}

impl Supervisor {
    fn new(orders: Orders) -> Self {
        let cluster = Cluster { dir: orders.dir.clone() };
        let parent_gone = Arc::new(AtomicBool::new(false));
        Self { orders, cluster, server: None, lock: None, elsewhere: None, parent_gone }
    }

    /// Starts the server, follows orders, and ends it when the parent is gone.
    fn run(mut self, orders: &Receiver<Order>) -> ExitCode {
        let mut started = self.begin();
        loop {
            let report = started.map_or_else(Report::Failed, |ready| ready.map_or(Report::Halted, Report::Ready));
            // A parent that is gone does not read; the end of its orders is seen below.
            let _ = send(&mut io::stdout(), &report);
            started = match self.next(orders) {
                Some(Order::Start) => self.start(false).map(Some),
                Some(Order::Halt(how)) => self.halt(how).map(|()| None),
                None => break,
            };
        }
        self.finish()
    }

    /// Waits for an order, meanwhile taking note of a server that ended by itself; None at the parent's end.
    fn next(&mut self, orders: &Receiver<Order>) -> Option<Order> {
        loop {
            match orders.recv_timeout(Duration::from_millis(500)) {
                Ok(order) => return Some(order),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.reap(),
            }
        }
    }

    /// Makes the cluster if need be, under the directory's lock, and starts it.
    fn begin(&mut self) -> Result<Option<Ready>, String> {
        let account = self.orders.account.clone();
        self.cluster.create(account.as_ref()).map_err(|e| e.to_string())?;
        self.lock = Some(self.cluster.lock("supervisor.lock").map_err(|e| e.to_string())?);
        let first = self.cluster.major().is_none();
        if first {
            let last_fsync = self.orders.settings.iter().rev().find(|(name, _)| name == "fsync");
            let may_lose = self.orders.throwaway || last_fsync.is_some_and(|(_, value)| value == "off");
            self.cluster.init(&mut self.program("initdb"), account.as_ref(), may_lose)?;
        }
        self.start(first).map(Some)
    }

    fn start(&mut self, first: bool) -> Result<Ready, String> {
        self.reap();
        if self.server.is_some() {
            return Err("the server is running".to_owned());
        }
        let begun = Instant::now();
        let mut anew = false;
        loop {
            let (log, before) = self.cluster.log().open().map_err(|e| e.to_string())?;
            match self.attempt(log, anew) {
                Ok((pid, port, socket_dir)) => return Ok(Ready { pid, port, socket_dir, first }),
                Err(problem) => {
                    let said = self.cluster.log().since(before);
                    anew = said.port_is_taken();
                    let try_again = anew || said.predecessor_is_there();
                    if self.is_over() || !try_again || begun.elapsed() > PREDECESSOR_MAX {
                        return Err(self.cluster.log().explain(&problem, &said));
                    }
                    thread::sleep(Duration::from_millis(if anew { 0 } else { 100 }));
                }
            }
        }
    }

    /// Runs the server until it is ready or has ended; where it then listens.
    fn attempt(&mut self, log: File, anew: bool) -> Result<(u32, u16, PathBuf), String> {
        let port = self.cluster.port(anew).map_err(|e| e.to_string())?;
        let socket_dir = match self.elsewhere.clone() {
            Some(dir) => dir,
            None => self.cluster.socket_dir(self.orders.account.as_ref()).map_err(|e| e.to_string())?,
        };
        self.elsewhere = self.cluster.is_elsewhere(&socket_dir).then(|| socket_dir.clone());
        let mut postgres = self.postgres(port, &socket_dir);
        postgres.stdin(Stdio::null()).stdout(log.try_clone().map_err(|e| e.to_string())?).stderr(log);
        let mut child =
            postgres.spawn().map_err(|e| format!("cannot start {}: {e}", self.orders.programs.display()))?;
        let outcome = self.await_ready(&mut child).map(|()| (child.id(), port, socket_dir));
        if outcome.is_ok() {
            self.server = Some(child);
        } else {
            end_child(&mut child, Halt::Immediate);
        }
        outcome
    }

    fn postgres(&self, port: u16, socket_dir: &Path) -> Command {
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.cluster.data()).arg("-k").arg(socket_dir).args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "timezone=UTC", "log_timezone=UTC", "max_connections=200"] {
            postgres.args(["-c", setting]);
        }
        for (name, value) in &self.orders.settings {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        postgres
    }

    fn await_ready(&self, server: &mut Child) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let found = Postmaster::of(&self.cluster.data());
            if found.is_some_and(|found| found.pid == server.id() && found.is_ready()) {
                return Ok(());
            }
            if let Ok(Some(status)) = server.try_wait() {
                return Err(format!("the server ended at once ({status})"));
            }
            if self.is_over() {
                return Err("the parent process is gone".to_owned());
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("the server was not ready within {} s", START_MAX.as_secs()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn halt(&mut self, how: Halt) -> Result<(), String> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if end_child(&mut server, how) {
            return Ok(());
        }
        let pid = server.id();
        self.server = Some(server);
        Err(format!("the server, process {pid}, does not end"))
    }

    /// Takes note of a server that ended by itself.
    fn reap(&mut self) {
        self.server.take_if(|server| !matches!(server.try_wait(), Ok(None)));
    }

    /// The last act: ends the server and removes what must not stay.
    fn finish(mut self) -> ExitCode {
        // Nobody will read a throwaway's data again, so it need not write a checkpoint.
        let how = if self.orders.throwaway { Halt::Immediate } else { Halt::Fast };
        let ended = self.halt(how);
        if let Some(dir) = &self.elsewhere {
            remove(dir);
        }
        if self.orders.throwaway {
            remove(&self.orders.dir);
        }
        if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn is_over(&self) -> bool {
        self.parent_gone.load(Ordering::Acquire)
    }

    /// A command that runs one of PostgreSQL's programs in a clean environment as the right account.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.orders.programs.join(name));
        // LC_ALL=C also keeps the server's messages in English: `Said` looks for some of them.
        command.current_dir("/").env_clear().env("LC_ALL", "C").env("PATH", &self.orders.programs);
        if let Some(account) = &self.orders.account {
            account.run(&mut command);
        }
        command
    }
}

fn end_child(server: &mut Child, how: Halt) -> bool {
    end(server.id(), how, || !matches!(server.try_wait(), Ok(None)))
}

/// Removes a directory; tried again while sessions of a killed server may still write into it.
pub(super) fn remove(dir: &Path) {
    for _ in 0..50 {
        if fs::remove_dir_all(dir).is_ok() || !dir.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

//! A server that runs as long as its handle lives.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::{env, io};

use super::account::Account;
use super::binaries::{Binaries, OLDEST_MAJOR};
use super::cluster::{Cluster, random_hex};
use super::orders::{Order, Orders, Ready, Report};
use super::postmaster::Postmaster;
use super::supervised::Supervised;
use super::{Halt, Keep, Options, download, login, unavailable};
use crate::{Error, Result};

/// A private PostgreSQL server, stopped when this is dropped or this process ends in any way.
///
/// If another process runs the server of the same directory already, this attaches to it: it is not
/// stopped at this one's end, and it ends with that other process.
#[derive(Debug)]
pub struct Server {
    url: String,
    admin_url: String,
    ready: Ready,
    /// None when attached to the server of another process.
    supervisor: Option<Supervised>,
}

impl Server {
    /// Starts a server and makes its login: 1 s the first time, 0.1 s again.
    ///
    /// # Errors
    /// One sentence when no programs can be had, the data is of another version, the directory is out of
    /// the server's reach, or the server does not start (with its own last words).
    pub async fn start(options: Options) -> Result<Self> {
        let cluster = Cluster { dir: directory(&options.keep)? };
        let programs = programs(&cluster, options.download).await?;
        let launched = blocking({
            let cluster = cluster.clone();
            move || Launched::new(&cluster, &programs, options)
        });
        let Launched { ready, supervisor, password, is_new_password, start_lock } = launched.await?;
        let mut server = Self { url: String::new(), admin_url: String::new(), ready, supervisor };
        server.address(&password);
        if server.supervisor.is_some() || is_new_password {
            login::prepare(&server.admin_url, &password, is_new_password).await?;
        }
        // Only now may another process attach: there is a login to attach with.
        drop(start_lock);
        Ok(server)
    }

    /// For the login `watchbell`, no superuser, who owns the database `watchbell`; over TCP with its password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For the superuser `postgres`, over the Unix socket and so for this account and root only.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The process id of the server.
    pub fn postmaster_pid(&self) -> u32 {
        self.ready.pid
    }

    /// The process id of the supervisor; None when the server is another process's.
    pub fn supervisor_pid(&self) -> Option<u32> {
        self.supervisor.as_ref().map(|supervisor| supervisor.pid())
    }

    /// Whether this start made the cluster.
    pub fn is_first_start(&self) -> bool {
        self.ready.first
    }

    /// Where the server's data, log and socket are.
    pub fn dir(&self) -> Option<&Path> {
        self.supervisor.as_ref().map(|supervisor| supervisor.cluster.dir.as_path())
    }

    /// Takes the server down and keeps its data, throwaway or not, for [`Server::resume`].
    pub async fn halt(&mut self, how: Halt) -> Result<()> {
        self.order(Order::Halt(how)).await.map(drop)
    }

    /// Starts the server again after [`Server::halt`] or its own end, at the same address when that is free.
    pub async fn resume(&mut self) -> Result<()> {
        if let Report::Ready(ready) = self.order(Order::Start).await? {
            let same_port = ready.port == self.ready.port;
            self.ready = ready;
            if !same_port {
                let password = self.supervisor.as_ref().map(|supervisor| supervisor.cluster.password());
                let (password, _) = password.transpose()?.unwrap_or_default();
                self.address(&password);
            }
        }
        Ok(())
    }

    /// Stops the server and waits for its end; dropping does the same but blocks the thread.
    pub async fn stop(mut self) -> Result<()> {
        let (ready, supervisor) = (self.ready.clone(), self.supervisor.take());
        blocking(move || supervisor.map_or(Ok(()), |supervisor| supervisor.finish(&ready))).await
    }

    async fn order(&mut self, order: Order) -> Result<Report> {
        let owner = self.supervisor.take();
        let mut owner = owner.ok_or_else(|| Error::Conflict("the server belongs to another process".to_owned()))?;
        let (owner, report) = blocking(move || {
            let report = owner.ask(&order);
            Ok((owner, report))
        })
        .await?;
        self.supervisor = Some(owner);
        report
    }

    fn address(&mut self, password: &str) {
        let (port, name) = (self.ready.port, login::NAME);
        // The server offers no TLS; asking for it would cost a round trip.
        self.url = format!("postgres://{name}:{password}@127.0.0.1:{port}/{name}?sslmode=disable");
        let socket_dir = percent_encoded(&self.ready.socket_dir);
        self.admin_url = format!("postgres://postgres@localhost:{port}/postgres?host={socket_dir}&sslmode=disable");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // Nobody to tell; what did not end is in the supervisor's care.
            let _ = supervisor.finish(&self.ready);
        }
    }
}

/// What the blocking half of a start leaves.
struct Launched {
    ready: Ready,
    supervisor: Option<Supervised>,
    password: String,
    is_new_password: bool,
    start_lock: Option<File>,
}

impl Launched {
    fn new(cluster: &Cluster, programs: &Binaries, options: Options) -> Result<Self> {
        let throwaway = options.keep == Keep::Throwaway;
        let account = Account::for_server()?;
        if let Some(account) = &account {
            account.check_reach(&programs.dir)?;
        }
        let mut start_lock = None;
        if !throwaway {
            cluster.create(account.as_ref())?;
            start_lock = Some(cluster.lock("start.lock")?);
            if let Some(found) = Postmaster::of(&cluster.data()).filter(Postmaster::is_ready) {
                let (password, is_new_password) = cluster.password()?;
                let Postmaster { pid, port, socket_dir, .. } = found;
                let ready = Ready { pid, port, socket_dir, first: false };
                return Ok(Self { ready, supervisor: None, password, is_new_password, start_lock });
            }
        }
        let Options { settings, supervisor, .. } = options;
        let orders = Orders { programs: programs.dir.clone(), dir: cluster.dir.clone(), throwaway, settings, account };
        let (supervisor, ready) = Supervised::launch(&supervisor, &orders, cluster)?;
        // Made by the supervisor's start for a throwaway: the directory is there only now.
        let (password, is_new_password) = cluster.password()?;
        Ok(Self { ready, supervisor: Some(supervisor), password, is_new_password, start_lock })
    }
}

/// The directory of a kept cluster, absolute; or the name of a fresh one, which the supervisor makes.
fn directory(keep: &Keep) -> Result<PathBuf> {
    match keep {
        Keep::At(dir) => std::path::absolute(dir).map_err(|e| Error::io(format!("finding {}", dir.display()), e)),
        Keep::Throwaway => {
            let temporary = env::temp_dir();
            let closed = Account::for_server()?.and_then(|account| account.barrier(&temporary)).is_some();
            let parent = if closed { PathBuf::from("/tmp") } else { temporary };
            Ok(parent.join(format!("watchbell-{}", random_hex(6)?)))
        }
    }
}

/// The programs for this cluster: of the version that made its data, else the newest.
async fn programs(cluster: &Cluster, may_download: bool) -> Result<Binaries> {
    let major = cluster.major();
    if let Some(old) = major.filter(|major| *major < OLDEST_MAJOR) {
        let dir = cluster.dir.display();
        return Err(unavailable(format!(
            "the data in {dir} is of PostgreSQL {old}, older than {OLDEST_MAJOR}; move it away, or give --database-url"
        )));
    }
    let found = blocking(move || major.map_or_else(Binaries::find, Binaries::of_major)).await;
    match found {
        Err(_) if may_download && env::var_os("WATCHBELL_PG_BIN").is_none() => download::binaries(major).await,
        found => found,
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::io("running a blocking call", io::Error::other(e)))?
}

/// For the value of a parameter in an address: everything but letters, digits and `-._~/` as `%xx`.
fn percent_encoded(path: &Path) -> String {
    let mut encoded = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

//! A private PostgreSQL server, for trying things out, for small installations and for tests.
//!
//! Three processes take part:
//! ```text
//! this process ──stdin: orders, then held open──► supervisor ──child──► postgres (as `postgres` or `nobody` if we are root)
//!              ◄──stdout: one report an order────      (same program, hidden first argument)
//! ```
//! The supervisor stops the server when its standard input ends. The kernel closes that pipe however this
//! process ends, kill -9 included, and from whichever thread the server was started; a death signal (Linux
//! only) would instead fire when the *thread* that started the server ends. It blocks every signal and sits
//! in a process group of its own, so that Ctrl-C in a terminal reaches neither it nor the server before this
//! process has drained. Should the supervisor itself be killed, [`Server::stop`] ends the server by its pid.
//!
//! A program that uses this module calls [`supervise`] first thing in `main`.
//!
//! A directory given with [`Keep::At`] holds:
//! ```text
//! data/         the cluster, 0700; made as data.new and renamed, so a killed first start leaves nothing half done
//! run/          the socket, 0700: whoever can enter may log in as superuser (moved to /tmp when its path is too long)
//! password      0600, of the login `watchbell` over TCP, kept across starts
//! port          taken again when free, so that a written-down address stays good
//! postgres.log  set aside as postgres.log.1 at a start when above 10 MB
//! start.lock    held by who is starting        supervisor.lock    held by a living supervisor
//! ```
//!
//! ```no_run
//! use std::process::ExitCode;
//! use watchbell::embedded::{self, Binaries, Halt, Keep, Options, Server};
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = embedded::supervise() {
//!         return code; // this process was the supervisor
//!     }
//!     let runtime = tokio::runtime::Runtime::new().expect("a runtime");
//!     match runtime.block_on(work()) {
//!         Ok(()) => ExitCode::SUCCESS,
//!         Err(error) => {
//!             eprintln!("{error}");
//!             ExitCode::FAILURE
//!         }
//!     }
//! }
//!
//! async fn work() -> watchbell::Result<()> {
//!     match Binaries::find() {
//!         Ok(found) => println!("PostgreSQL {} of {}", found.major, found.dir.display()),
//!         Err(error) => println!("a build is downloaded: {error}"),
//!     }
//!     let options = Options::kept_at(embedded::state_directory().join("shop")).setting("shared_buffers", "256MB");
//!     assert!(matches!(&options.keep, Keep::At(dir) if dir.ends_with("shop")));
//!     let mut server = Server::start(options).await?;
//!     println!("psql '{}'", server.url());
//!
//!     server.halt(Halt::Immediate).await?; // as a power failure would
//!     server.resume().await?;
//!     server.stop().await
//! }
//! ```

#[cfg(unix)]
mod account;
mod binaries;
#[cfg(unix)]
mod cluster;
#[cfg(unix)]
mod download;
#[cfg(unix)]
mod log;
#[cfg(unix)]
mod login;
#[cfg(unix)]
mod orders;
#[cfg(unix)]
mod postmaster;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod supervised;
#[cfg(unix)]
mod supervisor;
#[cfg(not(unix))]
mod unsupported;

use std::path::PathBuf;

use crate::Error;

pub use binaries::Binaries;
#[cfg(unix)]
pub use server::Server;
#[cfg(unix)]
pub use supervisor::supervise;
#[cfg(not(unix))]
pub use unsupported::{Server, supervise};

/// What kind of server to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the cluster lives and whether it outlives the server.
    pub keep: Keep,
    /// A program that calls [`supervise`] first thing in its `main`: usually this one.
    pub supervisor: PathBuf,
    /// More settings of `postgresql.conf`, name and value; the last of a name wins.
    pub settings: Vec<(String, String)>,
    /// Download a build (about 10 MB, into the state directory) where the machine has none.
    pub download: bool,
}

/// Whether the data outlives the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// In this directory, made when missing, used again by the next start.
    At(PathBuf),
    /// In a fresh temporary directory, removed when the server stops, however that comes about.
    Throwaway,
}

/// How a server is taken down, see [`Server::halt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Halt {
    /// SIGINT: sessions are ended and a checkpoint is written.
    Fast,
    /// SIGQUIT: no checkpoint; the next start recovers from the log.
    Immediate,
    /// SIGKILL to the postmaster: its sessions end when they notice.
    Kill,
}

impl Options {
    /// A server whose data is kept in `dir`, supervised by the running program.
    pub fn kept_at(dir: impl Into<PathBuf>) -> Self {
        Self::new(Keep::At(dir.into()))
    }

    /// A server that leaves nothing behind, supervised by the running program.
    pub fn throwaway() -> Self {
        Self::new(Keep::Throwaway)
    }

    /// The same with the program at `path` as supervisor.
    #[must_use]
    pub fn supervised_by(mut self, path: impl Into<PathBuf>) -> Self {
        self.supervisor = path.into();
        self
    }

    /// The same with one more setting of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn new(keep: Keep) -> Self {
        // Left empty where the system cannot tell; starting the supervisor then says so.
        let supervisor = std::env::current_exe().unwrap_or_default();
        Self { keep, supervisor, settings: Vec::new(), download: true }
    }
}

/// Where watchbell keeps what must outlive a process.
///
/// `$XDG_STATE_HOME/watchbell`; else `/var/lib/watchbell` as root (the server runs as another user, who
/// cannot enter root's home) and `~/.local/state/watchbell` as anyone else.
pub fn state_directory() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return state.join("watchbell");
    }
    #[cfg(unix)]
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/watchbell");
    }
    absolute("HOME").unwrap_or_else(std::env::temp_dir).join(".local/state/watchbell")
}

/// The error of a server that cannot be had: one sentence that ends in what to do.
fn unavailable(problem: impl Into<String>) -> Error {
    Error::Unreachable { target: "an embedded PostgreSQL".to_owned(), problem: problem.into() }
}

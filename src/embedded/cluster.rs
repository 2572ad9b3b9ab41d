//! The directory of a cluster: its layout, how it is made, and what it remembers between starts.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::log::Log;
use crate::{Error, Result};

/// The longest path of a Unix socket, in bytes: `sun_path` without its final NUL.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The directory of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) dir: PathBuf,
}

impl Cluster {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn log(&self) -> Log {
        Log::new(self.dir.join("postgres.log"))
    }

    /// The major version that made the data; None before the first start.
    pub(super) fn major(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Makes the directory, and those above it. Another account may pass through but not look.
    pub(super) fn create(&self, account: Option<&Account>) -> Result<()> {
        let missing: Vec<&Path> = self.dir.ancestors().take_while(|dir| !dir.exists()).collect();
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        for dir in missing.into_iter().rev() {
            let doing = || format!("making directory {}", dir.display());
            match fs::create_dir(dir) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                made => made.map_err(|e| Error::io(doing(), e))?,
            }
            // Set apart from creating: the umask of root may be 077.
            fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(|e| Error::io(doing(), e))?;
        }
        account.map_or(Ok(()), |account| account.check_reach(&self.dir))
    }

    /// Opens one of the lock files and waits for its lock; dropping the file lets go of it.
    pub(super) fn lock(&self, name: &str) -> Result<File> {
        let path = self.dir.join(name);
        let doing = || format!("locking {}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Error::io(doing(), e))?;
        file.lock().map_err(|e| Error::io(doing(), e))?;
        Ok(file)
    }

    /// Runs `initdb`: 0.5 s, and then as long as the disk needs, unless a crash of the machine `may_lose` the data.
    pub(super) fn init(&self, initdb: &mut Command, account: Option<&Account>, may_lose: bool) -> Result<(), String> {
        let new = self.dir.join("data.new");
        let said = |e: &dyn std::fmt::Display| format!("cannot make a cluster in {}: {e}", self.dir.display());
        match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(said(&e)),
            _ => private_dir(&new, account).map_err(|e| said(&e))?,
        }
        // glibc and musl know C.UTF-8, which compares by bytes and still knows upper and lower case letters.
        let locale = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" };
        initdb.arg("-D").arg(&new).args(["-U", "postgres", "-E", "UTF8", locale, "--no-instructions"]);
        // Over TCP nobody is superuser: that role has no password.
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        if may_lose {
            initdb.arg("--no-sync");
        }
        let output = initdb.stdin(Stdio::null()).output().map_err(|e| said(&e))?;
        if !output.status.success() {
            return Err(said(&String::from_utf8_lossy(&output.stderr).trim()));
        }
        fs::rename(&new, self.data()).map_err(|e| said(&e))
    }

    /// Where the socket goes: `run`, or a short directory under /tmp when its path would be too long.
    pub(super) fn socket_dir(&self, account: Option<&Account>) -> Result<PathBuf> {
        let own = self.dir.join("run");
        let dir = if own.as_os_str().len() + "/.s.PGSQL.65535".len() <= SOCKET_PATH_MAX {
            own
        } else {
            PathBuf::from(format!("/tmp/watchbell-{}", random_hex(8)?))
        };
        if !dir.exists() {
            private_dir(&dir, account)?;
        }
        Ok(dir)
    }

    /// Whether the socket directory is one that must be removed when the server has ended.
    pub(super) fn is_elsewhere(&self, socket_dir: &Path) -> bool {
        !socket_dir.starts_with(&self.dir)
    }

    /// The port of last time when it is free, else any free one; `anew` does not look at last time's.
    pub(super) fn port(&self, anew: bool) -> Result<u16> {
        let path = self.dir.join("port");
        let last = fs::read_to_string(&path).ok().and_then(|port| port.trim().parse().ok()).unwrap_or(0);
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let free = if anew { bind(0) } else { bind(last).or_else(|_| bind(0)) };
        let port = free.and_then(|listener| listener.local_addr()).map_err(|e| Error::io("finding a free port", e))?;
        fs::write(&path, port.port().to_string()).map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
        Ok(port.port())
    }

    /// The password of the login `watchbell`, and whether it was made just now.
    pub(super) fn password(&self) -> Result<(String, bool)> {
        let path = self.dir.join("password");
        match fs::read_to_string(&path) {
            Ok(kept) if !kept.trim().is_empty() => return Ok((kept.trim().to_owned(), false)),
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::io(format!("reading {}", path.display()), e));
            }
            _ => {}
        }
        let password = random_hex(16)?;
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(password.as_bytes()))
            .map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
        Ok((password, true))
    }
}

/// Makes a directory that only the server's account (and root) can enter.
fn private_dir(dir: &Path, account: Option<&Account>) -> Result<()> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.map_err(|e| Error::io(format!("making directory {}", dir.display()), e))?;
    account.map_or(Ok(()), |account| account.own(dir))
}

/// As many random bytes of the system as asked for, in hexadecimal.
pub(super) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    read.map_err(|e| Error::io("reading /dev/urandom", e))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

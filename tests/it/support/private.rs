//! Servers of their own for tests that break them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

use tokio::sync::OnceCell;
use watchbell::embedded::{Halt, Keep, Options, Server};

use super::skip;

/// A throwaway server as tests want it: the program under test supervises it, and it does not wait for the disk.
pub fn options() -> Options {
    let mut options = Options::throwaway().supervised_by(env!("CARGO_BIN_EXE_watchbell")).setting("fsync", "off");
    options.download = false;
    options
}

/// A server for one test alone, to halt, kill and resume; None, and said so, where there are no programs.
///
/// Its cluster is a copy: making one takes 1.7 s of processor time, copying one 0.1 s.
pub async fn private_server() -> Option<Server> {
    static SEED: OnceCell<Server> = OnceCell::const_new();
    match SEED.get_or_try_init(seed).await {
        Ok(seed) => Some(copy_of(seed).await),
        Err(e) => {
            skip(&e.to_string());
            None
        }
    }
}

/// A server that has ended in good order and whose directory stays for as long as this process.
async fn seed() -> watchbell::Result<Server> {
    let mut server = Server::start(options()).await?;
    server.halt(Halt::Fast).await?;
    Ok(server)
}

/// Starts a copy of the seed, in a directory inside the seed's: they go together.
async fn copy_of(seed: &Server) -> Server {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let seed = seed.dir().unwrap().to_owned();
    let copy = seed.join(format!("copy-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let to = copy.clone();
    let copied = tokio::task::spawn_blocking(move || -> io::Result<bool> {
        fs::create_dir(&to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o711))?;
        let copied = Command::new("cp").arg("-a").args([seed.join("data"), seed.join("password")]).arg(&to).status()?;
        Ok(copied.success())
    });
    assert!(copied.await.unwrap().unwrap(), "copying a cluster to {}", copy.display());
    Server::start(Options { keep: Keep::At(copy), ..options() }).await.unwrap()
}

//! Servers of their own for tests that break them.

use watchbell::embedded::{Options, Server};

use super::skip;

/// A throwaway server as tests want it: the program under test supervises it, and it does not wait for the disk.
pub fn options() -> Options {
    let mut options = Options::throwaway().supervised_by(env!("CARGO_BIN_EXE_watchbell")).setting("fsync", "off");
    options.download = false;
    options
}

/// A server for one test alone, to halt, kill and resume; None, and said so, where there are no programs.
pub async fn private_server() -> Option<Server> {
    match Server::start(options()).await {
        Ok(server) => Some(server),
        Err(e) => {
            skip(&e.to_string());
            None
        }
    }
}

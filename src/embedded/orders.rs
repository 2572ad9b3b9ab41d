//! What this process and its supervisor say to each other: one JSON object a line.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Halt;
use super::account::Account;

/// The hidden first argument of a supervisor.
pub(super) const VERB: &str = "__supervise-postgres";

/// The first line to a supervisor: make the cluster if need be, and start it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Where `initdb` and `postgres` are.
    pub(super) programs: PathBuf,
    /// The directory that holds the cluster; see the module's doc for what is in it.
    pub(super) dir: PathBuf,
    /// Remove `dir` at the end, and do not wait for the disk before.
    pub(super) throwaway: bool,
    pub(super) settings: Vec<(String, String)>,
    pub(super) account: Option<Account>,
}

/// Any later line to a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Halt(Halt),
    Start,
}

/// What a supervisor answers to each line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Ready(Ready),
    Halted,
    Failed(String),
}

/// A server that takes connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    /// The cluster was made by this start.
    pub(super) first: bool,
}

/// Writes one object and flushes it.
pub(super) fn send(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one object; None at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

//! Systems without Unix sockets and process groups: every call says so.

use std::path::Path;
use std::process::ExitCode;

use super::{Halt, Options, unavailable};
use crate::Result;

/// A private PostgreSQL server; on this system none can be started.
#[derive(Debug)]
pub enum Server {}

impl Server {
    /// Refuses: this system has no support for it.
    pub async fn start(_: Options) -> Result<Self> {
        Err(unavailable("this system is not supported (Linux, macOS and other Unix are); give --database-url"))
    }

    /// Never called: no server exists.
    pub fn url(&self) -> &str {
        match *self {}
    }

    /// Never called: no server exists.
    pub fn admin_url(&self) -> &str {
        match *self {}
    }

    /// Never called: no server exists.
    pub fn postmaster_pid(&self) -> u32 {
        match *self {}
    }

    /// Never called: no server exists.
    pub fn supervisor_pid(&self) -> Option<u32> {
        match *self {}
    }

    /// Never called: no server exists.
    pub fn dir(&self) -> Option<&Path> {
        match *self {}
    }

    /// Never called: no server exists.
    pub fn is_first_start(&self) -> bool {
        match *self {}
    }

    /// Never called: no server exists.
    pub async fn halt(&mut self, _: Halt) -> Result<()> {
        match *self {}
    }

    /// Never called: no server exists.
    pub async fn resume(&mut self) -> Result<()> {
        match *self {}
    }

    /// Never called: no server exists.
    pub async fn stop(self) -> Result<()> {
        match self {}
    }
}

/// Nothing to supervise on this system.
pub fn supervise() -> Option<ExitCode> {
    None
}

//! Where the program listens, and where it does not unless told twice.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// Of `up` and `demo`, if it is free.
pub(crate) const DEFAULT_PORT: u16 = 8077;

/// What may follow `--listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// Nowhere.
    Off,
    /// Here; port 0 is any that is free.
    At(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let text = text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
        let problem = || "must be an address and a port such as 127.0.0.1:8077 or [::1]:8077, or off".to_owned();
        text.parse().map(Self::At).map_err(|_| problem())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Listens there. `public`: also where other machines can reach it.
///
/// # Errors
/// [`Error::Invalid`] for an address that others can reach and that was not said to be meant; the operating system's
/// reason why it cannot listen there.
pub(crate) async fn bind(address: SocketAddr, public: bool) -> Result<TcpListener> {
    if !public && !address.ip().to_canonical().is_loopback() {
        return Err(Error::invalid(
            format!("--listen {address}"),
            "other machines can reach this address, and there is no login: whoever reaches it sees the names of \
             queues, handlers and schedules; give --listen-public too if that is meant",
        ));
    }
    TcpListener::bind(address).await.map_err(|error| Error::io(format!("cannot listen on {address}"), error))
}

/// Listens on this port of the loopback interface, or on any if it is taken.
pub(crate) async fn bind_somewhere(port: u16) -> Result<TcpListener> {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match TcpListener::bind(at(port)).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => bind(at(0), false).await,
        bound => bound.map_err(|error| Error::io(format!("cannot listen on {}", at(port)), error)),
    }
}

/// A port of the loopback interface that is free now: this one, or any. Somebody else may take it a moment later.
pub(crate) async fn free(port: u16) -> Result<SocketAddr> {
    let listener = bind_somewhere(port).await?;
    listener.local_addr().map_err(|error| Error::io("asking for a free port", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in ["127.0.0.1:8077", "[::1]:0", "0.0.0.0:80", "off"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse::<Address>().unwrap().to_string(), "127.0.0.1:1");
        for text in ["8077", ":8077", "example.org:80", "127.0.0.1", "on", ""] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn only_loopback_is_bound_unless_told() {
        for address in ["0.0.0.0:0", "[::]:0", "10.1.2.3:0", "[::ffff:10.1.2.3]:0"] {
            let refused = bind(address.parse().unwrap(), false).await.unwrap_err().to_string();
            assert!(refused.contains("--listen-public"), "{refused}");
        }
        bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        bind("0.0.0.0:0".parse().unwrap(), true).await.unwrap();
        let taken = bind_somewhere(0).await.unwrap().local_addr().unwrap();
        let holder = TcpListener::bind(taken).await.unwrap();
        assert_ne!(bind_somewhere(taken.port()).await.unwrap().local_addr().unwrap(), holder.local_addr().unwrap());
    }
}

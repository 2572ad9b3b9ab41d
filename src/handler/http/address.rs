//! Which addresses may be connected to, whatever they are called.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use reqwest::Url;

use super::special::{Kind, Network, canonical, kind};
use crate::handler::{HandlerError, fatal};

/// What a worker's configuration allows beyond the public internet: a host name, an address or a network,
/// if need be at one port only.
///
/// As text `localhost`, `db.internal:8080`, `10.1.2.3`, `10.0.0.0/8:443`, `fd00::/8`, `[::1]:8080`. A name
/// opens the loopback and private addresses that it resolves to; a link-local address or a metadata service
/// is opened by its number only.
///
/// ```
/// use watchbell::handler::http::Allowed;
///
/// "10.0.0.0/8:443".parse::<Allowed>()?;
/// assert_eq!("10.0.0.0/40".parse::<Allowed>().unwrap_err(), "must be a host name, an address or a network, such as localhost:8080, 10.1.2.3 or 10.0.0.0/8");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    what: What,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Name(String),
    Network(Network),
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            "must be a host name, an address or a network, such as localhost:8080, 10.1.2.3 or 10.0.0.0/8".to_owned()
        };
        if let Some(network) = Network::of(text) {
            return Ok(Self { what: What::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(malformed)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Some(network) = Network::of(bare) {
            return Ok(Self { what: What::Network(network), port });
        }
        // as it stands in a parsed URL, so that both are written alike
        let url = Url::parse(&format!("http://{host}/")).map_err(|_| malformed())?;
        let name = url.domain().map(str::to_owned).ok_or_else(malformed)?;
        let is_sound = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_ascii() && !host.bytes().all(is_sound) || !name.bytes().all(is_sound) {
            return Err(malformed());
        }
        Ok(Self { what: What::Name(name), port })
    }
}

/// A host that is an address; of IPv4 a parsed URL has written every form as four numbers.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Decides which addresses are connected to.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    pub(super) allowed: Vec<Allowed>,
    /// Names that are not asked for.
    pub(super) known: BTreeMap<String, Vec<IpAddr>>,
}

impl Gate {
    /// The addresses of the URL's host that may be connected to, at its port; at least one.
    ///
    /// # Errors
    /// Fatal if there are addresses but none may be called; a name that cannot be resolved may be at the next
    /// attempt.
    pub(super) async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, HandlerError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(0);
        if let Some(address) = literal(host) {
            return self.judge_literal(url, address).map(|()| vec![SocketAddr::new(address, port)]).map_err(fatal);
        }
        let found: Vec<IpAddr> = match self.known.get(host) {
            Some(addresses) => addresses.clone(),
            None => tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| format!("the host name {host} could not be resolved: {error}"))?
                .map(|address| address.ip())
                .collect(),
        };
        self.admit(host, &found, port)
    }

    /// Refuses what needs no resolver: an address that may not be called, written as such.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        literal(url.host_str().unwrap_or_default()).map_or(Ok(()), |address| self.judge_literal(url, address))
    }

    fn judge_literal(&self, url: &Url, address: IpAddr) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        self.judge(None, address, url.port_or_known_default().unwrap_or(0)).map_err(|kind| {
            format!("{host} is {kind}, which this worker does not call; its operator could allow it (--http-allow)")
        })
    }

    /// Of what a name resolves to, what may be called.
    fn admit(&self, name: &str, found: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, HandlerError> {
        let mut refused = None;
        let mut good = vec![];
        for address in found {
            match self.judge(Some(name), *address, port) {
                Ok(()) => good.push(SocketAddr::new(*address, port)),
                Err(kind) => refused = Some(kind),
            }
        }
        match (good.is_empty(), refused) {
            (false, _) => Ok(good),
            // which address it is stays in the worker's network
            (true, Some(kind)) => Err(fatal(format!(
                "the host name {name} resolves to {kind}, which this worker does not call; \
                 its operator could allow it (--http-allow)"
            ))),
            (true, None) => Err(format!("the host name {name} has no address").into()),
        }
    }

    fn judge(&self, name: Option<&str>, address: IpAddr, port: u16) -> Result<(), Kind> {
        let address = canonical(address);
        let Some(kind) = kind(address) else { return Ok(()) };
        let opens = |allowed: &Allowed| {
            let fits = match &allowed.what {
                What::Network(network) => network.contains(address),
                What::Name(other) => name == Some(other) && kind.has_names(),
            };
            fits && allowed.port.is_none_or(|only| only == port)
        };
        if self.allowed.iter().any(opens) { Ok(()) } else { Err(kind) }
    }
}

//! The address of a database: one or several hosts, and never a password in what is shown.

use std::env;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::error::{Error, Result};

const FIELD: &str = "database url";
const HOSTS_MAX: usize = 16;

/// Parameters of libpq that change nothing here; others that the driver does not know are refused.
const IGNORED: &[&str] = &[
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "tcp_user_timeout",
];
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "dbname",
    "options",
    "password",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Where the database is: `postgres://user:password@host1:5432,host2:5432/name?sslmode=require`.
///
/// Parameters are those of libpq, also several hosts, a socket's directory as `?host=/run/postgresql`,
/// `connect_timeout` in seconds (10 for each host if not given) and `target_session_attrs`, of which
/// only `any`, `read-write` and `primary` are accepted: a standby is passed over in any case.
/// At most 16 hosts. `Display` and `Debug` show it without password and parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    hosts: Vec<Host>,
    shown: String,
    connect_timeout: Duration,
}

/// One of the hosts.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) options: PgConnectOptions,
    /// The URL with this host alone and without the password.
    pub(super) shown: String,
}

impl DatabaseUrl {
    /// The database that is configured: `given` (from `--database-url`), else the environment's
    /// `WATCHBELL_DATABASE_URL`, else `DATABASE_URL`, else `PGHOST`, `PGDATABASE` and the like of libpq.
    ///
    /// `None` if none of these is set.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the source that is malformed.
    pub fn configured(given: Option<&str>) -> Result<Option<Self>> {
        Self::choose(given, |name| env::var(name).ok())
    }

    fn choose(given: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let named = |source: &str, text: &str| match text.parse() {
            Err(Error::Invalid { problem, .. }) => Err(Error::invalid(source, problem)),
            parsed => parsed,
        };
        if let Some(text) = given {
            return named("--database-url", text).map(Some);
        }
        for source in ["WATCHBELL_DATABASE_URL", "DATABASE_URL"] {
            if let Some(text) = variable(source) {
                return named(source, &text).map(Some);
            }
        }
        if ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER"].iter().all(|name| variable(name).is_none()) {
            return Ok(None);
        }
        let hosts = variable("PGHOSTADDR").or_else(|| variable("PGHOST")).unwrap_or_default();
        Self::build("", "", &[], &hosts, &variable("PGPORT").unwrap_or_default()).map(Some)
    }

    /// How long one host may take to answer.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Puts the parts together; each host gets its own options, because a `.pgpass` file has a line a host.
    fn build(login: &str, name: &str, parameters: &[(&str, &str)], hosts: &str, ports: &str) -> Result<Self> {
        let (query, connect_timeout) = known_parameters(parameters)?;
        let at = if login.is_empty() { "" } else { "@" };
        let places = places(hosts, ports)?;
        let mut built = Vec::with_capacity(places.len());
        for place in &places {
            let one = format!("postgres://{login}{at}{}/{name}?{query}", place.in_url());
            let options: PgConnectOptions = one.parse().map_err(|e: sqlx::Error| match e {
                sqlx::Error::Configuration(e) => Error::invalid(FIELD, e.to_string()),
                _ => Error::invalid(FIELD, "is malformed"),
            })?;
            // Set again, because the driver would look up "[::1]" as a name.
            let options = options.host(&place.host);
            let shown = shown(&options, std::slice::from_ref(place));
            built.push(Host { options, shown });
        }
        let shown = built.first().map(|host| shown(&host.options, &places)).unwrap_or_default();
        Ok(Self { hosts: built, shown, connect_timeout })
    }
}

/// The parameters that the driver shall see, and the one that is ours.
fn known_parameters(parameters: &[(&str, &str)]) -> Result<(String, Duration)> {
    let mut query = Vec::new();
    let mut connect_timeout = Duration::from_secs(10);
    for (key, value) in parameters {
        match *key {
            "connect_timeout" => {
                let seconds = value.parse().ok().filter(|s| (1..=3600).contains(s)).ok_or_else(|| {
                    Error::invalid(FIELD, format!("connect_timeout \"{value}\" must be 1 to 3600 seconds"))
                })?;
                connect_timeout = Duration::from_secs(seconds);
            }
            "target_session_attrs" => {
                if !["any", "read-write", "primary"].contains(value) {
                    let problem = format!("target_session_attrs \"{value}\" is not one of any, read-write, primary");
                    return Err(Error::invalid(FIELD, problem));
                }
            }
            key if IGNORED.contains(&key) => {}
            key if KNOWN.contains(&key) || key.starts_with("options[") => query.push(format!("{key}={value}")),
            key => return Err(Error::invalid(FIELD, format!("unknown parameter \"{key}\""))),
        }
    }
    Ok((query.join("&"), connect_timeout))
}

/// The address of these places as psql takes it, without password and parameters.
fn shown(options: &PgConnectOptions, places: &[Place]) -> String {
    let user = options.get_username();
    let name = options.get_database().unwrap_or(user);
    let join = |part: fn(&Place) -> String| places.iter().map(part).collect::<Vec<_>>().join(",");
    if places.iter().any(|place| place.host.starts_with('/')) {
        let (hosts, ports) = (join(|place| place.host.clone()), join(|place| place.port.to_string()));
        format!("postgres://{user}@/{name}?host={hosts}&port={ports}")
    } else {
        format!("postgres://{user}@{}/{name}", join(Place::in_url))
    }
}

/// A host, which may be a socket's directory, and a port.
struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// As the authority of a URL.
    fn in_url(&self) -> String {
        let Self { host, port } = self;
        match host {
            socket if socket.starts_with('/') => format!("{}:{port}", socket.replace('/', "%2F")),
            v6 if v6.contains(':') => format!("[{v6}]:{port}"),
            name => format!("{name}:{port}"),
        }
    }
}

/// Pairs hosts with ports; an empty host is the driver's default, a socket if there is one.
///
/// Both are lists with commas, as in libpq; one port serves all hosts.
fn places(hosts: &str, ports: &str) -> Result<Vec<Place>> {
    let hosts: Vec<&str> = hosts.split(',').collect();
    let ports: Vec<&str> = ports.split(',').collect();
    if hosts.len() > HOSTS_MAX {
        return Err(Error::invalid(FIELD, format!("{} hosts, more than the limit of {HOSTS_MAX}", hosts.len())));
    }
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(Error::invalid(FIELD, format!("{} ports for {} hosts", ports.len(), hosts.len())));
    }
    let default = PgConnectOptions::new_without_pgpass();
    let place = |(i, host): (usize, &&str)| {
        let port = match ports.get(i).or(ports.first()).copied().unwrap_or_default() {
            "" => default_port(),
            // The text is not shown: it may be part of a password that was not percent-encoded.
            text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                Error::invalid(FIELD, "a port must be 1 to 65535 (in a password, write / as %2F, @ as %40, : as %3A)")
            })?,
        };
        let host = if host.is_empty() { default.get_host() } else { host };
        Ok(Place { host: host.to_owned(), port })
    };
    hosts.iter().enumerate().map(place).collect()
}

fn default_port() -> u16 {
    env::var("PGPORT").ok().and_then(|port| port.parse().ok()).unwrap_or(5432)
}

impl FromStr for DatabaseUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            return Err(Error::invalid(FIELD, "must be like postgres://user:password@host:5432/name"));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, places) = authority.rsplit_once('@').unwrap_or(("", authority));
        // What follows the wrong sign may be the rest of a password: no part of it is shown.
        if path.contains(['@', '/']) || query.contains('@') || text.contains('#') {
            let problem = "has a / or ? or # in the wrong place (in a password, write / as %2F, ? as %3F, # as %23)";
            return Err(Error::invalid(FIELD, problem));
        }
        let mut hosts = Vec::new();
        let mut ports = Vec::new();
        for place in places.split(',') {
            // The colons of "[::1]" are not before a port.
            let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
                Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
                None => place.split_once(':').unwrap_or((place, "")),
            };
            hosts.push(decoded(host)?);
            ports.push(port);
        }
        let (mut hosts, mut ports) = (hosts.join(","), ports.join(","));
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("host" | "hostaddr", value)) => hosts = decoded(value)?,
                Some(("port", value)) => value.clone_into(&mut ports),
                Some((key, value)) => parameters.push((key, value)),
                None => return Err(Error::invalid(FIELD, "has a parameter without =")),
            }
        }
        Self::build(login, path, &parameters, &hosts, &ports)
    }
}

/// `%2F` and the like as the bytes they stand for.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let coded = (*first == b'%').then(|| tail.get(..2)).flatten();
        match coded.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(FIELD, "a host is not UTF-8"))
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<DatabaseUrl>() {
            Ok(url) => url.to_string(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl = "postgres://ann:s3cret@db:6000/app?sslmode=disable".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://ann@db:6000/app");
        assert_eq!(format!("{url:?}"), "DatabaseUrl(postgres://ann@db:6000/app)");
        for broken in [
            "postgres://ann:s3/cret@db/app",
            "postgres://ann:s3cret#1@db/app",
            "postgres://ann:s3cret",
            "postgres://ann:p?s3cret=1@db/app",
            "postgres://ann:s3cret@db/app?pasword=s3cret",
            "postgres://ann:s3cret@db/app?s3cret",
            "mysql://ann:s3cret@db/app",
            "postgres://ann:s3cret@db:99999/app",
        ] {
            let message = shown(broken);
            assert!(message.starts_with("database url: "), "{message}");
            assert!(!message.contains("s3"), "{message}");
        }
    }

    #[test]
    fn several_hosts_keep_their_order_and_ports() {
        let url: DatabaseUrl = "postgresql://u@h1:5433,h2,[::1]:7/d?target_session_attrs=read-write".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://u@h1:5433,h2:5432,[::1]:7/d");
        let hosts: Vec<_> =
            url.hosts().iter().map(|h| (h.options.get_host().to_owned(), h.options.get_port())).collect();
        assert_eq!(hosts, [("h1".into(), 5433), ("h2".into(), 5432), ("::1".into(), 7)]);
        assert_eq!(url.hosts()[1].shown, "postgres://u@h2:5432/d");
    }

    #[test]
    fn a_socket_is_given_as_a_parameter_or_percent_encoded() {
        for text in ["postgres://u@/d?host=/run/pg&port=5433", "postgres://u@%2Frun%2Fpg:5433/d"] {
            assert_eq!(shown(text), "postgres://u@/d?host=/run/pg&port=5433");
        }
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        assert_eq!(
            shown("postgres://u@h/d?target_session_attrs=standby"),
            "database url: target_session_attrs \"standby\" is not one of any, read-write, primary"
        );
        assert_eq!(
            shown("postgres://u@h/d?connect_timeout=0"),
            "database url: connect_timeout \"0\" must be 1 to 3600 seconds"
        );
        assert_eq!(shown("postgres://u@h/d?host=a,b&port=1,2,3"), "database url: 3 ports for 2 hosts");
    }

    #[test]
    fn the_nearest_source_wins() {
        let chosen = |given: Option<&str>, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            DatabaseUrl::choose(given, variable).map(|url| url.map(|url| url.to_string()))
        };
        let both = [("DATABASE_URL", "postgres://u@b/d"), ("WATCHBELL_DATABASE_URL", "postgres://u@a/d")];
        assert_eq!(chosen(Some("postgres://u@x/d"), &both).unwrap().unwrap(), "postgres://u@x:5432/d");
        assert_eq!(chosen(None, &both).unwrap().unwrap(), "postgres://u@a:5432/d");
        assert_eq!(chosen(None, &both[..1]).unwrap().unwrap(), "postgres://u@b:5432/d");
        let pg = chosen(None, &[("PGHOST", "h1,h2"), ("PGPORT", "1")]).unwrap().unwrap();
        assert!(pg.contains("@h1:1,h2:1/"), "{pg}");
        assert_eq!(chosen(None, &[]).unwrap(), None);
        let wrong = chosen(None, &[("DATABASE_URL", "localhost")]).unwrap_err().to_string();
        assert_eq!(wrong, "DATABASE_URL: must be like postgres://user:password@host:5432/name");
    }
}

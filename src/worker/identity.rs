//! Who this worker is.

use sqlx::PgConnection;

use super::Config;
use crate::lifecycle::register::Identity;

/// The address from which this process reaches the database; `None` over a unix socket.
pub(super) async fn address(conn: &mut PgConnection) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select host(inet_client_addr())").fetch_one(conn).await
}

/// Name, host, labels: `host` and `ip` are labels by themselves.
pub(super) fn identity(config: &Config, handlers: Vec<String>, ip: Option<String>) -> Identity {
    let host = host_name();
    let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let name = if config.name.is_empty() { format!("{host}-{pid}") } else { config.name.clone() };
    let mut labels = config.labels.clone();
    labels.push(format!("host={host}"));
    labels.extend(ip.as_ref().map(|ip| format!("ip={ip}")));
    Identity {
        name,
        host,
        ip,
        pid,
        handlers,
        queues: config.queues.clone(),
        labels,
        slots: i32::try_from(config.slots).unwrap_or(i32::MAX),
        lease: config.lease,
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

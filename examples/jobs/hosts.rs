//! Sets new hosts up: rows of the table `hosts` go from `pending` to `normal`, and each is in the inventory once.
//!
//! The handler works in the transaction that moves the row, so the entry and the new state are one commit. A host with
//! an address that is none fails alone and stands at `failed`.

use serde::Deserialize;
use serde_json::json;
use watchbell::client::NewWatch;
use watchbell::worker::Builder;
use watchbell::{HandlerResult, Row, Tx, Watch, fatal};

use super::Form;

/// Its tables. The partial index leads to the hosts that wait, however many there are.
pub(crate) const SCHEMA: &str = "
    create table if not exists public.hosts (
        id bigint generated always as identity primary key,
        address text not null,
        status text not null default 'pending',
        status_since timestamptz not null default now()
    );
    create index if not exists hosts_pending on public.hosts (id) where status = 'pending';
    create table if not exists public.inventory (
        host_id bigint primary key,
        address inet not null,
        since timestamptz not null default now()
    );";

/// The same as a statement: it sees the rows that were taken as `claimed`.
const STATEMENT: &str = "insert into public.inventory (host_id, address) select id, address::inet from claimed";

/// What the handler needs of a row; its other columns are left out.
#[derive(Debug, Deserialize)]
struct Host {
    id: i64,
    address: String,
}

/// Every row that stands at `pending`, as soon as it is seen.
pub(crate) fn add(worker: Builder, form: Form) -> Builder {
    let hosts = Watch::table("public.hosts").since("status_since").description("new hosts are set up");
    match form {
        Form::Rust => worker.watch_transactional("hosts", hosts, set_up),
        Form::Sql => {
            let hosts = hosts.handler("sql").payload(&json!({"statement": STATEMENT}));
            worker.declare_watch(NewWatch::new("hosts", hosts))
        }
    }
}

async fn set_up(mut tx: Tx, host: Row<Host>) -> HandlerResult {
    let address: std::net::IpAddr =
        host.address.parse().map_err(|_| fatal(format!("\"{}\" is no address", host.address)))?;
    sqlx::query("insert into public.inventory (host_id, address) values ($1, $2::text::inet)")
        .bind(host.id)
        .bind(address.to_string())
        .execute(&mut *tx)
        .await?;
    println!("host {} is set up", host.id);
    Ok(())
}

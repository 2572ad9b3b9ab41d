//! Drops databases from `Drop`, where no runtime can be counted on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A thread with a runtime and a connection of its own that drops one database after the other.
pub struct Drops {
    requests: Mutex<Sender<Request>>,
    /// Whether to wait for each: on a server that outlives this process.
    awaited: bool,
}

struct Request {
    name: String,
    done: Sender<()>,
}

impl Drops {
    /// For a server that goes away with the tests: databases are dropped when there is time.
    pub fn behind(admin_url: &str) -> Self {
        Self::new(admin_url, false)
    }

    /// For a server that stays: a test ends when its database is gone.
    pub fn awaited(admin_url: &str) -> Self {
        Self::new(admin_url, true)
    }

    pub fn drop_database(&self, name: &str) {
        let (done, gone) = channel();
        let request = Request { name: name.to_owned(), done };
        // A test that panics elsewhere must not panic here again; the thread lives as long as the process.
        let sent = self.requests.lock().map(|requests| requests.send(request).is_ok());
        if self.awaited && sent.unwrap_or(false) {
            let _ = gone.recv();
        }
    }

    fn new(admin_url: &str, awaited: bool) -> Self {
        let (requests, received) = channel();
        let admin_url = admin_url.to_owned();
        thread::spawn(move || serve(&admin_url, &received));
        Self { requests: Mutex::new(requests), awaited }
    }
}

fn serve(admin_url: &str, requests: &Receiver<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut admin = None;
    for Request { name, done } in requests {
        let dropped = runtime.block_on(drop_one(admin_url, admin.take(), &name));
        match dropped {
            Ok(connection) => admin = Some(connection),
            Err(e) => eprintln!("dropping database {name}: {e}"),
        }
        let _ = done.send(());
    }
}

async fn drop_one(admin_url: &str, admin: Option<PgConnection>, name: &str) -> sqlx::Result<PgConnection> {
    let mut admin = match admin {
        Some(admin) => admin,
        None => PgConnection::connect(admin_url).await?,
    };
    let drop = format!("drop database if exists {name} with (force)");
    sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await?;
    Ok(admin)
}

//! What a measurement cost: CPU of this process and of the server, and WAL.

use std::{collections::HashMap, fs};

use sqlx::PgConnection;

/// Counters at one moment; the difference of two is the cost of what lies between.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// CPU seconds of this process.
    pub(super) own: f64,
    /// CPU seconds of the server and all its backends; `None` where it is not on this machine (or not Linux).
    pub(super) server: Option<f64>,
    /// Bytes of WAL.
    pub(super) wal: f64,
}

impl Usage {
    /// Reads the counters.
    pub(super) async fn read(conn: &mut PgConnection) -> sqlx::Result<Self> {
        let (backend, wal): (i32, f64) =
            sqlx::query_as("select pg_backend_pid(), (pg_current_wal_insert_lsn() - '0/0')::double precision")
                .fetch_one(conn)
                .await?;
        Ok(Self { own: stat(std::process::id() as i32).map_or(0.0, |s| s.cpu), server: server_cpu(backend), wal })
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            own: self.own - before.own,
            server: self.server.zip(before.server).map(|(after, before)| after - before),
            wal: self.wal - before.wal,
        }
    }
}

struct Stat {
    parent: i32,
    /// Own time, in seconds.
    cpu: f64,
    /// Time of children that have ended, in seconds.
    ended_children: f64,
}

/// Clock ticks per second in /proc, which is 100 on every Linux that people run.
const TICKS: f64 = 100.0;

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).map(|t| t / TICKS);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: seconds(11)? + seconds(12)?,
        ended_children: seconds(13)? + seconds(14)?,
    })
}

/// The server's CPU: its first process, with the children that ended, and every child that lives.
fn server_cpu(backend: i32) -> Option<f64> {
    // a backend of a server on another machine has a number that means nothing here
    let name = fs::read_to_string(format!("/proc/{backend}/comm")).ok()?;
    if !name.starts_with("postgres") {
        return None;
    }
    let first = stat(backend)?.parent;
    let mut all: HashMap<i32, Stat> = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok())
            && let Some(stat) = stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    let root = all.get(&first)?;
    let children: f64 = all.values().filter(|s| s.parent == first).map(|s| s.cpu + s.ended_children).sum();
    Some(root.cpu + root.ended_children + children)
}

//! The jobs of an ordinary service: three that tidy up, one that sets hosts up, one of several steps.
//!
//! ```text
//! cargo run --example jobs
//! WATCHBELL_DATABASE_URL=postgres://localhost/hello cargo run --example jobs -- --sql
//! ```
//!
//! Without a database it starts a private one and throws it away at the end. With `--sql` the three that tidy up run
//! as statements in their schedules' rows, by the handler `sql`, and not as Rust; they do the same. Start it several
//! times on one database, and the processes share the work. Ctrl-C ends it.
//!
//! **A new job is a file beside this one, and a line in [`jobs!`] below.** The file says what it needs: `SCHEMA`, its
//! tables, and `add`, which gives a worker the handler and when it starts.

use sqlx::PgPool;
use watchbell::handler::sql::Sql;
use watchbell::worker::Builder;
use watchbell::{Worker, db, migrate};

/// How the jobs that can be both are declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A function of this program.
    Rust,
    /// A statement in the row, which the handler `sql` executes.
    Sql,
}

macro_rules! jobs {
    ($($job:ident,)+) => {
        $(mod $job;)+

        /// The tables of all jobs.
        const SCHEMAS: &[&str] = &[$($job::SCHEMA,)+];

        /// A worker with all jobs.
        fn add_all(worker: Builder, form: Form) -> Builder {
            $(let worker = $job::add(worker, form);)+
            worker
        }
    };
}

jobs! {
    delete_old_audit_rows,
    disable_idle_users,
    delete_expired_secrets,
    hosts,
    models,
}

async fn work(pool: PgPool, form: Form) -> watchbell::Result<()> {
    migrate::up(&mut *pool.acquire().await?).await?;
    for schema in SCHEMAS {
        sqlx::raw_sql(*schema).execute(&pool).await?;
    }
    let worker = Worker::builder(pool.clone()).owner("jobs").state(pool.clone()).transactional("sql", Sql::new(pool));
    let worker = add_all(worker, form).start().await?;
    println!("worker {} has the jobs; Ctrl-C ends it", worker.worker_id());
    tokio::signal::ctrl_c().await.unwrap_or(());
    worker.shutdown();
    worker.join().await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "embedded")]
    if watchbell::embedded::supervise().is_some() {
        return Ok(()); // this process was the private server's supervisor
    }
    let form = if std::env::args().any(|argument| argument == "--sql") { Form::Sql } else { Form::Rust };
    let url = std::env::var("WATCHBELL_DATABASE_URL").or_else(|_| std::env::var("DATABASE_URL"));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match url {
            Ok(url) => work(db::pool(&url.parse()?, 10).await?, form).await?,
            Err(_) => on_a_private_server(form).await?,
        }
        Ok(())
    })
}

#[cfg(feature = "embedded")]
async fn on_a_private_server(form: Form) -> watchbell::Result<()> {
    use watchbell::embedded::{Options, Server};

    let server = Server::start(Options::throwaway()).await?;
    println!("psql '{}'", server.url());
    let done = match db::pool(&server.url().parse()?, 10).await {
        Ok(pool) => work(pool, form).await,
        Err(error) => Err(error),
    };
    server.stop().await?;
    done
}

#[cfg(not(feature = "embedded"))]
async fn on_a_private_server(_: Form) -> Result<(), Box<dyn std::error::Error>> {
    Err("WATCHBELL_DATABASE_URL is not set".into())
}

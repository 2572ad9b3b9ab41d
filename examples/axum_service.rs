//! A web service with its worker inside: one process, one database, one shutdown for both.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/hello cargo run --example axum_service --no-default-features
//! curl -X POST localhost:3000/signups -H 'content-type: application/json' -d '{"email": "a@b.c"}'
//! curl localhost:3000/runs/1
//! ```
//!
//! The request writes the account and the run in one transaction and answers at once; the welcome is sent by
//! whichever replica claims the run first. Start a second one with `ADDRESS=127.0.0.1:3001`: nothing needs to
//! be configured for it, and if one is killed the other sends its mails. On Ctrl-C the server stops
//! listening and the worker stops claiming; both finish what they have.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use watchbell::client::{self, NewRun};
use watchbell::{Context, HandlerResult, RunId, Worker, db, migrate};

#[derive(Serialize, Deserialize)]
struct Signup {
    email: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 20).await?;
    migrate::up(&mut *pool.acquire().await?).await?;
    sqlx::raw_sql("create table if not exists example_accounts (email text primary key)").execute(&pool).await?;

    // one token ends both; a clone of it goes wherever somebody waits for the end
    let shutdown = CancellationToken::new();
    let on_ctrl_c = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_ctrl_c.cancel();
    });

    let listener = TcpListener::bind(std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".into())).await?;
    println!("listening on {}", listener.local_addr()?);
    let app =
        Router::new().route("/signups", post(sign_up)).route("/runs/{id}", get(show_run)).with_state(pool.clone());
    let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let worker = Worker::builder(pool).handler("welcome", welcome).run(shutdown.cancelled_owned());

    // if one of them fails the other is dropped, and a dropped worker's runs go to the other replicas
    let server = async { server.await.map_err(Box::<dyn std::error::Error>::from) };
    let worker = async { worker.await.map_err(Box::<dyn std::error::Error>::from) };
    tokio::try_join!(server, worker)?;
    println!("ended in good order");
    Ok(())
}

/// The account and its welcome, or neither.
async fn sign_up(State(pool): State<PgPool>, Json(signup): Json<Signup>) -> Result<Json<RunId>, Refusal> {
    let mut tx = pool.begin().await?;
    sqlx::query("insert into example_accounts (email) values ($1)").bind(&signup.email).execute(&mut *tx).await?;
    let run = NewRun::new("welcome").payload(&signup)?.insert(&mut *tx).await?;
    tx.commit().await?;
    run.map(Json).ok_or(Refusal(StatusCode::CONFLICT, "it is on its way already".into()))
}

/// Where a run stands, as the JSON that `watchbell runs show` prints.
async fn show_run(State(pool): State<PgPool>, Path(id): Path<i64>) -> Result<Json<client::RunRow>, Refusal> {
    Ok(Json(client::run(&pool, RunId(id)).await?))
}

async fn welcome(signup: Signup, ctx: Context) -> HandlerResult {
    println!("run {}: welcome, {}", ctx.run_id(), signup.email);
    Ok(())
}

/// An answer other than 200, with one sentence.
struct Refusal(StatusCode, String);

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        (self.0, self.1).into_response()
    }
}

impl From<watchbell::Error> for Refusal {
    fn from(error: watchbell::Error) -> Self {
        let status = match &error {
            watchbell::Error::NotFound { .. } => StatusCode::NOT_FOUND,
            watchbell::Error::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(answer) if answer.is_unique_violation() => {
                Self(StatusCode::CONFLICT, "it has signed up already".into())
            }
            _ => Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

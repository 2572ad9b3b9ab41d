//! Trains models in two steps: `pending` → downloading → `downloaded` → training → `normal`, or `failed`.
//!
//! The data is downloaded once: a training that fails, or whose worker dies, begins again at `downloaded`. The
//! training itself runs elsewhere; the handler starts it, keeps its number and comes back every second to ask how far
//! it is. It starts it under a key that is the same at every attempt, so that a worker that dies before the number is
//! kept starts no second one.

use std::time::Duration;

use serde::Deserialize;
use sqlx::PgPool;
use watchbell::client::{NewWatch, Step};
use watchbell::worker::Builder;
use watchbell::{Context, HandlerResult, Outcome, Row, State, Watch, hours, minutes, seconds, snooze};

use super::Form;

/// Its tables: the models by name and version, their data, and the trainings, which stand for a service elsewhere.
pub(crate) const SCHEMA: &str = "
    create table if not exists public.models (
        name text,
        version integer,
        status text not null default 'pending',
        status_since timestamptz not null default now(),
        primary key (name, version)
    );
    create index if not exists models_pending on public.models (name, version) where status = 'pending';
    create index if not exists models_downloaded on public.models (name, version) where status = 'downloaded';
    create table if not exists public.model_data (name text, version integer, primary key (name, version));
    create table if not exists public.trainings (
        id bigint generated always as identity primary key,
        key text not null unique,
        model text not null,
        progress integer not null default 0
    );";

/// What names a model.
#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    version: i32,
}

/// Both steps work outside of a transaction, under a lease: they take long. They are Rust in either form.
pub(crate) fn add(worker: Builder, _: Form) -> Builder {
    let models = Watch::table("public.models")
        .since("status_since")
        .description("new models are trained")
        .step(Step::from("pending").via("downloading").to("downloaded").handler("download_model").timeout(minutes(30)))
        .step(
            Step::from("downloaded")
                .via("training")
                .to("normal")
                .handler("train_model")
                .timeout(hours(1))
                .max_running(4),
        );
    worker
        .handler("download_model", download)
        .handler("train_model", train)
        .declare_watch(NewWatch::new("models", models))
}

/// May be started twice, so it does nothing that a second time would harm.
async fn download(State(pool): State<PgPool>, model: Row<Model>) -> HandlerResult {
    tokio::time::sleep(Duration::from_millis(200)).await; // the network
    sqlx::query("insert into public.model_data values ($1, $2) on conflict do nothing")
        .bind(&model.name)
        .bind(model.version)
        .execute(&pool)
        .await?;
    println!("{} {} is downloaded", model.name, model.version);
    Ok(())
}

async fn train(State(pool): State<PgPool>, ctx: Context, model: Row<Model>) -> HandlerResult<Outcome> {
    let training: i64 = match ctx.kept()? {
        Some(training) => training,
        None => {
            let start = "insert into public.trainings (key, model) values ($1, $2)
                         on conflict (key) do update set model = excluded.model returning id";
            let name = format!("{} {}", model.name, model.version);
            let training = sqlx::query_scalar(start).bind(ctx.idempotency_key()).bind(name);
            let training: i64 = training.fetch_one(&pool).await?;
            ctx.keep(&training)?;
            training
        }
    };
    let look = "update public.trainings set progress = progress + 50 where id = $1 returning progress";
    let progress: i32 = sqlx::query_scalar(look).bind(training).fetch_one(&pool).await?;
    if progress < 100 {
        return Ok(snooze(seconds(1))); // with what is kept, and without a worker's slot
    }
    println!("{} {} is trained", model.name, model.version);
    Ok(Outcome::Done)
}

//! A small shop and its tests: what it enqueues, how it retries, what a month of it does.
//!
//! ```text
//! cargo test --example testing
//! ```
//!
//! The upper half is the program, with nothing in it for the tests' sake: functions that take a connection, and
//! one that names the handlers. The lower half tests it by hand-cranking: no worker, no waiting, and a
//! month of schedules in a second. `DATABASE_URL` names the server for the tests' databases; without it they
//! start one of their own, for which `cargo build` must have built the program `watchbell`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use watchbell::client::{NewRun, NewSchedule};
use watchbell::{HandlerResult, Outcome, Registry, Tx, Worker, db, fatal, migrate, snooze};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    order: i64,
    email: String,
}

/// Part of the caller's transaction: the order, its invoice, and a question for a review in a week.
async fn place_order(tx: &mut PgConnection, order: &Order) -> Result<(), Box<dyn std::error::Error>> {
    sqlx::query("insert into orders (id, paid) values ($1, false)").bind(order.order).execute(&mut *tx).await?;
    NewRun::new("invoice").payload(order)?.unique_key(format!("invoice-{}", order.order)).insert(&mut *tx).await?;
    let in_a_week = Duration::from_secs(7 * 86_400);
    NewRun::new("ask_for_review").payload(order)?.delay(in_a_week).insert(&mut *tx).await?;
    Ok(())
}

/// Numbered without gaps: the number and the run's end are one commit.
async fn invoice(mut tx: Tx, order: Order) -> HandlerResult {
    if !order.email.contains('@') {
        return Err(fatal(format!("\"{}\" is no address", order.email)));
    }
    let number = "insert into invoices select coalesce(max(number), 0) + 1, $1 from invoices";
    sqlx::query(number).bind(order.order).execute(&mut *tx).await?;
    Ok(())
}

/// Asks when the order is paid, and looks again tomorrow when it is not.
async fn ask_for_review(mut tx: Tx, order: Order) -> HandlerResult<Outcome> {
    let paid: bool =
        sqlx::query_scalar("select paid from orders where id = $1").bind(order.order).fetch_one(&mut *tx).await?;
    Ok(if paid { Outcome::Done } else { snooze(Duration::from_secs(86_400)) })
}

async fn monthly_statement() -> HandlerResult {
    Ok(())
}

/// What the worker of this program can do, and its tests too.
fn handlers() -> Registry {
    Registry::new()
        .transactional("invoice", invoice)
        .transactional("ask_for_review", ask_for_review)
        .handler("monthly_statement", monthly_statement)
}

async fn set_up(pool: &PgPool) -> Result<(), Box<dyn std::error::Error>> {
    migrate::up(&mut *pool.acquire().await?).await?;
    let tables = "create table if not exists orders (id bigint primary key, paid boolean not null); \
                  create table if not exists invoices (number bigint primary key, order_id bigint not null)";
    sqlx::raw_sql(tables).execute(pool).await?;
    let first_of_month = NewSchedule::cron("statement", "0 6 1 * *", "monthly_statement");
    first_of_month.timezone("Europe/Paris").upsert(pool).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;
    set_up(&pool).await?;
    let mut tx = pool.begin().await?;
    place_order(&mut tx, &Order { order: fastrand::i64(1..), email: "a@b.c".into() }).await?;
    tx.commit().await?;
    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    Worker::builder(pool).registry(handlers()).run(ctrl_c).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use serde_json::json;
    use watchbell::Status;
    use watchbell::embedded::Options;
    use watchbell::testing::{Database, Engine};

    /// A database of its own for each test; see [`Database::fresh`], which is all that one with a server needs.
    async fn shop() -> (Database, Engine) {
        let database = if std::env::var_os("DATABASE_URL").is_some() {
            Database::fresh().await.unwrap()
        } else {
            // in a package of your own: supervised_by(env!("CARGO_BIN_EXE_your-program")), in its integration tests
            let built = std::env::current_exe().unwrap().parent().unwrap().with_file_name("watchbell");
            Database::private(Options::throwaway().supervised_by(built).setting("fsync", "off")).await.unwrap()
        };
        let mut engine = Engine::new(database.pool(), handlers()).await.unwrap();
        // a time that lies ahead, so that only the tests move it
        engine.set_now(at("2099-03-15T12:00:00Z")).await.unwrap();
        set_up(&database.pool()).await.unwrap();
        (database, engine)
    }

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }

    async fn order(database: &Database, order: i64, email: &str) {
        let mut tx = database.pool().begin().await.unwrap();
        place_order(&mut tx, &Order { order, email: email.to_owned() }).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn an_order_is_invoiced_and_a_review_is_asked_for_in_a_week() {
        let (database, mut engine) = shop().await;
        order(&database, 7, "a@b.c").await;

        // what was enqueued
        engine.enqueued().handler("invoice").payload(json!({"order": 7})).assert_one().await;
        let review = engine.enqueued().handler("ask_for_review").assert_one().await;
        assert_eq!(review.run_at, engine.now() + TimeDelta::days(7));

        // what it does
        let ran = engine.run_due().await.unwrap();
        assert_eq!(ran.len(), 1);
        ran[0].assert(Status::Normal);
        let invoices: i64 =
            sqlx::query_scalar("select count(*) from invoices").fetch_one(&database.pool()).await.unwrap();
        assert_eq!(invoices, 1);
    }

    #[tokio::test]
    async fn an_order_that_is_rolled_back_leaves_nothing() {
        let (database, engine) = shop().await;
        let mut tx = database.pool().begin().await.unwrap();
        place_order(&mut tx, &Order { order: 7, email: "a@b.c".into() }).await.unwrap();
        tx.rollback().await.unwrap();
        engine.runs().assert_none().await;
    }

    #[tokio::test]
    async fn a_bad_address_is_not_tried_again() {
        let (database, mut engine) = shop().await;
        order(&database, 7, "nowhere").await;
        let ran = engine.run_due().await.unwrap().remove(0);
        ran.assert(Status::Failed);
        assert_eq!(ran.error.as_deref(), Some("\"nowhere\" is no address"));
    }

    #[tokio::test]
    async fn a_review_waits_for_the_money() {
        let (database, mut engine) = shop().await;
        order(&database, 7, "a@b.c").await;
        engine.run_until(engine.now() + TimeDelta::days(9)).await.unwrap();
        engine.enqueued().handler("ask_for_review").assert_one().await; // asked three times, and snoozed

        sqlx::query("update orders set paid = true").execute(&database.pool()).await.unwrap();
        let ran = engine.run_until(engine.now() + TimeDelta::days(1)).await.unwrap();
        let asked = ran.iter().find(|ran| ran.handler == "ask_for_review").unwrap();
        asked.assert(Status::Normal);
        assert_eq!(asked.attempt, 1); // snoozes use no attempts
    }

    #[tokio::test]
    async fn statements_are_written_on_the_first_in_summer_and_winter() {
        let (_database, mut engine) = shop().await;
        let ran = engine.run_until(at("2099-12-01T12:00:00Z")).await.unwrap();
        let times: Vec<_> = ran.iter().map(|ran| ran.at.format("%m-%d %H:%M").to_string()).collect();
        // six in Paris: at 4 UTC in summer, at 5 UTC from November on
        assert_eq!(times[0], "04-01 04:00");
        assert_eq!(times[7..], ["11-01 05:00", "12-01 05:00"]);
    }
}

//! A run that exists if, and only if, the order does.
//!
//! ```text
//! DATABASE_URL=postgres://localhost/hello cargo run --example transactional_enqueue --no-default-features
//! ```
//!
//! The usual queue is a second system: a service writes an order, commits, sends a message, and one day dies
//! between the two. Here the run is a row like the order, and one commit decides about both. In the other
//! direction the same holds: a transactional handler's writes and the end of its run are one commit, so the
//! invoice is numbered exactly once however often its worker is killed.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::Notify;
use watchbell::client::NewRun;
use watchbell::{Context, HandlerResult, Tx, Worker, db, migrate};

#[derive(serde::Serialize, serde::Deserialize)]
struct Invoice {
    order: i64,
}

/// Writes the order and asks for its invoice, in whatever transaction the caller has open.
async fn place_order(tx: &mut sqlx::PgConnection, order: i64) -> Result<(), Box<dyn std::error::Error>> {
    sqlx::query("insert into example_orders (id) values ($1)").bind(order).execute(&mut *tx).await?;
    // the key: a second click on "buy" asks for no second invoice
    NewRun::new("invoice").payload(&Invoice { order })?.unique_key(format!("invoice-{order}")).insert(tx).await?;
    Ok(())
}

/// Whatever is written through `tx` is committed together with the run's end, or not at all.
async fn invoice(mut tx: Tx, invoice: Invoice, ctx: Context) -> HandlerResult {
    sqlx::query("insert into example_invoices (order_id) values ($1)").bind(invoice.order).execute(&mut *tx).await?;
    println!("order {} is invoiced by run {}", invoice.order, ctx.run_id());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = db::pool(&url.parse()?, 10).await?;
    migrate::up(&mut *pool.acquire().await?).await?;
    tables(&pool).await?;

    // a customer who changes her mind: the transaction is dropped, and nobody will ever invoice order 1
    let mut tx = pool.begin().await?;
    place_order(&mut tx, 1).await?;
    tx.rollback().await?;

    // one who does not
    let mut tx = pool.begin().await?;
    place_order(&mut tx, 2).await?;
    tx.commit().await?;

    // the worker ends when the invoice is there, so that this story has an end
    let done = Arc::new(Notify::new());
    let invoiced = Arc::clone(&done);
    let worker =
        Worker::builder(pool.clone()).transactional("invoice", move |tx: Tx, payload: Invoice, ctx: Context| {
            let invoiced = Arc::clone(&invoiced);
            async move {
                invoice(tx, payload, ctx).await?;
                invoiced.notify_one(); // the drain waits for the commit that follows
                HandlerResult::Ok(())
            }
        });
    worker.run(done.notified()).await?;

    let invoices: Vec<i64> = sqlx::query_scalar("select order_id from example_invoices").fetch_all(&pool).await?;
    println!("invoices of orders {invoices:?}, and none of order 1");
    Ok(())
}

async fn tables(pool: &PgPool) -> sqlx::Result<()> {
    let create = "drop table if exists example_orders, example_invoices; \
                  create table example_orders (id bigint primary key); \
                  create table example_invoices (order_id bigint primary key)";
    sqlx::raw_sql(create).execute(pool).await.map(drop)
}

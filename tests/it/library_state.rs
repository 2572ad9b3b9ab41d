//! Functions ask for what they need: state, payload, context, in any order, and get it or do not start.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use sqlx::PgPool;
use watchbell::handler::{FromContext, Need};
use watchbell::worker::Builder;
use watchbell::{Context, Error, HandlerError, HandlerResult, Payload, State, Tx, Worker, fatal};

use crate::support::Database;
use crate::support::ask::{insert, one, until_status};
use crate::support::crew::{hand, start};

const SOON: Duration = Duration::from_secs(30);
const MAIL: (&str, &str) = ("payload", "'{\"to\": \"ann\"}'");

#[derive(Deserialize)]
struct Mail {
    to: String,
}

#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<String>>>);

impl Outbox {
    fn put(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

/// An extractor of the application's own, which stands on a state.
struct Greeting(String);

impl FromContext for Greeting {
    fn from_context(ctx: &Context) -> Result<Self, HandlerError> {
        let hello = ctx.state::<&'static str>().ok_or_else(|| fatal("no greeting"))?;
        Ok(Self(format!("{hello} from {}", ctx.handler())))
    }

    fn needs() -> Vec<Need> {
        vec![Need::of::<&'static str>()]
    }
}

fn unconnected() -> Builder {
    Worker::builder(PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap())
}

#[tokio::test]
async fn a_function_gets_what_it_asks_for_in_any_order() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let outbox = Outbox::default();
    let worker = start(
        hand(pool, "asking")
            .state(outbox.clone())
            .state("hello")
            .handler("last", |State(outbox): State<Outbox>, mail: Mail| async move { outbox.put(mail.to) })
            .handler("first", |mail: Mail, State(outbox): State<Outbox>, ctx: Context| async move {
                outbox.put(format!("{} {}", mail.to, ctx.attempt()));
            })
            .handler("wrapped", |ctx: Context, Payload(mail): Payload<Mail>, outbox: State<Outbox>| async move {
                outbox.put(format!("{} {}", ctx.handler(), mail.to));
            })
            .handler("own", |greeting: Greeting, outbox: State<Outbox>| async move { outbox.put(greeting.0) })
            .handler("four", |hello: State<&'static str>, outbox: State<Outbox>, ctx: Context, mail: Mail| async move {
                outbox.put(format!("{} {} {}", hello.0, ctx.attempt(), mail.to));
            })
            .transactional("tx", |mut tx: Tx, outbox: State<Outbox>, mail: Mail| async move {
                let one: i32 = sqlx::query_scalar("select 1").fetch_one(&mut *tx).await?;
                outbox.put(format!("{one} {}", mail.to));
                HandlerResult::Ok(())
            }),
    );
    for handler in ["last", "first", "wrapped", "own", "four", "tx"] {
        let run = insert(pool, handler, &[MAIL]).await;
        until_status(pool, run, "normal", SOON).await;
    }
    worker.stop().await;
    let lines = outbox.0.lock().unwrap().clone();
    assert_eq!(lines, ["ann", "ann 1", "wrapped ann", "hello from own", "hello 1 ann", "1 ann"]);
}

#[tokio::test]
async fn a_payload_that_does_not_fit_fails_wherever_it_stands() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = start(
        hand(pool, "strict")
            .handler("wrapped", |Payload(mail): Payload<Mail>| async move { drop(mail.to) })
            .handler("last", |_: Context, mail: Mail| async move { drop(mail.to) }),
    );
    for handler in ["wrapped", "last"] {
        let run = insert(pool, handler, &[]).await;
        let failed = until_status(pool, run, "failed", SOON).await;
        let sentence = failed.error.unwrap();
        assert!(sentence.starts_with(&format!("payload does not fit handler \"{handler}\": ")), "{sentence}");
        assert_eq!(failed.attempt, 1);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_without_the_state_that_its_handlers_need_does_not_start() {
    let wants = |_: State<Outbox>, _: Context| async {};
    let worker = unconnected()
        .handler("plain", wants)
        .handler("own", |_: Greeting| async {})
        .transactional("tx", |_: Tx, _: State<u8>| async {});
    let error = worker.run(async {}).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }));
    assert_eq!(
        error.to_string(),
        "handlers: handler \"own\" needs state of type &str, and none was given; \
         handler \"plain\" needs state of type it::library_state::Outbox, and none was given; \
         handler \"tx\" needs state of type u8, and none was given"
    );
    let twice = unconnected().handler("plain", wants).state(Outbox::default()).state(Outbox::default());
    let sentence = twice.run(async {}).await.unwrap_err().to_string();
    assert_eq!(sentence, "handlers: state of type it::library_state::Outbox is given twice");
}

#[tokio::test]
async fn a_pool_of_the_applications_own_is_a_state() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    sqlx::query("create table public.mails (to_whom text)").execute(pool).await.unwrap();
    async fn store(State(pool): State<PgPool>, mail: Mail) -> HandlerResult {
        sqlx::query("insert into public.mails values ($1)").bind(mail.to).execute(&pool).await?;
        Ok(())
    }
    let worker = start(hand(pool, "storing").state(pool.clone()).handler("store", store));
    let run = insert(pool, "store", &[MAIL]).await;
    until_status(pool, run, "normal", SOON).await;
    worker.stop().await;
    assert_eq!(one::<String>(pool, "select to_whom from public.mails").await, "ann");
}

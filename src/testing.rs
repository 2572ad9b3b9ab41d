//! Test what you enqueue, schedule and handle: the engine cranked by hand, at a time that you set.
//!
//! An [`Engine`] has your handlers and a database of the test's own. Nothing happens by itself: no worker
//! polls, no thread runs, nothing sleeps. [`Engine::run_due`] fires the schedules that are due, claims what
//! is due, calls your real handlers one after the other and records their ends, with the statements that a
//! worker uses. What it does is real: retries and their waits, snoozes, panics, deadlines, unique and
//! concurrency keys, transactional handlers.
//!
//! ```no_run
//! use std::time::Duration;
//! use watchbell::client::NewRun;
//! use watchbell::testing::{Database, Engine};
//! use watchbell::{HandlerResult, Registry, Status};
//!
//! #[derive(serde::Deserialize)]
//! struct Signup { email: String }
//!
//! async fn welcome(signup: Signup) -> HandlerResult {
//!     if signup.email.ends_with("@down.example") { return Err("no answer".into()) }
//!     Ok(())
//! }
//!
//! # // in a test: #[tokio::test]
//! async fn a_welcome_is_tried_again() -> watchbell::Result<()> {
//!     let database = Database::fresh().await?; // dropped at the end of the test
//!     let mut engine = Engine::new(database.pool(), Registry::new().handler("welcome", welcome)).await?;
//!
//!     let signup = serde_json::json!({"email": "a@down.example"});
//!     NewRun::new("welcome").payload(&signup)?.max_attempts(2).insert(&database.pool()).await?;
//!     engine.enqueued().handler("welcome").payload(signup).assert_one().await;
//!
//!     let ran = engine.run_due().await?;
//!     assert_eq!((ran.len(), ran[0].status), (1, Status::Pending)); // failed, and waits for another attempt
//!     assert_eq!(ran[0].error.as_deref(), Some("no answer"));
//!     assert!(engine.run_due().await?.is_empty()); // its time has not come
//!
//!     engine.advance(Duration::from_secs(60)).await?;
//!     assert_eq!(engine.run_due().await?[0].status, Status::Failed);
//!     Ok(())
//! }
//! ```
//!
//! # The time
//!
//! An engine's time begins at the database's time and only goes forward: by [`Engine::advance`],
//! [`Engine::set_now`] and [`Engine::run_until`], and, if the database's clock has passed it meanwhile, to
//! that. So a row that somebody inserts with `now()` is due at once, whoever inserts it. A test that wants
//! exact times sets one that lies ahead, the next noon for instance: nothing but the test moves it then.
//!
//! Sessions of [`Database::pool`], of a pool made by [`at_set_time`] and of a transactional handler live at
//! the set time: `NewRun::delay`, new schedules and `watchbell.clock()` count from it. SQL's own `now()`
//! stays the real one, in those as in all other sessions, and so does a handler's `timeout`: a handler
//! that waits for 5 s takes 5 s.
//!
//! # What it cannot do
//!
//! Run handlers inside a transaction of the test's own, to be rolled back at its end: claims and ends are
//! commits, as they are in a worker, and a transactional handler needs one of its own. Give each test a
//! database instead; a copy of a template takes some 20 ms ([`Database::copy_of`]).
//!
//! Keep other workers away from the database: they go by its clock and would take the test's runs.

mod at_set_time;
mod contains;
mod database;
mod engine;
mod history;
mod ran;
mod selection;
mod time;
mod watched;
mod watches;

pub use at_set_time::at_set_time;
pub use database::Database;
pub use engine::{Engine, Fired, Held};
pub use history::{AttemptError, Fire};
pub use ran::Ran;
pub use selection::Selection;
pub use watched::WatchedRow;

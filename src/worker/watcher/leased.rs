//! A step in leased mode: rows are claimed for the slots that are free, and their tasks are those of runs.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{
    super::{
        leased::{Brought, take},
        session::{DEADLINE, within},
    },
    step::{Rest, Step, is_refused},
};
use crate::{
    lifecycle::{
        leased::{self, Cursor, is_a_rows},
        transact::Worked,
    },
    metrics,
};

/// A worker without room looks again so soon, unless a row's end tells it to.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Between two looks, however often it is woken.
const LEAST: Duration = Duration::from_millis(2);
/// A step whose rows another worker is claiming looks again so soon.
const CROWDED: Duration = Duration::from_millis(20);

/// Claims rows of the step until its end.
pub(super) async fn work(step: Step) {
    let shared = &step.all.shared;
    let (mut cursor, mut rest) = (Cursor::default(), Rest::of(&step));
    while !step.end.is_cancelled() {
        if !shared.may_claim() || shared.room_for_rows() == 0 {
            time::sleep(NO_ROOM).await;
            continue;
        }
        let (began, ends) = (Instant::now(), shared.quiet.ends());
        let looked = look(&step, &mut cursor).await;
        metrics::watch_poll(&step.plan.watch.name, began.elapsed());
        if looked.is_ok() {
            step.content();
        }
        match looked {
            Ok(Ok(Brought { again: true, .. })) => continue,
            Ok(Ok(Brought { crowded: true, .. })) => rest.exactly(CROWDED.mul_f64(0.5 + fastrand::f64())),
            Ok(Ok(Brought { rows: 0, looked, .. })) => {
                rest.in_vain(began.elapsed());
                if looked {
                    step.looked_in_vain(ends);
                }
            }
            Ok(Ok(_)) => rest.brought(),
            Ok(Err(wait)) => {
                rest.exactly(wait);
                step.delayed_by_rate(ends).await;
            }
            Err(error) => {
                shared.abandoned.notify_one(); // a claim may have been committed and its reply lost
                rest.failed();
                step.complain(&error).await;
                if is_a_rows(&error) && single_out(&step).await {
                    rest.brought(); // the others can be claimed
                }
                if rest.is_hopeless() && is_refused(&error) {
                    step.looked_in_vain(ends);
                }
            }
        }
        if shared.room_for_rows() == 0 {
            rest.at_most(NO_ROOM);
        }
        rest.rest(&step, LEAST).await;
    }
}

/// One look; or how long the rate lets no row start.
async fn look(step: &Step, cursor: &mut Cursor) -> sqlx::Result<Result<Brought, Duration>> {
    let _open = step.all.shared.quiet.open();
    let granted = match step.allowed(step.planned().step.batch).await? {
        Ok(granted) => granted,
        Err(wait) => return Ok(Err(wait)),
    };
    let mut conn = step.all.claims.acquire().await?;
    let brought = within(DEADLINE, take(&step.all.shared, &mut conn, &step.plan, step.step, cursor, granted)).await;
    if brought.as_ref().is_err_and(|error| error.as_database_error().is_none()) {
        drop(conn.detach()); // nobody knows in what state it is
    } else {
        drop(conn);
    }
    let rows = brought.as_ref().map_or(0, |brought| brought.rows);
    step.give_back(granted - i64::try_from(rows).unwrap_or(granted)).await;
    brought.map(Ok)
}

/// The table refused a claim: rows that cannot go to `via` are set aside. True: there were some.
async fn single_out(step: &Step) -> bool {
    let (worker, limit) = (step.all.shared.worker(), step.planned().step.batch);
    let looked = async {
        let mut conn = step.all.claims.acquire().await?;
        let found = within(DEADLINE, leased::single_out(&mut conn, &step.plan, step.step, worker, limit)).await;
        if found.as_ref().is_err_and(|error| error.as_database_error().is_none()) {
            drop(conn.detach()); // nobody knows in what state it is
        }
        found
    };
    match looked.await {
        Ok(failures) => {
            let mut worked = Worked::default();
            worked.count(failures);
            step.tell(worker, &worked);
            !worked.failures.is_empty()
        }
        Err(error) => {
            tracing::debug!(watch = step.plan.watch.name, %error, "no row was found that its table refuses");
            false
        }
    }
}

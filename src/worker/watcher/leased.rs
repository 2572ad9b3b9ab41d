//! A step in leased mode: rows are claimed for the slots that are free, and their tasks are those of runs.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{
    super::{
        leased::take,
        session::{Session, within},
    },
    step::{Rest, Step},
};
use crate::lifecycle::leased::Cursor;

/// A worker without room looks again so soon, unless a row's end tells it to.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Between two looks, however often it is woken.
const LEAST: Duration = Duration::from_millis(2);

/// Claims rows of the step until its end.
pub(super) async fn work(step: Step) {
    let shared = &step.all.shared;
    let mut session = Session::of(&shared.executor.pool, "watch");
    let (mut cursor, mut rest) = (Cursor::default(), Rest::of(&step));
    while !step.end.is_cancelled() {
        if !shared.may_claim() || shared.room_for_rows() == 0 {
            time::sleep(NO_ROOM).await;
            continue;
        }
        let began = Instant::now();
        match look(&step, &mut session, &mut cursor).await {
            Ok(Ok((_, true))) => continue,
            Ok(Ok((0, false))) => rest.in_vain(began.elapsed()),
            Ok(Ok(_)) => rest.brought(),
            Ok(Err(wait)) => rest.exactly(wait),
            Err(error) => {
                let first = rest.failed();
                step.complain(&error, first).await;
            }
        }
        if shared.room_for_rows() == 0 {
            rest.at_most(NO_ROOM);
        }
        rest.rest(&step, LEAST).await;
    }
    session.close().await;
}

/// One look: how many rows it brought, and whether to look again at once; or how long the rate lets none start.
async fn look(
    step: &Step,
    session: &mut Session,
    cursor: &mut Cursor,
) -> sqlx::Result<Result<(usize, bool), Duration>> {
    let granted = match step.allowed(step.planned().step.batch).await? {
        Ok(granted) => granted,
        Err(wait) => return Ok(Err(wait)),
    };
    let deadline = session.deadline();
    let conn = session.connection().await?;
    let brought = within(deadline, take(&step.all.shared, conn, &step.plan, step.step, cursor, granted)).await;
    let brought = session.settle(brought);
    let rows = brought.as_ref().map_or(0, |brought| brought.rows);
    step.give_back(granted - i64::try_from(rows).unwrap_or(granted)).await?;
    brought.map(|brought| Ok((brought.rows, brought.again)))
}

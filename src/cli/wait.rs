//! Waiting for the end of runs, and what it makes of the exit code.

use std::process::ExitCode;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::exit;
use super::output::note;
use crate::client::{self, RunRow};
use crate::error::Result;
use crate::run::{RunId, Status};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits for all of them and says of each how it ended: 0 if all ended well, 1 if one did not, 124 if the time was up.
pub(super) async fn wait(connection: &mut PgConnection, ids: &[RunId], limit: Option<Duration>) -> Result<ExitCode> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut all_well = true;
    for &id in ids {
        match ended(connection, id, deadline).await? {
            Ok(run) => {
                note(&match &run.error {
                    Some(error) => format!("run {id} ended as {}: {error}", run.status),
                    None => format!("run {id} ended as {}", run.status),
                });
                all_well &= run.status == Status::Normal;
            }
            Err(status) => {
                note(&format!("run {id} is {status} still; stopped waiting"));
                return Ok(ExitCode::from(exit::TIMED_OUT));
            }
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// The run once it is over, or its status when the time is up.
async fn ended(
    connection: &mut PgConnection,
    id: RunId,
    deadline: Option<Instant>,
) -> Result<std::result::Result<RunRow, Status>> {
    loop {
        let run = client::run(&mut *connection, id).await?;
        if run.status.is_terminal() {
            return Ok(Ok(run));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Err(run.status));
        }
        sleep(PAUSE).await;
    }
}

//! A step in transactional mode: batches, one after the other, and several side by side while there is much to do.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use super::step::{Rest, Step};
use crate::{
    lifecycle::transact::{Ask, Line, Worked, transact},
    metrics,
};

/// Batches of one step that this process has open at once.
const LANES_MAX: usize = 4;
/// A step that never comes to the end of its rows begins anew so often, for those that came back.
const FRONT_EVERY: Duration = Duration::from_secs(1);
/// Between two looks, however often it is woken.
const LEAST: Duration = Duration::from_millis(10);
/// A step with as many rows in work as it may have looks again so soon.
const CROWDED: Duration = Duration::from_millis(20);

struct Lanes {
    step: Step,
    line: Arc<Line>,
    free: BTreeSet<i16>,
    /// How many may be open now.
    width: usize,
    /// Rows in a batch; fewer after one that took too long.
    rows: i64,
    place: Option<Vec<String>>,
    front_at: Instant,
    rest: Rest,
    /// Look again without a rest.
    at_once: bool,
}

/// What a lane's task brings back.
struct Back {
    lane: i16,
    behind: bool,
    took: Duration,
    worker: i32,
    worked: sqlx::Result<Result<Worked, Duration>>,
}

/// Works the step until its end; what is open then is finished.
pub(super) async fn work(step: Step) {
    let limit = step.all.shared.config.watch_transaction;
    let line = Line { plan: Arc::clone(&step.plan), step: step.step, own: step.all.own.clone(), limit };
    let mut lanes = Lanes {
        rest: Rest::of(&step),
        line: Arc::new(line),
        free: (0..LANES_MAX as i16).collect(),
        width: 1,
        rows: step.planned().step.batch,
        place: None,
        front_at: Instant::now() + FRONT_EVERY,
        at_once: true,
        step,
    };
    let mut open: JoinSet<Back> = JoinSet::new();
    loop {
        let ends = lanes.step.end.is_cancelled();
        while !ends && lanes.at_once && open.len() < lanes.width && lanes.step.all.shared.may_claim() {
            lanes.start(&mut open);
        }
        match open.join_next().await {
            Some(Ok(back)) => lanes.take_in(back).await,
            Some(Err(panic)) => {
                // only a bug of this program's ends here: a handler's panic is caught
                tracing::error!(%panic, watch = lanes.step.plan.watch.name, "a batch ended in a panic");
                lanes.free = (0..LANES_MAX as i16).collect();
                lanes.rest.failed();
                lanes.at_once = false;
            }
            None if ends => break,
            None => {
                lanes.rest.rest(&lanes.step, LEAST).await;
                lanes.at_once = true;
                if !lanes.step.all.shared.may_claim() {
                    time::sleep(CROWDED).await;
                }
            }
        }
    }
}

impl Lanes {
    fn start(&mut self, open: &mut JoinSet<Back>) {
        let Some(lane) = self.free.pop_first() else { return };
        if self.front_at <= Instant::now() {
            (self.place, self.front_at) = (None, Instant::now() + FRONT_EVERY);
        }
        let ask = Ask {
            worker: self.step.all.shared.worker(),
            lane,
            rows: self.rows,
            behind: self.place.clone(),
            stop: self.step.all.shared.watches.force.clone(),
        };
        let (step, line) = (self.step.clone(), Arc::clone(&self.line));
        open.spawn(async move {
            let (began, behind, worker) = (Instant::now(), ask.behind.is_some(), ask.worker);
            let worked = batch(&step, &line, ask).await;
            Back { lane, behind, took: began.elapsed(), worker, worked }
        });
    }

    async fn take_in(&mut self, back: Back) {
        self.free.insert(back.lane);
        let worked = match back.worked {
            Ok(Ok(worked)) => worked,
            Ok(Err(wait)) => {
                self.rest.exactly(wait);
                (self.at_once, self.width) = (false, 1);
                return;
            }
            Err(error) => {
                (self.at_once, self.width, self.place) = (false, 1, None);
                let first = self.rest.failed();
                return self.step.complain(&error, first).await;
            }
        };
        let (all, step) = (&self.step.all, &self.step.planned().step);
        let watch = &self.step.plan.watch;
        all.shared.row_journal.worked(&watch.name, self.step.planned(), back.worker, &worked);
        all.tally.add(watch.id, &step.from, (worked.done, worked.failed, worked.retried));
        metrics::watch_poll(&watch.name, back.took);
        for (status, rows) in [("normal", worked.done), ("failed", worked.failed), ("retried", worked.retried)] {
            metrics::watch_rows(&watch.name, status, rows.try_into().unwrap_or(0));
        }
        if worked.broken {
            tracing::warn!(watch = self.step.plan.watch.name, step = step.from, "its statement cannot be executed");
            self.step.replan().await;
            self.rest.failed();
            (self.at_once, self.width) = (false, 1);
        } else if worked.too_many {
            self.rows = (self.rows / 2).max(1);
            (self.at_once, self.width) = (true, 1);
        } else if worked.crowded {
            self.rest.exactly(CROWDED.mul_f64(0.5 + fastrand::f64()));
            (self.at_once, self.width) = (false, 1);
        } else if worked.full {
            self.rows = (self.rows * 2).min(step.batch);
            self.place = worked.place;
            self.rest.brought();
            (self.at_once, self.width) = (true, (self.width + 1).min(LANES_MAX));
        } else {
            // from behind a place there was no more: what lies before it has not been looked at lately
            (self.at_once, self.width, self.place) = (back.behind, 1, None);
            self.front_at = Instant::now() + FRONT_EVERY;
            if worked.taken > 0 { self.rest.brought() } else { self.rest.in_vain(back.took) }
        }
        if worked.done + worked.failed > 0 {
            self.step.lead_on();
        }
    }
}

/// One batch, if it may start: otherwise how long until it may.
async fn batch(step: &Step, line: &Line, mut ask: Ask) -> sqlx::Result<Result<Worked, Duration>> {
    let Ok(_open) = step.all.open.acquire().await else { return Ok(Err(CROWDED)) };
    let granted = match step.allowed(ask.rows).await? {
        Ok(granted) => granted,
        Err(wait) => return Ok(Err(wait)),
    };
    let (wanted, rated) = (ask.rows, step.planned().step.rate.is_some());
    ask.rows = granted;
    let worked = transact(&step.all.shared.executor, line, ask).await;
    let taken = worked.as_ref().map_or(0, |worked| worked.taken);
    step.give_back(granted - taken).await?;
    worked.map(|mut worked| {
        // fewer than wanted, because the rate allowed no more
        worked.full |= rated && granted < wanted && taken == granted;
        Ok(worked)
    })
}

//! A step in transactional mode: batches, one after the other, and several side by side while there is much to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    super::{session::within, shared::Phase},
    PLAN_MAX,
    step::{Rest, Step, is_refused},
};
use crate::{
    lifecycle::{
        transact::{Ask, Line, Worked, transact},
        watch_crashed::{self, Hand},
    },
    metrics,
};

/// Batches of one step that this process has open at once.
const LANES_MAX: u16 = 4;
/// Between two attempts to delete what batches had noted whose step begins no other.
const FORGET_AGAIN: Duration = Duration::from_secs(1);
/// A step that never comes to the end of its rows begins anew so often, for those that came back.
const FRONT_EVERY: Duration = Duration::from_secs(1);
/// Between two looks, however often it is woken.
const LEAST: Duration = Duration::from_millis(10);
/// A step with as many rows in work as it may have looks again so soon.
const CROWDED: Duration = Duration::from_millis(20);

struct Lanes {
    step: Step,
    line: Arc<Line>,
    /// Their numbers are no others', also after an edit: what a step notes is not deleted by the one that ends.
    all: Range<i16>,
    free: BTreeSet<i16>,
    /// Lanes whose transaction broke, and the worker's number then: what they had noted may stand, and would be charged
    /// when this worker ends, long after those rows have moved on.
    broken: BTreeMap<i16, i32>,
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
    worker: i32,
    behind: bool,
    /// How many ends of work there had been when it began.
    ends: u64,
    took: Duration,
    worked: sqlx::Result<Result<Worked, Duration>>,
}

/// Works the step until its end; what is open then is finished.
pub(super) async fn work(step: Step) {
    let limit = step.all.shared.config.watch_transaction;
    let first = step.all.begun.fetch_add(1, Ordering::Relaxed) % (i16::MAX as u16 / LANES_MAX) * LANES_MAX;
    let all = first as i16..(first + LANES_MAX) as i16;
    let line = Line { plan: Arc::clone(&step.plan), step: step.step, own: step.all.own.clone(), limit };
    let mut lanes = Lanes {
        rest: Rest::of(&step),
        line: Arc::new(line),
        free: all.clone().collect(),
        all,
        broken: BTreeMap::new(),
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
            if !lanes.forget_broken().await {
                break;
            }
            lanes.start(&mut open);
        }
        match open.join_next().await {
            Some(Ok(back)) => lanes.take_in(back).await,
            Some(Err(panic)) => {
                // only a bug of this program's ends here: a handler's panic is caught
                let (watch, step) = (&lanes.step.plan.watch.name, &lanes.step.planned().step.from);
                tracing::error!(target: "watchbell::watch", watch, step, %panic, "a batch ended in a panic");
                lanes.free = lanes.all.clone().collect();
                lanes.rest.failed();
                lanes.at_once = false;
            }
            None if ends => {
                // nobody else knows what they had noted
                let shared = Arc::clone(&lanes.step.all.shared);
                while !lanes.forget_broken().await && shared.phase() == Phase::Running {
                    time::sleep(FORGET_AGAIN).await;
                }
                break;
            }
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
        let (step, line, worker) = (self.step.clone(), Arc::clone(&self.line), ask.worker);
        open.spawn(async move {
            let quiet = &step.all.shared.quiet;
            let (began, behind, ends) = (Instant::now(), ask.behind.is_some(), quiet.ends());
            let open = quiet.open();
            let worked = batch(&step, &line, ask).await;
            match &worked {
                Ok(Err(_)) | Ok(Ok(Worked { taken: 0, .. })) => {}
                _ => quiet.ended(),
            }
            drop(open);
            Back { lane, worker, behind, ends, took: began.elapsed(), worked }
        });
    }

    /// Deletes what broken batches had noted. False: the database does not let it, now.
    async fn forget_broken(&mut self) -> bool {
        let (watch, step) = (&self.step.plan.watch, &self.step.planned().step.from);
        while let Some((&lane, &worker)) = self.broken.first_key_value() {
            let hand = Hand { worker, watch: watch.id, step, lane };
            if let Err(error) = within(PLAN_MAX, watch_crashed::over(&self.step.all.own, hand)).await {
                let watch = &watch.name;
                tracing::debug!(watch, step, %error, "what a broken batch had noted could not be deleted; trying again");
                self.rest.failed();
                self.at_once = false;
                return false;
            }
            self.broken.remove(&lane);
        }
        true
    }

    async fn take_in(&mut self, back: Back) {
        self.free.insert(back.lane);
        let worked = match back.worked {
            Ok(Ok(worked)) => worked,
            Ok(Err(wait)) => {
                self.rest.exactly(wait);
                (self.at_once, self.width) = (false, 1);
                return self.step.delayed_by_rate(back.ends).await;
            }
            Err(error) => {
                self.broken.insert(back.lane, back.worker);
                (self.at_once, self.width, self.place) = (false, 1, None);
                self.rest.failed();
                self.step.complain(&error).await;
                return self.pass_over_if(is_refused(&error));
            }
        };
        self.step.content();
        metrics::watch_poll(&self.step.plan.watch.name, back.took);
        self.step.tell(back.worker, &worked);
        let step = &self.step.planned().step;
        if worked.broken {
            let (watch, step) = (&self.step.plan.watch.name, &step.from);
            tracing::warn!(target: "watchbell::watch", watch, step, "statement of a watch cannot be executed");
            self.step.replan().await;
            self.rest.failed();
            (self.at_once, self.width) = (false, 1);
            self.pass_over_if(true);
        } else if worked.too_many {
            self.rows = (self.rows / 2).max(1);
            (self.at_once, self.width) = (true, 1);
        } else if worked.crowded {
            self.rest.exactly(CROWDED.mul_f64(0.5 + fastrand::f64()));
            (self.at_once, self.width) = (false, 1);
            self.step.looked_in_vain(back.ends);
        } else if worked.full {
            self.rows = (self.rows * 2).min(step.batch);
            self.place = worked.place;
            self.rest.brought();
            (self.at_once, self.width) = (true, (self.width + 1).min(self.all.len()));
        } else {
            // from behind a place there was no more: what lies before it has not been looked at lately
            (self.at_once, self.width, self.place) = (back.behind, 1, None);
            self.front_at = Instant::now() + FRONT_EVERY;
            if worked.taken > 0 {
                self.rest.brought();
            } else {
                self.rest.in_vain(back.took);
                if !back.behind {
                    self.step.looked_in_vain(back.ends);
                }
            }
        }
        if worked.done + worked.failed > 0 {
            self.step.lead_on();
        }
    }

    /// Nobody is to wait for a step that does nothing but fail, if the fault is not the connection's.
    fn pass_over_if(&self, is_refused: bool) {
        if is_refused && self.rest.is_hopeless() {
            self.step.looked_in_vain(self.step.all.shared.quiet.ends());
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
    let executor = &step.all.shared.executor;
    // the server bounds each part of it; an answer that never comes, since the connection is dead, only this
    let longest = executor.pool.options().get_acquire_timeout() + line.limit * 5 + executor.grace + PLAN_MAX;
    let worked = within(longest, transact(executor, line, ask)).await;
    let taken = worked.as_ref().map_or(0, |worked| worked.taken);
    step.give_back(granted - taken).await;
    worked.map(|mut worked| {
        // fewer than wanted, because the rate allowed no more
        worked.full |= rated && granted < wanted && taken == granted;
        Ok(worked)
    })
}

//! What runs print, in memory: on its way from a handler to the worker's output writer.
//!
//! ```text
//!   handler ─► Output, one an attempt ─ the first half of the limit ─► Outlet, one a worker ─► writer
//!                 │ the rest: a tail of the last half                      ▲
//!                 └──────────────────── at the attempt's end ──────────────┘
//! ```
//!
//! **In** bytes of three streams. **Out** [`Piece`]s in the order in which they came, the middle cut out of what
//! is longer than the limit. **Lock** two short mutexes, an attempt's before the outlet's; nobody waits while
//! holding one. **Crash** what was not written is lost with the process; no state depends on it.
//!
//! A handler never waits here. What has no room, because the database is slow or down, is cut and counted.

mod outlet;
#[cfg(any(feature = "bin", all(unix, feature = "shell")))]
mod size;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use outlet::{Batch, Outlet};
#[cfg(any(feature = "bin", all(unix, feature = "shell")))]
pub(crate) use size::size;

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// What a handler logged, and remarks of the worker.
    Log,
    /// A command's standard output.
    Stdout,
    /// A command's standard error.
    Stderr,
}

impl Stream {
    /// As in the column `stream` of `watchbell.run_output`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Some bytes of one stream of one attempt: a row to be.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) run_id: i64,
    pub(crate) attempt: i32,
    pub(crate) seq: i32,
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
    /// How many bytes were cut out here; then `bytes` is the remark that says so.
    pub(crate) cut: u64,
    /// Its number among all pieces of the worker.
    number: u64,
}

/// Longest piece of a tail.
const TAIL_PIECE: usize = 16 * 1024;

/// The output of one attempt. Its end is [`Output::close`], or its drop.
#[derive(Debug)]
pub(crate) struct Output {
    outlet: Outlet,
    run_id: i64,
    attempt: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seq: i32,
    /// Bytes that may still go straight to the outlet.
    head_left: usize,
    tail: VecDeque<(Stream, Vec<u8>)>,
    tail_len: usize,
    tail_max: usize,
    cut: u64,
    /// The number of the last piece handed over.
    last: u64,
    closed: bool,
}

impl Output {
    pub(crate) fn new(outlet: Outlet, run_id: i64, attempt: i32) -> Self {
        outlet.open();
        let limit = outlet.limit();
        let state = State {
            seq: 0,
            head_left: limit / 2,
            tail: VecDeque::new(),
            tail_len: 0,
            tail_max: limit - limit / 2,
            cut: 0,
            last: 0,
            closed: false,
        };
        Self { outlet, run_id, attempt, state: Mutex::new(state) }
    }

    /// Adds bytes. Costs a copy of at most the limit, however much it is.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let (head, rest) = bytes.split_at(bytes.len().min(state.head_left));
        if !head.is_empty() {
            if self.push(&mut state, stream, head) {
                state.head_left -= head.len();
            } else {
                state.head_left = 0;
                state.append(&self.outlet, stream, head);
            }
        }
        if !rest.is_empty() {
            state.append(&self.outlet, stream, rest);
        }
    }

    /// The attempt is over: what was held back goes to the writer, at once.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.closed, true) {
            return;
        }
        self.outlet.refund_bytes(state.trim());
        let mut pieces = vec![];
        if state.cut > 0 {
            let remark = format!("\n[{} bytes were cut here]\n", state.cut).into_bytes();
            let cut = state.cut;
            self.outlet.charge_anyway(remark.len());
            pieces.push(self.piece(&mut state, Stream::Log, remark, cut));
        }
        for (stream, bytes) in std::mem::take(&mut state.tail) {
            pieces.push(self.piece(&mut state, stream, bytes, 0));
        }
        state.head_left = 0;
        state.tail_max = 0; // what comes after its end is cut
        if state.last > 0 || !pieces.is_empty() {
            state.last = self.outlet.hand_over(pieces).max(state.last);
        }
    }

    /// Waits until all of it is written, at most so long: no state of a run may depend on its output.
    pub(crate) async fn written(&self, limit: Duration) {
        let last = self.state().last;
        if last > 0 {
            self.outlet.written_up_to(last, limit).await;
        }
    }

    /// Hands bytes to the outlet; false when it has no room.
    fn push(&self, state: &mut State, stream: Stream, bytes: &[u8]) -> bool {
        if let Some(number) = self.outlet.extend((self.run_id, self.attempt, stream), bytes) {
            state.last = number;
            return true;
        }
        if !self.outlet.charge(bytes.len()) {
            return false;
        }
        let piece = self.piece(state, stream, bytes.to_vec(), 0);
        state.last = self.outlet.push(piece);
        true
    }

    fn piece(&self, state: &mut State, stream: Stream, bytes: Vec<u8>, cut: u64) -> Piece {
        let seq = state.seq;
        state.seq = seq.saturating_add(1);
        Piece { run_id: self.run_id, attempt: self.attempt, seq, stream, bytes, cut, number: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.close();
        self.outlet.shut();
    }
}

impl State {
    /// Adds to the tail; what falls out of it, or has no room, is cut.
    fn append(&mut self, outlet: &Outlet, stream: Stream, bytes: &[u8]) {
        let kept = &bytes[bytes.len() - bytes.len().min(self.tail_max)..];
        self.cut += (bytes.len() - kept.len()) as u64;
        for part in kept.chunks(TAIL_PIECE) {
            self.make_room(outlet, part.len());
            match self.tail.back_mut() {
                Some((last, piece)) if *last == stream && piece.len() + part.len() <= TAIL_PIECE => {
                    if !outlet.charge_more(part.len()) {
                        self.cut += part.len() as u64;
                        continue;
                    }
                    piece.extend_from_slice(part);
                }
                _ => {
                    if !outlet.charge(part.len()) {
                        self.cut += part.len() as u64;
                        continue;
                    }
                    self.tail.push_back((stream, part.to_vec()));
                }
            }
            self.tail_len += part.len();
        }
    }

    /// Drops pieces off the tail's front while the rest is long enough with `more` to come, or where all
    /// attempts together have no room.
    fn make_room(&mut self, outlet: &Outlet, more: usize) {
        while let Some((_, front)) = self.tail.front() {
            let len = front.len();
            if self.tail_len + more - len < self.tail_max && outlet.has_room(more) {
                return;
            }
            outlet.refund(len);
            self.tail.pop_front();
            self.tail_len -= len;
            self.cut += len as u64;
        }
    }

    /// Cuts the tail to its exact length; answers how much went.
    fn trim(&mut self) -> usize {
        let excess = self.tail_len.saturating_sub(self.tail_max);
        let Some((_, front)) = self.tail.front_mut() else { return 0 };
        // less than a piece: `make_room` has dropped all that could go as a whole
        let excess = excess.min(front.len());
        front.drain(..excess);
        self.tail_len -= excess;
        self.cut += excess as u64;
        excess
    }
}

#[cfg(test)]
mod tests;

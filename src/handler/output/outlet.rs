//! Where the output of all attempts of a worker waits for the writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{self, Instant};

use super::{Piece, Stream};

/// Written when so many lines wait, or so many bytes, or so much time has passed.
const LINES: usize = 1000;
const BYTES: usize = 64 * 1024;
const AGE: Duration = Duration::from_secs(1);

/// Bytes of one statement.
const BATCH: usize = 1024 * 1024;

/// Longest row.
const ROW: usize = 64 * 1024;

/// What may wait in all, heads and tails of all attempts; allocations may be twice as long.
const HELD_MAX: usize = 8 * 1024 * 1024;

/// What a piece takes beside its bytes.
const PIECE: usize = 128;

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Bytes that are kept of one attempt.
    limit: usize,
    queue: Mutex<Queue>,
    /// Bytes that wait here, in tails, and in the writer's hands.
    held: AtomicUsize,
    /// Attempts that may still print.
    open: AtomicUsize,
    changed: Notify,
    written: watch::Sender<u64>,
    /// Somebody waited in vain for output to be written, and none has been since.
    stuck: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    lines: usize,
    oldest: Option<Instant>,
    /// Somebody waits for what is here.
    urgent: bool,
    pushed: u64,
    closed: bool,
}

/// What the writer writes at once.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In order; neighbours of one stream joined.
    pub(crate) pieces: Vec<Piece>,
    last: u64,
    charge: usize,
}

impl Batch {
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }
}

impl Outlet {
    /// Keeps at most so many bytes of each attempt.
    pub(crate) fn new(limit: usize) -> Self {
        let inner = Inner {
            limit,
            queue: Mutex::default(),
            held: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            changed: Notify::new(),
            written: watch::Sender::new(0),
            stuck: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn limit(&self) -> usize {
        self.inner.limit
    }

    pub(super) fn open(&self) {
        self.inner.open.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn shut(&self) {
        let was_last = self.inner.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && self.queue().closed {
            self.inner.changed.notify_one();
        }
    }

    /// No attempt begins any more: the writer ends with the last one that is open.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.inner.changed.notify_one();
    }

    /// What has not been written.
    pub(crate) fn held(&self) -> usize {
        self.inner.held.load(Ordering::Acquire)
    }

    /// The next that is to be written, once there is enough of it; None at the end.
    pub(crate) async fn next(&self) -> Option<Batch> {
        loop {
            let age = {
                let queue = self.queue();
                match queue.oldest {
                    None if queue.closed && self.inner.open.load(Ordering::Acquire) == 0 => return None,
                    None => None,
                    Some(oldest) => {
                        let left = AGE.saturating_sub(oldest.elapsed());
                        let full = queue.lines >= LINES || queue.bytes >= BYTES || queue.urgent || queue.closed;
                        if full || left.is_zero() {
                            break;
                        }
                        Some(left)
                    }
                }
            };
            match age {
                None => self.inner.changed.notified().await,
                Some(left) => drop(time::timeout(left, self.inner.changed.notified()).await),
            }
        }
        Some(self.queue().take())
    }

    /// The batch is written, or lost.
    pub(crate) fn settle(&self, batch: &Batch) {
        self.inner.held.fetch_sub(batch.charge, Ordering::AcqRel);
        self.inner.stuck.store(false, Ordering::Release);
        self.inner.written.send_replace(batch.last);
    }

    /// Waits until this piece is written, at most so long; not at all where others have just waited in vain.
    pub(super) async fn written_up_to(&self, number: u64, limit: Duration) {
        if self.inner.stuck.load(Ordering::Acquire) {
            return;
        }
        let mut written = self.inner.written.subscribe();
        if time::timeout(limit, written.wait_for(|written| *written >= number)).await.is_err() {
            self.inner.stuck.store(true, Ordering::Release);
        }
    }

    pub(super) fn has_room(&self, more: usize) -> bool {
        self.held() + more + PIECE <= HELD_MAX
    }

    /// Takes room for a new piece, if there is any.
    pub(super) fn charge(&self, len: usize) -> bool {
        self.charge_more(len + PIECE)
    }

    /// Takes room for more bytes of a piece, if there is any.
    pub(super) fn charge_more(&self, len: usize) -> bool {
        let room = |held: usize| (held + len <= HELD_MAX).then_some(held + len);
        self.inner.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok()
    }

    /// Takes room for a new piece that is short and must not be left out.
    pub(super) fn charge_anyway(&self, len: usize) {
        self.inner.held.fetch_add(len + PIECE, Ordering::AcqRel);
    }

    /// Gives back the room of a piece.
    pub(super) fn refund(&self, len: usize) {
        self.refund_bytes(len + PIECE);
    }

    /// Gives back the room of bytes of a piece that stays.
    pub(super) fn refund_bytes(&self, len: usize) {
        self.inner.held.fetch_sub(len, Ordering::AcqRel);
    }

    /// Adds to the last piece if it is of this attempt and stream and there is room; answers its number.
    pub(super) fn extend(&self, of: (i64, i32, Stream), bytes: &[u8]) -> Option<u64> {
        let mut queue = self.queue();
        let last = queue.pieces.back_mut()?;
        let same = (last.run_id, last.attempt, last.stream) == of && last.cut == 0;
        if !same || last.bytes.len() + bytes.len() > ROW || !self.charge_more(bytes.len()) {
            return None;
        }
        last.bytes.extend_from_slice(bytes);
        let number = last.number;
        queue.count(bytes);
        let full = queue.is_full();
        drop(queue);
        if full {
            self.inner.changed.notify_one();
        }
        Some(number)
    }

    /// Adds a piece whose room is taken; answers its number.
    pub(super) fn push(&self, piece: Piece) -> u64 {
        let mut queue = self.queue();
        let first = queue.pieces.is_empty();
        let number = queue.push(piece);
        let wake = first || queue.is_full();
        drop(queue);
        if wake {
            self.inner.changed.notify_one();
        }
        number
    }

    /// Adds the last pieces of an attempt, whose room is taken, for which somebody may wait.
    pub(super) fn hand_over(&self, pieces: Vec<Piece>) -> u64 {
        let mut queue = self.queue();
        let last = pieces.into_iter().map(|piece| queue.push(piece)).last().unwrap_or(0);
        queue.urgent = true;
        drop(queue);
        self.inner.changed.notify_one();
        last
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, mut piece: Piece) -> u64 {
        self.pushed += 1;
        piece.number = self.pushed;
        self.oldest.get_or_insert_with(Instant::now);
        self.count(&piece.bytes);
        self.pieces.push_back(piece);
        self.pushed
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
    }

    fn is_full(&self) -> bool {
        self.lines >= LINES || self.bytes >= BYTES
    }

    /// The oldest pieces, as many as go into one statement.
    fn take(&mut self) -> Batch {
        let (mut pieces, mut bytes, mut last) = (vec![], 0, 0);
        while let Some(piece) = self.pieces.pop_front_if(|piece| bytes == 0 || bytes + piece.bytes.len() <= BATCH) {
            bytes += piece.bytes.len();
            last = piece.number;
            pieces.push(piece);
        }
        let charge = bytes + pieces.len() * PIECE;
        if self.pieces.is_empty() {
            (self.bytes, self.lines, self.oldest, self.urgent) = (0, 0, None, false);
        } else {
            // still more than one statement's worth: the next one goes at once
            self.urgent = true;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        Batch { pieces: joined(pieces), last, charge }
    }
}

/// Neighbours of one attempt and stream as one row: a hundred runs that log line by line are a hundred rows.
fn joined(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_by_key(|piece| (piece.run_id, piece.attempt, piece.seq));
    let mut rows: Vec<Piece> = Vec::with_capacity(pieces.len().min(1000));
    for piece in pieces {
        match rows.last_mut() {
            Some(row)
                if (row.run_id, row.attempt, row.stream) == (piece.run_id, piece.attempt, piece.stream)
                    && row.cut == 0
                    && piece.cut == 0
                    && row.bytes.len() + piece.bytes.len() <= ROW =>
            {
                row.bytes.extend_from_slice(&piece.bytes);
            }
            _ => rows.push(piece),
        }
    }
    rows
}

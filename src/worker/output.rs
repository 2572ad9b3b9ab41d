//! The output writer: what handlers log goes to `run_output`, apart from everything that decides a run.

use std::{collections::BTreeMap, time::Duration};

use sqlx::PgPool;
use tokio::{sync::mpsc::Receiver, time};

use crate::handler::LogLine;

/// Lines that may wait in memory; more are dropped, and the worker's log says so.
pub(super) const LINES_MAX: usize = 10_000;

/// Written when so many lines wait, or so many bytes, or so much time has passed.
const LINES: usize = 1000;
const BYTES: usize = 64 * 1024;
const AGE: Duration = Duration::from_secs(1);

/// Longest line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Writes lines until every sender is gone.
pub(super) async fn write(pool: PgPool, mut lines: Receiver<LogLine>) {
    let mut waiting: Vec<LogLine> = vec![];
    while lines.recv_many(&mut waiting, LINES).await > 0 {
        let full = |waiting: &Vec<LogLine>| {
            waiting.len() >= LINES || waiting.iter().map(|l| l.line.len()).sum::<usize>() >= BYTES
        };
        let age = time::sleep(AGE);
        tokio::pin!(age);
        while !full(&waiting) {
            let room = LINES - waiting.len();
            tokio::select! {
                n = lines.recv_many(&mut waiting, room) => if n == 0 { break },
                () = &mut age => break,
            }
        }
        if let Err(error) = insert(&pool, &waiting).await {
            tracing::warn!(%error, lines = waiting.len(), "run output could not be written and is lost");
        }
        waiting.clear();
    }
}

/// One row per attempt and batch, its lines joined.
pub(crate) async fn insert(pool: &PgPool, lines: &[LogLine]) -> sqlx::Result<()> {
    let mut chunks: BTreeMap<(i64, i32), (i32, Vec<u8>)> = BTreeMap::new();
    for line in lines {
        let (_, bytes) = chunks.entry((line.run_id, line.attempt)).or_insert_with(|| (line.seq, vec![]));
        let text = line.line.as_bytes();
        bytes.extend_from_slice(&text[..text.len().min(LINE_BYTES_MAX)]);
        bytes.push(b'\n');
    }
    let (mut run, mut attempt, mut seq, mut bytes) = (vec![], vec![], vec![], vec![]);
    for ((id, number), (first, chunk)) in chunks {
        run.push(id);
        attempt.push(number);
        seq.push(first);
        bytes.push(chunk);
    }
    sqlx::query(
        "insert into watchbell.run_output (run_id, attempt, seq, stream, bytes) \
         select x.run_id, x.attempt, x.seq, 'log', x.bytes \
         from unnest($1::bigint[], $2::integer[], $3::integer[], $4::bytea[]) as x (run_id, attempt, seq, bytes)",
    )
    .bind(run)
    .bind(attempt)
    .bind(seq)
    .bind(bytes)
    .execute(pool)
    .await
    .map(drop)
}

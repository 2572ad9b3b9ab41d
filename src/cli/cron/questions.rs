//! `watchbell cron next --stdin`: one question a line, one answer a line, as long as there are lines.
//!
//! Answers wait in a buffer only while another question has arrived: whoever asks one and waits hears at once,
//! and a file of a hundred thousand is written in large pieces.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Question;
use crate::cli::value;
use crate::clock;
use crate::error::{Error, Result};
use crate::schedule::Dst;
use crate::schedule::explain::{self, FIRES_MAX, rfc3339};

/// The longest question, in bytes.
const LINE_MAX: u64 = 65_536;

/// One line of input. What is left out is as the command line says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    spec: String,
    tz: Option<String>,
    from: Option<String>,
    n: Option<u64>,
    dst: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Next(Vec<String>),
    Error(String),
}

/// Answers until the input ends, or nobody reads the answers any more.
pub(super) async fn answer(defaults: Question) -> Result<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own, which the end of the process ends: a read of standard input cannot be interrupted,
    // and Ctrl-C must not wait for it.
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(LINE_MAX as usize, io::stdin());
        let result = answer_all(&mut input, &mut BufWriter::new(io::stdout()), &defaults);
        let _ = sender.send(result); // nobody waits for it after Ctrl-C
    });
    match receiver.await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(result) => result.map_err(|error| Error::io("answering questions", error)),
        Err(_) => Err(Error::io("answering questions", io::Error::other("the thread ended"))),
    }
}

fn answer_all(input: &mut BufReader<impl Read>, output: &mut impl Write, defaults: &Question) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        let answer = if line.len() as u64 == LINE_MAX && line.last() != Some(&b'\n') {
            input.skip_until(b'\n')?;
            Answer::Error(format!("the line has more than {LINE_MAX} bytes"))
        } else {
            next(&line, defaults).map_or_else(Answer::Error, Answer::Next)
        };
        serde_json::to_writer(&mut *output, &answer)?;
        output.write_all(b"\n")?;
    }
}

/// The fire times that one line asks for.
fn next(line: &[u8], defaults: &Question) -> Result<Vec<String>, String> {
    let line: Line = serde_json::from_slice(line)
        .map_err(|e| format!("expected one object of \"spec\", \"tz\", \"from\", \"n\" and \"dst\": {e}"))?;
    let zone = line.tz.as_deref().unwrap_or(&defaults.zone);
    let from: DateTime<Utc> = match &line.from {
        Some(text) => value::time(text).map_err(|problem| format!("from \"{text}\" {problem}"))?,
        None => defaults.from.unwrap_or_else(clock::wall),
    };
    let n = line.n.unwrap_or(u64::from(defaults.n));
    if !(1..=FIRES_MAX as u64).contains(&n) {
        return Err(format!("n {n} is out of range 1-{FIRES_MAX}"));
    }
    let dst = line.dst.map_or(Ok(defaults.dst), |word| word.parse::<Dst>()).map_err(|e| e.to_string())?;
    let next = explain::next(&line.spec, zone, dst, from, n as usize).map_err(|e| e.to_string())?;
    let zone = explain::timezone(&line.spec, zone);
    Ok(next.iter().map(|at| rfc3339(at, zone)).collect())
}

//! The line between a worker and its server, on which an answer can be kept back: what was asked for is done, and
//! whoever asked does not hear of it.
//!
//! Messages are those of PostgreSQL's protocol 3.0, "Message Formats" in its documentation: a letter, the length of what
//! follows, itself included, in four bytes, and the body.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::Database;
use super::watched::PATIENCE;

/// Lets everything through until it is told otherwise. Its connections end with it.
pub struct Wire {
    /// For a worker: at most 8 connections over this line, opened when needed.
    pub pool: PgPool,
    answer: watch::Sender<Answer>,
    task: JoinHandle<()>,
}

/// What becomes of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    /// All pass.
    Passes,
    /// The first that brings rows of a statement with these words is to be kept.
    Awaited(&'static str),
    /// It is, with whatever comes behind it on its connection.
    Kept,
    /// Its connection is broken.
    Lost,
}

impl Wire {
    /// A line to the server of this database.
    pub async fn to(database: &Database) -> Self {
        let options: PgConnectOptions = database.url.parse().unwrap();
        let server = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let answer = watch::Sender::new(Answer::Passes);
        let told = answer.clone();
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                lines.spawn(line(client, server.clone(), told.clone()));
            }
        });
        // in the clear, as it is read here
        let options = options.host(&here.ip().to_string()).port(here.port()).ssl_mode(PgSslMode::Disable);
        let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(15));
        Self { pool: pool.connect_lazy_with(options), answer, task }
    }

    /// From now on, keeps the first answer that brings rows of a statement with these words in it.
    pub fn keep(&self, words: &'static str) {
        self.answer.send_replace(Answer::Awaited(words));
    }

    /// Waits until an answer is kept.
    pub async fn kept(&self) {
        let mut answer = self.answer.subscribe();
        let kept = answer.wait_for(|answer| *answer == Answer::Kept);
        tokio::time::timeout(PATIENCE, kept).await.expect("an answer is kept").unwrap();
    }

    /// Lets it pass.
    pub fn release(&self) {
        self.answer.send_replace(Answer::Passes);
    }

    /// Breaks its connection.
    pub fn lose(&self) {
        self.answer.send_replace(Answer::Lost);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, until either side ends it or its answer is lost.
async fn line(client: TcpStream, server: (String, u16), answer: watch::Sender<Answer>) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let asked = Arc::new(AtomicBool::new(false));
    tokio::select! {
        ended = ask(from_client, to_server, &answer, &asked) => ended,
        ended = reply(from_server, to_client, &answer, &asked) => ended,
    }
}

/// What the worker sends. Notes when it executes the statement whose answer is awaited.
async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answer: &watch::Sender<Answer>,
    asked: &AtomicBool,
) -> io::Result<()> {
    // the first message of a connection has no letter
    let length = from.read_u32().await?;
    let first = body(&mut from, length).await?;
    to.write_all(&[&length.to_be_bytes()[..], &first].concat()).await?;
    let mut statements = HashMap::<String, String>::new();
    loop {
        let message = Message::read(&mut from).await?;
        let mut strings = message.strings();
        match message.letter {
            // Parse: the statement's name, its text
            b'P' => {
                let name = strings.next().unwrap_or_default();
                statements.insert(name, strings.next().unwrap_or_default());
            }
            // Bind: the portal's name, the statement's
            b'B' => {
                let text = strings.nth(1).and_then(|name| statements.get(&name));
                let awaited = |words| text.is_some_and(|text| text.contains(words));
                let is = matches!(*answer.borrow(), Answer::Awaited(words) if awaited(words));
                asked.store(is, Ordering::SeqCst);
            }
            _ => {}
        }
        message.write(&mut to).await?;
    }
}

/// What the server sends.
async fn reply(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answer: &watch::Sender<Answer>,
    asked: &AtomicBool,
) -> io::Result<()> {
    loop {
        let message = Message::read(&mut from).await?;
        // DataRow
        if message.letter == b'D' && asked.swap(false, Ordering::SeqCst) {
            let keeps = answer.send_if_modified(|answer| {
                let awaited = matches!(answer, Answer::Awaited(_));
                if awaited {
                    *answer = Answer::Kept;
                }
                awaited
            });
            let mut then = answer.subscribe();
            if keeps && then.wait_for(|then| *then != Answer::Kept).await.is_ok_and(|then| *then == Answer::Lost) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        message.write(&mut to).await?;
    }
}

struct Message {
    letter: u8,
    length: u32,
    body: Vec<u8>,
}

impl Message {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let letter = from.read_u8().await?;
        let length = from.read_u32().await?;
        Ok(Self { letter, length, body: body(from, length).await? })
    }

    async fn write(&self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        to.write_all(&[&[self.letter], &self.length.to_be_bytes()[..], &self.body].concat()).await
    }

    /// The strings at its beginning, each of which ends with a zero.
    fn strings(&self) -> impl Iterator<Item = String> {
        self.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

/// What follows a length, which counts its own four bytes.
async fn body(from: &mut OwnedReadHalf, length: u32) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

//! What a worker answers over HTTP, and metrics as tests read them.

use std::collections::BTreeMap;
use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An address that nobody listens on.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The status and the body; None while nobody answers there.
pub async fn get(address: &str, path: &str, accept: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The values of one scrape, by series: `name{label="value",...}`.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    pub text: String,
    pub values: BTreeMap<String, f64>,
}

impl Scrape {
    pub async fn of(address: &str) -> Option<Self> {
        let (status, text) = get(address, "/metrics", "*/*").await?;
        assert_eq!(status, 200, "{text}");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let values = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Some(Self { values: values.collect(), text: text.clone() })
    }

    /// The sum of a metric's series whose labels contain this text.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        let of_it = |series: &str| series.split('{').next() == Some(name) && series.contains(labels);
        self.values.iter().filter(|(series, _)| of_it(series)).map(|(_, value)| value).sum()
    }

    /// One series.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }
}

//! https: a certificate counts if an authority that the worker's host knows vouches for it and for the name.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::{Database, skip};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_the_host_trusts_is_accepted() {
    let dir = std::env::temp_dir().join(format!("watchbell-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let Some(server) = Server::start(&dir) else { return skip("openssl is not installed") };
    let database = Database::fresh().await;
    for (host, authorities, expected) in [
        ("localhost", "ca.pem", "normal"),
        ("localhost", "other.pem", "failed: invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", "ca.pem", "failed: invalid peer certificate: certificate not valid for name \"127.0.0.1\""),
        ("localhost", "empty.pem", "failed: this worker's host has no certificate authorities to check https with"),
    ] {
        let url = format!("https://{host}:{}/", server.port);
        let insert = "insert into watchbell.runs (handler, payload, max_attempts) values ('http', $1, 1) returning id";
        let id: i64 = sqlx::query_scalar(insert).bind(json!({"url": url})).fetch_one(&database.pool).await.unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_watchbell"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name.starts_with("WATCHBELL_")) {
            worker.env_remove(name);
        }
        worker.args(["worker", "run", "--once", "--config", "none", "--enable-http"]);
        worker.args(["--http-allow", "localhost,127.0.0.1"]);
        worker
            .env("DATABASE_URL", &database.url)
            .env("SSL_CERT_FILE", dir.join(authorities))
            .env_remove("SSL_CERT_DIR");
        let output = worker.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let became = "select status || coalesce(': ' || error, '') from watchbell.runs where id = $1";
        let became: String = sqlx::query_scalar(became).bind(id).fetch_one(&database.pool).await.unwrap();
        let (status, problem) = expected.split_once(": ").unwrap_or((expected, ""));
        assert!(became.starts_with(status) && became.contains(problem), "{host}, {authorities}: {became}");
    }
    drop(server);
    std::fs::remove_dir_all(dir).unwrap();
}

/// `openssl s_server` with a certificate for `localhost`, by an authority made for this test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Path) -> Option<Self> {
        authority(dir, "ca")?;
        authority(dir, "other")?;
        std::fs::write(dir.join("empty.pem"), "").unwrap();
        let names = "subjectAltName=DNS:localhost";
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
        certificate(dir, "leaf", &[&signed[..], &["-addext", names]].concat())?;
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "leaf.pem", "-key", "leaf.key", "-www"]);
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let accepts = lines.map(Result::unwrap).find(|line| line.starts_with("ACCEPT ")).unwrap();
        let port = accepts.rsplit(':').next().unwrap().parse().unwrap();
        Some(Self { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn authority(dir: &Path, name: &str) -> Option<PathBuf> {
    certificate(dir, name, &["-subj", &format!("/CN={name}")])
}

/// Makes a key and a certificate; `None` without openssl.
fn certificate(dir: &Path, name: &str, more: &[&str]) -> Option<PathBuf> {
    let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    if !more.contains(&"-subj") {
        command.args(["-subj", "/CN=localhost"]);
    }
    let output = command.args(["-keyout", &key, "-out", &pem]).args(more).current_dir(dir).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(dir.join(pem))
}

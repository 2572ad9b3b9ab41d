//! PostgreSQL in a container, where an engine answers.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// User and password of the superuser.
pub const LOGIN: &str = "postgres:postgres";
const IMAGE: (&str, &str) = ("postgres", "15-alpine");

/// A running server in a container, removed when dropped inside a runtime.
pub struct Container {
    /// For the superuser.
    pub url: String,
    pub container: ContainerAsync<GenericImage>,
}

/// Whether a container engine answers within 2 s.
pub async fn engine_answers() -> Result<(), String> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let answer = timeout(Duration::from_secs(2), async {
        match host.split_once("://") {
            Some(("unix", path)) => ping(UnixStream::connect(path).await?).await,
            Some((_, address)) => ping(TcpStream::connect(address).await?).await,
            None => Err(std::io::Error::other("DOCKER_HOST is no address")),
        }
    });
    match answer.await {
        Ok(Ok(said)) if said.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(Ok(said)) => Err(format!("the container engine at {host} answers {:?}", said.lines().next())),
        Ok(Err(e)) => Err(format!("no container engine answers at {host}: {e}")),
        Err(_) => Err(format!("no container engine answers at {host} within 2 s")),
    }
}

async fn ping(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

/// Starts PostgreSQL 15 with these arguments and waits until it takes connections.
pub async fn postgres(arguments: &[&str]) -> Result<Container, String> {
    let image = GenericImage::new(IMAGE.0, IMAGE.1)
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::message_on_either_std("database system is ready to accept connections"))
        .with_env_var("POSTGRES_PASSWORD", "postgres")
        .with_cmd(["postgres"].iter().chain(arguments).map(|argument| (*argument).to_owned()))
        .with_startup_timeout(Duration::from_secs(60));
    let container = image.start().await.map_err(|e| e.to_string())?;
    let host = container.get_host().await.map_err(|e| e.to_string())?;
    let port = container.get_host_port_ipv4(5432).await.map_err(|e| e.to_string())?;
    let url = format!("postgres://{LOGIN}@{host}:{port}/postgres?sslmode=disable");
    // The image says it is ready once while it sets itself up, and then starts anew.
    let mut last = String::new();
    for _ in 0..300 {
        match timeout(Duration::from_secs(2), PgConnection::connect(&url)).await {
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                return Ok(Container { url, container });
            }
            Ok(Err(e)) => last = e.to_string(),
            Err(_) => last = "no answer within 2 s".to_owned(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("PostgreSQL in a container takes no connections at {host}:{port}: {last}"))
}

impl Container {
    /// Hands the container to a child process that removes it when this process ends in any way.
    pub fn remove_at_exit(self) -> Result<Child, String> {
        let remove = format!("cat; exec docker rm --force --volumes {}", self.container.id());
        let mut sh = Command::new("sh");
        sh.args(["-c", &remove]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut remover = sh.process_group(0).spawn().map_err(|e| e.to_string())?;
        // The first write proves that it is there; it reads on until our end is closed.
        remover.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"\n")).map_err(|e| e.to_string())?;
        std::mem::forget(self.container);
        Ok(remover)
    }
}

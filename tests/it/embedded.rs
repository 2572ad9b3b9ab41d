//! The private server: starts whatever the circumstances, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sqlx::{Connection, PgConnection};
use watchbell::embedded::{Binaries, Halt, Keep, Options, Server};

use crate::support::private::options;
use crate::support::{private_server, skip};

#[tokio::test]
async fn a_first_start_makes_a_login_without_superuser_and_a_server_without_root() {
    if let Err(e) = Binaries::find() {
        return skip(&e.to_string());
    }
    let server = start(options()).await;
    assert!(server.is_first_start());
    let mut connection = PgConnection::connect(server.url()).await.unwrap();
    let (superuser, owns, over_tcp): (bool, bool, bool) = sqlx::query_as(
        "select usesuper, pg_get_userbyid(datdba) = current_user, inet_server_addr() = '127.0.0.1'
           from pg_user, pg_database where usename = current_user and datname = current_database()",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(!superuser && owns && over_tcp);
    let by_guess = server.url().replace("//watchbell:", "//watchbell:0");
    assert!(PgConnection::connect(&by_guess).await.is_err(), "a wrong password was taken");
    let superuser_over_tcp = server.url().replace("//watchbell:", "//postgres:");
    assert!(PgConnection::connect(&superuser_over_tcp).await.is_err(), "superuser over TCP");
    PgConnection::connect(server.admin_url()).await.unwrap();

    let data = server.dir().unwrap().join("data");
    let data = fs::metadata(data).unwrap();
    assert_eq!(data.mode() & 0o777, 0o700);
    assert!(!geteuid().is_root() || data.uid() != 0, "root owns the data");
    #[cfg(target_os = "linux")]
    assert_eq!(fs::metadata(format!("/proc/{}", server.postmaster_pid())).unwrap().uid(), data.uid());

    let (dir, pid) = (server.dir().unwrap().to_owned(), server.postmaster_pid());
    server.stop().await.unwrap();
    assert!(!is_alive(pid), "server {pid} is left");
    assert!(!dir.exists(), "{} is left", dir.display());
}

#[tokio::test]
async fn a_restart_keeps_data_password_and_port() {
    let Some(home) = Home::new() else { return };
    let mut first = start(home.options()).await;
    // What follows crashes on purpose, and so must have reached the disk.
    sqlx::query("create table kept (n int)").execute(&mut connect(&first).await).await.unwrap();
    let url = first.url().to_owned();

    for how in [Halt::Fast, Halt::Immediate, Halt::Kill] {
        let before = first.postmaster_pid();
        first.halt(how).await.unwrap();
        assert!(!is_alive(before), "{how:?}");
        first.resume().await.unwrap();
        assert_ne!(first.postmaster_pid(), before);
        sqlx::query("insert into kept values (1)").execute(&mut connect(&first).await).await.unwrap();
    }
    first.stop().await.unwrap();

    // A start that fails says why and changes nothing.
    let said = Server::start(home.options().setting("no_such_setting", "1")).await.unwrap_err().to_string();
    assert!(said.contains("unrecognized configuration parameter \"no_such_setting\""), "{said}");

    let begun = Instant::now();
    let second = start(home.options()).await;
    println!("started again in {:?}", begun.elapsed());
    assert_eq!(second.url(), url);
    assert!(!second.is_first_start());
    let kept: i64 =
        sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connect(&second).await).await.unwrap();
    assert_eq!(kept, 3);
}

#[tokio::test]
async fn two_starters_at_once_share_one_server_even_where_no_socket_fits() {
    let Some(home) = Home::new() else { return };
    let long = Options { keep: Keep::At(home.0.join("d".repeat(100))), ..home.options() };
    let (one, other) = tokio::join!(start(long.clone()), start(long));
    assert_eq!(one.postmaster_pid(), other.postmaster_pid());
    assert_eq!((one.url(), one.admin_url()), (other.url(), other.admin_url()));
    let (owner, attached) = if one.supervisor_pid().is_some() { (one, other) } else { (other, one) };
    assert_eq!(attached.supervisor_pid(), None);
    attached.stop().await.unwrap();
    connect(&owner).await;

    let (_, socket_dir) = owner.admin_url().split_once("host=").unwrap();
    let socket_dir = PathBuf::from(socket_dir.split('&').next().unwrap());
    assert!(socket_dir.starts_with("/tmp") && socket_dir.exists());
    PgConnection::connect(owner.admin_url()).await.unwrap();
    owner.stop().await.unwrap();
    assert!(!socket_dir.exists(), "{} is left", socket_dir.display());
}

#[tokio::test]
async fn data_of_another_version_is_refused_in_one_sentence() {
    let Some(home) = Home::new() else { return };
    for (version, expected) in [("12", "older than 15"), ("98", "and this machine has ")] {
        fs::create_dir_all(home.0.join("data")).unwrap();
        fs::write(home.0.join("data/PG_VERSION"), version).unwrap();
        let said = Server::start(home.options()).await.unwrap_err().to_string();
        assert!(said.contains(&format!("PostgreSQL {version}")) && said.contains(expected), "{said}");
        assert!(said.contains("--database-url") && !said.contains('\n'), "{said}");
    }
}

#[tokio::test]
async fn a_directory_out_of_the_servers_reach_is_refused_in_one_sentence() {
    let Some(home) = Home::new() else { return };
    if !geteuid().is_root() {
        return; // Everyone else's server runs as themselves.
    }
    fs::set_permissions(&home.0, Permissions::from_mode(0o700)).unwrap();
    let below = Options { keep: Keep::At(home.0.join("below")), ..home.options() };
    let said = Server::start(below).await.unwrap_err().to_string();
    assert!(said.contains("cannot enter") && said.contains(home.0.to_str().unwrap()) && !said.contains('\n'), "{said}");
}

#[tokio::test]
async fn the_supervisor_holds_nothing_of_its_parent_and_heeds_no_signal() {
    let (mut ours, theirs) = std::io::pipe().unwrap();
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let Some(server) = private_server().await else { return };
    drop(theirs);
    let end = tokio::task::spawn_blocking(move || ours.read(&mut [0]).unwrap());
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), end).await.unwrap().unwrap(), 0);

    let supervisor = server.supervisor_pid().unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP] {
        send(supervisor, signal);
    }
    connect(&server).await;

    // Not even its own death keeps the server from ending with us.
    send(supervisor, Signal::SIGKILL);
    let pid = server.postmaster_pid();
    connect(&server).await;
    drop(server);
    assert!(!is_alive(pid), "server {pid} is left");
}

#[test]
fn nothing_stays_when_the_parent_is_killed() {
    if let Err(e) = Binaries::find() {
        return skip(&e.to_string());
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "embedded::parent_to_be_killed", "--nocapture"]).env(TO_BE_KILLED, "1");
    let mut parent = command.stdout(Stdio::piped()).stdin(Stdio::null()).process_group(0).spawn().unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains(TO_BE_KILLED)).unwrap();
    let mut words = line.split_once(TO_BE_KILLED).unwrap().1.split_whitespace();
    let [server, supervisor] = [(); 2].map(|()| words.next().unwrap().parse().unwrap());
    let dir = Path::new(words.next().unwrap());
    assert!(is_alive(server) && is_alive(supervisor) && dir.exists());

    parent.kill().unwrap();
    parent.wait().unwrap();
    let begun = Instant::now();
    while is_alive(server) || is_alive(supervisor) || dir.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "server {server} or {} is left", dir.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("gone {:?} after the kill", begun.elapsed());
}

const TO_BE_KILLED: &str = "WATCHBELL_TEST_TO_BE_KILLED";

#[tokio::test]
async fn parent_to_be_killed() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let server = start(options()).await;
    let supervisor = server.supervisor_pid().unwrap();
    println!("\n{TO_BE_KILLED} {} {supervisor} {}", server.postmaster_pid(), server.dir().unwrap().display());
    std::future::pending().await
}

/// A directory for a kept cluster, removed at the end of the test.
struct Home(PathBuf);

impl Home {
    /// None, and said so, where there are no programs to start.
    fn new() -> Option<Self> {
        if let Err(e) = Binaries::find() {
            skip(&e.to_string());
            return None;
        }
        let dir = std::env::temp_dir().join(format!("watchbell-test-{:016x}", fastrand::u64(..)));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o711)).unwrap();
        Some(Self(dir))
    }

    fn options(&self) -> Options {
        Options { keep: Keep::At(self.0.clone()), ..options() }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn start(options: Options) -> Server {
    Server::start(options).await.unwrap()
}

async fn connect(server: &Server) -> PgConnection {
    PgConnection::connect(server.url()).await.unwrap()
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Not so a process that has ended and waits for the first process of this machine to take note.
fn is_alive(pid: u32) -> bool {
    let waits = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    !waits && kill(Pid::from_raw(pid.try_into().unwrap()), None) != Err(Errno::ESRCH)
}

//! The dashboards over a real Prometheus that scrapes a running demo.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use watchbell::embedded::Binaries;

use super::board::boards;
use super::tool;
use crate::support::skip;

/// A debug build beside other tests, and the first reading of the cluster's values.
const LIMIT: Duration = Duration::from_secs(120);

/// Metrics of what a demo need not have; what it has of them is shown like all else.
const WATCHES: &str = "watchbell_watch_";

/// Variables as a person would have chosen them; `demo.flaky` has everything at any time.
const CHOSEN: [(&str, [(&str, &str); 6]); 2] = [
    (
        "watchbell.json",
        [
            ("$__rate_interval", "15s"),
            ("$__interval", "15s"),
            ("$job", ".*"),
            ("$queue", ".*"),
            ("$handler", ".*"),
            ("$schedule", ".*"),
        ],
    ),
    (
        "schedule.json",
        [
            ("$__rate_interval", "15s"),
            ("$__interval", "15s"),
            ("$job", ".*"),
            ("$schedule_queue", "default"),
            ("$schedule_handler", "flaky"),
            ("$schedule", "demo.flaky"),
        ],
    ),
];

#[test]
fn every_panel_shows_something_of_a_running_demo_and_no_rule_breaks() {
    let Some(prometheus) = tool("prometheus") else { return };
    let Some(demo) = Demo::start() else { return };
    let targets = demo.targets();
    let prometheus = Prometheus::start(&prometheus, &targets);
    let (of_watches, others): (Vec<_>, Vec<_>) =
        expressions().into_iter().partition(|(_, expression)| expression.contains(WATCHES));
    prometheus.shows(others);
    if prometheus.has_data(&format!("{{__name__=~\"{WATCHES}.+\"}}")) {
        prometheus.shows(of_watches);
    } else {
        println!("the demo has no watch: {} expressions are not tried", of_watches.len());
    }

    let (rules, broken) = prometheus.rules();
    assert_eq!(rules, 15, "14 alerts, and one rule that records");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Every query of every panel, and what fills the variables.
fn expressions() -> Vec<(String, String)> {
    let mut found = vec![];
    for board in boards() {
        let Some((_, chosen)) = CHOSEN.iter().find(|(name, _)| *name == board.name) else { continue };
        let panels = board.expressions().into_iter().map(|expression| (expression.panel, expression.text));
        // label_values(metric, label) has something to choose from where the metric has
        let choices = board.variable_queries().map(|query| {
            let (metric, _) = query.trim_start_matches("label_values(").rsplit_once(',').unwrap();
            (query.clone(), metric.to_owned())
        });
        for (panel, text) in panels.chain(choices) {
            let chosen = chosen.iter().fold(text, |text, (name, value)| text.replace(name, value));
            found.push((format!("{}: {panel}", board.name), chosen));
        }
    }
    found
}

/// `watchbell demo` in a process of its own.
struct Demo {
    child: Child,
    told: Arc<Mutex<String>>,
    temporary: PathBuf,
}

impl Demo {
    fn start() -> Option<Self> {
        if Binaries::find().is_err() {
            skip("there are no PostgreSQL programs");
            return None;
        }
        let temporary = temporary("demo");
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WATCHBELL_")) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["demo", "--seconds", "600"])
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let heard = told.clone();
        // read to its end, or the demo would take its reader for gone
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|read| read > 0) {
                heard.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Some(Self { child, told, temporary })
    }

    /// Where its workers listen, as it says itself.
    fn targets(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let read = until(|| {
            let told = self.told.lock().unwrap().clone();
            let addresses = told.split("http://127.0.0.1:").skip(1);
            let ports = addresses.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            found = ports.map(|port| format!("127.0.0.1:{port}")).collect();
            !found.is_empty()
        });
        let told = self.told.lock().unwrap().clone();
        assert!(read, "the demo named no address:\n{told}");
        found
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // it removes its server itself, unless it does not end
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        if !until_for(Duration::from_secs(20), || !matches!(self.child.try_wait(), Ok(None))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.temporary);
    }
}

/// A Prometheus with our rules and a directory of its own.
struct Prometheus {
    child: Child,
    address: String,
    directory: PathBuf,
}

impl Prometheus {
    fn start(program: &Path, targets: &BTreeSet<String>) -> Self {
        let directory = temporary("prometheus");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/alerts.yml");
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: watchbell\n  static_configs: [{{targets: [{}]}}]\n",
            rules.display(),
            targets.join(", ")
        );
        std::fs::write(directory.join("prometheus.yml"), config).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { child, address, directory };
        assert!(until(|| started.get("/-/ready").is_some()), "Prometheus does not start");
        started
    }

    /// Waits until each of these has data.
    fn shows(&self, mut waiting: Vec<(String, String)>) {
        let (began, all) = (Instant::now(), waiting.len());
        let shown = until(|| {
            waiting.retain(|(_, expression)| !self.has_data(expression));
            waiting.is_empty()
        });
        let left: Vec<_> = waiting.iter().map(|(panel, expression)| format!("{panel}: {expression}")).collect();
        assert!(shown, "no data for\n{}", left.join("\n"));
        println!("{all} expressions within {:?}", began.elapsed());
    }

    /// Whether an expression has a value now that is a number.
    fn has_data(&self, expression: &str) -> bool {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)));
        let answer = answer.unwrap_or_else(|| panic!("Prometheus refuses {expression}"));
        let found = answer["data"]["result"].as_array();
        found.is_some_and(|found| found.iter().any(|sample| sample["value"][1].as_str().is_some_and(|v| v != "NaN")))
    }

    /// How many rules there are, and which could not be evaluated.
    fn rules(&self) -> (usize, Vec<String>) {
        let answer = self.get("/api/v1/rules").unwrap();
        let rules = answer["data"]["groups"][0]["rules"].as_array().unwrap();
        let broken = rules.iter().filter(|rule| rule["health"] != "ok").map(ToString::to_string);
        (rules.len(), broken.collect())
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let is_ok = head.split(' ').nth(1) == Some("200");
        is_ok.then(|| serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("watchbell-{name}-{}-{}", std::process::id(), fastrand::u32(..)));
    std::fs::create_dir(&path).unwrap();
    // where the server runs as another user, that user must get through
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// For the query of a URL.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn until(look: impl FnMut() -> bool) -> bool {
    until_for(LIMIT, look)
}

fn until_for(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if look() {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

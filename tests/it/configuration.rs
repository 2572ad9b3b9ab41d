//! The configuration file: the same options as on the command line, weaker than these and the environment.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::Database;

#[test]
fn every_section_gives_its_options() {
    let dir = Directory::new("sections");
    let file = dir.file(
        r#"
        database_url = "postgres://watch:hunter2@db.internal/jobs"
        log_level = "error"

        [worker]
        slots = 7
        lease = "20s"
        queues = ["mail", "reports"]
        labels = { region = "eu", tier = "gold" }

        [sql]
        enable = true
        logins = { reports = "postgres://reports:hunter3@db.internal/jobs" }

        [http]
        enable = true
        allow = ["hooks.internal:8080", "10.0.0.0/8"]
        timeout = "5s"
        http_response_bytes = 1_000

        [secrets]
        TOKEN = "env:API_TOKEN"
        "KEY@api.example.com" = "file:/run/secrets/key"
        "#,
    );
    let Ended(code, stdout, stderr) = watchbell(&["worker", "config", "--config", &file, "--json"], &[]);
    assert_eq!(code, 0, "{stderr}");
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let set = |option: &str| {
        let row = rows.iter().find(|row| row["option"] == option).unwrap_or_else(|| panic!("no {option} in {stdout}"));
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    for (option, value, line, key) in [
        ("log-level", "error", 3, "log_level"),
        ("slots", "7", 6, "worker.slots"),
        ("lease", "20s", 7, "worker.lease"),
        ("queues", "mail,reports", 8, "worker.queues"),
        ("labels", "region=eu,tier=gold", 9, "worker.labels"),
        ("enable-sql", "true", 12, "sql.enable"),
        ("sql-login", "***", 13, "sql.logins"),
        ("enable-http", "true", 16, "http.enable"),
        ("http-allow", "hooks.internal:8080,10.0.0.0/8", 17, "http.allow"),
        ("http-timeout", "5s", 18, "http.timeout"),
        ("http-response-bytes", "1000", 19, "http.http_response_bytes"),
    ] {
        assert_eq!(set(option), (value.to_owned(), format!("{file} line {line}: {key}")));
    }
    assert_eq!(set("grace"), ("5s".to_owned(), "default".to_owned()));
    assert!(stderr.contains("database: postgres://watch@db.internal:5432/jobs"), "{stderr}");
    assert!(!stdout.contains("hunter") && !stderr.contains("hunter"), "{stdout}{stderr}");
}

#[test]
fn an_option_beats_a_variable_and_a_variable_beats_the_file() {
    let dir = Directory::new("order");
    let file = dir.file("[worker]\nslots = 7\nprefetch = 8\npool = 9\n[sql]\nenable = true\n");
    let arguments = ["worker", "config", "--json", "--slots", "1"];
    let variables = [
        ("WATCHBELL_CONFIG", file.as_str()),
        ("WATCHBELL_SLOTS", "2"),
        ("WATCHBELL_PREFETCH", "3"),
        ("WATCHBELL_ENABLE_SQL", "false"),
        ("DATABASE_URL", "postgres://of.variable/x"),
    ];
    let Ended(code, stdout, stderr) = watchbell(&arguments, &variables);
    assert_eq!(code, 0, "{stderr}");
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let set = |option: &str| {
        let row = rows.iter().find(|row| row["option"] == option).unwrap();
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(set("slots"), pair("1", "--slots"));
    assert_eq!(set("prefetch"), pair("3", "WATCHBELL_PREFETCH"));
    assert_eq!(set("pool"), pair("9", &format!("{file} line 4: worker.pool")));
    assert_eq!(set("enable-sql"), pair("false", "WATCHBELL_ENABLE_SQL"));
    assert!(stderr.contains("of.variable"), "{stderr}");
}

#[test]
fn a_mistake_is_answered_with_its_line_and_key() {
    let dir = Directory::new("mistakes");
    for (text, expected) in [
        ("[worker]\nslotz = 5\n", "line 2: worker.slotz is unknown; did you mean \"slots\"?"),
        ("[htpp]\nenable = true\n", "line 1: section [htpp] is unknown; did you mean \"http\"?"),
        ("slots = 5\n", "line 1: slots is unknown; it belongs to section [worker]"),
        ("[worker]\n\nslots = 0\n", "line 3: worker.slots 0: must be 1 to 10000"),
        ("[worker]\nslots = [1, 2]\n", "line 2: worker.slots must be a string or a number, not an array"),
        ("[worker]\nonce = \"yes\"\n", "line 2: worker.once must be true or false, not a string"),
        ("[worker]\nqueues = [[1]]\n", "line 2: worker.queues must be a list of strings, not an array"),
        (
            "[http]\nenable = true\nallow = [\"a b\"]\n",
            "line 3: http.allow a b: must be a host name, an address or a network",
        ),
        ("[sql]\nenable = true\nlogins = {x = \"mysql://u:hunter2@h/d\"}\n", "line 3: sql.logins: "),
        (
            "[secrets]\nTOKEN = \"hunter2\"\n",
            "line 2: secrets.TOKEN: must be NAME=env:VARIABLE or NAME=file:/path; the value itself",
        ),
        ("[secrets]\nTOKEN = true\n", "line 2: secrets.TOKEN must be a string such as \"env:VARIABLE\""),
        ("[worker]\nslots = 1\nslots = 2\n", "line 3: duplicate key"),
        ("[worker\n", "line 1: "),
        ("[http]\nallow = []\nhttp_allow = []\n", "line 3: http.http_allow is set twice"),
        ("log_format = \"xml\"\n", "line 1: log_format xml: must be one of text, json"),
        ("database_url = \"mysql://x\"\n", "line 1: database_url: "),
    ] {
        let file = dir.file(text);
        let Ended(code, stdout, stderr) = watchbell(&["worker", "run", "--config", &file], &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{text}: {stderr}");
        assert!(stderr.contains(&format!("error: {file} {expected}")), "{text}: {stderr}");
        assert!(!stderr.contains("hunter"), "{stderr}");
    }
    let file = dir.file("[worker]\nstate_dir = \"\"\n");
    let Ended(code, _, stderr) = watchbell(&["up", "--config", &file], &[]);
    assert_eq!(
        (code, stderr.trim_end()),
        (2, format!("error: {file} line 2: worker.state_dir: must not be empty").as_str())
    );
    let Ended(code, _, stderr) = watchbell(&["worker", "run", "--config", "/nowhere/x.toml"], &[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.starts_with("error: reading the configuration file /nowhere/x.toml: No such file"), "{stderr}");
}

#[test]
fn a_section_that_is_switched_off_counts_as_not_written() {
    let dir = Directory::new("off");
    let file = dir.file("[http]\nenable = false\nallow = [\"10.0.0.0/8\"]\n");
    let allow = |arguments: &[&str]| {
        let arguments = [&["worker", "config", "--config", &file][..], arguments].concat();
        let Ended(code, stdout, stderr) = watchbell(&arguments, &[]);
        assert_eq!(code, 0, "{stderr}");
        stdout.lines().any(|line| line.starts_with("http-allow\t10.0.0.0/8\t"))
    };
    assert!(!allow(&[]));
    assert!(allow(&["--enable-http"]));
}

#[test]
fn the_users_file_is_found_and_can_be_left_out() {
    let dir = Directory::new("found");
    let file = dir.file("[worker]\nslots = 7\n");
    let home = dir.0.to_string_lossy().into_owned();
    let slots = |arguments: &[&str], variable: &str| {
        let Ended(code, stdout, stderr) = watchbell(arguments, &[(variable, &home)]);
        assert_eq!(code, 0, "{stderr}");
        let line = stdout.lines().find(|line| line.starts_with("slots\t")).unwrap();
        line.to_owned()
    };
    let of_file = format!("slots\t7\t{file} line 2: worker.slots");
    assert_eq!(slots(&["worker", "config"], "XDG_CONFIG_HOME"), of_file);
    assert_eq!(slots(&["worker", "config", "--config", "none"], "XDG_CONFIG_HOME"), "slots\t100\tdefault");
}

#[test]
fn the_file_of_the_page_is_accepted_and_its_mistakes_are_answered_as_shown() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let fence = |language: &str| {
        let rest = page.split_once(&format!("```{language}\n")).unwrap().1;
        rest.split("```").next().unwrap().to_owned()
    };
    let dir = Directory::new("page");
    let file = dir.file(&fence("toml"));
    let Ended(code, _, stderr) = watchbell(&["worker", "config", "--config", &file], &[]);
    assert_eq!(code, 0, "{stderr}");
    for shown in fence("text").lines() {
        let line = if shown.contains("slotz") { "slotz = 1" } else { "slots = 0" };
        let file = dir.file(&format!("\n\n\n\n\n[worker]\n{line}\n"));
        let Ended(_, _, stderr) = watchbell(&["worker", "run", "--config", &file], &[]);
        assert_eq!(stderr.trim_end(), shown.replace("/etc/watchbell.toml", &file));
    }
}

#[cfg(unix)]
#[test]
fn a_password_that_everybody_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Directory::new("open");
    let file = dir.file("database_url = \"postgres://u:pw@h/d\"\n");
    for (mode, is_warned) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let Ended(_, _, stderr) = watchbell(&["worker", "config", "--config", &file], &[]);
        assert_eq!(stderr.contains("holds a password, and every user of this host may read it"), is_warned, "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_works_by_its_file() {
    let database = Database::fresh().await;
    let insert = "create table public.done (n int);
                  insert into watchbell.runs (handler, payload) values ('sql', '{\"statement\": \"insert into public.done values (1)\"}')";
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&database.pool).await.unwrap();
    let dir = Directory::new("works");
    let file = dir.file(&format!("database_url = \"{}\"\n[worker]\nonce = true\n[sql]\nenable = true\n", database.url));
    let Ended(code, _, stderr) = watchbell(&["worker", "run", "--config", &file], &[]);
    assert_eq!(code, 0, "{stderr}");
    let done: i64 = sqlx::query_scalar("select count(*) from public.done").fetch_one(&database.pool).await.unwrap();
    assert_eq!(done, 1, "{stderr}");
}

/// How a command ended: its exit code, standard output and standard error.
struct Ended(i32, String, String);

/// The program with nothing configured but what the test says.
fn watchbell(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PG") || name.contains("DATABASE_URL") || name.starts_with("WATCHBELL_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nowhere").envs(variables.iter().copied());
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended(output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("watchbell-configuration-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The one file in it.
    fn file(&self, text: &str) -> String {
        let path = self.0.join("watchbell.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

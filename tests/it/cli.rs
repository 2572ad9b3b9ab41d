//! What a person or a script can rely on at the command line: every command as a process of its own.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use watchbell::embedded::Halt;

use crate::support::{Database, private_server};

/// The program with nothing configured but what the test says.
fn watchbell(url: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PG") || name.contains("DATABASE_URL") || name.starts_with("WATCHBELL_") {
            command.env_remove(name);
        }
    }
    command.env("WATCHBELL_CONFIG", "none");
    command.args(arguments).stdin(Stdio::null());
    if let Some(url) = url {
        command.env("WATCHBELL_DATABASE_URL", url);
    }
    command
}

/// How a command ended: its exit code, standard output and standard error.
#[derive(Debug, PartialEq)]
struct Ended(i32, String, String);

fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended(output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(url: Option<&str>, arguments: &[&str]) -> Ended {
    ended(watchbell(url, arguments).output().unwrap())
}

/// Runs a command that must fail; answers its exit code and what it said.
fn refused(url: Option<&str>, arguments: &[&str]) -> (i32, String) {
    let Ended(code, stdout, stderr) = run(url, arguments);
    assert_eq!(stdout, "", "data of a failed command");
    (code, stderr.trim_end().to_owned())
}

/// Runs a command that must succeed; answers its data.
fn done(url: &str, arguments: &[&str]) -> String {
    let Ended(code, stdout, stderr) = run(Some(url), arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    stdout
}

async fn execute(database: &Database, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&database.pool).await.unwrap();
}

/// The address with another part of it, such as its password.
fn replaced(url: &str, from: &str, to: &str) -> String {
    let other = url.replacen(from, to, 1);
    assert_ne!(other, url);
    other
}

/// The part of the address between `://user:` and `@`.
fn password(url: &str) -> &str {
    url.split_once('@').unwrap().0.rsplit_once(':').unwrap().1
}

/// The user, and the host with its port.
fn login(url: &str) -> (String, String) {
    let shown = shown(url);
    let (user, address) = shown.trim_start_matches("postgres://").split_once('@').unwrap();
    (user.to_owned(), address.split_once('/').unwrap().0.to_owned())
}

/// The address as it may be shown.
fn shown(url: &str) -> String {
    url.parse::<watchbell::db::DatabaseUrl>().unwrap().to_string()
}

#[test]
fn a_misspelt_verb_is_answered_with_the_nearest_one() {
    let (code, stderr) = refused(None, &["rns", "list"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("a similar subcommand exists: 'runs'"), "{stderr}");
    let (code, stderr) = refused(None, &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("Usage: watchbell"), "{stderr}");
    let Ended(code, stdout, stderr) = run(None, &["worker", "run", "--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("[env: WATCHBELL_SLOTS=]"), "{stdout}");
}

#[test]
fn a_bad_value_is_answered_with_its_option_and_bound() {
    let cases: &[(&[&str], &str)] = &[
        (&["worker", "run", "--slots", "0"], "error: --slots 0: must be 1 to 10000"),
        (&["worker", "run", "--lease=1s"], "error: --lease 1s: must be 2s to 1h"),
        (&["worker", "run", "--labels", "eu"], "error: --labels eu: must be key=value without blanks and commas"),
        (&["runs", "list", "--limit", "1001"], "error: --limit 1001: must be 1 to 1000"),
        (&["runs", "cancel", "x"], "error: ID x: must be the number of a run, from 1"),
        (&["enqueue", "mail", "--priority", "12"], "error: --priority 12: must be 0 to 9"),
        (&["enqueue", "mail", "--in", "5"], "error: --in 5: must be a duration such as 90s, 1h30m or 2 days"),
        (
            &["enqueue", "mail", "--at", "tomorrow"],
            "error: --at tomorrow: must be a time such as 2031-02-03T04:05:06Z or 2031-02-03T04:05:06+01:00",
        ),
        (
            &["--log-level", "loud", "version"],
            "error: --log-level loud: must be one of off, error, warn, info, debug, trace, or filters such as info,sqlx=debug",
        ),
    ];
    for (arguments, sentence) in cases {
        assert_eq!(refused(None, arguments), (2, (*sentence).to_owned()));
    }
    let output = watchbell(None, &["worker", "run"]).env("WATCHBELL_SLOTS", "many").output().unwrap();
    assert_eq!(ended(output), Ended(2, String::new(), "error: WATCHBELL_SLOTS many: must be 1 to 10000\n".to_owned()));
    let (code, stderr) =
        refused(None, &["worker", "run", "--enable-sql", "--sql-login", "app=postgres://u:hush@h:0/d"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: --sql-login: ") && !stderr.contains("hush"), "{stderr}");
}

#[test]
fn without_a_database_it_says_where_to_name_one() {
    assert_eq!(
        refused(None, &["runs", "list"]),
        (
            5,
            "error: cannot connect to a database: none is configured; \
             set --database-url, WATCHBELL_DATABASE_URL or DATABASE_URL"
                .to_owned()
        )
    );
    assert_eq!(
        refused(None, &["runs", "list", "--database-url", "localhost"]),
        (2, "error: --database-url: must be like postgres://user:password@host:5432/name".to_owned())
    );
}

#[test]
fn a_database_that_does_not_answer_is_5() {
    // Held, and then free: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://ann:hush@127.0.0.1:{port}/app");
    assert_eq!(
        refused(Some(&url), &["runs", "list"]),
        (
            5,
            format!(
                "error: cannot connect to postgres://ann@127.0.0.1:{port}/app: connection refused; \
                 start PostgreSQL there, or set --database-url or WATCHBELL_DATABASE_URL"
            )
        )
    );
}

#[tokio::test]
async fn a_refused_login_is_7_and_a_missing_database_5() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let (user, host) = login(url);
    let wrong = replaced(url, password(url), "hush");
    assert_eq!(
        refused(Some(&wrong), &["runs", "list"]),
        (7, format!("error: permission denied: wrong password for user \"{user}\" at {}", shown(url)))
    );
    let nowhere = crate::support::database::with_database(url, "nowhere");
    assert_eq!(
        refused(Some(&nowhere), &["runs", "list"]),
        (
            5,
            format!(
                "error: cannot connect to {}: database \"nowhere\" does not exist; create it with: createdb nowhere",
                shown(&nowhere)
            )
        )
    );
    // The first host that answers as a primary is taken.
    done(&replaced(url, &format!("@{host}"), &format!("@127.0.0.1:1,{host}")), &["runs", "list"]);
}

#[tokio::test]
async fn a_standby_is_refused_and_passed_over() {
    let (Some(mut server), Some(primary)) = (private_server().await, private_server().await) else { return };
    server.halt(Halt::Fast).await.unwrap();
    std::fs::write(server.dir().unwrap().join("data/standby.signal"), "").unwrap();
    server.resume().await.unwrap();
    let standby = server.url();
    assert_eq!(
        refused(Some(standby), &["runs", "list"]),
        (5, format!("error: {} is a standby and refuses writes; connect to the primary", shown(standby)))
    );
    // Both have the same password: they are copies.
    let hosts = format!("{},{}", login(standby).1, login(primary.url()).1);
    let both = replaced(standby, &login(standby).1, &hosts);
    let Ended(code, _, stderr) = run(Some(&both), &["migrate", "up"]);
    assert_eq!(code, 0, "{stderr}");
    done(primary.url(), &["migrate", "check"]);
    server.stop().await.unwrap();
    primary.stop().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_6() {
    let database = Database::empty().await;
    let url = Some(database.url.as_str());
    let missing = "error: schema watchbell does not exist in this database; run: watchbell migrate up";
    assert_eq!(refused(url, &["runs", "list"]), (6, missing.to_owned()));
    assert_eq!(refused(url, &["migrate", "check"]), (6, missing.to_owned()));

    let database = Database::fresh().await;
    let url = Some(database.url.as_str());
    let (newest, oldest) = (watchbell::migrate::VERSION, watchbell::migrate::OLDEST);
    execute(&database, "update watchbell.migrations set min_build = 1000 where version = 1").await;
    assert_eq!(
        refused(url, &["enqueue", "mail"]),
        (
            6,
            format!(
                "error: schema watchbell is at version 1000, this build knows versions up to {newest}; use a newer watchbell"
            )
        )
    );
    execute(
        &database,
        "delete from watchbell.migrations where version > 2; update watchbell.migrations set min_build = 1",
    )
    .await;
    assert_eq!(
        refused(url, &["schedule", "list"]),
        (6, format!("error: schema watchbell is at version 2, this build needs {oldest}; run: watchbell migrate up"))
    );
}

#[tokio::test]
async fn a_login_without_rights_is_7() {
    let database = Database::fresh().await;
    let mut admin = database.connect_admin().await;
    let role = format!("stranger_{}", std::process::id());
    let create = format!("create role {role} login password 'hush'");
    if sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.is_err() {
        return crate::support::skip("the login may not create roles");
    }
    let own = database.url.as_str();
    let url = replaced(own, &format!("{}:{}", login(own).0, password(own)), &format!("{role}:hush"));
    let (code, stderr) = refused(Some(&url), &["runs", "list"]);
    sqlx::raw_sql(AssertSqlSafe(format!("drop role {role}"))).execute(&mut admin).await.unwrap();
    assert_eq!(code, 7, "{stderr}");
    assert!(stderr.starts_with("error: permission denied: the role may not read watchbell.migrations"), "{stderr}");
}

#[tokio::test]
async fn migrating_says_what_it_did_and_to_which_database() {
    let database = Database::empty().await;
    let url = Some(database.url.as_str());
    let newest = watchbell::migrate::VERSION;
    let target = shown(&database.url);
    let Ended(code, stdout, stderr) = run(url, &["migrate", "up", "-o", "name"]);
    assert_eq!((code, stderr), (0, format!("{target}: the schema went from version 0 to {newest}\n")));
    assert_eq!(stdout.lines().count(), usize::try_from(newest).unwrap());
    let again = run(url, &["migrate", "up", "--json"]);
    assert_eq!(
        again,
        Ended(0, "[]\n".to_owned(), format!("{target}: nothing to do, the schema is at version {newest}\n"))
    );
    assert_eq!(run(url, &["migrate", "check"]).0, 0);
    let status = done(&database.url, &["migrate", "status"]);
    let first: Vec<&str> = status.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!(first[..2], ["1", "0001_schedules"]);
    assert!(first[2].ends_with('Z'), "{first:?}");
    let version: Value = serde_json::from_str(&done(&database.url, &["version", "--json"])).unwrap();
    assert_eq!(version["database_schema_version"], newest);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));

    let by_hand = Database::empty().await;
    execute(&by_hand, &done(&by_hand.url, &["migrate", "sql"])).await;
    assert_eq!(run(Some(&by_hand.url), &["migrate", "check"]).0, 0);
}

#[tokio::test]
async fn an_enqueued_run_is_printed_and_stored() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let Ended(code, id, stderr) = run(
        Some(url),
        &["enqueue", "mail", "--payload", r#"{"to":"a@b.c"}"#, "--queue", "q", "--priority", "2", "--timeout", "none"],
    );
    assert_eq!((code, stderr), (0, format!("{}: run {} waits for handler \"mail\"\n", shown(url), id.trim())));
    let row: Value = serde_json::from_str(&done(url, &["runs", "show", id.trim()])).unwrap();
    assert_eq!((&row["payload"]["to"], &row["queue"], &row["priority"]), (&"a@b.c".into(), &"q".into(), &2.into()));

    let file = std::env::temp_dir().join(format!("watchbell-payload-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"from": "file"}"#).unwrap();
    let given = format!("@{}", file.display());
    let one: Value =
        serde_json::from_str(&done(url, &["enqueue", "mail", "--payload", &given, "-o", "jsonl"])).unwrap();
    std::fs::remove_file(&file).unwrap();
    let row: Value = serde_json::from_str(&done(url, &["runs", "show", &one["id"].to_string()])).unwrap();
    assert_eq!(row["payload"]["from"], "file");

    let mut piped = watchbell(Some(url), &["enqueue", "mail", "--payload", "-", "--in", "1h"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(br#"{"from": "pipe"}"#).unwrap();
    let Ended(code, id, stderr) = ended(piped.wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    let row: Value = serde_json::from_str(&done(url, &["runs", "show", id.trim()])).unwrap();
    assert_eq!(row["payload"]["from"], "pipe");
    assert_eq!(row["status"], "pending");
}

#[tokio::test]
async fn a_run_that_cannot_be_is_refused() {
    let database = Database::fresh().await;
    let url = Some(database.url.as_str());
    assert_eq!(
        refused(url, &["enqueue", "mail", "--payload", "[1]"]),
        (2, "error: run for handler \"mail\": payload must be a JSON object (got array)".to_owned())
    );
    let (code, stderr) = refused(url, &["enqueue", "mail", "--payload", "{'a': 1}"]);
    assert_eq!(code, 2);
    assert!(
        stderr.starts_with("error: run for handler \"mail\": payload is not valid JSON: key must be a string"),
        "{stderr}"
    );
    // What only the database finds: its sentence, and its hint.
    let (code, stderr) = refused(url, &["enqueue", "mail", "--payload", r#"{"a": "\u0000"}"#]);
    assert_eq!((code, stderr.as_str()), (2, "error: unsupported Unicode escape sequence"));
    let (code, _) = refused(url, &["enqueue", "mail", "--in", "5m", "--at", "2031-02-03T04:05:06Z"]);
    assert_eq!(code, 2);

    let id = done(&database.url, &["enqueue", "mail", "--unique-key", "invoice 7"]);
    assert_eq!(
        refused(url, &["enqueue", "mail", "--unique-key", "invoice 7"]),
        (4, format!("error: run {} has the unique key \"invoice 7\" and is not over; nothing is enqueued", id.trim()))
    );
}

#[tokio::test]
async fn waiting_ends_with_the_result_of_the_run() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let Ended(code, id, stderr) = run(Some(url), &["enqueue", "mail", "--wait", "--wait-timeout", "0s"]);
    assert_eq!(code, 124);
    assert!(stderr.ends_with(&format!("run {} is pending still; stopped waiting\n", id.trim())), "{stderr}");

    let waiting = watchbell(Some(url), &["enqueue", "mail", "--unique-key", "k", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id: i64 = loop {
        let open = sqlx::query_scalar("select id from watchbell.runs where unique_key = 'k'");
        if let Some(id) = open.fetch_optional(&database.pool).await.unwrap() {
            break id;
        }
        tokio::task::yield_now().await;
    };
    done(url, &["runs", "cancel", &id.to_string(), "--reason", "not needed"]);
    let Ended(code, _, stderr) = ended(waiting.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(stderr.contains("ended as cancelled: ") && stderr.ends_with("not needed\n"), "{stderr}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_command_is_130() {
    use std::io::{BufRead, BufReader};
    let database = Database::fresh().await;
    let mut waiting = watchbell(Some(&database.url), &["enqueue", "mail", "--wait"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(waiting.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert_eq!(rest, "", "no panic, no backtrace");
}

#[tokio::test]
async fn runs_are_listed_in_each_form() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    for handler in ["mail", "report", "mail"] {
        done(url, &["enqueue", handler, "--at", "2031-02-03T04:05:06Z"]);
    }
    let ids = done(url, &["runs", "list", "-o", "name"]);
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 3);
    let table = done(url, &["runs", "list", "--handler", "report"]);
    assert_eq!(
        table,
        format!(
            "ID\tSTATUS\tHANDLER\tQUEUE\tSCHEDULE\tDUE\tSTARTED\tTOOK\tATTEMPT\tERROR\n\
             {}\tpending\treport\tdefault\t\t2031-02-03T04:05:06Z\t\t\t0/3\t\n",
            ids[1]
        )
    );
    let json: Value = serde_json::from_str(&done(url, &["runs", "list", "--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(json[0]["status"], "pending");
    let lines = done(url, &["runs", "list", "-o", "jsonl"]);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let Ended(_, page, note) = run(Some(url), &["runs", "list", "-o", "name", "--limit", "2"]);
    assert_eq!(
        (page, note),
        (format!("{}\n{}\n", ids[0], ids[1]), format!("there may be more: --before {}\n", ids[1]))
    );
    assert_eq!(done(url, &["runs", "list", "-o", "name", "--before", ids[1]]), format!("{}\n", ids[2]));
    assert_eq!(done(url, &["runs", "list", "-o", "name", "--status", "failed"]), "");
}

#[tokio::test]
async fn several_runs_are_cancelled_and_an_unknown_one_is_3() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    let ids: Vec<String> = (0..2).map(|_| done(url, &["enqueue", "mail"]).trim().to_owned()).collect();
    let Ended(code, stdout, stderr) = run(Some(url), &["runs", "cancel", &ids[0], "987654", &ids[1], &ids[0]]);
    assert_eq!(code, 3);
    assert_eq!(stdout, format!("ID\tRESULT\n{0}\tcancelled\n{1}\tcancelled\n{0}\twas over\n", ids[0], ids[1]));
    assert!(
        stderr.ends_with("error: run \"987654\" does not exist; list runs with: watchbell runs list\n"),
        "{stderr}"
    );
    assert_eq!(
        refused(Some(url), &["runs", "show", "987654"]),
        (3, "error: run \"987654\" does not exist; list runs with: watchbell runs list".to_owned())
    );
}

#[tokio::test]
async fn schedules_are_listed_with_what_comes_next() {
    let database = Database::fresh().await;
    execute(
        &database,
        "insert into watchbell.schedules (name, cron, handler) values ('nightly', '0 2 * * *', 'report'); \
         insert into watchbell.schedules (name, fixed_delay, handler) values ('sync', '5 min', 'http'); \
         update watchbell.schedules set status = 'normal', wake_at = '2031-02-03 02:00Z' where name = 'nightly'; \
         update watchbell.schedules set paused_at = now() where name = 'sync'",
    )
    .await;
    let table = done(&database.url, &["schedule", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME KIND SPEC NEXT IN LAST TOOK STATUS FAILS HANDLER ERROR");
    assert_eq!(rows[1][..4], ["nightly", "cron", "0 2 * * *", "2031-02-03T02:00:00Z"]);
    assert_eq!(rows[1][5..], ["", "", "normal", "0", "report", ""]);
    assert_eq!(rows[2][..], ["sync", "fixed_delay", "5m", "", "", "", "", "paused", "0", "http", ""]);
    assert_eq!(done(&database.url, &["schedule", "list", "--handler", "http", "-o", "name"]), "sync\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    // Far more than a pipe holds, so that the program is still writing when the reader goes.
    let mut child = watchbell(None, &["migrate", "sql"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(ended(child.wait_with_output().unwrap()), Ended(0, String::new(), String::new()));
}

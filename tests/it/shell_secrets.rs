//! Secrets in commands: they reach the command, and nothing that it prints or that is said of it has them.

use std::time::Duration;

use serde_json::{Value, json};
use watchbell::handler::secret::{Secret, Secrets};
use watchbell::handler::shell::Shell;

use crate::support::Database;
use crate::support::ask::{errors, until_status};
use crate::support::commands::{Place, Program, anything, command, printed, printed_text};
use crate::support::crew::{hand, start};

const SOON: Duration = Duration::from_secs(30);

const VALUE: &str = "tr0ub4dor & 3 \"horses\"";

/// All declared secrets; `TOKEN` has the value.
fn declared(place: &Place) -> Secrets {
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    [
        Secret::file("TOKEN", file("token", VALUE)),
        Secret::file(
            "KEY",
            file("key", "-----BEGIN KEY-----\nfirst line of it\nsecond line of it\n-----END KEY-----\n"),
        ),
        Secret::file("BOUND", file("bound", "for one host")).only_for("api.example.com"),
        Secret::file("NUL", file("nul", "abc\0defgh")),
    ]
    .into_iter()
    .collect()
}

fn shell(place: &Place) -> Shell {
    anything().secrets(declared(place))
}

#[tokio::test]
async fn a_secret_reaches_the_command_by_environment_and_standard_input() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", shell(&place)));
    let dir = place.path().display();
    let line = format!("printf %s \"$TOKEN\" > {dir}/env; cat > {dir}/stdin; echo $PLAIN");
    let payload = json!({
        "command": line,
        "env": {"TOKEN": {"$secret": "TOKEN", "prefix": "Bearer "}, "PLAIN": "as it is"},
        "stdin": {"keys": [{"$secret": "KEY"}, 7]}
    });
    let run = command(pool, &payload, &[]).await;
    until_status(pool, run, "normal", SOON).await;
    assert_eq!(printed_text(pool, run, "%").await, "as it is\n");
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("env"), format!("Bearer {VALUE}"));
    let stdin: Value = serde_json::from_str(&read("stdin")).unwrap();
    assert_eq!(stdin["keys"][1], 7);
    assert!(stdin["keys"][0].as_str().unwrap().ends_with("second line of it\n-----END KEY-----"), "{stdin}");
    let stored: Value =
        sqlx::query_scalar("select payload from watchbell.runs where id = $1").bind(run).fetch_one(pool).await.unwrap();
    assert_eq!(stored, payload);
    worker.stop().await;
}

/// Every way in which a command may give it away, and what is kept of it.
#[tokio::test]
async fn nothing_that_a_command_prints_has_the_secret() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", shell(&place)));
    for (line, stdout, stderr, error) in [
        ("echo \"it is $TOKEN.\"", "it is ***.\n", "", None),
        // in two writes, between which the first is read
        ("printf %.9s \"$TOKEN\"; sleep 0.3; printf %s \"$TOKEN\" | tail -c +10; printf !", "***!", "", None),
        ("printf 'u:%s' \"$TOKEN\" | base64", "dTp***\n", "", None),
        ("cat; cat /proc/self/environ | tr '\\0' '\\n' | grep ^TOKEN", "***TOKEN=***\n", "", None),
        ("echo \"wrong: $TOKEN\" >&2; exit 3", "", "wrong: ***\n", Some("exit code 3: wrong: ***")),
        // killed in the middle of it
        ("printf 'end %.9s' \"$TOKEN\" >&2; kill -9 $$", "", "end ***", Some("killed by signal 9 (SIGKILL): end ***")),
    ] {
        let payload = json!({"command": line, "env": {"TOKEN": {"$secret": "TOKEN"}}, "stdin": {"$secret": "TOKEN"}});
        let run = command(pool, &payload, &[]).await;
        let row = until_status(pool, run, if error.is_some() { "failed" } else { "normal" }, SOON).await;
        let said = (printed_text(pool, run, "stdout").await, printed_text(pool, run, "stderr").await);
        assert_eq!((said.0.as_str(), said.1.as_str(), row.error.as_deref()), (stdout, stderr, error), "{line}");
        let kept = errors(pool, run).await;
        assert!(kept.iter().all(|(_, _, message)| !message.contains(VALUE)), "{kept:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_secret_is_masked_where_output_is_cut() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", shell(&place)));
    // at every offset around the borders of what is read, of rows and of what is kept
    let line =
        "i=0; while [ $i -lt 40000 ]; do printf 'x%s' \"$TOKEN\"; i=$((i + 1)); done; printf %s \"$TOKEN\" >&2; exit 1";
    let run = command(pool, &json!({"command": line, "env": {"TOKEN": {"$secret": "TOKEN"}}}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("exit code 1: ***"));
    let text = String::from_utf8(printed(pool, run, "stdout").await).unwrap();
    assert!(text.len() > 100_000 && text.chars().all(|c| c == 'x' || c == '*'), "{}", &text[..200]);
    worker.stop().await;
}

#[tokio::test]
async fn a_secret_that_others_could_see_is_refused_for_good() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let worker = start(hand(pool, "shell").handler("shell", shell(&place)));
    let reference = json!({"$secret": "TOKEN"});
    let visible = "must not refer to a secret: every account of the host can see the arguments of a process; \
                   use \"env\" or \"stdin\"";
    for (payload, sentence) in [
        (json!({"argv": ["echo", reference]}), format!("\"argv\" {visible}")),
        (json!({"command": reference}), format!("\"command\" {visible}")),
        (
            json!({"argv": ["true"], "cwd": reference}),
            "\"cwd\" must not refer to a secret; only \"env\" and \"stdin\" may".to_owned(),
        ),
        (
            json!({"argv": ["true"], "env": reference}),
            "\"env\" must be an object of names and values; a value may refer to a secret".to_owned(),
        ),
        (
            json!({"argv": ["true"], "env": {"A": {"b": reference}}}),
            "\"env.A\" must be a string or refer to a secret".to_owned(),
        ),
        (
            json!({"argv": ["true"], "stdin": {"$secret": "BOUND"}}),
            "secret \"BOUND\" is declared for the host api.example.com and goes nowhere else".to_owned(),
        ),
        (
            json!({"argv": ["true"], "stdin": {"$secret": "NONE"}}),
            "this worker's configuration has no secret \"NONE\" (it has: BOUND, KEY, NUL, TOKEN); see --secret"
                .to_owned(),
        ),
        (
            json!({"argv": ["true"], "env": {"A": {"$secret": "NUL"}}}),
            "payload of handler \"shell\": \"env.A\" has a NUL character, which no program can be given".to_owned(),
        ),
    ] {
        let run = command(pool, &payload, &[("max_attempts", "5")]).await;
        let row = until_status(pool, run, "failed", SOON).await;
        assert_eq!((row.attempt, row.error), (1, Some(sentence)), "{payload}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn no_table_and_no_log_of_the_worker_has_a_secret() {
    let (database, place) = (Database::fresh().await, Place::new());
    let pool = &database.pool;
    let log = place.path().join("log");
    let options = ["--enable-shell-command", "--shell-programs", "sh", "--secret", "TOKEN=env:OF_WORKER"];
    let mut worker = Program::worker_telling(&log, &[("OF_WORKER", VALUE)], &database.url, &options);
    let line = "echo \"$TOKEN\"; echo \"so $TOKEN\" >&2; echo is OF_WORKER \"[$OF_WORKER]\"; exit 1";
    let run = command(pool, &json!({"command": line, "env": {"TOKEN": {"$secret": "TOKEN"}}}), &[]).await;
    let row = until_status(pool, run, "failed", SOON).await;
    assert_eq!(row.error.as_deref(), Some("exit code 1: so ***"));
    assert_eq!(printed_text(pool, run, "%").await.matches("***").count(), 2);
    worker.send(nix::sys::signal::Signal::SIGTERM);
    crate::support::wait::until("the worker ends", SOON, async || worker.has_ended().then_some(())).await;
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("***") && !told.contains("tr0ub4dor"), "{told}");
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c where c.relnamespace = 'watchbell'::regnamespace \
         and c.relkind in ('r', 'p')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for table in tables {
        let query = format!("select count(*) from {table} t where t::text like '%tr0ub4dor%'");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.unwrap();
        assert_eq!(found, 0, "{table}");
    }
    let leaked = printed(pool, run, "%").await.windows(9).any(|bytes| bytes == b"tr0ub4dor");
    assert!(!leaked);
}

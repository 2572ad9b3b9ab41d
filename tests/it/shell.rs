//! The handler `shell`: what it runs, with what around it, and what its end means.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use watchbell::client::RunRow;
use watchbell::handler::shell::{Limit, Shell};

use crate::support::ask::{errors, until_status};
use crate::support::commands::{Place, Program, anything, command, printed_text};
use crate::support::crew::{Running, hand, start};
use crate::support::{Database, skip};

const SOON: Duration = Duration::from_secs(30);

fn worker(pool: &PgPool, shell: Shell) -> Running {
    start(hand(pool, "shell").handler("shell", shell))
}

/// Runs one command to its end.
async fn run(pool: &PgPool, payload: Value, status: &str) -> RunRow {
    let id = command(pool, &payload, &[]).await;
    until_status(pool, id, status, SOON).await
}

/// Runs a command that succeeds; answers its standard output.
async fn stdout(pool: &PgPool, payload: Value) -> String {
    let row = run(pool, payload, "normal").await;
    printed_text(pool, row.id.0, "stdout").await
}

/// Runs a command that fails; answers why.
async fn failure(pool: &PgPool, payload: Value) -> String {
    run(pool, payload, "failed").await.error.unwrap()
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, Shell::new().program("printf"));
    let argv = json!(["printf", "[%s]", "a b", "$HOME", "'\"\\", "", "*", "\u{1f514}", "-n"]);
    assert_eq!(stdout(pool, json!({"argv": argv})).await, "[a b][$HOME]['\"\\][][*][\u{1f514}][-n]");
    worker.stop().await;
}

#[tokio::test]
async fn a_line_goes_through_the_shell_that_is_configured() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let first = worker(pool, Shell::new().program("sh").commands("sh"));
    assert_eq!(stdout(pool, json!({"command": "echo a | tr a b; echo $((1 + 1))"})).await, "b\n2\n");
    first.stop().await;
    let second = worker(pool, Shell::new().program("/bin/bash").commands("bash"));
    assert_eq!(stdout(pool, json!({"command": "a=(x y); echo ${a[1]}"})).await, "y\n");
    second.stop().await;
}

#[tokio::test]
async fn what_the_configuration_does_not_name_is_refused_for_good() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let first = worker(pool, Shell::new().program("cat").program("/nowhere/job"));
    let refusals = [
        (
            json!({"argv": ["touch", "/tmp/x"]}),
            "program \"touch\" (/usr/bin/touch) is not allowed by this worker's configuration (allowed: cat, /nowhere/job)",
        ),
        (
            json!({"argv": ["./cat"]}),
            "\"./cat\" must be an absolute path, or a name without slashes that is looked up in PATH",
        ),
        (
            json!({"command": "cat"}),
            "\"command\" is not enabled in this worker's configuration; use \"argv\", or see --enable-shell-command",
        ),
        (
            json!({"argv": ["cat"], "run_as": "root"}),
            "\"run_as\" \"root\" is not allowed by this worker's configuration (allowed: none)",
        ),
        (
            json!({"argv": ["cat"], "arg": 1}),
            "payload of handler \"shell\": unknown key \"arg\"; did you mean \"argv\"?",
        ),
        (
            json!({"argv": ["cat"], "env": {"LD_PRELOAD": "/tmp/x.so"}}),
            "payload of handler \"shell\": \"env\": LD_PRELOAD decides which code is run: only the worker's configuration may",
        ),
        (json!({"argv": ["cat"], "limits": {"core": 1}}), "limit core: 1 is above this worker's 0"),
    ];
    for (payload, sentence) in refusals {
        let id = command(pool, &payload, &[("max_attempts", "5")]).await;
        let row = until_status(pool, id, "failed", SOON).await;
        assert_eq!((row.attempt, row.error.as_deref()), (1, Some(sentence)), "{payload}");
    }
    // allowed, and not there: it may be elsewhere
    assert_eq!(
        failure(pool, json!({"argv": ["/nowhere/job"]})).await,
        "exit code 127: \"/nowhere/job\" is no program here"
    );
    first.stop().await;
    let second = worker(pool, Shell::new().program("sh").commands("sh").argv(false));
    let said = failure(pool, json!({"argv": ["sh", "-c", "true"]})).await;
    assert_eq!(said, "\"argv\" is not enabled in this worker's configuration; see --enable-shell");
    second.stop().await;
}

#[tokio::test]
async fn a_configuration_that_could_not_work_is_refused_with_the_reason() {
    let refusal = |shell: Shell| shell.check().unwrap_err().to_string();
    assert_eq!(refusal(Shell::new()), "shell: programs: none is allowed, so no command could be run");
    assert_eq!(refusal(Shell::new().program("nosuch").path("/bin")), "shell: programs: no program \"nosuch\" in /bin");
    assert_eq!(
        refusal(Shell::new().program("cat").commands("sh")),
        "shell: programs: a command line can run anything, so \"sh\" must be among them"
    );
    assert_eq!(
        refusal(Shell::new().program("cat").pass_env("DATABASE_URL")),
        "shell: env: DATABASE_URL tells how to reach the database, which no command may know"
    );
    assert_eq!(
        refusal(Shell::new().program("cat").run_as("no-such-user")),
        "shell: run_as: there is no user \"no-such-user\" on this machine"
    );
    assert_eq!(refusal(Shell::new().program("cat").cwd("tmp")), "shell: cwd: tmp is no directory by an absolute path");
}

#[tokio::test]
async fn options_that_could_not_work_are_refused_with_the_reason() {
    let database = Database::fresh().await;
    let refusal = |options: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_watchbell"));
        program.env_clear().env("WATCHBELL_DATABASE_URL", &database.url).args(["worker", "run"]).args(options);
        let output = program.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap().trim_end().to_owned())
    };
    for (options, sentence) in [
        (
            &["--enable-shell"][..],
            "error: --shell-programs: none is allowed; name what may be run, such as rsync,/opt/jobs/ (or: any)",
        ),
        (
            &["--enable-shell", "--shell-programs", "cat,/no/such"],
            "error: shell: programs: \"/no/such\" is no program here",
        ),
        (
            &["--enable-shell-command", "--shell-programs", "cat"],
            "error: shell: programs: a command line can run anything, so \"sh\" must be among them",
        ),
        (
            &["--enable-shell", "--shell-programs", "cat", "--shell-limits", "cpu=10m,memroy=1GiB"],
            "error: --shell-limits memroy=1GiB: unknown limit \"memroy\"; did you mean \"memory\"?",
        ),
        (&["--shell-umask", "9"], "error: --shell-umask 9: umask \"9\" must be 000 to 777 in octal digits"),
        (
            &["--output-limit", "1KiB"],
            "error: --output-limit 1KiB: must be 4096 to 4194304 bytes, such as 65536 or 64KiB",
        ),
    ] {
        let (code, said) = refusal(options);
        assert_eq!((code, said.as_str()), (Some(2), sentence), "{options:?}");
    }
}

#[tokio::test]
async fn the_environment_is_empty_but_for_what_is_named() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    // a variable of this very process that cargo sets for every test
    let worker = worker(pool, anything().pass_env("CARGO_PKG_NAME"));
    let id = command(pool, &json!({"argv": ["env"], "env": {"COLOUR": "blue = green"}}), &[]).await;
    let row = until_status(pool, id, "normal", SOON).await;
    let text = printed_text(pool, id, "stdout").await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected = vec![
        "CARGO_PKG_NAME=watchbell".to_owned(),
        "COLOUR=blue = green".to_owned(),
        format!("PATH={}", watchbell::handler::shell::PATH),
        "WATCHBELL_ATTEMPT=1".to_owned(),
        format!("WATCHBELL_FENCE={}", row.fence),
        "WATCHBELL_HANDLER=shell".to_owned(),
        format!("WATCHBELL_RUN_ID={id}"),
    ];
    expected.retain(|line| !line.starts_with("CARGO_PKG_NAME") || std::env::var_os("CARGO_PKG_NAME").is_some());
    assert_eq!(lines, expected);
    worker.stop().await;
}

#[tokio::test]
async fn the_address_of_the_database_is_nowhere_to_be_read() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can start a worker as another account, which cannot read what it likes");
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let place = Place::new();
    // a copy where the account nobody may read it
    let program = place.path().join("watchbell");
    std::fs::copy(env!("CARGO_BIN_EXE_watchbell"), &program).unwrap();
    let options = ["--enable-shell-command", "--shell-programs", "sh", "--shell-env", "TOLD"];
    let _worker = Program::worker_as(&program, 65_534, &database.url, &options);
    let line = "env; cat /proc/self/environ; cat /proc/$PPID/environ; \
                worker=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status); cat /proc/$worker/environ; \
                cat /proc/$worker/mem; tr '\\0' '\\n' < /proc/$worker/cmdline; ls /proc/$worker/fd; true";
    let id = command(pool, &json!({"command": line}), &[]).await;
    until_status(pool, id, "normal", SOON).await;
    let said = printed_text(pool, id, "%").await;
    let denied = said.matches("Permission denied").count();
    assert_eq!(denied, 4, "{said}");
    assert!(said.contains("worker\nrun\n") && said.contains(&format!("WATCHBELL_RUN_ID={id}")), "{said}");
    assert!(!said.contains("postgres:") && !said.contains("DATABASE_URL"), "{said}");
}

#[tokio::test]
async fn a_scheduled_command_knows_its_schedule_and_fire_time() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything());
    sqlx::query(
        "insert into watchbell.schedules (name, run_at, handler, payload) \
         values ('tell', date_trunc('second', now()), 'shell', '{\"command\": \"echo $WATCHBELL_SCHEDULE $WATCHBELL_FIRE_AT\"}')",
    )
    .execute(pool)
    .await
    .unwrap();
    let done = "select (select id from watchbell.runs where schedule_name = 'tell' and status = 'normal') is not null";
    crate::support::wait::until_true(pool, &format!("({done})"), SOON).await;
    let (id, fire_at): (i64, chrono::DateTime<chrono::Utc>) =
        sqlx::query_as("select id, fire_at from watchbell.runs where schedule_name = 'tell'")
            .fetch_one(pool)
            .await
            .unwrap();
    let said = printed_text(pool, id, "stdout").await;
    assert_eq!(said.trim(), format!("tell {}", fire_at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)));
    worker.stop().await;
}

#[tokio::test]
async fn directory_standard_input_and_umask_are_as_asked() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let place = Place::new();
    let dir = place.path().canonicalize().unwrap();
    let worker = worker(pool, anything());
    let line = "pwd; umask; cat; touch made";
    let text = stdout(pool, json!({"command": line, "cwd": dir, "stdin": "a\nb \u{e9}", "umask": "077"})).await;
    assert_eq!(text, format!("{}\n0077\na\nb \u{e9}", dir.display()));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.join("made")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // by themselves: the root directory, an empty input, 022; a JSON value goes in as JSON
    assert_eq!(stdout(pool, json!({"command": "pwd; umask; cat"})).await, "/\n0022\n");
    assert_eq!(stdout(pool, json!({"argv": ["cat"], "stdin": {"a": [1]}})).await, "{\"a\":[1]}");
    // more than a pipe holds, to a command that does not read it
    let row = run(pool, json!({"argv": ["true"], "stdin": "x".repeat(500_000)}), "normal").await;
    assert_eq!(row.attempt, 1);
    let said = failure(pool, json!({"argv": ["true"], "cwd": dir.join("none")})).await;
    assert!(said.starts_with("exit code 127: /usr/bin/true, its interpreter or \"cwd\" was not found"), "{said}");
    worker.stop().await;
}

#[tokio::test]
async fn a_command_runs_as_the_account_that_is_configured() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can run commands as another account");
    }
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything().run_as("nobody").run_as("daemon:daemon"));
    let line = "id -un; id -Gn; echo $USER $LOGNAME $HOME";
    let nobody = stdout(pool, json!({"command": line})).await;
    assert_eq!(nobody.lines().next(), Some("nobody"), "{nobody}");
    assert!(!nobody.contains("root") && nobody.contains("nobody nobody /"), "{nobody}");
    let daemon = stdout(pool, json!({"command": "id -un; id -Gn", "run_as": "daemon:daemon"})).await;
    assert_eq!(daemon, "daemon\ndaemon\n");
    // the worker's environment and memory are closed to it
    let said = failure(pool, json!({"command": "cat /proc/$PPID/environ"})).await;
    assert!(said.contains("Permission denied"), "{said}");
    worker.stop().await;
}

#[tokio::test]
async fn limits_bind_the_command_and_name_themselves() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything().limit(Limit::OpenFiles, 100).limit(Limit::FileSize, 1 << 20));
    let limits = json!({"cpu": 1, "memory": "1GiB", "processes": 500, "open_files": 50});
    let text = stdout(pool, json!({"command": "ulimit -t; ulimit -v; ulimit -n; ulimit -c", "limits": limits})).await;
    assert_eq!(text, "1\n1048576\n50\n0\n");
    let said = failure(pool, json!({"command": "while :; do :; done", "limits": {"cpu": 1}})).await;
    assert!(said.starts_with("killed by signal 24 (SIGXCPU") || said.starts_with("killed by signal 9"), "{said}");
    let said = failure(pool, json!({"argv": ["true"], "limits": {"open_files": 101}})).await;
    assert_eq!(said, "limit open_files: 101 is above this worker's 100");
    worker.stop().await;
}

#[tokio::test]
async fn no_privileges_can_be_gained_unless_allowed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    if !cfg!(target_os = "linux") {
        return skip("there is no such flag on this system");
    }
    let first = worker(pool, anything());
    assert_eq!(stdout(pool, json!({"argv": ["grep", "NoNewPrivs", "/proc/self/status"]})).await, "NoNewPrivs:\t1\n");
    first.stop().await;
    let second = worker(pool, anything().allow_new_privileges());
    assert_eq!(stdout(pool, json!({"argv": ["grep", "NoNewPrivs", "/proc/self/status"]})).await, "NoNewPrivs:\t0\n");
    second.stop().await;
}

#[tokio::test]
async fn a_command_has_a_process_group_of_its_own_and_no_open_files_of_the_worker() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything());
    let line = "echo $$; cut -d' ' -f5 /proc/self/stat; ls /proc/self/fd | wc -l; grep SigBlk /proc/self/status";
    let text = stdout(pool, json!({"command": line})).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], lines[1], "the shell leads its group");
    // 0, 1, 2 and the listing itself
    assert_eq!((lines[2].trim(), lines[3]), ("4", "SigBlk:\t0000000000000000"));
    worker.stop().await;
}

#[tokio::test]
async fn exit_codes_decide_and_are_kept_with_the_last_words() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything());
    let cases = [
        (json!({"command": "exit 3"}), "exit code 3"),
        (json!({"command": "echo first >&2; echo 'it broke' >&2; exit 2"}), "exit code 2: it broke"),
        (json!({"command": "printf 'a\\000\\377\\033[2J' >&2; exit 2"}), "exit code 2: a \u{fffd} [2J"),
        (json!({"command": "kill -9 $$"}), "killed by signal 9 (SIGKILL)"),
        (json!({"command": "exit 0", "success_exit_codes": [4]}), "exit code 0"),
    ];
    for (payload, sentence) in cases {
        assert_eq!(failure(pool, payload.clone()).await, sentence, "{payload}");
    }
    let said = failure(pool, json!({"command": "no-such-program"})).await;
    assert!(said.starts_with("exit code 127 (command not found): ") && said.contains("no-such-program"), "{said}");
    let said = failure(pool, json!({"command": "/etc/passwd"})).await;
    assert!(said.starts_with("exit code 126 (found, but not executable): ") && said.contains("passwd"), "{said}");
    run(pool, json!({"command": "exit 4", "success_exit_codes": [0, 4]}), "normal").await;

    // one that is fatal is not tried again; any other is
    let fatal = command(pool, &json!({"command": "exit 65", "fatal_exit_codes": [65]}), &[("max_attempts", "3")]).await;
    assert_eq!(until_status(pool, fatal, "failed", SOON).await.attempt, 1);
    let at_once = ("retry", "'{\"strategy\": \"fixed\", \"base\": \"1ms\"}'");
    let line = json!({"command": "exit $((2 - WATCHBELL_ATTEMPT))"});
    let again = command(pool, &line, &[("max_attempts", "3"), at_once]).await;
    assert_eq!(until_status(pool, again, "normal", SOON).await.attempt, 2);
    assert_eq!(errors(pool, again).await, [(1, "error".to_owned(), "exit code 1".to_owned())]);
    worker.stop().await;
}

#[tokio::test]
async fn the_payloads_of_its_page_are_understood_and_its_options_exist() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shell.md")).unwrap();
    let database = Database::fresh().await;
    let pool = &database.pool;
    let worker = worker(pool, anything());
    let payloads = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    for payload in payloads.lines() {
        run(pool, serde_json::from_str(payload).unwrap(), "normal").await;
    }
    worker.stop().await;
    for statements in page.split("```sql\n").skip(1) {
        let statements = statements.split("```").next().unwrap().to_owned();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(pool).await.unwrap();
    }
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_watchbell"));
    let help =
        |verbs: &[&str]| String::from_utf8(program().args(verbs).arg("--help").output().unwrap().stdout).unwrap();
    let known = help(&["worker", "run"]) + &help(&["runs", "logs"]);
    for option in page.split('`').filter(|code| code.starts_with("--")) {
        let option = option.split(' ').next().unwrap();
        assert!(known.contains(option), "{option}");
    }
}

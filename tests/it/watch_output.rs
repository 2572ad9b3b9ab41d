//! What a handler printed last about a row stands beside the error of the attempt that failed.

use watchbell::client;

use crate::cli::done;
use crate::logs::Told;
use crate::support::Scene;
use crate::support::commands::Place;
use crate::support::wait::until_true;
use crate::support::watched::{PATIENCE, hosts, watch};

const QUICK: &str = r#"{"strategy": "fixed", "base": "10ms", "jitter": false}"#;

/// Two rows are worked by a command, the first in vain in two attempts.
async fn shell(scene: &mut Scene, command: &str) {
    let payload = serde_json::json!({"argv": ["sh", "-c", command]}).to_string();
    let values = format!("'hosts', 'shell', $${payload}$$, '{QUICK}', 2");
    watch(scene, "hosts", "table_name, handler, payload, retry, max_attempts", &values).await;
    let place = Place::new();
    let told = Told::by(&place, "log");
    let worker = told.worker("info", &scene.database.url, &["--enable-shell", "--shell-programs", "sh"]);
    let all = "(select string_agg(status, ' ' order by id) from hosts) = 'failed normal'";
    until_true(&scene.database.pool, all, PATIENCE).await;
    drop(worker);
}

#[tokio::test]
async fn the_last_lines_of_an_attempt_that_failed_are_kept_and_shown() {
    let mut scene = hosts(2).await;
    let command = r#"printf 'dialing\nno carrier \377\000\n'; echo "attempt $WATCHBELL_ATTEMPT" >&2; \
                     case $WATCHBELL_ROW in *'"id": 1,'*|*'"id":1,'*) exit 3;; esac"#;
    shell(&mut scene, command).await;

    let errors = client::watch_errors(&scene.database.pool, "hosts", None, 10).await.unwrap();
    assert_eq!(errors.len(), 2, "{errors:?}");
    for error in &errors {
        let printed = error.output.as_deref().unwrap();
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable(); // of two streams
        let attempt = format!("attempt {}", error.attempt);
        assert_eq!(lines, [&attempt, "dialing", "no carrier \u{fffd}\u{fffd}"], "{error:?}");
    }
    let text = "select convert_from(output, 'UTF8') from watchbell.watch_errors where attempt = 2";
    assert!(scene.value::<String>(text).await.contains("attempt 2"));

    let shown = done(&scene.database.url, &["watch", "show", "hosts"]);
    let lines = shown.lines().filter(|line| line.trim_start().starts_with("it printed")).count();
    assert_eq!(lines, 6, "three of each attempt: {shown}");
    assert!(shown.contains("no carrier"), "{shown}");
}

#[tokio::test]
async fn of_much_output_only_the_end_is_kept_and_of_success_nothing() {
    let mut scene = hosts(2).await;
    let command = r#"i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo "line $i"; done; \
                     case $WATCHBELL_ROW in *'"id": 1,'*|*'"id":1,'*) exit 3;; esac"#;
    shell(&mut scene, command).await;
    let errors = client::watch_errors(&scene.database.pool, "hosts", None, 10).await.unwrap();
    assert_eq!(errors.iter().map(|error| &error.key[0]).collect::<Vec<_>>(), ["1", "1"]);
    let printed = errors[0].output.as_deref().unwrap();
    assert!(printed.len() <= 4096 && printed.len() > 4000, "{}", printed.len());
    assert!(printed.starts_with("line 1") && printed.ends_with("line 2000"), "{printed}");
}

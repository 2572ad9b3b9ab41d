//! The handler `http` against a real server: what is sent, what counts as a success, what is kept and what is not.

mod server;

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::time;
use watchbell::handler::http::Http;
use watchbell::handler::secret::Secret;

use self::server::{Call, Server};
use crate::support::Database;
use crate::support::crew::{Running, hand, start};

#[tokio::test]
async fn a_call_sends_what_its_payload_says_and_keeps_the_answer() {
    let scene = Scene::new(|http| http).await;
    let done = scene
        .run(json!({
            "url": scene.at("/echo?a=1#fragment"), "method": "put",
            "headers": {"X-One": "1", "x-two": ["a", "b"]}, "body": {"order": 7}
        }))
        .await;
    assert_eq!(done.status, "normal", "{done:?}");
    let call = scene.last_call();
    assert_eq!((call.method, call.uri.as_str(), call.body.as_str()), (Method::PUT, "/echo?a=1", "{\"order\":7}"));
    let header = |name: &str| call.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((header("x-one"), header("x-two")), (vec!["1"], vec!["a", "b"]));
    assert_eq!(header("content-type"), ["application/json"]);
    assert_eq!(header("idempotency-key"), [done.id.to_string()]);
    assert_eq!(header("x-watchbell-attempt"), ["1"]);
    assert!(header("user-agent")[0].starts_with("watchbell/"));
    let output = scene.output(done.id, "echoed").await;
    assert!(output.contains("PUT http://127.0.0.1:") && output.contains("-> 200 OK in "), "{output}");

    // text goes as it is, a method is guessed from the body, the payload's own key stays
    scene.run(json!({"url": scene.at("/echo"), "body": "plain", "headers": {"Idempotency-Key": "mine"}})).await;
    let call = scene.last_call();
    assert_eq!((call.method, call.body.as_str()), (Method::POST, "plain"));
    assert_eq!(call.headers["idempotency-key"], "mine");
    assert!(!call.headers.contains_key("content-type"));
    scene.end().await;
}

#[tokio::test]
async fn a_success_is_what_the_payload_calls_one() {
    let scene = Scene::new(|http| http).await;
    for (path, more, status, attempts, error) in [
        ("/status/204", json!({}), "normal", 1, ""),
        ("/status/404", json!({}), "failed", 2, "answered 404 Not Found, not 2xx: it is status 404"),
        ("/status/500", json!({}), "failed", 2, "answered 500 Internal Server Error, not 2xx"),
        ("/status/422", json!({}), "failed", 1, "answered 422 Unprocessable Entity, not 2xx"),
        ("/status/404", json!({"success": ["2xx", 404]}), "normal", 1, ""),
        ("/status/200", json!({"success": [202]}), "failed", 2, "answered 200 OK, not 202"),
        ("/status/201", json!({"success": "200-204"}), "normal", 1, ""),
        ("/status/200", json!({"expect_body": "status (200|201)$"}), "normal", 1, ""),
        (
            "/status/200",
            json!({"expect_body": "^ok$"}),
            "failed",
            2,
            "the body does not match \"expect_body\": it is status 200",
        ),
    ] {
        let mut payload = more.clone();
        payload["url"] = scene.at(path).into();
        let done = scene.run(payload).await;
        assert_eq!((done.status.as_str(), done.attempt), (status, attempts), "{path} {more}: {done:?}");
        assert!(done.error.clone().unwrap_or_default().contains(error), "{path} {more}: {done:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn the_key_is_the_same_in_every_attempt_and_a_wait_is_kept() {
    let scene = Scene::new(|http| http).await;
    let began = time::Instant::now();
    let done = scene.run(json!({"url": scene.at("/busy-once")})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("normal", 2), "{done:?}");
    // the retry policy alone says 100 ms
    assert!(began.elapsed() >= Duration::from_secs(1));
    let calls = scene.calls();
    let keys: Vec<_> = calls.iter().map(|call| call.headers["idempotency-key"].to_str().unwrap().to_owned()).collect();
    assert_eq!(keys, [done.id.to_string(), done.id.to_string()]);
    assert_eq!(calls[1].headers["x-watchbell-attempt"], "2");
    scene.end().await;
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure_and_a_cancelled_call_is_dropped() {
    let scene = Scene::new(|http| http).await;
    let done = scene.run(json!({"url": scene.at("/hang"), "timeout": 0.2})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2), "{done:?}");
    assert!(done.error.unwrap().ends_with("/hang: no complete answer within 200ms"));

    let id = scene.enqueue(&json!({"url": scene.at("/hang")})).await;
    scene.called(3).await;
    sqlx::query("select watchbell.cancel($1, 'enough')").bind(id).execute(&scene.database.pool).await.unwrap();
    let done = scene.ended(id).await;
    let said = done.error.as_deref().unwrap_or_default();
    let login: String = sqlx::query_scalar("select session_user::text").fetch_one(&scene.database.pool).await.unwrap();
    assert_eq!((done.status.as_str(), said), ("cancelled", &*format!("cancelled by {login}: enough")));
    // the server saw each of its three connections close
    scene.server.hung_up(3).await;
    scene.end().await;
}

#[tokio::test]
async fn nobody_listening_is_tried_again() {
    let scene = Scene::new(|http| http.allow("127.0.0.1".parse().unwrap())).await;
    let done = scene.run(json!({"url": "http://127.0.0.1:1/"})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2), "{done:?}");
    assert!(done.error.as_deref().unwrap().starts_with("GET http://127.0.0.1:1/: no connection: "), "{done:?}");
    // a server that speaks no TLS, and one whose certificate nobody vouches for would be the same
    let done = scene.run(json!({"url": scene.at("/echo").replace("http:", "https:")})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2), "{done:?}");
    assert!(done.error.as_deref().unwrap().contains("/echo: no connection: "), "{done:?}");
    scene.end().await;
}

#[tokio::test]
async fn no_inner_address_is_called_unless_it_is_allowed() {
    let scene = Scene::new(|http| http).await;
    let port = scene.server.port;
    for url in [
        format!("http://127.0.0.2:{port}/echo"),
        format!("http://[::1]:{port}/echo"),
        format!("http://localhost:{}/echo", port ^ 1),
        "http://127.0.0.1:1/".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let done = scene.run(json!({"url": url})).await;
        assert_eq!((done.status.as_str(), done.attempt), ("failed", 1), "{url}: {done:?}");
        assert!(done.error.as_deref().unwrap().contains("which this worker does not call"), "{url}: {done:?}");
    }
    assert_eq!(scene.calls().len(), 0);
    scene.end().await;
}

#[tokio::test]
async fn redirects_are_followed_only_if_asked_and_judged_anew() {
    let other = Server::start().await;
    let other_port = other.port;
    let scene = Scene::new(|http| http.allow(format!("127.0.0.1:{other_port}").parse().unwrap())).await;
    let away = |to: &str| scene.at(&format!("/redirect?{to}"));

    let done = scene.run(json!({"url": away("/echo")})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 2));
    assert!(done.error.unwrap().contains("redirects are not followed unless the payload says so"));
    assert_eq!(scene.run(json!({"url": away("/echo"), "success": 307})).await.status, "normal");

    let done =
        scene.run(json!({"url": away("/echo"), "follow_redirects": 1, "body": "x", "headers": {"x-key": "k"}})).await;
    assert_eq!(done.status, "normal", "{done:?}");
    assert_eq!((scene.last_call().body.as_str(), scene.last_call().headers["x-key"].to_str().unwrap()), ("x", "k"));

    let done = scene.run(json!({"url": away("/redirect?/echo"), "follow_redirects": 1})).await;
    assert!(done.error.unwrap().contains("more redirects than the payload allows"));

    let calls = scene.calls().len();
    let done = scene.run(json!({"url": away("http://169.254.169.254/x"), "follow_redirects": 1})).await;
    assert_eq!((done.status.as_str(), done.attempt), ("failed", 1));
    assert!(done.error.unwrap().contains("169.254.169.254 is a cloud's metadata service"));
    let done = scene.run(json!({"url": away("file:///etc/passwd"), "follow_redirects": 1})).await;
    assert!(done.error.unwrap().contains("redirects where no call may go: \"url\": must begin with http://"));
    assert_eq!(scene.calls().len(), calls + 2);

    // another origin gets no header and no body of the payload
    let elsewhere = away(&format!("http://127.0.0.1:{other_port}/echo"));
    let done = scene.run(json!({"url": elsewhere, "follow_redirects": 1, "headers": {"x-key": "k"}})).await;
    assert_eq!(done.status, "normal", "{done:?}");
    let calls = other.calls.lock().unwrap().clone();
    assert!(!calls[0].headers.contains_key("x-key") && calls[0].headers.contains_key("idempotency-key"));
    let done = scene.run(json!({"url": elsewhere, "follow_redirects": 1, "body": "x"})).await;
    assert!(done.error.unwrap().contains("redirects to another origin, to which the body is not sent"));
    scene.end().await;
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit() {
    let scene = Scene::new(|http| http.response_bytes(100_000)).await;
    let done = time::timeout(Duration::from_secs(20), scene.run(json!({"url": scene.at("/endless")}))).await.unwrap();
    assert_eq!(done.status, "normal", "{done:?}");
    scene.output(done.id, "100000 bytes, cut there").await;
    let query = "select sum(length(bytes)) from watchbell.run_output where run_id = $1";
    let mut kept = 0;
    for _ in 0..200 {
        kept = sqlx::query_scalar::<_, Option<i64>>(query)
            .bind(done.id)
            .fetch_one(&scene.database.pool)
            .await
            .unwrap()
            .unwrap_or(0);
        if kept >= 100_000 {
            break;
        }
        time::sleep(Duration::from_millis(25)).await;
    }
    assert!((100_000..101_000).contains(&kept), "{kept} bytes were kept");
    scene.server.hung_up(1).await;
    scene.end().await;
}

#[tokio::test]
async fn a_secret_is_sent_and_shown_nowhere() {
    let dir = std::env::temp_dir().join(format!("watchbell-http-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("token");
    std::fs::write(&file, "pa55 w?rd/ü\n").unwrap();
    let secrets = [Secret::file("TOKEN", &file), Secret::file("BOUND", &file).only_for("api.example.com")];
    let scene = Scene::new(|http| http.secrets(secrets.into_iter().collect())).await;
    let token = json!({"$secret": "TOKEN", "prefix": "Bearer "});

    let done = scene.run(json!({"url": scene.at("/repeat"), "headers": {"Authorization": {"$secret": "TOKEN"}}, "body": {"password": token}})).await;
    // a header takes letters beyond ASCII as they are
    assert_eq!(done.status, "normal", "{done:?}");
    let call = scene.last_call();
    assert_eq!(call.headers["authorization"].as_bytes(), "pa55 w?rd/ü".as_bytes());
    assert_eq!(call.body, r#"{"password":"Bearer pa55 w?rd/ü"}"#);
    let output = scene.output(done.id, "over").await;
    assert!(output.contains("{\"password\":\"Bearer ***\"}") && !output.contains("pa55"), "{output}");

    // in an address, in an error, in what the server repeats of it
    let url = json!({"$secret": "TOKEN", "prefix": scene.at("/fail/")});
    let done = scene.run(json!({"url": url, "body": "x"})).await;
    let error = done.error.unwrap();
    assert!(error.contains("/fail/***: answered 500") && !error.contains("pa55"), "{error}");
    let said: Vec<String> =
        sqlx::query_scalar("select message from watchbell.run_errors").fetch_all(&scene.database.pool).await.unwrap();
    assert!(said.iter().all(|said| !said.contains("pa55")), "{said:?}");

    for (payload, expected) in [
        (
            json!({"url": scene.at("/echo"), "body": {"$secret": "BOUND"}}),
            "secret \"BOUND\" is declared for the host api.example.com and is not sent to 127.0.0.1",
        ),
        (
            json!({"url": scene.at("/echo"), "body": {"$secret": "OTHER"}}),
            "has no secret \"OTHER\" (it has: BOUND, TOKEN)",
        ),
        (json!({"url": scene.at("/echo"), "method": {"$secret": "TOKEN"}}), "\"method\": must be a string"),
        (json!({"url": {"$secret": "TOKEN"}}), "\"url\": relative URL without a base"),
    ] {
        let done = scene.run(payload.clone()).await;
        assert_eq!((done.status.as_str(), done.attempt), ("failed", 1), "{payload}: {done:?}");
        assert!(done.error.as_deref().unwrap().contains(expected), "{payload}: {done:?}");
    }
    let kept: i64 = sqlx::query_scalar("select count(*) from watchbell.runs where payload::text like '%pa55%'")
        .fetch_one(&scene.database.pool)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    scene.end().await;
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_fatal_and_says_why() {
    let scene = Scene::new(|http| http).await;
    let url = scene.at("/echo");
    for (payload, expected) in [
        (json!({}), "the payload has no \"url\""),
        (json!({"ulr": url}), "the payload's key \"ulr\" is unknown; did you mean \"url\"?"),
        (json!({"url": url, "retries": 3}), "the payload's key \"retries\" is unknown; known: url, method, "),
        (json!({"url": 7}), "\"url\": must be a string"),
        (json!({"url": "ftp://x/"}), "\"url\": must begin with http:// or https://, not ftp:"),
        (
            json!({"url": "http://u:p@x/"}),
            "\"url\": must not hold a user or password; send them in the header Authorization",
        ),
        (json!({"url": format!("{url}{}", "x".repeat(9000))}), "at most 8192 are allowed"),
        (json!({"url": url, "method": "CONNECT"}), "\"method\": \"CONNECT\" is none of GET, HEAD, POST"),
        (
            json!({"url": url, "headers": {"Host": "x"}}),
            "\"headers\": \"host\" belongs to the connection and cannot be set",
        ),
        (json!({"url": url, "headers": {"a b": "x"}}), "\"headers\": \"a b\" is no name of a header"),
        (json!({"url": url, "headers": {"a": "x\r\ny: z"}}), "\"headers\": the value of \"a\" has a control character"),
        (json!({"url": url, "success": "ok"}), "\"success\": \"ok\" must be a status code 100 to 599, a class such as"),
        (json!({"url": url, "expect_body": "(x"}), "\"expect_body\": is no regular expression: unclosed group"),
        (
            json!({"url": url, "expect_body": "\\w{500}{50}"}),
            "\"expect_body\": takes more than 1048576 bytes once compiled",
        ),
        (json!({"url": url, "timeout": "2 days"}), "\"timeout\": \"2 days\" must be a duration such as \"30s\""),
        (json!({"url": url, "follow_redirects": 11}), "\"follow_redirects\": 11 must be a number, 0 to 10"),
    ] {
        let done = scene.run(payload.clone()).await;
        assert_eq!((done.status.as_str(), done.attempt), ("failed", 1), "{payload}: {done:?}");
        assert!(done.error.as_deref().unwrap().contains(expected), "{payload}: {done:?}");
    }
    assert_eq!(scene.calls().len(), 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_calls_only_if_it_was_told_to_and_past_any_proxy() {
    let (database, server) = (Database::fresh().await, Server::start().await);
    let url = format!("http://localhost:{}/repeat", server.port);
    let id: i64 = sqlx::query_scalar(
        "insert into watchbell.runs (handler, payload, max_attempts) values ('http', $1, 1) returning id",
    )
    .bind(json!({"url": url, "body": {"$secret": "TOKEN"}}))
    .fetch_one(&database.pool)
    .await
    .unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_watchbell"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name.starts_with("WATCHBELL_")) {
            command.env_remove(name);
        }
        command.args(["worker", "run", "--once", "--config", "none", "--enable-sql"]).args(arguments);
        command.env("DATABASE_URL", &database.url).env("A_TOKEN", "correct horse");
        command.env("http_proxy", "http://127.0.0.1:1").env("ALL_PROXY", "http://127.0.0.1:1");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(0), "{said}");
    let status = async || -> String {
        sqlx::query_scalar("select status from watchbell.runs where id = $1")
            .bind(id)
            .fetch_one(&database.pool)
            .await
            .unwrap()
    };
    assert_eq!(status().await, "pending", "{said}");
    let (code, said) = run(&["--enable-http", "--secret", "TOKEN=env:NO_SUCH_VARIABLE"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: secret TOKEN: environment variable NO_SUCH_VARIABLE is not set"), "{said}");
    let allow = format!("localhost:{}", server.port);
    let (code, said) = run(&[
        "--enable-http",
        "--http-allow",
        &allow,
        "--secret",
        "TOKEN=env:A_TOKEN",
        "--log-level",
        "watchbell=debug",
    ]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(status().await, "normal", "{said}");
    assert_eq!(server.calls.lock().unwrap()[0].body, "correct horse");
    assert!(said.contains("***") && !said.contains("correct"), "{said}");
}

#[tokio::test]
async fn every_statement_of_the_page_is_accepted() {
    let database = Database::fresh().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md")).unwrap();
    let statements: Vec<_> = page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!statements.is_empty());
    for statement in statements {
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&database.pool).await;
        ran.unwrap_or_else(|error| panic!("{error}\n{statement}"));
    }
}

/// What became of a run.
#[derive(Debug)]
struct Done {
    id: i64,
    status: String,
    attempt: i32,
    error: Option<String>,
}

/// A worker with the handler `http`, which may call the server and nothing else inside.
struct Scene {
    database: Database,
    server: Server,
    worker: Running,
}

impl Scene {
    async fn new(configure: impl FnOnce(Http) -> Http) -> Self {
        let (database, server) = (Database::fresh().await, Server::start().await);
        let http = Http::new().allow(format!("127.0.0.1:{}", server.port).parse().unwrap());
        let worker = start(hand(&database.pool, "http").handler("http", configure(http)));
        Self { database, server, worker }
    }

    async fn end(self) {
        self.worker.stop().await;
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port)
    }

    fn calls(&self) -> Vec<Call> {
        self.server.calls.lock().unwrap().clone()
    }

    fn last_call(&self) -> Call {
        self.calls().pop().unwrap()
    }

    /// Waits for so many calls.
    async fn called(&self, count: usize) {
        while self.calls().len() < count {
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn enqueue(&self, payload: &Value) -> i64 {
        sqlx::query_scalar(
            "insert into watchbell.runs (handler, payload, max_attempts, retry)
             values ('http', $1, 2, '{\"strategy\": \"fixed\", \"base\": \"100 ms\"}') returning id",
        )
        .bind(payload)
        .fetch_one(&self.database.pool)
        .await
        .unwrap()
    }

    async fn run(&self, payload: Value) -> Done {
        let id = self.enqueue(&payload).await;
        self.ended(id).await
    }

    async fn ended(&self, id: i64) -> Done {
        for _ in 0..600 {
            let done = "select id, status, attempt, error from watchbell.runs_finished where id = $1";
            let done = sqlx::query_as(done).bind(id).fetch_optional(&self.database.pool).await.unwrap();
            if let Some((id, status, attempt, error)) = done {
                return Done { id, status, attempt, error };
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        panic!("run {id} has not ended");
    }

    /// A run's output, once this is in it.
    async fn output(&self, id: i64, expected: &str) -> String {
        let query = "select coalesce(string_agg(convert_from(bytes, 'utf8'), '' order by attempt, seq), '')
                     from watchbell.run_output where run_id = $1";
        let mut output = String::new();
        for _ in 0..200 {
            output = sqlx::query_scalar(query).bind(id).fetch_one(&self.database.pool).await.unwrap();
            if output.contains(expected) {
                return output;
            }
            time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{expected} is not in {output}");
    }
}

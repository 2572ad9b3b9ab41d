//! `watchbell watch`: from its first row to its last, by the program alone.

use serde_json::Value;

use crate::cli::{Ended, done, execute, refused, run, shown};
use crate::support::Database;
use crate::support::crew::{hand, start};
use crate::support::wait::until_true;
use crate::support::watched::PATIENCE;

const TABLE: &str = "create table public.hosts (id int primary key, status text not null default 'pending', \
                                                since timestamptz not null default now()); \
                     insert into public.hosts (id, status) select i, case when i = 3 then 'failed' else 'pending' end \
                     from generate_series(1, 3) i; \
                     insert into watchbell.handlers (name) values ('init_host')";

#[tokio::test]
async fn an_added_watch_is_told_with_the_index_that_is_missing() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, TABLE).await;
    let add =
        ["watch", "add", "hosts", "hosts", "init_host", "--via", "busy", "--since-column", "since", "--rate", "5/1m"];
    let Ended(code, stdout, stderr) = run(Some(url), &[&add[..], &["--wake", "--max-attempts", "5"]].concat());
    assert_eq!(
        (code, stdout.as_str()),
        (
            0,
            "hosts  public.hosts, column status\n  pending -> (busy) -> normal, or failed; by init_host; no worker has \
             looked at it yet\n"
        )
    );
    let index = "CREATE INDEX CONCURRENTLY ON public.hosts (id) WHERE status = 'pending';";
    assert_eq!(
        stderr,
        format!(
            "{}: watch \"hosts\" is added\nwarning: an index is missing, without which workers read all of the table: \
             {index}\n",
            shown(url)
        )
    );
    let (code, again) = refused(Some(url), &add);
    assert_eq!(
        (code, again.as_str()),
        (4, "error: watch \"hosts\" exists already; change it with: watchbell watch edit hosts")
    );

    let show = done(url, &["watch", "show", "hosts"]);
    for line in
        ["  pending              2 waiting, the oldest for ", "  failed               1 failed, the oldest for "]
    {
        assert!(show.contains(line), "{show}");
    }
    assert!(show.contains(&format!("  missing index        {index}\n")), "{show}");
    assert!(show.contains("  rate                 5 in 1m\n"), "{show}");
    for (filter, line) in [
        ("id = 1", "1 waiting, the oldest for "),
        ("id = 1", "1 left out by the filter\n"),
        ("1 / (id - 2) > 0", "waiting, not counted: its filter fails: division by zero\n"),
    ] {
        execute(&database, &format!("update watchbell.watches set filter = '{filter}'")).await;
        let show = done(url, &["watch", "show", "hosts"]);
        assert!(show.contains(&format!("  pending              {line}")), "{show}");
    }
    execute(&database, "update watchbell.watches set filter = null").await;
    let json: Value = serde_json::from_str(&done(url, &["watch", "show", "hosts", "--json"])).unwrap();
    assert_eq!((&json["steps"][0]["via"], &json["counts"][0]["rows"]), (&"busy".into(), &2.into()));

    let test = done(url, &["watch", "test", "hosts"]);
    assert!(test.starts_with("pending -> (busy) -> normal, or failed\n  handler   init_host\n"), "{test}");
    assert!(test.contains("  rows      1; 2\n  found     by reading the table\n"), "{test}");
    execute(&database, &index.replace("CONCURRENTLY ", "")).await;
    assert!(done(url, &["watch", "test", "hosts"]).contains("  found     by an index\n"));
}

#[tokio::test]
async fn a_watch_is_listed_paused_retried_and_removed() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, TABLE).await;
    let steps = r#"[{"from": "pending", "via": "busy", "to": "set up", "handler": "init_host"},
                    {"from": "set up", "to": "normal", "handler": "chekc", "timeout": "10m", "max_attempts": 1}]"#;
    let Ended(code, _, stderr) = run(Some(url), &["watch", "add", "hosts", "public.hosts", "--steps", steps]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("no worker has ever registered handler \"chekc\""), "{stderr}");
    let list = done(url, &["watch", "list"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME TABLE STATES STATUS WORKING RETRYING MOVED ON GIVEN UP LAST ERROR");
    assert_eq!(rows[1][..8], ["hosts", "public.hosts", "pending -> set up -> normal", "pending", "0", "0", "0", "0"]);

    done(url, &["watch", "pause", "hosts", "--note", "the rack moves"]);
    let show = done(url, &["watch", "show", "hosts"]);
    assert!(show.contains(": the rack moves\n") && !show.contains(" until "), "this pause has no end: {show}");
    assert!(
        show.contains("chekc; no worker has looked at it yet\n    with its own max_attempts 1, timeout 10m\n"),
        "{show}"
    );
    done(url, &["watch", "resume", "hosts"]);
    assert_eq!(done(url, &["watch", "retry", "hosts", "--key", "1"]), "0\n");
    assert_eq!(done(url, &["watch", "retry", "hosts", "--yes"]), "1\n");
    let (code, stderr) = refused(Some(url), &["watch", "resume", "host"]);
    assert_eq!((code, stderr.as_str()), (3, "error: watch \"host\" does not exist; did you mean \"hosts\"?"));
    assert_eq!(refused(Some(url), &["watch", "remove", "hosts"]).0, 2, "without a terminal it needs --yes");
    assert_eq!(done(url, &["watch", "remove", "hosts", "--yes"]), "hosts\n");
    assert_eq!(done(url, &["watch", "list", "-o", "name"]), "");
}

#[tokio::test]
async fn a_watch_that_cannot_be_is_refused_with_what_mends_it() {
    let database = Database::fresh().await;
    let url = Some(database.url.as_str());
    let table = "create table public.hosts (id int, status text)";
    execute(&database, &format!("{table}; insert into watchbell.handlers (name) values ('init_host')")).await;
    assert_eq!(
        refused(url, &["watch", "add", "hosts", "public.host", "init_host"]),
        (2, "error: table public.host does not exist\nhint: Did you mean public.hosts?".to_owned())
    );
    let (code, stderr) = refused(url, &["watch", "add", "hosts", "public.hosts", "init_host"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("hint: ALTER TABLE public.hosts ADD PRIMARY KEY (id);"), "{stderr}");
    let (code, stderr) = refused(None, &["watch", "add", "hosts", "public.hosts"]);
    assert_eq!(
        (code, stderr.as_str()),
        (2, "error: watch \"hosts\": needs a handler, or several steps: --steps @steps.json")
    );
}

#[tokio::test]
async fn a_watch_is_edited_by_what_is_given_and_nothing_else() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, TABLE).await;
    let add = ["watch", "add", "hosts", "hosts", "init_host", "--via", "busy", "--filter", "id > 0", "--rate", "5/1m"];
    done(url, &add);
    let edit = ["watch", "edit", "hosts", "--batch-size", "20", "--rate", "10/1h", "--unset", "filter", "--tag", "a,b"];
    let Ended(code, stdout, stderr) = run(Some(url), &edit);
    assert_eq!((code, stdout.lines().next()), (0, Some("hosts  public.hosts, column status")));
    assert!(stderr.starts_with(&format!("{}: watch \"hosts\" is changed, version 2\n", shown(url))), "{stderr}");
    let show = done(url, &["watch", "show", "hosts"]);
    for line in
        ["  batch                20 rows\n", "  rate                 10 in 1h\n", "  tags                 a,b\n"]
    {
        assert!(show.contains(line), "{show}");
    }
    assert!(show.contains("pending -> (busy) -> normal") && !show.contains("  filter "), "{show}");
    assert!(show.contains("  version              2, since "), "{show}");
    let again = run(Some(url), &["watch", "edit", "hosts", "--batch-size", "20"]).2;
    assert!(again.contains("watch \"hosts\" was like that already\n"), "{again}");

    done(
        url,
        &["watch", "edit", "hosts", "--unset", "rate", "--unset", "via", "--rename", "racks", "--timeout", "none"],
    );
    let json: Value = serde_json::from_str(&done(url, &["watch", "show", "racks", "--json"])).unwrap();
    assert_eq!(
        (&json["rate_limit"], &json["timeout"], &json["steps"][0]["via"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let (code, stderr) = refused(Some(url), &["watch", "retry", "racks", "--key", "x"]);
    let problem = "error: watch \"racks\": \"x\" is not a value of key column \"id\", which is integer";
    assert_eq!((code, stderr.as_str()), (2, problem));
    let steps = r#"[{"from": "pending", "to": "set up", "handler": "init_host"}]"#;
    let said = run(Some(url), &["watch", "edit", "racks", "--steps", steps]);
    assert!(said.1.contains("pending -> set up, or failed; by init_host"), "{}", said.1);
}

#[tokio::test]
async fn an_edit_that_cannot_be_says_why() {
    let database = Database::fresh().await;
    let url = Some(database.url.as_str());
    execute(&database, TABLE).await;
    done(&database.url, &["watch", "add", "hosts", "hosts", "init_host"]);
    for (arguments, code, said) in [
        (&["host", "--batch-size", "2"][..], 3, "watch \"host\" does not exist; did you mean \"hosts\"?"),
        (&["hosts"], 2, "watch \"hosts\": nothing to change was given; see: watchbell watch edit --help"),
        (&["hosts", "--unset", "filtre"], 2, "column: \"filtre\" is none of a watch; did you mean \"filter\"?"),
        (&["hosts", "--filter", "nme = 'x'"], 2, "watch \"hosts\": filter: column \"nme\" does not exist"),
        (&["hosts", "--since-column", "at"], 2, "table public.hosts has no column \"at\""),
        (&["hosts", "--key", "status"], 2, "no unique index of public.hosts covers the key (status)"),
        (
            &["hosts", "--retry", "2s"],
            2,
            "watch \"hosts\": retry is not valid JSON: trailing characters at line 1 column 2; such as {\"strategy\": \"fixed\", \"base\": \"30s\"}",
        ),
        (&["hosts", "--payload", "{"], 2, "watch \"hosts\": payload is not valid JSON: EOF while parsing an object"),
        (
            &["hosts", "--to", "pending"],
            2,
            "watch \"hosts\": a row would come back to \"pending\" and be taken for ever",
        ),
        (&["hosts", "--steps", "@nowhere.json"], 2, "--steps @nowhere.json: No such file"),
        (&["hosts", "--steps", "[]"], 2, "watch \"hosts\": transitions: 0 steps are out of range 1-50"),
    ] {
        let (ended, stderr) = refused(url, &[&["watch", "edit"], arguments].concat());
        assert!((ended, stderr.contains(said)) == (code, true), "{arguments:?}: {ended} {stderr}");
    }
    let shown = done(&database.url, &["watch", "show", "hosts", "--json"]);
    let json: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json["version"], 1, "nothing was changed");
}

#[tokio::test]
async fn a_watch_shows_what_it_lacks() {
    let database = Database::fresh().await;
    let url = database.url.as_str();
    execute(&database, TABLE).await;
    done(url, &["watch", "add", "hosts", "hosts", "init_host"]);
    done(url, &["watch", "add", "short", "hosts", "brief", "--from", "new", "--to", "old"]);
    let worker = hand(&database.pool, "one").transactional("brief", async |_: watchbell::Tx| {});
    let worker = start(worker);
    until_true(&database.pool, "not exists (select from watchbell.watches where status <> 'normal')", PATIENCE).await;
    let show = done(url, &["watch", "show", "hosts"]);
    let said = "by init_host; no worker that has the handler \"init_host\" has planned it yet\n";
    assert!(show.contains(said) && show.contains("  timeout              1h\n"), "{show}");
    let show = done(url, &["watch", "show", "short"]);
    assert!(show.contains("  timeout              1h; 5s in transactional mode\n"), "{show}");
    worker.stop().await;
    execute(&database, "drop table public.hosts").await;
    let show = done(url, &["watch", "show", "hosts"]);
    assert!(show.contains("table public.hosts is gone"), "{show}");
}

//! `watchbell watch`: from its first row to its last, by the program alone.

use serde_json::Value;

use crate::cli::{Ended, done, execute, refused, run, shown};
use crate::support::Database;

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
    assert_eq!((code, again.as_str()), (4, "error: watch \"hosts\" exists already"));

    let show = done(url, &["watch", "show", "hosts"]);
    for line in
        ["  pending              2 waiting, the oldest for ", "  failed               1 failed, the oldest for "]
    {
        assert!(show.contains(line), "{show}");
    }
    assert!(show.contains(&format!("  missing index        {index}\n")), "{show}");
    assert!(show.contains("  rate                 5 in 1m\n"), "{show}");
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
                    {"from": "set up", "to": "normal", "handler": "chekc"}]"#;
    let Ended(code, _, stderr) = run(Some(url), &["watch", "add", "hosts", "public.hosts", "--steps", steps]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("no worker has ever registered handler \"chekc\""), "{stderr}");
    let list = done(url, &["watch", "list"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME TABLE STATES STATUS WORKING WAITING DONE FAILED LAST ERROR");
    assert_eq!(rows[1][..8], ["hosts", "public.hosts", "pending -> set up -> normal", "pending", "0", "0", "0", "0"]);

    done(url, &["watch", "pause", "hosts", "--note", "the rack moves"]);
    assert!(done(url, &["watch", "show", "hosts"]).contains(": the rack moves\n"));
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

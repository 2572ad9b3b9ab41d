//! A watch that cannot work is refused at once, with the statement that mends it.

use serde_json::Value;

use crate::rows::{assert_refused, refusal};
use crate::support::Scene;

/// A scene with tables of all sorts.
async fn tables() -> Scene {
    let mut scene = Scene::new().await;
    scene
        .psql(
            "create table public.hosts (id bigint primary key, name text, prio int, \
                                        status text not null default 'pending', since timestamptz); \
             create index on public.hosts (id) where status = 'pending'; \
             create type public.st as enum ('pending', 'normal', 'failed'); \
             create table public.\"We ird\" (\"Id x\" uuid, k2 text, \"St\" public.st, n smallint, \
                                             primary key (\"Id x\", k2)); \
             create table public.bare (id int, status text); \
             create table public.orders (id int primary key, state text); \
             create table public.short (id int primary key, status varchar(6), since timestamp, \
                                        made text generated always as ('x') stored); \
             create view public.v as select * from public.hosts; \
             insert into watchbell.handlers (name) values ('init'), ('load'), ('train')",
        )
        .await;
    scene
}

#[tokio::test]
async fn a_minimal_row_is_enough_and_is_stored_with_the_table_that_was_meant() {
    let mut scene = tables().await;
    scene.psql("insert into watchbell.watches (name, table_name, handler) values ('hosts', 'hosts', 'init')").await;
    let row: Value = scene.value("select to_jsonb(w) from watchbell.watches w").await;
    assert_eq!(
        (row["table_name"].as_str(), row["status"].as_str(), row["wake_at"].as_str(), row["version"].as_i64()),
        (Some("public.hosts"), Some("pending"), Some("-infinity"), Some(1))
    );
    scene.psql("update watchbell.watches set status = 'normal', wake_at = now()").await;
    scene.psql("update watchbell.watches set handler = 'init'").await;
    let version = "select version || ' ' || status from watchbell.watches";
    assert_eq!(scene.value::<String>(version).await, "1 normal", "the same again is no edit");
    scene.psql("update watchbell.watches set batch_size = 7").await;
    assert_eq!(scene.value::<String>(version).await, "2 pending");
    let kinds: Vec<String> = scene.values("select what || ' ' || kind from watchbell.activity order by id").await;
    assert_eq!(kinds, ["insert watch", "update watch"]);
}

#[tokio::test]
async fn a_bad_watch_is_refused_in_one_sentence() {
    let mut scene = tables().await;
    for (columns, values, column, message) in [
        ("name", "null", "name", "watch has no name"),
        ("name", "'a b'", "name", "watch \"a b\": this is not a valid name"),
        ("name", "'x'", "handler", "watch \"x\" must set exactly one of handler, transitions (got none)"),
        (
            "name, handler, transitions",
            "'x', 'init', '[]'",
            "handler",
            "watch \"x\" must set exactly one of handler, transitions (got both)",
        ),
        (
            "name, handler, payload",
            "'x', 'init', '[]'",
            "payload",
            "watch \"x\": payload must be a JSON object (got array)",
        ),
        (
            "name, handler",
            "'x', 'sql'",
            "payload",
            "watch \"x\": the handler sql needs a \"statement\" in its payload (got none)",
        ),
        (
            "name, handler, payload",
            "'x', 'sql', '{\"statement\": 7}'",
            "payload",
            "watch \"x\": the handler sql needs a \"statement\" in its payload (got number)",
        ),
        (
            "name, handler, payload",
            "'x', 'sql', '{\"statement\": \" \"}'",
            "payload",
            "watch \"x\": the handler sql needs a \"statement\" in its payload (got an empty text)",
        ),
        (
            "name, transitions",
            "'x', '[{\"from\": \"pending\", \"to\": \"normal\", \"handler\": \"sql\"}]'",
            "transitions",
            "watch \"x\": step 1: the handler sql needs a \"statement\" in its payload (got none)",
        ),
        (
            "name, handler, batch_size",
            "'x', 'init', 1001",
            "batch_size",
            "watch \"x\": batch_size 1001 is out of range 1-1000",
        ),
        (
            "name, handler, poll_interval",
            "'x', 'init', '50 ms'",
            "poll_interval",
            "watch \"x\": poll_interval 00:00:00.05 is shorter than the least of 00:00:00.1",
        ),
        (
            "name, handler, mode",
            "'x', 'init', 'fast'",
            "mode",
            "watch \"x\": mode \"fast\" is not one of auto, transactional, leased",
        ),
        (
            "name, handler, to_state",
            "'x', 'init', 'pending'",
            "from_state",
            "watch \"x\": a row would come back to \"pending\" and be taken for ever",
        ),
        (
            "name, handler, order_by",
            "'x', 'init', 'prio desc,'",
            "order_by",
            "watch \"x\": order_by has at \"prio desc,\" no column with asc or desc",
        ),
        (
            "name, handler, order_by",
            "'x', 'init', 'lower(name)'",
            "order_by",
            "watch \"x\": order_by has at \"lower(name)\" no column with asc or desc",
        ),
        ("name, handler, order_by", "'x', 'init', 'nope'", "order_by", "table public.hosts has no column \"nope\""),
        (
            "name, handler, retry",
            "'x', 'init', '{\"base\": \"soon\"}'",
            "retry",
            "watch \"x\": retry wait \"soon\" is not a duration such as \"5s\", \"1h30m\" or \"2 days\"",
        ),
        ("name, handler, since_column", "'x', 'init', 'at'", "since_column", "table public.hosts has no column \"at\""),
        (
            "name, handler, key_columns",
            "'x', 'init', '{name}'",
            "key_columns",
            "no unique index of public.hosts covers the key (name)",
        ),
    ] {
        let statement =
            format!("insert into watchbell.watches (table_name, {columns}) values ('public.hosts', {values})");
        assert_refused(&mut scene.sql, &statement, column, message).await;
    }
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_refused_with_what_mends_it() {
    let mut scene = tables().await;
    for (columns, values, column, message, hint) in [
        ("table_name", "'public.host'", "table_name", "table public.host does not exist", "Did you mean public.hosts?"),
        (
            "table_name",
            "'orders'",
            "status_column",
            "table public.orders has no column \"status\"",
            "Columns: id, state. Set status_column.",
        ),
        ("table_name", "'v'", "table_name", "public.v is not a table", "Watch the table behind it."),
        (
            "table_name",
            "'watchbell.runs_live'",
            "table_name",
            "watchbell.runs_live belongs to the system",
            "Watch a table of your own.",
        ),
        (
            "table_name",
            "'bare'",
            "key_columns",
            "table public.bare has no primary key",
            "ALTER TABLE public.bare ADD PRIMARY KEY (id); or set key_columns to the columns of a unique index.",
        ),
        (
            "table_name, key_columns",
            "'bare', '{id}'",
            "key_columns",
            "no unique index of public.bare covers the key (id)",
            "CREATE UNIQUE INDEX CONCURRENTLY ON public.bare (id);",
        ),
        (
            "table_name, status_column, from_state",
            "'\"We ird\"', 'St', 'nope'",
            "from_state",
            "watch \"x\": from_state: type st has no value \"nope\" (it has: pending, normal, failed)",
            "It is the state of column \"St\" of public.\"We ird\".",
        ),
        (
            "table_name, status_column, from_state, to_state, error_state",
            "'\"We ird\"', 'n', '0', '1', '70000'",
            "error_state",
            "watch \"x\": error_state: state \"70000\" is no smallint",
            "It is the state of column \"n\" of public.\"We ird\".",
        ),
        (
            "table_name",
            "'short'",
            "from_state",
            "watch \"x\": from_state: state \"pending\" is longer than character varying(6)",
            "It is the state of column \"status\" of public.short.",
        ),
        (
            "table_name, status_column",
            "'short', 'made'",
            "status_column",
            "column \"made\" of public.short is generated, so it cannot be moved on",
            "Set status_column to an ordinary column.",
        ),
        (
            "table_name, from_state, to_state, since_column",
            "'short', 'new', 'old', 'since'",
            "since_column",
            "column \"since\" of public.short is no plain timestamptz (it is timestamp without time zone)",
            "It is set to the moment of each move.",
        ),
    ] {
        let statement =
            format!("insert into watchbell.watches (name, handler, {columns}) values ('x', 'init', {values})");
        let refused = refusal(&mut scene.sql, &statement).await;
        assert_eq!(
            (refused.column.as_str(), refused.message.replace("public.st ", "st ").as_str(), refused.hint.as_str()),
            (column, message, hint),
            "{statement}"
        );
    }
    scene.psql("create unique index on public.bare (id)").await;
    let nullable =
        "insert into watchbell.watches (name, handler, table_name, key_columns) values ('x', 'init', 'bare', '{id}')";
    let refused = refusal(&mut scene.sql, nullable).await;
    assert_eq!(refused.hint, "ALTER TABLE public.bare ALTER COLUMN id SET NOT NULL;");
    scene.psql(&*refused.hint).await;
    scene.psql(nullable).await;
}

#[tokio::test]
async fn the_steps_of_a_watch_must_lead_somewhere() {
    let mut scene = tables().await;
    let step = |from: &str, to: &str, more: &str| {
        format!("{{\"from\": \"{from}\", \"to\": \"{to}\", \"handler\": \"load\"{more}}}")
    };
    for (steps, message) in [
        ("{}".to_owned(), "transitions: it must be a list of objects (got object)"),
        ("[]".to_owned(), "transitions: 0 steps are out of range 1-50"),
        ("[1]".to_owned(), "transitions: step 1 must be an object (got number)"),
        (
            "[{\"from\": \"a\", \"to\": \"b\", \"handlr\": \"x\"}]".to_owned(),
            "transitions: step 1 has an unknown key \"handlr\"; did you mean \"handler\"?",
        ),
        ("[{\"from\": \"a\", \"to\": \"b\"}]".to_owned(), "transitions: step 1 has no \"handler\""),
        (
            format!("[{}]", step("a", "b", ", \"timeout\": \"soon\"")),
            "transitions: step 1: \"timeout\" \"soon\" is not a duration such as \"5s\", \"1h30m\" or \"2 days\"",
        ),
        (format!("[{}, {}]", step("a", "b", ""), step("a", "c", "")), "transitions: two steps begin at \"a\""),
        (
            format!("[{}, {}]", step("a", "b", ""), step("b", "a", "")),
            "transitions: the steps lead in a circle: a -> b",
        ),
        (
            format!("[{}, {}]", step("a", "b", ", \"via\": \"w\""), step("b", "c", ", \"via\": \"w\"")),
            "transitions: \"via\" state \"w\" of one step is a state of another",
        ),
        (
            format!("[{}]", step("a", "b", ", \"max_attempts\": \"x\"")),
            "step 1: invalid input syntax for type smallint: \"x\"",
        ),
        (format!("[{}]", step("a", "b", ", \"batch_size\": 0")), "step 1: batch_size 0 is out of range 1-1000"),
        (format!("[{}]", step("a", "b", ", \"filter\": \"1; 2\"")), "step 1: filter has a semicolon or a comment"),
    ] {
        let statement = format!(
            "insert into watchbell.watches (name, table_name, transitions) values ('x', 'public.hosts', '{steps}')"
        );
        assert_refused(&mut scene.sql, &statement, "transitions", &format!("watch \"x\": {message}")).await;
    }
    // an error may lead back
    let back = format!("[{}, {}]", step("a", "b", ""), step("b", "c", ", \"error\": \"a\""));
    scene
        .psql(format!("insert into watchbell.watches (name, table_name, transitions) values ('x', 'hosts', '{back}')"))
        .await;
}

#[tokio::test]
async fn a_filter_is_tried_by_whoever_writes_it_and_cannot_leave_its_brackets() {
    let mut scene = tables().await;
    for (filter, message) in [
        ("prioo > 3", "filter: column \"prioo\" does not exist"),
        ("prio", "filter: argument of WHERE must be type boolean, not type integer"),
        ("true); drop table public.hosts; select (1", "filter has a semicolon or a comment"),
        ("true or true) or (true", "filter has brackets that do not match"),
        ("true -- ", "filter has a semicolon or a comment"),
        ("name = ''x", "filter has a quote that is not closed"),
        ("name = $$x$$", "filter has a string that is not in plain quotes"),
        ("name = E''\\''; --''", "filter has a string that is not in plain quotes"),
        (" ", "filter is empty"),
    ] {
        let statement = format!(
            "insert into watchbell.watches (name, table_name, handler, filter) values ('x', 'hosts', 'init', '{}')",
            if filter.contains("''") { filter.to_owned() } else { filter.replace('\'', "''") }
        );
        assert_refused(&mut scene.sql, &statement, "filter", &format!("watch \"x\": {message}")).await;
    }
    scene
        .psql(
            "insert into watchbell.watches (name, table_name, handler, filter) \
             values ('x', 'hosts', 'init', 'name <> '';--('' and (prio > 3 or \"prio\" is null)')",
        )
        .await;
}

#[tokio::test]
async fn the_missing_index_is_advised_until_it_is_there() {
    let mut scene = tables().await;
    scene
        .psql(
            "insert into watchbell.watches (name, table_name, handler) values ('hosts', 'hosts', 'init'); \
             insert into watchbell.watches (name, table_name, handler, status_column) values ('e', '\"We ird\"', 'init', 'St'); \
             insert into watchbell.watches (name, table_name, handler, status_column, from_state, to_state, error_state, order_by) \
             values ('n', '\"We ird\"', 'init', 'n', '0', '1', '-1', '\"St\" desc, k2')",
        )
        .await;
    let advice = "select coalesce(string_agg(a.statement, ' '), '') from watchbell.watches w, watchbell.watch_advice(w) a where w.name = ";
    assert_eq!(scene.value::<String>(format!("{advice}'hosts'")).await, "");
    for (name, statement) in [
        ("e", "CREATE INDEX CONCURRENTLY ON public.\"We ird\" (\"Id x\", k2) WHERE \"St\" = 'pending';"),
        ("n", "CREATE INDEX CONCURRENTLY ON public.\"We ird\" (\"St\" desc, k2, \"Id x\") WHERE n = 0;"),
    ] {
        assert_eq!(scene.value::<String>(format!("{advice}'{name}'")).await, statement);
        scene.psql(statement).await;
        assert_eq!(scene.value::<String>(format!("{advice}'{name}'")).await, "", "{statement}");
    }
}

//! A row that cannot work is refused at once, in one sentence that names the column.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::Database;
use crate::support::log::Log;

/// What a client is told about a refused row.
#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub column: String,
    pub message: String,
    pub hint: String,
}

/// Runs a statement that must be refused.
pub async fn refusal(connection: &mut PgConnection, statement: &str) -> Refusal {
    let Err(error) = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await else {
        panic!("accepted: {statement}");
    };
    let Some(error) = error.as_database_error().map(|e| e.downcast_ref::<PgDatabaseError>()) else {
        panic!("{statement}: {error}");
    };
    Refusal {
        code: error.code().to_owned(),
        column: error.column().unwrap_or_default().to_owned(),
        message: error.message().to_owned(),
        hint: error.hint().unwrap_or_default().to_owned(),
    }
}

/// Checks what all refusals of rows have in common, and the sentence of this one.
pub async fn assert_refused(connection: &mut PgConnection, statement: &str, column: &str, message: &str) {
    let refusal = refusal(connection, statement).await;
    assert_eq!((refusal.column.as_str(), refusal.message.as_str()), (column, message), "{statement}");
    assert!(["22023", "23514"].contains(&refusal.code.as_str()), "{statement}: {refusal:?}");
    assert!(!refusal.hint.is_empty(), "{statement}: {refusal:?}");
    assert!(!refusal.message.contains('\n') && !refusal.message.ends_with('.'), "{refusal:?}");
}

#[tokio::test]
async fn a_bad_schedule_is_refused_in_one_sentence() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let long = "'x' || repeat('y', 300)";
    for (columns, values, column, message) in [
        ("name", "null", "name", "schedule has no name"),
        ("name, cron", "'', '@daily'", "name", "schedule \"\": this is not a valid name"),
        ("name, cron", "'a b', '@daily'", "name", "schedule \"a b\": this is not a valid name"),
        ("name, cron", "'_a', '@daily'", "name", "schedule \"_a\": this is not a valid name"),
        ("name, cron", "E'a\\nb', '@daily'", "name", "schedule \"a b\": this is not a valid name"),
        (
            "name",
            "'x6'",
            "cron",
            "schedule \"x6\" must set exactly one of cron, fixed_delay, fixed_rate, run_at (got none)",
        ),
        (
            "name, cron, fixed_rate",
            "'x6', '@daily', '5 s'",
            "cron",
            "schedule \"x6\" must set exactly one of cron, fixed_delay, fixed_rate, run_at (got cron + fixed_rate)",
        ),
        (
            "name, cron, fixed_rate",
            "'x6', '@every 5s', '5 s'",
            "cron",
            "schedule \"x6\" must set exactly one of cron, fixed_delay, fixed_rate, run_at (got cron + fixed_rate)",
        ),
        (
            "name, cron, fixed_delay, run_at",
            "'x6', '', '5 s', now()",
            "cron",
            "schedule \"x6\" must set exactly one of cron, fixed_delay, fixed_rate, run_at \
             (got cron + fixed_delay + run_at)",
        ),
        (
            "name, cron",
            "'x', '*/5 25 * * *'",
            "cron",
            "invalid cron expression \"*/5 25 * * *\": hour \"25\" is out of range 0-23",
        ),
        (
            "name, cron",
            "'x', '1-100000000 * * * *'",
            "cron",
            "invalid cron expression \"1-100000000 * * * *\": minute \"100000000\" is out of range 0-59",
        ),
        (
            "name, cron, timezone",
            "'x5', '@daily', 'Mars/Paris'",
            "timezone",
            "unknown timezone \"Mars/Paris\" for schedule \"x5\"",
        ),
        ("name, cron, timezone", "'x', '@daily', 'foo5'", "timezone", "unknown timezone \"foo5\" for schedule \"x\""),
        ("name, cron, timezone", "'x', '@daily', ''", "timezone", "unknown timezone \"\" for schedule \"x\""),
        (
            "name, fixed_rate",
            "'x', '0.5 s'",
            "fixed_rate",
            "schedule \"x\": fixed_rate 00:00:00.5 is shorter than the least of 00:00:01",
        ),
        (
            "name, fixed_rate",
            "'x', '1 month'",
            "fixed_rate",
            "schedule \"x\": fixed_rate 1 mon counts months, which have no fixed length",
        ),
        (
            "name, fixed_delay",
            "'x', '1 year'",
            "fixed_delay",
            "schedule \"x\": fixed_delay 1 year counts months, which have no fixed length",
        ),
        (
            "name, fixed_delay",
            "'x', '-5 min'",
            "fixed_delay",
            "schedule \"x\": fixed_delay -00:05:00 is shorter than the least of 00:00:01",
        ),
        (
            "name, fixed_delay",
            "'x', '100000 days'",
            "fixed_delay",
            "schedule \"x\": fixed_delay 100000 days is longer than the limit of 36525 days",
        ),
        ("name, run_at", "'x', 'infinity'", "run_at", "schedule \"x\": run_at infinity is outside the years 1 to 9998"),
        (
            "name, cron, priority",
            "'x8', '@daily', 12",
            "priority",
            "schedule \"x8\": priority 12 is out of range 0-9 (0 runs first)",
        ),
        (
            "name, cron, max_attempts",
            "'x', '@daily', 0",
            "max_attempts",
            "schedule \"x\": max_attempts 0 is out of range 1-100",
        ),
        ("name, cron, handler", "'x', '@daily', null", "handler", "schedule \"x\": handler is missing"),
        ("name, cron, handler", "'x', '@daily', '  '", "handler", "schedule \"x\": handler is missing"),
        (
            "name, cron, handler",
            &format!("'x', '@daily', {long}"),
            "handler",
            "schedule \"x\": handler is 301 bytes, more than the limit of 256",
        ),
        (
            "name, cron, payload",
            "'x', '@daily', '[1]'",
            "payload",
            "schedule \"x\": payload must be a JSON object (got array)",
        ),
        (
            "name, cron, payload",
            "'x', '@daily', 'null'",
            "payload",
            "schedule \"x\": payload must be a JSON object (got null)",
        ),
        (
            "name, cron, payload",
            "'x', '@daily', jsonb_build_object('a', repeat('x', 1048576))",
            "payload",
            "schedule \"x\": payload is 1048585 bytes, more than the limit of 1048576",
        ),
        (
            "name, cron, payload",
            "'x', '@daily', '{\"a\": [1e99999, 1e99999, 1e99999, 1e99999, 1e99999, 1e99999, 1e99999, 1e99999, 1e99999, \
             1e99999, 1e99999]}'",
            "payload",
            "schedule \"x\": payload is 1100029 bytes, more than the limit of 1048576",
        ),
        ("name, cron, queue", "'x', '@daily', 'a b'", "queue", "schedule \"x\": queue \"a b\" is not a valid name"),
        (
            "name, cron, timeout",
            "'x', '@daily', '0'",
            "timeout",
            "schedule \"x\": timeout 00:00:00 is shorter than the least of 00:00:00.001",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '[]'",
            "retry",
            "schedule \"x\": retry must be a JSON object (got array)",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"bsae\": \"5s\"}'",
            "retry",
            "schedule \"x\": retry has an unknown key \"bsae\"",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"strategy\": \"linaer\"}'",
            "retry",
            "schedule \"x\": retry strategy \"linaer\" is not one of exponential, linear, fixed, list",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"base\": \"5\"}'",
            "retry",
            "schedule \"x\": retry wait \"5\" is not a duration such as \"5s\", \"1h30m\" or \"2 days\"",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"base\": 5}'",
            "retry",
            "schedule \"x\": retry wait 5 is not a duration such as \"5s\", \"1h30m\" or \"2 days\"",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"jitter\": 1}'",
            "retry",
            "schedule \"x\": retry jitter must be true or false (got 1)",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"strategy\": \"list\"}'",
            "retry",
            "schedule \"x\": retry strategy \"list\" and a \"list\" of waits belong together",
        ),
        (
            "name, cron, retry",
            "'x', '@daily', '{\"strategy\": \"list\", \"list\": []}'",
            "retry",
            "schedule \"x\": retry list must be an array of 1 to 100 waits",
        ),
        (
            "name, cron, overlap",
            "'x', '@daily', 'forbid'",
            "overlap",
            "schedule \"x\": overlap \"forbid\" is not one of allow, skip, queue_one, queue_all, cancel_running",
        ),
        (
            "name, cron, misfire",
            "'x', '@daily', 'all'",
            "misfire",
            "schedule \"x\": misfire \"all\" is not one of fire_once, skip, catch_up",
        ),
        (
            "name, cron, target",
            "'x', '@daily', 'all:web'",
            "target",
            "schedule \"x\": target \"all:web\" is not all or all:label=value",
        ),
        (
            "name, cron, dst",
            "'x', '@daily', 'twice'",
            "dst",
            "schedule \"x\": dst \"twice\" is not one of once, literal",
        ),
        (
            "name, cron, first_fire",
            "'x', '@daily', 'now'",
            "first_fire",
            "schedule \"x\": first_fire \"now\" is not one of after_period, at_once",
        ),
        (
            "name, cron, max_running",
            "'x', '@daily', 101",
            "max_running",
            "schedule \"x\": max_running 101 is out of range 1-100",
        ),
        (
            "name, cron, catch_up_limit",
            "'x', '@daily', 1001",
            "catch_up_limit",
            "schedule \"x\": catch_up_limit 1001 is out of range 1-1000",
        ),
        (
            "name, cron, misfire_grace",
            "'x', '@daily', '-1 s'",
            "misfire_grace",
            "schedule \"x\": misfire_grace -00:00:01 is below 0",
        ),
        ("name, cron, jitter", "'x', '@daily', '-1 s'", "jitter", "schedule \"x\": jitter -00:00:01 is below 0"),
        (
            "name, cron, start_deadline",
            "'x', '@daily', '0'",
            "start_deadline",
            "schedule \"x\": start_deadline 00:00:00 is shorter than the least of 00:00:00.001",
        ),
        ("name, cron, max_fires", "'x', '@daily', 0", "max_fires", "schedule \"x\": max_fires 0 is below 1"),
        (
            "name, cron, pause_after_failures",
            "'x', '@daily', 0",
            "pause_after_failures",
            "schedule \"x\": pause_after_failures 0 is below 1",
        ),
        (
            "name, cron, concurrency_key",
            "'x', '@daily', ''",
            "concurrency_key",
            "schedule \"x\": concurrency_key is empty",
        ),
        (
            "name, cron, target",
            "'x', '@daily', 'everywhere'",
            "target",
            "schedule \"x\": target \"everywhere\" is not a label selector",
        ),
        ("name, cron, tags", "'x', '@daily', '{a,null}'", "tags", "schedule \"x\": tags must not contain NULL"),
        ("name, cron, tags", "'x', '@daily', '{{a},{b}}'", "tags", "schedule \"x\": tags must be a plain list"),
        (
            "name, cron, owner",
            &format!("'x', '@daily', {long}"),
            "owner",
            "schedule \"x\": owner is 301 bytes, more than the limit of 256",
        ),
    ] {
        let handler = if columns.contains("handler") { ("", "") } else { (", handler", ", 'h'") };
        let statement =
            format!("insert into watchbell.schedules ({columns}{}) values ({values}{})", handler.0, handler.1);
        assert_refused(&mut connection, &statement, column, message).await;
    }
    let window = "insert into watchbell.schedules (name, cron, handler, starts_at, ends_at)
                  values ('x', '@daily', 'h', '2030-01-01 00:00Z', '2030-01-01 00:00Z')";
    let refusal = refusal(&mut connection, window).await;
    assert!(refusal.message.starts_with("schedule \"x\": ends_at 2030-01-01 "), "{refusal:?}");
}

#[tokio::test]
async fn hints_say_what_to_write_instead() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    for (columns, values, hint) in [
        (
            "cron",
            "'*/5 25 * * *'",
            "Order: minute hour day-of-month month day-of-week. Try: watchbell cron explain '*/5 2 * * *'",
        ),
        (
            "cron",
            "'0 0 0 L * fun'",
            "Order: second minute hour day-of-month month day-of-week. Try: watchbell cron explain '0 0 0 L * *'",
        ),
        ("cron", "'@every soon'", "Try: @every 90s, @every 1h30m or @every 1d."),
        ("cron, timezone", "'@daily', 'Mars/Paris'", "Did you mean \"Europe/Paris\"?"),
        ("cron, timezone", "'@daily', 'Europe/Pariss'", "Did you mean \"Europe/Paris\"?"),
        ("cron, timezone", "'@daily', 'new york'", "Did you mean \"America/New_York\"?"),
        (
            "cron, timezone",
            "'@daily', 'EST5'",
            "Use UTC or an Area/Location name such as Europe/Paris: SELECT name FROM pg_timezone_names;",
        ),
        ("fixed_rate", "'1 month'", "From 1 s to 36525 days. For months use cron, such as 0 0 1 * *."),
        ("cron, timeout", "'@daily', '0'", "NULL means no timeout."),
    ] {
        let statement =
            format!("insert into watchbell.schedules (name, handler, {columns}) values ('x', 'h', {values})");
        assert_eq!(refusal(&mut connection, &statement).await.hint, hint, "{statement}");
    }
}

#[tokio::test]
async fn a_minimal_schedule_of_each_kind_is_accepted() {
    let database = Database::fresh().await;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "insert into watchbell.schedules (name, handler, cron, fixed_delay, fixed_rate, run_at) values
            ('a', 'h', '0 2 * * *', null, null, null), ('b', 'h', null, '5 min', null, null),
            ('c', 'h', null, null, '30 s', null), ('d', 'h', null, null, null, now() + '1h')
         returning kind, status",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let kinds: Vec<_> = rows.iter().map(|(kind, status)| (kind.as_str(), status.as_str())).collect();
    assert_eq!(
        kinds,
        [("cron", "pending"), ("fixed_delay", "pending"), ("fixed_rate", "pending"), ("once", "pending")]
    );
}

#[tokio::test]
async fn null_asks_for_the_default_except_of_timeout() {
    let database = Database::fresh().await;
    let same: bool = sqlx::query_scalar(
        "with rows as (
            insert into watchbell.schedules (name, handler, cron, timezone, dst, payload, queue, priority, max_attempts,
                overlap, max_running, misfire, misfire_grace, catch_up_window, catch_up_limit, jitter, first_fire, tags)
            values ('a', 'h', '@daily', null, null, null, null, null, null, null, null, null, null, null, null, null,
                    null, null),
                   ('b', 'h', '@daily', default, default, default, default, default, default, default, default,
                    default, default, default, default, default, default, default)
            returning *)
         select count(distinct to_jsonb(rows) - 'id' - 'name') = 1 from rows",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert!(same);
    let timeouts: Vec<bool> = sqlx::query_scalar(
        "insert into watchbell.schedules (name, handler, cron, timeout)
         values ('c', 'h', '@daily', null), ('d', 'h', '@daily', default) returning timeout is null",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(timeouts, [true, false]);
}

#[tokio::test]
async fn every_is_stored_as_a_fixed_rate() {
    let database = Database::fresh().await;
    for (text, seconds) in
        [("@every 5m", 300), ("  TZ=Asia/Tokyo @every 1h30m ", 5_400), ("@every 1w2d", 777_600), ("@every 15ms", 1)]
    {
        let (kind, same): (String, bool) = sqlx::query_as(
            "insert into watchbell.schedules (name, handler, cron)
             values ('s' || $2::int, 'h', $1) returning kind, fixed_rate = make_interval(secs => $2::int)",
        )
        .bind(text)
        .bind(seconds)
        .fetch_one(&database.pool)
        .await
        .unwrap();
        assert_eq!((kind.as_str(), same), ("fixed_rate", true), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_handler_is_a_warning_once() {
    let database = Database::fresh().await;
    let log = Log::default();
    let _listening = log.listen();
    let mut connection = database.connect().await;
    for statement in [
        "insert into watchbell.handlers (name) values ('report'), ('shell')",
        "insert into watchbell.schedules (name, cron, handler) values ('a', '@daily', 'report')",
        "insert into watchbell.schedules (name, cron, handler) values ('b', '@daily', 'reprot')",
        "update watchbell.schedules set cron = '@hourly', handler = handler",
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    let text = log.text();
    let warning = "no worker has ever registered handler \"reprot\" (the schedule is accepted and will wait)";
    assert_eq!(text.matches(warning).count(), 1, "{text}");
    assert_eq!(text.matches("no worker has ever").count(), 1, "{text}");
}

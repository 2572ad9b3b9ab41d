//! `watchbell cron` answers without a database.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn cron(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command.arg("cron").args(arguments).env_clear().output().unwrap()
}

#[test]
fn an_expression_is_explained_by_its_next_fire_times_in_its_zone_and_in_utc() {
    let arguments = ["explain", "30 2 * * MON", "--tz", "Europe/Paris", "--from", "2026-03-20T00:00:00Z", "-n", "2"];
    let output = cron(&arguments);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "30 2 * * MON in Europe/Paris: at 02:30 on Monday\n\
         \x20 Mon 2026-03-23 02:30:00 CET   2026-03-23T01:30:00Z\n\
         \x20 Mon 2026-03-30 02:30:00 CEST   2026-03-30T00:30:00Z\n"
    );
    assert!(output.status.success());
}

#[test]
fn the_next_fire_times_are_json_when_asked() {
    let output = cron(&["next", "@daily", "--from", "2026-01-01T00:00:00Z", "-n", "2", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["next"], json!(["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]));
    let output = cron(&["next", "TZ=Asia/Tokyo @daily", "--from", "2026-01-01T00:00:00Z", "-n", "1", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["next"], json!(["2026-01-02T00:00:00+09:00"]));
    assert_eq!(answer["tz"], "Asia/Tokyo");

    let output = cron(&["next", "@every 5m", "--from", "2026-01-01T00:00:00.123456789Z", "-n", "2", "-o", "name"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2026-01-01T00:05:00Z\n2026-01-01T00:10:00Z\n");
}

#[test]
fn a_bad_expression_is_one_sentence_and_exit_code_2() {
    for (expression, sentence) in [
        ("*/5 25 * * *", "error: cron: invalid cron expression \"*/5 25 * * *\": hour \"25\" is out of range 0-23"),
        ("0 0 30 2 *", "error: cron: \"0 0 30 2 *\" never fires: no date matches it"),
    ] {
        let output = cron(&["explain", expression]);
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().next().unwrap(), sentence);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn an_explanation_says_what_is_easily_overlooked() {
    let from = ["--from", "2026-03-27T00:00:00Z", "-n", "1"];
    let output = cron(&[&["explain", "30 2 13 * 5", "--tz", "Europe/Paris"], &from[..]].concat());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "30 2 13 * 5 in Europe/Paris: at 02:30 on the 13th of the month or on Friday\n\
         \x20 Fri 2026-03-27 02:30:00 CET   2026-03-27T01:30:00Z\n\
         note: both day fields are set, so either one matching is enough; write +5 if both must\n\
         note: weekday 5 is Friday here, as in crontab, and Thursday in Quartz; a name such as FRI is read alike\n"
    );

    let output = cron(&[&["explain", "30 2 * * *", "--tz", "Europe/Paris", "-o", "json"], &from[..]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer,
        json!({
            "spec": "30 2 * * *",
            "tz": "Europe/Paris",
            "dst": "once",
            "words": "at 02:30 every day",
            "next": [{"local": "2026-03-27T02:30:00+01:00", "utc": "2026-03-27T01:30:00Z"}],
            "remarks": [
                "on 2026-03-29 clocks in Europe/Paris go from 02:00 to 03:00, and 02:30 is left out: \
                 it fires once at 03:00, when they do",
                "on 2026-10-25 clocks in Europe/Paris go from 03:00 to 02:00, and 02:30 is shown twice: \
                 it fires the first time only",
            ],
        })
    );
}

#[test]
fn years_that_are_over_are_no_error() {
    let output = cron(&["next", "0 0 9 1 1 * 2020", "--from", "2026-01-01T00:00:00Z", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["next"], json!([]));
    let output = cron(&["explain", "0 0 9 1 1 * 2020", "--from", "2026-01-01T00:00:00Z"]);
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("in 2020\n  no fire time is left\n"));
}

/// The program with `next --stdin`.
fn questions(options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command.args(["cron", "next", "--stdin"]).args(options).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// All answers to all these lines.
fn answers(options: &[&str], lines: &[u8]) -> Vec<Value> {
    let mut child = questions(options);
    let (mut input, lines) = (child.stdin.take().unwrap(), lines.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&lines).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_question_is_answered_by_one_line() {
    let question = |text: &str, expected: Value| (text.to_owned(), expected);
    let cases = [
        question(
            r#"{"spec": "30 2 * * *", "tz": "America/New_York", "from": "2025-03-08T12:00:00-05:00", "n": 2}"#,
            json!({"next": ["2025-03-09T03:00:00-04:00", "2025-03-10T02:30:00-04:00"]}),
        ),
        question(
            r#"{"spec": "30 2 * * *", "tz": "America/New_York", "from": "2025-03-08T12:00:00-05:00", "n": 1, "dst": "literal"}"#,
            json!({"next": ["2025-03-10T02:30:00-04:00"]}),
        ),
        question(
            r#"{"spec": "TZ=Europe/London 0 9 * * *", "from": "2026-01-01T00:00:00Z", "n": 1}"#,
            json!({"next": ["2026-01-01T09:00:00+00:00"]}),
        ),
        question(
            r#"{"spec": "@every 90s", "from": "2026-01-01T00:00:00.7Z", "n": 1}"#,
            json!({"next": ["2026-01-01T00:01:30Z"]}),
        ),
        question(r#"{"spec": "0 0 9 1 1 * 2020", "from": "2026-01-01T00:00:00Z"}"#, json!({"next": []})),
        // left out: what the options say
        question(r#"{"spec": "0 9 * * *"}"#, json!({"next": ["2026-02-01T09:00:00Z", "2026-02-02T09:00:00Z"]})),
        question(
            r#"{"spec": "*/5 25 * * *"}"#,
            json!({"error": "invalid cron expression \"*/5 25 * * *\": hour \"25\" is out of range 0-23"}),
        ),
        question(r#"{"spec": "0 0 30 2 *"}"#, json!({"error": "\"0 0 30 2 *\" never fires: no date matches it"})),
        question(
            r#"{"spec": "@daily", "tz": "Mars/Paris"}"#,
            json!({"error": "unknown timezone \"Mars/Paris\" (use UTC or an Area/Location name such as Europe/Paris)"}),
        ),
        question(r#"{"spec": "@daily", "n": 0}"#, json!({"error": "n 0 is out of range 1-1000"})),
        question(r#"{"spec": "@daily", "n": 1001}"#, json!({"error": "n 1001 is out of range 1-1000"})),
        question(
            r#"{"spec": "@daily", "dst": "twice"}"#,
            json!({"error": "dst \"twice\" is not one of once, literal"}),
        ),
        question(
            r#"{"spec": "@daily", "from": "noon"}"#,
            json!({"error": "from \"noon\" must be a time such as 2031-02-03T04:05:06Z or 2031-02-03T04:05:06+01:00"}),
        ),
    ];
    let lines: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let answers = answers(&["--from", "2026-02-01T00:00:00Z", "-n", "2"], lines.as_bytes());
    let expected: Vec<Value> = cases.into_iter().map(|(_, expected)| expected).collect();
    assert_eq!(answers, expected);
}

#[test]
fn a_line_that_is_no_question_is_answered_and_not_the_end() {
    let long = format!("{{\"spec\": \"{}\"}}\n", "*".repeat(200_000));
    let lines: [&[u8]; 8] = [
        b"not json\n",
        b"\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b"{\"spec\": \"@daily\", \"timezone\": \"UTC\"}\n",
        b"{\"tz\": \"UTC\"}\n",
        long.as_bytes(),
        b"{\"spec\": \"@daily\", \"n\": 1, \"from\": \"2026-01-01T00:00:00Z\"}",
    ];
    let answers = answers(&[], &lines.concat());
    assert_eq!(answers.len(), 8, "{answers:?}");
    for (answer, part) in answers.iter().zip([
        "expected one object of",
        "expected one object of",
        "expected one object of",
        "expected one object of",
        "unknown field `timezone`",
        "missing field `spec`",
        "the line has more than 65536 bytes",
    ]) {
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    assert_eq!(answers[7], json!({"next": ["2026-01-02T00:00:00Z"]}), "the last line needs no end");
}

#[test]
fn whoever_asks_one_question_at_a_time_hears_at_once() {
    let mut child = questions(&["-n", "1", "--from", "2026-01-01T00:00:00Z"]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for hour in 1..4 {
        writeln!(input, "{{\"spec\": \"0 {hour} * * *\"}}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{{\"next\":[\"2026-01-01T0{hour}:00:00Z\"]}}\n"));
    }
    drop(input);
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn many_questions_are_answered_quickly() {
    let specs = ["*/5 * * * *", "0 9 * * MON-FRI", "30 2 L * *", "0 0 15W */2 *", "15 3 * * FRI#3"];
    let line = |k: usize| {
        format!(
            "{{\"spec\":\"{}\",\"tz\":\"Europe/Berlin\",\"from\":\"2026-01-01T00:00:00Z\",\"n\":1}}\n",
            specs[k % 5]
        )
    };
    let lines: String = (0..50_000).map(line).collect();
    let started = Instant::now();
    assert_eq!(answers(&[], lines.as_bytes()).len(), 50_000);
    println!("50000 questions in {:?}, unoptimised", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn neither_an_expression_nor_stdin_or_both_is_a_usage_error() {
    assert_eq!(cron(&["next"]).status.code(), Some(2));
    assert_eq!(cron(&["next", "@daily", "--stdin"]).status.code(), Some(2));
    assert_eq!(cron(&["next", "@daily", "-n", "1001"]).status.code(), Some(2));
}

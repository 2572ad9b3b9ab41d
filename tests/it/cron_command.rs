//! `watchbell cron` answers without a database.

use std::process::{Command, Output};

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
        "30 2 * * MON in Europe/Paris\n\
         \x20 Mon 2026-03-23 02:30:00 CET   2026-03-23T01:30:00Z\n\
         \x20 Mon 2026-03-30 02:30:00 CEST   2026-03-30T00:30:00Z\n"
    );
    assert!(output.status.success());
}

#[test]
fn the_next_fire_times_are_json_when_asked() {
    let output = cron(&["next", "@daily", "--from", "2026-01-01T00:00:00Z", "-n", "2", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["next"], serde_json::json!(["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]));
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

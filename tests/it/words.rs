//! Expressions are put into words that say all they mean, with what is easily overlooked.

use std::process::Command;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use watchbell::schedule::explain::{self, FIRES_MAX};
use watchbell::schedule::{Cron, CronError, Dst, Spec};

use crate::table::{self, rfc3339};

fn words(text: &str) -> String {
    Cron::parse(text, "UTC", Dst::Once).unwrap_or_else(|e| panic!("{e}")).describe()
}

#[test]
fn an_expression_is_said_in_words() {
    let mut differences = Vec::new();
    for (text, expected) in [
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0-59/15 * * * *", "every 15 minutes"),
        ("0/15 * * * *", "every 15 minutes"),
        ("*/7 * * * *", "every 7 minutes from minute 0 through 56"),
        ("10-20 * * * *", "every minute from minute 10 through 20"),
        ("10-20/5 * * * *", "every 5 minutes from minute 10 through 20"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "at 5 minutes past every hour"),
        ("0,15,45 * * * *", "at 0, 15 and 45 minutes past every hour"),
        ("0,10-20,30/10 * * * *", "at minutes 0, 10 through 20 and every 10th from 30 through 50"),
        ("0 */2 * * *", "every 2 hours"),
        ("30 */2 * * *", "every 2 hours from 00:30 through 22:30"),
        ("0 */5 * * *", "every 5 hours from 00:00 through 20:00"),
        ("0 9-17 * * *", "every hour from 09:00 through 17:00"),
        ("30 9-17/2 * * MON-FRI", "every 2 hours from 09:30 through 17:30, Monday through Friday"),
        ("0 6,9-12 * * *", "at 06:00 and every hour from 09:00 through 12:00"),
        ("*/5 9-17 * * MON-FRI", "every 5 minutes from 09:00 through 17:59, Monday through Friday"),
        ("* 2 * * *", "every minute from 02:00 through 02:59"),
        ("*/10 8-9,20 * * *", "every 10 minutes from 08:00 through 09:59 and from 20:00 through 20:59"),
        ("*/10 */4 * * *", "every 10 minutes of every 4th hour"),
        ("*/10 */5 * * *", "every 10 minutes of every 5th hour from 00:00 through 20:59"),
        ("*/10 1,3,5,7 * * *", "every 10 minutes in the hours 1, 3, 5 and 7"),
        ("0,30 9-17 * * *", "at 0 and 30 minutes past the hour from 09:00 through 17:59"),
        ("0,30 */2 * * *", "at 0 and 30 minutes past every 2nd hour"),
        ("0 9 * * *", "at 09:00 every day"),
        ("0,30 9,17 * * *", "at 09:00, 09:30, 17:00 and 17:30 every day"),
        ("@daily", "at 00:00 every day"),
        ("@hourly", "every hour"),
        ("@weekly", "at 00:00 on Sunday"),
        ("@monthly", "at 00:00 on the 1st of the month"),
        ("TZ=Europe/Paris @yearly", "at 00:00 on the 1st of January"),
        ("0 9 * * MON-FRI", "at 09:00, Monday through Friday"),
        ("0 9 * * 1-5", "at 09:00, Monday through Friday"),
        ("0 9 * * 5-7", "at 09:00, Friday through Sunday"),
        ("0 9 * * 0-6", "at 09:00 on any day of the week"),
        ("0 9 * * MON", "at 09:00 on Monday"),
        ("0 9 * * mon,wed,FRI", "at 09:00 on Monday, Wednesday and Friday"),
        ("0 9 * * 1/2", "at 09:00 on Monday, Wednesday and Friday"),
        ("0 9 * 6-8 SAT", "at 09:00 on Saturday in June through August"),
        ("0 0 * * FRI#3", "at 00:00 on the third Friday of the month"),
        ("0 0 * 3,9 FRIL", "at 00:00 on the last Friday of March and September"),
        ("0 0 * * 5#L", "at 00:00 on the last Friday of the month"),
        ("0 0 * * TUE,FRI#1", "at 00:00 on Tuesday and the first Friday of the month"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 lw * *", "at 00:00 on the last weekday of the month"),
        ("0 9 15W * *", "at 09:00 on the weekday nearest the 15th of the month"),
        ("0 0 1,15W,L * *", "at 00:00 on the 1st, the weekday nearest the 15th and the last day of the month"),
        ("0 0 1-7 * *", "at 00:00 on the 1st through the 7th of the month"),
        ("0 0 */2 * *", "at 00:00 on every 2nd day from the 1st through the 31st of the month"),
        ("0 0 29 2 *", "at 00:00 on the 29th of February"),
        ("0 0 1 */3 *", "at 00:00 on the 1st of January, April, July and October"),
        ("0 0 13 * FRI", "at 00:00 on the 13th of the month or on Friday"),
        ("0 0 13 6 FRI", "at 00:00 on the 13th of June or on Friday in June"),
        ("0 0 1-7 * +MON", "at 00:00 on the 1st through the 7th of the month if it is a Monday"),
        ("0 0 L * +1-5", "at 00:00 on the last day of the month if it is Monday through Friday"),
        (
            "0 0 13 * +FRI,SAT#2",
            "at 00:00 on the 13th of the month if it is a Friday or the second Saturday of the month",
        ),
        ("0 0 * * +FRI", "at 00:00 on Friday"),
        ("0 9 ? JAN *", "at 09:00 every day in January"),
        ("*/15 * * 12 *", "every 15 minutes in December"),
        ("* * * * * *", "every second"),
        ("*/5 * * * * *", "every 5 seconds"),
        ("30 * * * * *", "at second 30 of every minute"),
        ("30 */5 * * * *", "at second 30, every 5 minutes"),
        ("15,45 * * * * *", "at seconds 15 and 45 of every minute"),
        ("30 0 9 * * *", "at 09:00:30 every day"),
        ("30 0 * * * *", "at 30 seconds past every hour"),
        ("30 5 * * * *", "at 5 minutes and 30 seconds past every hour"),
        ("* 30 9 * * *", "every second of the minute 09:30"),
        ("*/10 0,30 * * * *", "every 10 seconds of minutes 0 and 30"),
        ("*/10 */15 8 * * *", "every 10 seconds of every 15th minute from 08:00 through 08:59"),
        ("0 0 9 1 1 * 2030", "at 09:00 on the 1st of January, in 2030"),
        ("0 0 9 * * * 2026-2030", "at 09:00 every day, from 2026 through 2030"),
        ("0 0 9 * * * 2026/4", "at 09:00 every day, every 4th year from 2026 through 2198"),
        ("0 0 9 * * * 2026,2030-2032", "at 09:00 every day, in 2026 and 2030 through 2032"),
    ] {
        let found = words(text);
        if found != expected {
            differences.push(format!("{text}: {found:?}, not {expected:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_documentation_says_what_the_program_says() {
    let document = include_str!("../../docs/cron.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    let examples: Vec<_> = rows.filter(|(spec, _)| spec.starts_with('@') || spec.split(' ').count() >= 5).collect();
    assert!(examples.len() >= 15, "{examples:?}");
    for (spec, expected) in examples {
        assert_eq!(words(spec), expected, "{spec}");
    }

    let mut commands = 0;
    for fence in document.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let Some((command, expected)) = fence.strip_prefix("$ watchbell ").and_then(|f| f.split_once('\n')) else {
            continue;
        };
        // the expression stands in quotes, all else is single words
        let parts: Vec<&str> = command.split('\'').collect();
        let [before, expression, after] = parts[..] else { panic!("{command}") };
        let arguments = before.split_whitespace().chain([expression]).chain(after.split_whitespace());
        let output = Command::new(env!("CARGO_BIN_EXE_watchbell")).args(arguments).env_clear().output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{command}");
        commands += 1;
    }
    assert_eq!(commands, 2);
}

/// Every published expression, with its zone if it has one.
fn published() -> Vec<String> {
    let mut all = Vec::new();
    for text in [
        include_str!("../data/cron/robfig_next.csv"),
        include_str!("../data/cron/cron_oracle.csv"),
        include_str!("../data/cron/cron_dst.csv"),
        include_str!("../data/cron/cron_ext.csv"),
        include_str!("../data/cron/cron_ocps.csv"),
    ] {
        all.extend(table::read(text).iter().map(|row| row.get("spec").to_owned()));
    }
    all.sort();
    all.dedup();
    all
}

#[test]
fn every_published_expression_has_words() {
    let mut said = 0;
    for text in published() {
        let Ok(Spec::Cron(cron)) = Spec::cron(&text, "Europe/Berlin", Dst::Once) else { continue };
        let words = cron.describe();
        let starts = words.starts_with("at ") || words.starts_with("every ");
        assert!(starts && !words.contains("  ") && !words.ends_with([' ', ',']), "{text}: {words:?}");
        for remark in cron.remarks(rfc3339("2026-01-01T00:00:00Z")) {
            assert!(!remark.is_empty() && !remark.ends_with('.'), "{text}: {remark:?}");
        }
        said += 1;
    }
    assert!(said > 500, "{said}");
}

proptest! {
    #[test]
    fn same_words_mean_same_fire_times(
        (one, other) in (crate::cron_properties::expression(), crate::cron_properties::expression()),
    ) {
        let read = |text: &str| Cron::parse(text, "UTC", Dst::Once).unwrap();
        let (one, other) = (read(&one), read(&other));
        let from = rfc3339("2026-02-03T04:05:06Z");
        if one.describe() == other.describe() {
            prop_assert_eq!(one.upcoming(from, 20), other.upcoming(from, 20));
        }
    }

    #[test]
    fn no_text_cannot_be_explained_without_a_panic(
        text in "(TZ=UTC )?([0-9*/,?LW#+-]{1,6} ){4,6}[0-9*/,L#+A-Z-]{1,6}",
        at in any::<i64>(),
    ) {
        let at = DateTime::from_timestamp_micros(at).unwrap_or(DateTime::UNIX_EPOCH);
        for dst in [Dst::Once, Dst::Literal] {
            if let Ok(explanation) = explain::explain(&text, "America/New_York", dst, at, 3) {
                prop_assert!(!explanation.words.is_empty());
            }
        }
    }
}

fn remarks(text: &str, timezone: &str, dst: Dst, from: &str) -> Vec<String> {
    explain::explain(text, timezone, dst, rfc3339(from), 1).unwrap().remarks
}

/// The remarks on what does not depend on the time.
fn noted(text: &str) -> String {
    remarks(text, "UTC", Dst::Once, "2026-01-01T00:00:00Z").join("\n")
}

#[test]
fn a_numbered_weekday_is_remarked_on_where_quartz_reads_another() {
    let monday = "weekday 1 is Monday here, as in crontab, and Sunday in Quartz; a name such as MON is read alike";
    assert_eq!(noted("0 9 * * 1-5"), monday);
    assert_eq!(noted("0 9 ? * 1#2"), monday);
    assert_eq!(noted("0 9 ? * 1L"), monday);
    assert!(noted("0 9 * * 7").starts_with("weekday 7 is Sunday here, as in crontab, and Saturday in Quartz"));
    for text in ["0 9 * * MON-FRI", "0 9 * * *", "0 9 * * FRI#1", "0 9 * * 0", "0 9 1-5 * *"] {
        assert_eq!(noted(text), "", "{text}");
    }
}

#[test]
fn both_day_fields_are_remarked_on_unless_both_must_match() {
    let either = "both day fields are set, so either one matching is enough; write +FRI if both must";
    assert_eq!(noted("0 0 13 * FRI"), either);
    assert!(noted("0 0 */2 * FRI").contains("(some crons take a day field that begins with * for unrestricted"));
    assert_eq!(noted("0 0 13 * +FRI"), "");
    assert_eq!(noted("0 0 */1 * FRI"), "");
}

#[test]
fn a_step_that_starts_again_unevenly_is_remarked_on() {
    let seven = "minute \"*/7\" starts again at 0: from 56 it is 4 to the next, not 7; \
                 for an even period use fixed_rate or @every";
    assert_eq!(noted("*/7 * * * *"), seven);
    assert!(noted("0 */5 * * *").starts_with("hour \"*/5\" starts again at 0: from 20 it is 4 to the next, not 5;"));
    assert!(noted("0 0 1 */5 *").starts_with("month \"*/5\" starts again at 1: from 11 it is 2 to the next, not 5;"));
    assert!(noted("0 0 */2 * *").starts_with("day of month \"*/2\" starts again on the 1st of each month"));
    for text in ["*/15 * * * *", "0 */6 * * *", "5-50/7 * * * *", "0 0 1 */3 *", "*/60 * * * *"] {
        assert_eq!(noted(text), "", "{text}");
    }
}

#[test]
fn clock_changes_of_the_next_year_are_remarked_on() {
    let berlin = |text, dst| remarks(text, "Europe/Berlin", dst, "2026-01-01T00:00:00Z");
    let spring = "on 2026-03-29 clocks in Europe/Berlin go from 02:00 to 03:00, and 02:30 is left out: ";
    let autumn = "on 2026-10-25 clocks in Europe/Berlin go from 03:00 to 02:00, and 02:30 is shown twice: ";
    assert_eq!(
        berlin("30 2 * * *", Dst::Once),
        [format!("{spring}it fires once at 03:00, when they do"), format!("{autumn}it fires the first time only")]
    );
    assert_eq!(
        berlin("30 2 * * *", Dst::Literal),
        [format!("{spring}it does not fire then"), format!("{autumn}it fires both times")]
    );
    assert_eq!(berlin("30 9 * * *", Dst::Once), [""; 0]);
    assert_eq!(berlin("*/30 * * * *", Dst::Once), [""; 0]);
    assert_eq!(berlin("30 2 * * MON", Dst::Literal), [""; 0]);
    assert!(berlin("*/20 2 * * *", Dst::Once)[0].contains("and 02:00 and 2 more are left out: it does not fire then"));
    // Lord Howe moves by half an hour, Samoa left out a whole day.
    assert!(
        remarks("15 2 * * *", "Australia/Lord_Howe", Dst::Once, "2026-09-01T00:00:00Z")[0]
            .starts_with("on 2026-10-04 clocks in Australia/Lord_Howe go from 02:00 to 02:30, and 02:15 is left out")
    );
    assert!(
        remarks("0 12 * * *", "Pacific/Apia", Dst::Literal, "2011-12-01T00:00:00Z")[0]
            .contains("go from 00:00 to 2011-12-31 00:00, and 12:00 is left out: it does not fire then")
    );
}

#[test]
fn an_explanation_has_its_own_zone_and_bounded_fire_times() {
    let from = rfc3339("2026-01-01T00:00:00Z");
    let tokyo = explain::explain(" TZ=Asia/Tokyo 0 9 * * * ", "UTC", Dst::Once, from, 1).unwrap();
    assert_eq!((tokyo.spec.as_str(), tokyo.timezone.as_str()), ("TZ=Asia/Tokyo 0 9 * * *", "Asia/Tokyo"));
    assert_eq!(tokyo.next[0].to_rfc3339(), "2026-01-02T09:00:00+09:00");
    assert_eq!(explain::next("* * * * * *", "UTC", Dst::Once, from, usize::MAX).unwrap().len(), FIRES_MAX);

    let every = explain::explain("@every 90s", "UTC", Dst::Once, from, 2).unwrap();
    assert_eq!(every.words, "every 1m30s, counted from when the schedule is written");
    assert_eq!(every.next[1], rfc3339("2026-01-01T00:03:00Z"));

    let never = explain::explain("0 0 30 2 *", "UTC", Dst::Once, from, 1).unwrap_err();
    assert_eq!(never, CronError::Never("0 0 30 2 *".to_owned()));
    let over = explain::explain("0 0 9 1 1 * 2020", "UTC", Dst::Once, from, 1).unwrap();
    assert_eq!(over.next, [] as [DateTime<Utc>; 0]);
}

//! Cron expressions mean what other implementations say they mean.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use watchbell::schedule::{Cron, CronError, Dst, Spec};

use crate::table::{self, rfc3339, unix};

fn cron(text: &str, timezone: &str, dst: Dst) -> Cron {
    Cron::parse(text, timezone, dst).unwrap_or_else(|e| panic!("{e}"))
}

fn utc(text: &str) -> Cron {
    cron(text, "UTC", Dst::Once)
}

/// Collects what differs, so that one failure shows them all.
fn assert_none(differences: &[String], of: usize) {
    assert!(differences.is_empty(), "{} of {of} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn next_fire_times_equal_those_of_robfig() {
    let rows = table::read(include_str!("../data/cron/robfig_next.csv"));
    let mut differences = Vec::new();
    for row in &rows {
        let from = row.time("from_rfc3339").unwrap();
        let expected = row.time("expected_next_rfc3339_or_empty");
        let next = match Spec::cron(row.get("spec"), row.get("tz"), Dst::Literal).unwrap() {
            Spec::Cron(cron) => cron.next(from),
            Spec::FixedRate(period) => Some(from + period),
            other => panic!("{other}"),
        };
        if (next == expected) != (row.get("kind") == "next") {
            differences.push(format!("line {}: {} from {from}: {next:?}", row.line, row.get("spec")));
        }
    }
    assert_none(&differences, rows.len());
}

#[test]
fn every_rounds_like_robfig() {
    for row in table::read(include_str!("../data/cron/robfig_every.csv")) {
        let text = format!("@every {}ns", row.get("delay_ns"));
        let Spec::FixedRate(period) = Spec::cron(&text, "UTC", Dst::Once).unwrap() else { panic!("{text}") };
        // robfig counts from the whole second.
        let from = unix(row.time("from_rfc3339").unwrap().timestamp());
        assert_eq!(Some(from + period), row.time("expected_next_rfc3339"), "line {}", row.line);
    }
}

#[test]
fn expressions_that_robfig_refuses_are_refused() {
    for row in table::read(include_str!("../data/cron/robfig_bad.csv")) {
        let spec = Spec::cron(row.get("spec"), "UTC", Dst::Once);
        assert!(spec.is_err(), "line {}: {} is {spec:?}", row.line, row.get("spec"));
    }
}

#[test]
fn random_expressions_fire_when_two_other_implementations_say() {
    let rows = table::read(include_str!("../data/cron/cron_oracle.csv"));
    let mut differences = Vec::new();
    for row in &rows {
        let rules = if row.get("policy") == "both" { &[Dst::Once, Dst::Literal][..] } else { &[Dst::Once] };
        for &dst in rules {
            check_five(row, dst, &mut differences);
        }
    }
    assert_none(&differences, rows.len());
}

#[test]
fn last_days_and_weeks_of_a_month_are_found() {
    let rows = table::read(include_str!("../data/cron/cron_ext.csv"));
    let mut differences = Vec::new();
    for row in &rows {
        check_five(row, Dst::Once, &mut differences);
    }
    assert_none(&differences, rows.len());
}

fn check_five(row: &table::Row, dst: Dst, differences: &mut Vec<String>) {
    let cron = cron(row.get("spec"), row.get("tz"), dst);
    let from = unix(row.number("from_unix").unwrap());
    let expected: Vec<_> = row.get("next5_unix").split(' ').map(|s| unix(s.parse().unwrap())).collect();
    let found = cron.upcoming(from, expected.len());
    if found != expected {
        differences.push(format!("line {}: {cron} {dst} from {from}: {found:?}, not {expected:?}", row.line));
    }
}

#[test]
fn clock_changes_follow_the_chosen_rule() {
    let rows = table::read(include_str!("../data/cron/cron_dst.csv"));
    let mut differences = Vec::new();
    for row in &rows {
        let from = row.time("from_rfc3339").unwrap();
        for (dst, column) in [(Dst::Once, "once_next"), (Dst::Literal, "literal_next")] {
            let expected: Vec<_> = row.get(column).split(' ').map(rfc3339).collect();
            let found = cron(row.get("spec"), row.get("tz"), dst).upcoming(from, expected.len());
            if found != expected {
                let spec = row.get("spec");
                differences.push(format!("line {}: {spec} {dst}: {found:?}, not {expected:?}", row.line));
            }
        }
    }
    assert_none(&differences, rows.len());
}

#[test]
fn the_open_cron_pattern_vectors_hold() {
    for row in table::read(include_str!("../data/cron/cron_ocps.csv")) {
        let (spec, line) = (row.get("spec"), row.line);
        let cron = Cron::parse(spec, "UTC", Dst::Once);
        let fires_then = || {
            let at = row.time("time_utc").unwrap();
            cron.as_ref().unwrap().next(at - TimeDelta::seconds(1)) == Some(at)
        };
        match row.get("kind") {
            "accept" => assert!(cron.is_ok(), "line {line}: {cron:?}"),
            "reject" => assert!(cron.is_err(), "line {line}: {spec} is accepted"),
            "match" => assert!(fires_then(), "line {line}: {spec} does not fire"),
            "nomatch" => assert!(!fires_then(), "line {line}: {spec} fires"),
            kind => panic!("line {line}: {kind}"),
        }
    }
}

#[test]
fn a_refusal_names_the_field_its_value_and_its_range() {
    for (text, problem) in [
        ("*/5 25 * * *", "hour \"25\" is out of range 0-23"),
        ("60 * * * * *", "second \"60\" is out of range 0-59"),
        ("1-100000000 * * * *", "minute \"100000000\" is out of range 0-59"),
        ("99999999999999999999 * * * *", "minute \"99999999999999999999\" is out of range 0-59"),
        ("* * 0 * *", "day of month \"0\" is out of range 1-31"),
        ("* * 32W * *", "day of month \"32\" is out of range 1-31"),
        ("* * * 13 *", "month \"13\" is out of range 1-12"),
        ("* * * MON *", "month \"MON\" is not one of 1-12 or JAN-DEC"),
        ("* * * * 8", "day of week \"8\" is out of range 0-7"),
        ("* * * * MONDAY", "day of week \"MONDAY\" is not one of 0-7 or SUN-SAT"),
        ("0 0 0 1 1 * 1969", "year \"1969\" is out of range 1970-2199"),
        ("* 22-2 * * *", "hour \"22-2\" runs backwards (allowed 0-23)"),
        ("* * * * FRI-SUN", "day of week \"FRI-SUN\" runs backwards (allowed 0-7 or SUN-SAT)"),
        ("*/0 * * * *", "minute step \"0\" is out of range 1-60"),
        ("*/90 * * * *", "minute step \"90\" is out of range 1-60 (for longer periods use fixed_rate)"),
        ("*/x * * * *", "minute step \"x\" is not a number 1-60"),
        ("1,,2 * * * *", "minute has an empty item (allowed 0-59)"),
        ("/30 * * * *", "minute \"/30\" has no start before its step (allowed 0-59)"),
        ("? * * * *", "minute \"?\" is not one of 0-59"),
        ("* * * * FRI#6", "day of week \"FRI#6\" has no week 1-5 or L after \"#\""),
        ("* * * * L", "day of week \"L\" names no weekday: write 6L for the last Saturday"),
        ("* * * *", "expected 5, 6 or 7 fields, found 4"),
        ("", "expected 5, 6 or 7 fields, found 0"),
        ("@every 5m", "\"@every\" is a period; set fixed_rate instead"),
        ("@reboot", "\"@reboot\" is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"),
        ("TZ=Mars/Paris 0 * * * *", "timezone \"Mars/Paris\" is unknown"),
        ("CRON_TZ=UTC", "expected 5, 6 or 7 fields, found 0"),
    ] {
        let error = Cron::parse(text, "UTC", Dst::Once).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid cron expression \"{text}\": {problem}"));
    }
}

#[test]
fn a_refused_every_names_its_duration() {
    for (text, problem) in [
        ("@every Xm", "invalid duration \"Xm\": expected a number before \"Xm\""),
        ("TZ=Mars/Paris @every 5m", "timezone \"Mars/Paris\" is unknown"),
        ("@every 36526d", "invalid duration \"36526d\": at most 36525 days are allowed"),
    ] {
        let error = Spec::cron(text, "UTC", Dst::Once).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid cron expression \"{text}\": {problem}"));
    }
    assert!(Spec::cron(&format!("@every 5m{}", " 5s".repeat(100)), "UTC", Dst::Once).is_err());
    assert_eq!(Spec::cron("TZ=Asia/Tokyo @every 5m", "UTC", Dst::Once), Spec::cron("@every 5m", "UTC", Dst::Once));
}

#[test]
fn too_long_an_expression_is_refused_unread() {
    let text = format!("{} * * * *", "1,".repeat(200));
    let error = Cron::parse(&text, "UTC", Dst::Once).unwrap_err().to_string();
    assert!(error.ends_with("it has 408 bytes, at most 256 are allowed"), "{error}");
    assert!(error.len() < 200, "{error}");
}

#[test]
fn an_unknown_timezone_is_refused_by_name() {
    for name in ["Mars/Paris", "foo5", "", "right/Europe/Paris", "../../etc/passwd", "EST5EDT", "a/b/c/d", "é/é"] {
        let error = Cron::parse("0 * * * *", name, Dst::Once).unwrap_err();
        assert_eq!(error, CronError::Timezone(name.to_owned()));
        let expected = format!("unknown timezone \"{name}\" (use UTC or an Area/Location name such as Europe/Paris)");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn an_expression_no_date_matches_never_fires() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * * 5W 2 +SUN", "0 0 0 29 2 * 2100", "0 0 0 29 2 * 2023"] {
        let cron = utc(text);
        assert!(cron.never_fires(), "{text}");
        assert_eq!(cron.next(DateTime::UNIX_EPOCH), None);
        assert_eq!(cron.previous(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(cron.count(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC), 0);
    }
    assert!(!utc("0 0 29 2 *").never_fires());
    assert!(!utc("0 0 0 1 1 * 2199").never_fires());
    // 02:30 of that night was left out in Berlin, where the clock shows what it shows.
    assert!(cron("0 30 2 30 3 * 2025", "Europe/Berlin", Dst::Literal).never_fires());
    assert!(!cron("0 30 2 30 3 * 2025", "Europe/Berlin", Dst::Once).never_fires());
}

#[test]
fn an_expression_fires_from_1970_to_2199_and_not_beyond() {
    let yearly = utc("@yearly");
    assert_eq!(yearly.next(DateTime::<Utc>::MIN_UTC), Some(rfc3339("1970-01-01T00:00:00Z")));
    assert_eq!(yearly.previous(DateTime::<Utc>::MAX_UTC), Some(rfc3339("2199-01-01T00:00:00Z")));
    assert_eq!(yearly.next(rfc3339("2199-01-01T00:00:00Z")), None);
    assert_eq!(yearly.count(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC), 230);
    let new_york = cron("59 59 23 31 12 *", "America/New_York", Dst::Once);
    assert_eq!(new_york.previous(DateTime::<Utc>::MAX_UTC), Some(rfc3339("2200-01-01T04:59:59Z")));
    // 2100 is no leap year, and no year of the walker's is walked twice.
    let leap_days = utc("0 0 29 2 *").upcoming(rfc3339("2095-01-01T00:00:00Z"), 3);
    assert_eq!(leap_days, ["2096-02-29", "2104-02-29", "2108-02-29"].map(|day| rfc3339(&format!("{day}T00:00:00Z"))));
    let second = utc("* * * * * *");
    for at in ["2100-12-31T23:59:59Z", "2101-01-01T00:00:00Z", "2100-02-28T23:59:59Z", "2188-12-31T23:59:59Z"] {
        assert_eq!(second.next(rfc3339(at)), Some(rfc3339(at) + TimeDelta::seconds(1)));
    }
    assert_eq!(second.next(rfc3339("2199-12-31T23:59:59Z")), None);
}

#[test]
fn every_date_to_2199_is_that_of_the_calendar() {
    // Weekdays and lengths of months, also in the years that the walker does not know.
    let sundays_and_ends = utc("0 0 L * SUN");
    let calendar = rfc3339("2090-01-01T00:00:00Z").date_naive().iter_days();
    let calendar = calendar
        .take_while(|day| day.year() < 2200)
        .filter(|day| day.weekday() == chrono::Weekday::Sun || day.succ_opt().unwrap().day() == 1);
    let mut at = rfc3339("2089-12-31T00:00:00Z");
    for day in calendar {
        at = sundays_and_ends.next(at).unwrap();
        assert_eq!(at.naive_utc(), day.into());
    }
    assert_eq!(sundays_and_ends.next(at), None);
}

#[test]
fn a_day_that_a_zone_skipped_is_a_gap_like_any_other() {
    // Samoa went from 29 to 31 December 2011.
    let from = rfc3339("2011-12-29T22:00:00Z"); // noon of the 29th
    let noon = |dst| cron("0 12 * * *", "Pacific/Apia", dst).upcoming(from, 2);
    let (end_of_gap, noon_after) = (rfc3339("2011-12-30T10:00:00Z"), rfc3339("2011-12-30T22:00:00Z"));
    assert_eq!(noon(Dst::Once), [end_of_gap, noon_after]);
    assert_eq!(noon(Dst::Literal), [noon_after, rfc3339("2011-12-31T22:00:00Z")]);
}

#[test]
fn what_a_gap_left_out_is_counted_once() {
    // Berlin, 30 March 2025: 02:00 does not exist, and its hour ends at 03:00.
    let (from, until) = (rfc3339("2025-03-29T23:30:00Z"), rfc3339("2025-03-30T02:30:00Z"));
    for (text, once, literal) in [
        ("0 1,2,3 * * *", 2, 2),
        ("0,30 2 * * *", 1, 0),
        ("0 3 * * *", 1, 1),
        ("*/30 * * * *", 6, 6),
        ("0 0,4 * * *", 1, 1),
    ] {
        for (dst, expected) in [(Dst::Once, once), (Dst::Literal, literal)] {
            let cron = cron(text, "Europe/Berlin", dst);
            assert_eq!(cron.count(from, until), expected, "{text} {dst}");
            let walked = cron.upcoming(from, 10).iter().filter(|&&at| at <= until).count();
            assert_eq!(walked as u64, expected, "{text} {dst}");
        }
    }
}

#[test]
fn a_remembered_expression_is_the_same_one() {
    let read = || Cron::cached("7 3 * * MON", "Europe/Berlin", Dst::Once).unwrap();
    assert!(std::sync::Arc::ptr_eq(&read(), &read()));
    assert_ne!(read(), Cron::cached("7 3 * * MON", "Europe/Berlin", Dst::Literal).unwrap());
    assert!(Cron::cached("7 3 * * MOON", "Europe/Berlin", Dst::Once).is_err());
}

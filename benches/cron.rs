//! Nanoseconds for each cron operation, beside the bare `cron` crate in the same run.
//!
//! `cargo bench --bench cron`. The bare crate is asked about UTC, the cheapest zone there is, and about plain
//! expressions only: it means something else by the rest. Targets: next 2 µs, next of an expression that never
//! fires 50 µs, parse 100 µs.

use std::hint::black_box;
use std::str::FromStr;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::schedule::{Cron, Dst, Misfire, Open, Schedule, Spec, plan};

/// 2025-01-01.
const START: i64 = 1_735_689_600;

/// Expressions with their zone, and what the bare crate calls them, if it can.
const EXPRESSIONS: [(&str, &str, Option<&str>); 16] = [
    ("* * * * *", "America/New_York", Some("0 * * * * * *")),
    ("*/15 * * * *", "America/New_York", Some("0 */15 * * * * *")),
    ("0 9 * * MON-FRI", "America/New_York", Some("0 0 9 * * MON-FRI *")),
    ("0 0 29 2 *", "America/New_York", Some("0 0 0 29 2 * *")),
    ("0 0 30 2 *", "America/New_York", Some("0 0 0 30 2 * *")),
    ("0 0 L * *", "America/New_York", None),
    ("0 9 15W * *", "America/New_York", None),
    ("* * * * *", "UTC", Some("0 * * * * * *")),
    ("*/5 * * * * *", "UTC", Some("*/5 * * * * * *")),
    ("0 9 * * MON-FRI", "UTC", Some("0 0 9 * * MON-FRI *")),
    ("0 0 1 1 *", "UTC", Some("0 0 0 1 1 * *")),
    ("0 0 0 1 1 * 2050", "UTC", Some("0 0 0 1 1 * 2050")),
    ("0 12 1 * MON", "UTC", None),
    ("0 0 13 * +FRI", "UTC", None),
    ("30 2 * * *", "Australia/Lord_Howe", None),
    ("0 0 L 2 +TUE#5", "Europe/Berlin", None),
];

fn main() {
    println!("{:<18} {:<20} {:>9} {:>9} {:>7} {:>9}", "ns", "", "next()", "crate", "ratio", "parse");
    for (text, zone, bare) in EXPRESSIONS {
        let cron = Cron::parse(text, zone, Dst::Once).expect(text);
        let ours = ns_per_step(|at| cron.next(at));
        let bare = bare.map(|text| cron::Schedule::from_str(text).expect(text));
        let bare = bare.map(|bare| ns_per_step(|at| bare.after(&at).next()));
        let parse = ns(|| Cron::parse(text, zone, Dst::Once));
        let ratio = bare.map_or("-".to_owned(), |bare| format!("{:.2}", ours / bare));
        let bare = bare.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
        println!("{text:<18} {zone:<20} {ours:>9.0} {bare:>9} {ratio:>7} {parse:>9.0}");
    }

    println!("\n{:<34} {:<20} {:>9}", "other", "", "ns");
    let berlin = |text| Cron::parse(text, "Europe/Berlin", Dst::Once).expect(text);
    let (seconds, daily) = (berlin("* * * * * *"), berlin("0 2 * * *"));
    let (now, year) = (at(START), TimeDelta::days(365));
    report("previous", &daily, ns(|| daily.previous(now)));
    report("count, a year of seconds", &seconds, ns(|| seconds.count(now - year, now)));
    report("upcoming 10", &daily, ns(|| daily.upcoming(now, 10)));
    report("describe", "0 9 * * MON-FRI", {
        let weekdays = berlin("0 9 * * MON-FRI");
        ns(|| weekdays.describe())
    });
    for text in ["0 0 0 1W,5W,15W,LW 1,3,5-9 +1#1,TUE#2,5L 1999-2199/3", "0-59 0-59 0-23 1-31 1-12 0-6 1970-2199"] {
        report("parse", text, ns(|| Cron::parse(text, "Europe/Berlin", Dst::Once)));
    }
    let worst = format!("0 0 {}L * +{}5L", "31W,".repeat(40), "1#5,".repeat(18));
    report("parse, 250 bytes of terms", "", ns(|| Cron::parse(&worst, "Europe/Berlin", Dst::Once)));
    let worst = Cron::parse(&worst, "Europe/Berlin", Dst::Once).expect("within the grammar");
    report("next of the same", "", ns(|| worst.next(now)));
    for text in ["* * * * * *", "@every 1s"] {
        let spec = Spec::cron(text, "Europe/Berlin", Dst::Once).expect(text);
        let mut schedule = Schedule::new(1, spec, now - year);
        schedule.misfire = Misfire::CatchUp { window: year, limit: 100 };
        report("plan, a year late, catching up 100", text, ns(|| plan(&schedule, now, Open::default())));
        schedule.effective_from = now - TimeDelta::seconds(1);
        report("plan, in time", text, ns(|| plan(&schedule, now, Open::default())));
    }
    report("cached", "*/5 * * * *", ns(|| Cron::cached("*/5 * * * *", "Europe/Berlin", Dst::Once)));
}

fn report(what: &str, text: impl std::fmt::Display, ns: f64) {
    println!("{what:<34} {text:<20} {ns:>9.0}");
}

fn at(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).expect("in range")
}

/// The time of one step from a fire time to the next, over thousands of them.
fn ns_per_step(mut next: impl FnMut(DateTime<Utc>) -> Option<DateTime<Utc>>) -> f64 {
    let mut time = at(START);
    ns(|| {
        time = next(time).unwrap_or(at(START));
        time
    })
}

/// The fastest of two hundred rounds of about a quarter millisecond: what others run meanwhile only adds.
fn ns<T>(mut work: impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    let mut times = 0_u32;
    while started.elapsed().as_micros() < 250 {
        black_box(work());
        times += 1;
    }
    let round = |_| {
        let started = Instant::now();
        (0..times).for_each(|_| drop(black_box(work())));
        started.elapsed().as_nanos() as f64 / f64::from(times)
    };
    (0..200).map(round).fold(f64::INFINITY, f64::min)
}

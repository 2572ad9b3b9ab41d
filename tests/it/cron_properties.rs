//! What holds for every cron expression, zone and clock change.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use watchbell::schedule::{Cron, Dst, Spec, explain};

use crate::table::unix;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

/// The fields of an expression that fires often enough to be walked.
pub(crate) fn expression() -> impl Strategy<Value = String> {
    let second = prop_oneof![4 => Just("0"), 1 => Just("*/20"), 1 => Just("5,50")];
    let minute = prop_oneof![Just("0"), Just("*"), Just("30"), Just("*/7"), Just("0-59/15"), Just("59")];
    let hour = prop_oneof![Just("*"), Just("1,2,3"), Just("*/5"), Just("0"), Just("23"), Just("0-3")];
    let dom = prop_oneof![4 => Just("*"), 1 => Just("L"), 1 => Just("LW"), 1 => Just("1W,15W"), 1 => Just("*/9")];
    let month = prop_oneof![4 => Just("*"), 1 => Just("3,10-12"), 1 => Just("2/3")];
    let dow = prop_oneof![4 => Just("*"), 1 => Just("SUN"), 1 => Just("+SUN"), 1 => Just("MON#1"), 1 => Just("5L")];
    (second, minute, hour, dom, month, dow)
        .prop_map(|(s, m, h, dom, mon, dow)| format!("{s} {m} {h} {dom} {mon} {dow}"))
}

/// An expression that fires at times, in a zone that had clock changes.
pub(crate) fn any_cron() -> impl Strategy<Value = Cron> {
    let zone = proptest::sample::select(&ZONES[..]);
    let dst = prop_oneof![Just(Dst::Once), Just(Dst::Literal)];
    (expression(), zone, dst)
        .prop_map(|(text, zone, dst)| Cron::parse(&text, zone, dst).unwrap())
        .prop_filter("no last workday is a Sunday", |cron| !cron.never_fires())
}

/// Unix seconds of 2009 to 2026, every other one near a clock change.
fn second() -> impl Strategy<Value = i64> {
    let change = prop_oneof![
        Just(1_743_296_400_i64), // Berlin 2025-03-30, forward
        Just(1_761_440_400),     // Berlin 2025-10-26, back
        Just(1_741_503_600),     // New York 2025-03-09, forward
        Just(1_762_063_200),     // New York 2025-11-02, back
        Just(1_743_865_200),     // Lord Howe 2025-04-06, half an hour back
        Just(1_541_300_400),     // Sao Paulo 2018-11-04, forward at midnight
        Just(1_740_276_000),     // Casablanca 2025-02-23, back for Ramadan
        Just(1_325_239_200),     // Apia 2011-12-30, a day forward
    ];
    prop_oneof![1_230_768_000_i64..1_798_761_600, (change, -90_000_i64..90_000).prop_map(|(at, by)| at + by)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_panics(text in any::<String>(), zone in "\\PC{0,20}", at in any::<i64>()) {
        let at = DateTime::from_timestamp_micros(at).unwrap_or(DateTime::UNIX_EPOCH);
        if let Ok(cron) = Cron::parse(&text, &zone, Dst::Once) {
            let _ = (cron.next(at), cron.previous(at), cron.count(DateTime::UNIX_EPOCH, at));
        }
        let _ = Spec::cron(&text, "UTC", Dst::Once);
    }

    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(
            prop_oneof![3 => proptest::sample::select(&b"0123456789*/,-?LW#+@TZ= \t\nJANFRI"[..]), 1 => any::<u8>()],
            0..300,
        ),
        at in any::<i64>(),
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let at = DateTime::from_timestamp_micros(at).unwrap_or(DateTime::UNIX_EPOCH);
        for zone in ["Europe/Berlin", &text] {
            match explain::explain(&text, zone, Dst::Once, at, 2) {
                Ok(explanation) => prop_assert!(explanation.next.iter().all(|&next| next > at)),
                Err(error) => prop_assert!(!error.to_string().contains(['\n', '\0']) && error.to_string().len() < 600),
            }
        }
    }

    #[test]
    fn no_near_expression_panics(
        text in "(TZ=UTC )?([0-9*/,?LW#+-]{1,6} ){4,6}[0-9*/,L#+A-Z-]{1,6}|@every [0-9a-zA-Z.:]{0,20}",
        at in any::<i64>(),
    ) {
        let at = DateTime::from_timestamp_micros(at).unwrap_or(DateTime::UNIX_EPOCH);
        for dst in [Dst::Once, Dst::Literal] {
            if let Ok(cron) = Cron::parse(&text, "America/New_York", dst) {
                let (next, previous) = (cron.next(at), cron.previous(at));
                prop_assert!(next.is_none_or(|next| next > at));
                prop_assert!(previous.is_none_or(|previous| previous <= at));
            }
        }
    }

    #[test]
    fn nothing_fires_between_a_time_and_the_next(cron in any_cron(), from in second(), share in 0.0..1.0_f64) {
        let next = cron.next(unix(from)).unwrap();
        prop_assert!(next > unix(from));
        let between = from + ((next.timestamp() - from) as f64 * share) as i64;
        if between < next.timestamp() {
            prop_assert_eq!(cron.next(unix(between)), Some(next));
        }
    }

    #[test]
    fn a_fraction_of_a_second_changes_nothing(cron in any_cron(), from in second(), us in 0..1_000_000_i64) {
        prop_assert_eq!(cron.next(unix(from) + TimeDelta::microseconds(us)), cron.next(unix(from)));
    }

    #[test]
    fn later_times_have_later_next_fire_times(cron in any_cron(), from in second(), by in 0..400_000_i64) {
        prop_assert!(cron.next(unix(from)) <= cron.next(unix(from + by)));
    }

    #[test]
    fn previous_undoes_next(cron in any_cron(), from in second()) {
        let next = cron.next(unix(from)).unwrap();
        prop_assert_eq!(cron.previous(next), Some(next));
        let before = cron.previous(next - TimeDelta::seconds(1)).unwrap();
        prop_assert!(before <= unix(from));
        prop_assert_eq!(cron.next(before), Some(next));
    }

    #[test]
    fn counting_equals_walking(cron in any_cron(), from in second(), n in 0..40_usize, us in 0..1_000_000_i64) {
        let (from, us) = (unix(from), TimeDelta::microseconds(us));
        let walked = cron.upcoming(from, n);
        let until = walked.last().copied().unwrap_or(from);
        prop_assert_eq!(cron.count(from, until), n as u64);
        prop_assert_eq!(cron.count(from, until + us), n as u64);
        prop_assert_eq!(cron.count(DateTime::<Utc>::MIN_UTC, until), cron.count(DateTime::<Utc>::MIN_UTC, from) + n as u64);
    }

    /// The rules in one line each, and every second tried: slow, and nothing shared with the code under test
    /// but the zone data.
    #[test]
    fn a_day_of_seconds_fires_as_the_wall_clock_says(
        minute in 0..60_u32,
        hours in prop_oneof![Just("*".to_owned()), (0..4_u32).prop_map(|h| h.to_string()), Just("1-2".to_owned())],
        zone in proptest::sample::select(&ZONES[..]),
        from in second(),
        dst in prop_oneof![Just(Dst::Once), Just(Dst::Literal)],
    ) {
        let cron = Cron::parse(&format!("{minute} {hours} * * *"), zone, dst).unwrap();
        let expected = oracle(minute, &hours, zone, dst, from, from + 100_000);
        prop_assert_eq!(cron.upcoming(unix(from), expected.len()), expected);
    }
}

/// The fire times in (`from`, `until`], by looking at each minute's wall clock.
fn oracle(minute: u32, hours: &str, zone: &str, dst: Dst, from: i64, until: i64) -> Vec<DateTime<Utc>> {
    let zone = jiff::tz::TimeZone::get(zone).unwrap();
    let offset = |at: i64| i64::from(zone.to_offset(jiff::Timestamp::from_second(at).unwrap()).seconds());
    let matches = |wall: i64| {
        let (hour, second) = (wall.rem_euclid(86_400) / 3_600, wall.rem_euclid(3_600));
        let hour_matches = match hours {
            "*" => true,
            "1-2" => hour == 1 || hour == 2,
            n => n.parse::<i64>().unwrap() == hour,
        };
        hour_matches && second == i64::from(minute) * 60
    };
    let once = dst == Dst::Once && hours != "*";
    let fires = |at: i64| {
        let (wall, before) = (at + offset(at), at - 1 + offset(at - 1));
        if !once {
            return matches(wall);
        }
        // The wall times this second stands for: its own unless the clock showed it in the last 26 hours,
        // and those that were jumped over to get to it.
        let repeated = || (1..=26 * 60).any(|minutes| at - 60 * minutes + offset(at - 60 * minutes) == wall);
        let own = matches(wall) && !repeated();
        own || (before + 1..wall).any(matches)
    };
    // Offsets are whole minutes in these years, so clocks and fire times meet only on whole minutes.
    let first = from + 60 - from.rem_euclid(60);
    (first..=until).step_by(60).filter(|&at| fires(at)).map(unix).collect()
}

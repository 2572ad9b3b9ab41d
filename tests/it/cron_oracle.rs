//! Random expressions of the whole grammar fire when a walk over every minute says so.
//!
//! The oracle shares nothing with the code under test but the zone data: it asks jiff what the clock shows at
//! each minute, and judges each date by the words of the grammar (`15W`: of the days from Monday to Friday the
//! nearest to the 15th).

use chrono::{DateTime, TimeDelta, Utc};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use watchbell::schedule::{Cron, Dst};

use crate::table::unix;

/// Half hours, gaps at midnight and before it, negative summer time, Ramadan, and days that were left out.
const ZONES: [&str; 24] = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
];

/// One term of a field, its text and its meaning apart.
#[derive(Debug, Clone, Copy)]
enum Term {
    Star(i64),
    One(i64),
    From(i64, i64),
    Range(i64, i64, i64),
    Last,
    LastWorkday,
    NearestWorkday(i64),
    Nth(i64, i64),
    LastOf(i64),
}

impl Term {
    fn text(self) -> String {
        match self {
            Self::Star(1) => "*".to_owned(),
            Self::Star(step) => format!("*/{step}"),
            Self::One(n) => n.to_string(),
            Self::From(n, step) => format!("{n}/{step}"),
            Self::Range(a, b, 1) => format!("{a}-{b}"),
            Self::Range(a, b, step) => format!("{a}-{b}/{step}"),
            Self::Last => "L".to_owned(),
            Self::LastWorkday => "LW".to_owned(),
            Self::NearestWorkday(n) => format!("{n}W"),
            Self::Nth(weekday, k) => format!("{weekday}#{k}"),
            Self::LastOf(weekday) => format!("{weekday}L"),
        }
    }

    /// Whether a plain number, in a field that begins at `low`, matches.
    fn has(self, n: i64, low: i64) -> bool {
        match self {
            Self::Star(step) => (n - low) % step == 0,
            Self::One(one) => n == one,
            Self::From(from, step) => n >= from && (n - from) % step == 0,
            Self::Range(a, b, step) => n >= a && n <= b && (n - a) % step == 0,
            _ => false,
        }
    }

    fn has_date(self, date: Date) -> bool {
        let is_workday = |date: &Date| date.weekday().to_monday_zero_offset() < 5;
        let month = || (1..=date.days_in_month()).map(|day| Date::new(date.year(), date.month(), day).unwrap());
        match self {
            Self::Last => date == date.last_of_month(),
            Self::LastWorkday => month().rfind(is_workday) == Some(date),
            Self::NearestWorkday(n) => {
                let far = |day: &Date| (i64::from(day.day()) - n).abs();
                n <= i64::from(date.days_in_month()) && month().filter(is_workday).min_by_key(far) == Some(date)
            }
            _ => self.has(i64::from(date.day()), 1),
        }
    }

    fn has_weekday(self, date: Date) -> bool {
        let weekday = i64::from(date.weekday().to_sunday_zero_offset());
        let day = i64::from(date.day());
        match self {
            Self::Nth(w, k) => w % 7 == weekday && (day + 6) / 7 == k,
            Self::LastOf(w) => w % 7 == weekday && day + 7 > i64::from(date.days_in_month()),
            // `5-7` reaches Sunday by its other number
            Self::One(_) | Self::Range(..) => self.has(weekday, 0) || weekday == 0 && self.has(7, 0),
            _ => self.has(weekday, 0),
        }
    }
}

/// An expression in parts.
#[derive(Debug, Clone)]
struct Parts {
    minute: Vec<Term>,
    hour: Vec<Term>,
    /// `None` is written `?`.
    dom: Option<Vec<Term>>,
    month: Vec<Term>,
    both: bool,
    dow: Option<Vec<Term>>,
    year: Vec<Term>,
}

impl Parts {
    fn text(&self) -> String {
        let field = |terms: &[Term]| terms.iter().map(|term| term.text()).collect::<Vec<_>>().join(",");
        let day = |terms: &Option<Vec<Term>>| terms.as_deref().map_or("?".to_owned(), field);
        let plus = if self.both { "+" } else { "" };
        let (dom, dow) = (day(&self.dom), day(&self.dow));
        let (minute, hour, month, year) =
            (field(&self.minute), field(&self.hour), field(&self.month), field(&self.year));
        format!("0 {minute} {hour} {dom} {month} {plus}{dow} {year}")
    }

    fn matches(&self, wall: i64) -> bool {
        let (days, minute) = (wall.div_euclid(1_440), wall.rem_euclid(1_440));
        let any = |terms: &[Term], n: i64, low: i64| terms.iter().any(|term| term.has(n, low));
        any(&self.minute, minute % 60, 0) && any(&self.hour, minute / 60, 0) && self.has_date(days)
    }

    fn has_date(&self, days: i64) -> bool {
        let date = Date::new(1970, 1, 1).unwrap() + jiff::Span::new().days(days);
        let in_month = self.month.iter().any(|term| term.has(i64::from(date.month()), 1));
        let in_year = self.year.iter().any(|term| term.has(i64::from(date.year()), 1970));
        let open = |terms: &Option<Vec<Term>>| terms.as_deref().is_none_or(|t| matches!(t, [Term::Star(1)]));
        let dom = || self.dom.iter().flatten().any(|term| term.has_date(date));
        let dow = || self.dow.iter().flatten().any(|term| term.has_weekday(date));
        let day = match (open(&self.dom), open(&self.dow)) {
            (true, true) => true,
            (false, true) => dom(),
            (true, false) => dow(),
            (false, false) if self.both => dom() && dow(),
            (false, false) => dom() || dow(),
        };
        in_month && in_year && day
    }

    fn follows_real_time(&self) -> bool {
        [&self.minute, &self.hour].iter().any(|field| matches!(field[0], Term::Star(_)))
    }
}

/// Whole minutes from `from` to `until` at which the expression fires.
fn oracle(parts: &Parts, zone: &TimeZone, dst: Dst, from: i64, until: i64) -> Vec<i64> {
    const LOOK_BACK: i64 = 26 * 60;
    let start = from - LOOK_BACK;
    let offset = |at: i64| i64::from(zone.to_offset(Timestamp::from_second(at * 60).unwrap()).seconds()) / 60;
    let walls: Vec<i64> = (start..=until).map(|at| at + offset(at)).collect();
    let fires = |at: &i64| {
        let k = (at - start) as usize;
        let (wall, before) = (walls[k], walls[k - 1]);
        if dst == Dst::Literal || parts.follows_real_time() {
            return parts.matches(wall);
        }
        let is_repeated = || walls[k.saturating_sub(LOOK_BACK as usize)..k].contains(&wall);
        parts.matches(wall) && !is_repeated() || (before + 1..wall).any(|skipped| parts.matches(skipped))
    };
    (from + 1..=until).filter(fires).collect()
}

fn plain(low: i64, high: i64) -> impl Strategy<Value = Term> {
    let size = high - low + 1;
    prop_oneof![
        2 => Just(Term::Star(1)),
        2 => (1..=size.min(40)).prop_map(Term::Star),
        4 => (low..=high).prop_map(Term::One),
        1 => (low..=high, 1..=size.min(20)).prop_map(|(n, step)| Term::From(n, step)),
        2 => (low..=high, 0..=size, 1..=size.min(20)).prop_map(move |(a, more, s)| Term::Range(a, (a + more).min(high), s)),
    ]
}

fn terms(term: impl Strategy<Value = Term>) -> impl Strategy<Value = Vec<Term>> {
    proptest::collection::vec(term, 1..4)
}

fn parts() -> impl Strategy<Value = Parts> {
    let date = prop_oneof![
        6 => plain(1, 31),
        1 => Just(Term::Last),
        1 => Just(Term::LastWorkday),
        2 => (1..=31_i64).prop_map(Term::NearestWorkday),
    ];
    let weekday = prop_oneof![
        1 => Just(Term::Star(1)),
        2 => (0..=7_i64).prop_map(Term::One),
        2 => (0..=5_i64, 1..=7_i64, 1..=3_i64).prop_map(|(a, more, step)| Term::Range(a, (a + more).min(7), step)),
        1 => (0..=7_i64, 1..=5_i64).prop_map(|(w, k)| Term::Nth(w, k)),
        1 => (0..=7_i64).prop_map(Term::LastOf),
    ];
    let everything = || Just(vec![Term::Star(1)]);
    // Hours around midnight and clock changes, and dates and years that match in a window of some days.
    let hour = prop_oneof![1 => terms(plain(0, 23)), 2 => terms((0..4_i64).prop_map(Term::One))];
    let dom = prop_oneof![1 => Just(None), 2 => everything().prop_map(Some), 2 => terms(date).prop_map(Some)];
    let dow = prop_oneof![1 => Just(None), 2 => everything().prop_map(Some), 2 => terms(weekday).prop_map(Some)];
    let month = prop_oneof![3 => everything(), 1 => terms(plain(1, 12))];
    let year = prop_oneof![3 => everything(), 1 => (1..5_i64).prop_map(|step| vec![Term::Star(step)])];
    (terms(plain(0, 59)), hour, dom, month, any::<bool>(), dow, year)
        .prop_map(|(minute, hour, dom, month, both, dow, year)| Parts { minute, hour, dom, month, both, dow, year })
}

/// A minute of 1973 to 2040, mostly a day or two before a clock change of the zone.
fn moment(zone: &TimeZone, share: f64, before: i64) -> i64 {
    let any = 1_577_880 + (share * 35_000_000.0) as i64;
    let change = zone.following(Timestamp::from_second(any * 60).unwrap()).next();
    change.map_or(any, |change| change.timestamp().as_second() / 60 - before)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_minute_is_judged_as_by_the_oracle(
        parts in parts(),
        zone in proptest::sample::select(&ZONES[..]),
        dst in prop_oneof![Just(Dst::Once), Just(Dst::Literal)],
        share in 0.0..1.0_f64,
        before in -600..3_000_i64,
    ) {
        let rules = TimeZone::get(zone).unwrap();
        let from = moment(&rules, share, before);
        let until = from + 4 * 1_440;
        let cron = Cron::parse(&parts.text(), zone, dst).unwrap();
        let expected: Vec<_> = oracle(&parts, &rules, dst, from, until).iter().map(|at| unix(at * 60)).collect();
        let (from, until) = (unix(from * 60), unix(until * 60));
        let mut found = cron.upcoming(from, expected.len() + 1);
        found.retain(|&at| at <= until);
        prop_assert_eq!(&found, &expected, "{} {}", parts.text(), zone);
        prop_assert_eq!(cron.count(from, until), expected.len() as u64);
        prop_assert_eq!(cron.previous(until).filter(|&at| at > from), expected.last().copied());
    }
}

#[test]
fn a_daily_job_fires_once_for_each_local_date() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for zone in ZONES {
        let rules = TimeZone::get(zone).unwrap();
        for _ in 0..8 {
            let (hour, minute, year) = (random.i8(0..24), random.i8(0..60), random.i16(1973..2050));
            let cron = Cron::parse(&format!("{minute} {hour} * * *"), zone, Dst::Once).unwrap();
            // from July on: Kiritimati and others began a year by leaving out a day
            let midnight = |year| Date::new(year, 7, 1).unwrap().to_zoned(rules.clone()).unwrap().timestamp();
            let mut date = Date::new(year, 7, 1).unwrap();
            let mut at = unix(midnight(year).as_second() - 1);
            let until = unix(midnight(year + 10).as_second());
            while let Some(next) = cron.next(at).filter(|&next| next < until) {
                let wall = wall(&rules, next);
                let named = date.at(hour, minute, 0, 0);
                if wall != named {
                    // The clock jumped over it, at this very second.
                    let before = self::wall(&rules, next - TimeDelta::seconds(1));
                    assert!(before < named && named < wall, "{zone} {named}: it fires at {wall}, after {before}");
                }
                (date, at) = (date.tomorrow().unwrap(), next);
            }
            assert_eq!(date, Date::new(year + 10, 7, 1).unwrap(), "{zone} {hour}:{minute}");
        }
    }
}

fn wall(zone: &TimeZone, at: DateTime<Utc>) -> jiff::civil::DateTime {
    zone.to_datetime(Timestamp::from_second(at.timestamp()).unwrap())
}

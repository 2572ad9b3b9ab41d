//! By how much a run is put off after its slot: always the same for the same schedule and slot, so that
//! replicas, previews and a repeated transaction agree.

use chrono::{DateTime, TimeDelta, Utc};

/// The delay of a schedule's run for one slot: at least zero, less than `most`, whole milliseconds.
///
/// ```
/// use chrono::{TimeDelta, TimeZone, Utc};
/// use watchbell::schedule::jitter;
///
/// let slot = Utc.with_ymd_and_hms(2026, 3, 1, 2, 0, 0).unwrap();
/// let delay = jitter::of_slot(7, slot, TimeDelta::seconds(30));
/// assert!(delay < TimeDelta::seconds(30) && delay == jitter::of_slot(7, slot, TimeDelta::seconds(30)));
/// ```
pub fn of_slot(schedule_id: i64, slot: DateTime<Utc>, most: TimeDelta) -> TimeDelta {
    let bound = most.num_milliseconds();
    if bound <= 0 {
        return TimeDelta::zero();
    }
    let bits = mix(mix(schedule_id as u64) ^ slot.timestamp_micros() as u64);
    TimeDelta::milliseconds(scale(bits, bound as u64) as i64)
}

/// Spreads 64 bits over all of their range: the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast
/// splittable pseudorandom number generators", 2014), whose every output bit depends on every input bit.
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Brings 64 even bits into `0..bound` without a division (Lemire 2019).
pub(crate) fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_the_same_each_time_and_within_its_bound() {
        let most = TimeDelta::seconds(30);
        let mut seen = std::collections::BTreeSet::new();
        for k in 0..1_000 {
            let slot = DateTime::from_timestamp(1_700_000_000 + k * 60, 0).unwrap();
            let delay = of_slot(7, slot, most);
            assert_eq!(delay, of_slot(7, slot, most));
            assert!(delay >= TimeDelta::zero() && delay < most);
            seen.insert(delay.num_milliseconds());
        }
        assert!(seen.len() > 950, "1000 slots share {} delays", seen.len());
    }

    #[test]
    fn jitter_covers_its_range_evenly() {
        let mut tenths = [0; 10];
        for k in 0..10_000 {
            let slot = DateTime::from_timestamp(1_700_000_000 + k, 0).unwrap();
            tenths[of_slot(1, slot, TimeDelta::seconds(10)).num_seconds() as usize] += 1;
        }
        assert!(tenths.iter().all(|&n| (900..1_100).contains(&n)), "{tenths:?}");
    }

    #[test]
    fn no_jitter_puts_nothing_off() {
        let slot = DateTime::from_timestamp(0, 0).unwrap();
        assert_eq!(of_slot(1, slot, TimeDelta::zero()), TimeDelta::zero());
        assert_eq!(of_slot(1, slot, TimeDelta::seconds(-5)), TimeDelta::zero());
    }
}

//! What is wrong is told once, not at each try: a filter that fails does so every few seconds until it is mended.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::super::shared::locked;

/// The same words are told again after so long.
const AGAIN: Duration = Duration::from_secs(600);
/// Different words about one thing within that time: a message may quote the row, and each row another value.
const WORDS_MAX: usize = 8;

/// What was told of steps, by watch and first state. What is wrong with a watch as a whole has no state.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    told: Mutex<HashMap<(i64, String), Complaint>>,
    /// There is none, so that a look which went well need not ask.
    some: AtomicBool,
}

#[derive(Debug)]
struct Complaint {
    last: Instant,
    words: Vec<(String, Instant)>,
}

impl Complaints {
    /// Whether these words are to be told: they are new, or were told long ago.
    pub(super) fn is_news(&self, watch: i64, step: &str, words: &str, now: Instant) -> bool {
        self.some.store(true, Ordering::Release);
        let mut told = locked(&self.told);
        let of = told.entry((watch, step.to_owned())).or_insert_with(|| Complaint { last: now, words: vec![] });
        of.last = now;
        of.words.retain(|(_, at)| now.duration_since(*at) < AGAIN);
        let is_news = of.words.len() < WORDS_MAX && of.words.iter().all(|(told, _)| told != words);
        if is_news {
            of.words.push((words.to_owned(), now));
        }
        is_news
    }

    /// It went well. True, once: it had been complained of, and for at least `settled` it was not.
    pub(super) fn is_over(&self, watch: i64, step: &str, settled: Duration, now: Instant) -> bool {
        if !self.some.load(Ordering::Acquire) {
            return false;
        }
        let mut told = locked(&self.told);
        let key = (watch, step.to_owned());
        let is_over = told.get(&key).is_some_and(|of| now.duration_since(of.last) >= settled);
        if is_over {
            told.remove(&key);
            self.some.store(!told.is_empty(), Ordering::Release);
        }
        is_over
    }

    /// Only these watches are there.
    pub(super) fn retain(&self, is_there: impl Fn(i64) -> bool) {
        let mut told = locked(&self.told);
        told.retain(|(watch, _), _| is_there(*watch));
        self.some.store(!told.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_words_are_told_every_ten_minutes_and_others_at_once() {
        let (all, began) = (Complaints::default(), Instant::now());
        let said = |words: &str, after: u32| all.is_news(1, "pending", words, began + SECOND * after);
        assert!(said("division by zero", 0));
        assert!(!said("division by zero", 5) && !said("division by zero", 599));
        assert!(said("no such function", 10));
        assert!(!said("division by zero", 20), "to and fro is no news");
        assert!(said("division by zero", 600));
        assert!(all.is_news(2, "pending", "division by zero", began), "another watch's");
    }

    #[test]
    fn words_that_are_different_each_time_are_told_a_few_times() {
        let (all, began) = (Complaints::default(), Instant::now());
        let told = (0..100).filter(|n| all.is_news(1, "pending", &format!("bad value {n}"), began)).count();
        assert_eq!(told, WORDS_MAX);
        assert!(all.is_news(1, "pending", "bad value 7000", began + AGAIN));
    }

    #[test]
    fn the_end_is_told_once_and_not_between_two_failures() {
        let (all, began) = (Complaints::default(), Instant::now());
        let is_over = |after: u32| all.is_over(1, "pending", SECOND * 10, began + SECOND * after);
        assert!(!is_over(100), "nothing was wrong");
        assert!(all.is_news(1, "pending", "division by zero", began));
        assert!(!is_over(5));
        assert!(!all.is_news(1, "pending", "division by zero", began + SECOND * 6));
        assert!(!is_over(15) && is_over(16) && !is_over(17));
        assert!(all.is_news(1, "pending", "division by zero", began + SECOND * 20), "it begins anew");
        all.retain(|watch| watch != 1);
        assert!(!is_over(100), "the watch is gone");
    }
}

//! The expressions read lately. Reading one costs some tens of microseconds, and the fire stage meets the
//! same ones again each time they are due.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::{Cron, CronError, Dst};

/// How many expressions a generation holds; at most two generations are kept, of about 2 KiB each entry.
const GENERATION: usize = 4_096;

/// Expression, time zone and clock-change rule.
type Key = (Box<str>, Box<str>, Dst);

#[derive(Default)]
struct Cache {
    young: HashMap<Key, Arc<Cron>>,
    old: HashMap<Key, Arc<Cron>>,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// What is remembered under this key, or else what `read` gives.
pub(super) fn get_or(
    text: &str,
    timezone: &str,
    dst: Dst,
    read: impl FnOnce() -> Result<Cron, CronError>,
) -> Result<Arc<Cron>, CronError> {
    let key = (text.into(), timezone.into(), dst);
    if let Some(cron) = cache().get(&key) {
        return Ok(cron);
    }
    let cron = Arc::new(read()?);
    cache().insert(key, Arc::clone(&cron));
    Ok(cron)
}

impl Cache {
    /// What is used moves to the young generation, and so outlives the old.
    fn get(&mut self, key: &Key) -> Option<Arc<Cron>> {
        if let Some(cron) = self.young.get(key) {
            return Some(Arc::clone(cron));
        }
        let (key, cron) = self.old.remove_entry(key)?;
        self.insert(key, Arc::clone(&cron));
        Some(cron)
    }

    fn insert(&mut self, key: Key, cron: Arc<Cron>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, cron);
    }
}

/// A panic elsewhere cannot leave the maps half changed, so a poisoned lock is as good as any.
fn cache() -> std::sync::MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

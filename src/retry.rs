//! How long to wait before a failed run is tried again.

/// stand-in until the real one is merged
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy;
impl RetryPolicy {
    /// s
    pub fn from_json(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
    /// s
    pub fn delay(&self, attempt: u32, _seed: u64) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(5 << attempt.min(10))
    }
}

//! Limits of the system on a command: what `ulimit` sets.

use std::collections::BTreeMap;
use std::fmt;

use nix::libc::{self, c_int};
use nix::unistd::geteuid;

use super::guardian::hard_limit;
use super::nearest;
use crate::duration;
use crate::handler::size;

/// A limit of the system on each process of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Limit {
    /// CPU time, in seconds; SIGXCPU when it is used up.
    Cpu,
    /// Address space, in bytes.
    Memory,
    /// The largest file it may write, in bytes.
    FileSize,
    /// Open files.
    OpenFiles,
    /// Processes of its account; it does not bind root.
    Processes,
    /// The size of core dumps, in bytes.
    Core,
}

const ALL: [(&str, Limit); 6] = [
    ("cpu", Limit::Cpu),
    ("memory", Limit::Memory),
    ("file_size", Limit::FileSize),
    ("open_files", Limit::OpenFiles),
    ("processes", Limit::Processes),
    ("core", Limit::Core),
];

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(_, limit)| limit == self).map_or("", |(name, _)| name))
    }
}

impl Limit {
    /// The limit of this name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = ALL.iter().find(|(known, _)| *known == name).map(|(_, limit)| *limit);
        found.ok_or_else(|| format!("unknown limit {name:?}; {}", nearest(name, ALL.map(|(name, _)| name))))
    }

    /// A value as people write it: 10s, 1h for time, 512MiB for bytes, else a number.
    pub(crate) fn value(self, text: &str) -> Result<u64, String> {
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        match self {
            Self::Cpu => {
                let parsed = duration::parse(text).ok().and_then(|time| u64::try_from(time.num_seconds()).ok());
                parsed.ok_or_else(|| format!("limit {self}: {text:?} must be a time such as 90s, in whole seconds"))
            }
            Self::Memory | Self::FileSize | Self::Core => {
                size(text).ok_or_else(|| format!("limit {self}: {text:?} must be a size such as 512MiB"))
            }
            Self::OpenFiles | Self::Processes => Err(format!("limit {self}: {text:?} must be a number")),
        }
    }

    /// Its number; the type of the constants differs between systems.
    fn resource(self) -> c_int {
        match self {
            Self::Cpu => libc::RLIMIT_CPU as c_int,
            Self::Memory => libc::RLIMIT_AS as c_int,
            Self::FileSize => libc::RLIMIT_FSIZE as c_int,
            Self::OpenFiles => libc::RLIMIT_NOFILE as c_int,
            Self::Processes => libc::RLIMIT_NPROC as c_int,
            Self::Core => libc::RLIMIT_CORE as c_int,
        }
    }
}

/// The configuration's limits, where the payload sets none; a payload may only lower them.
pub(super) fn merged(
    configured: &BTreeMap<Limit, u64>,
    asked: &BTreeMap<Limit, u64>,
) -> Result<BTreeMap<Limit, u64>, String> {
    let mut limits = configured.clone();
    for (&limit, &value) in asked {
        if let Some(most) = configured.get(&limit).filter(|most| value > **most) {
            return Err(format!("limit {limit}: {value} is above this worker's {most}"));
        }
        limits.insert(limit, value);
    }
    Ok(limits)
}

/// As the system call takes them; refused where the worker itself may not go so high.
pub(super) fn raw(limits: &BTreeMap<Limit, u64>) -> Result<Vec<(c_int, u64)>, String> {
    limits
        .iter()
        .map(|(&limit, &value)| {
            let resource = limit.resource();
            let hard = hard_limit(resource).map_err(|e| format!("limit {limit}: {e}"))?;
            if value > hard && !geteuid().is_root() {
                return Err(format!("limit {limit}: {value} is above the worker's own hard limit, {hard}"));
            }
            Ok((resource, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_units_of_their_limit() {
        assert_eq!(Limit::Cpu.value("1m30s"), Ok(90));
        assert_eq!(Limit::Memory.value("512MiB"), Ok(512 << 20));
        assert_eq!(Limit::OpenFiles.value("256"), Ok(256));
        assert_eq!(Limit::OpenFiles.value("1K"), Err("limit open_files: \"1K\" must be a number".to_owned()));
        assert_eq!(Limit::named("memry"), Err("unknown limit \"memry\"; did you mean \"memory\"?".to_owned()));
    }

    #[test]
    fn a_payload_may_only_lower_what_is_configured() {
        let configured = BTreeMap::from([(Limit::Cpu, 60)]);
        let asked = |value| BTreeMap::from([(Limit::Cpu, value)]);
        assert_eq!(merged(&configured, &asked(61)), Err("limit cpu: 61 is above this worker's 60".to_owned()));
        assert_eq!(merged(&configured, &asked(5)), Ok(asked(5)));
        assert_eq!(merged(&configured, &BTreeMap::new()), Ok(configured.clone()));
    }
}

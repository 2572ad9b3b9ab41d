//! The PostgreSQL programs on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::unavailable;
use crate::Result;

/// The oldest major version that watchbell's schema works on.
pub(super) const OLDEST_MAJOR: u32 = 15;

/// A directory with `initdb` and `postgres`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds the programs.
    pub dir: PathBuf,
    /// The major version, such as 17.
    pub major: u32,
}

impl Binaries {
    /// The newest PostgreSQL on this machine, 15 or later.
    ///
    /// `WATCHBELL_PG_BIN` decides alone when set. Otherwise `PATH` and the places where Debian, Fedora,
    /// Homebrew and Postgres.app put them are searched.
    ///
    /// # Errors
    /// One sentence that says what to install.
    pub fn find() -> Result<Self> {
        if let Some(dir) = env::var_os("WATCHBELL_PG_BIN").map(PathBuf::from) {
            return Self::at(&dir).ok_or_else(|| {
                unavailable(format!("WATCHBELL_PG_BIN={} holds no initdb and postgres", dir.display()))
            });
        }
        newest(Self::all(), None)
            .ok_or_else(|| unavailable(format!("no server programs were found; {}", install(None))))
    }

    /// The programs that can open a cluster of exactly this major version.
    ///
    /// # Errors
    /// One sentence that names the version, what there is instead, and what to install.
    pub fn of_major(major: u32) -> Result<Self> {
        let all = Self::all();
        let have = all.iter().map(|found| found.major.to_string()).collect::<Vec<_>>().join(", ");
        let have = if have.is_empty() { "none".to_owned() } else { have };
        newest(all, Some(major)).ok_or_else(|| {
            unavailable(format!(
                "the data is of PostgreSQL {major} and this machine has {have}; {}",
                install(Some(major))
            ))
        })
    }

    /// What there is in `dir`, if it holds both programs and they run.
    pub(super) fn at(dir: &Path) -> Option<Self> {
        let whole = ["initdb", "postgres"].iter().all(|program| dir.join(program).is_file());
        let major = whole.then(|| major_of(&dir.join("postgres")))??;
        Some(Self { dir: dir.to_owned(), major })
    }

    fn all() -> Vec<Self> {
        if let Some(dir) = env::var_os("WATCHBELL_PG_BIN") {
            return Self::at(Path::new(&dir)).into_iter().collect();
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
        for (root, prefix) in [
            ("/usr/lib/postgresql", ""),
            ("/usr", "pgsql-"),
            ("/opt/homebrew/opt", "postgresql@"),
            ("/usr/local/opt", "postgresql@"),
            ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"),
            ("/Applications/Postgres.app/Contents/Versions", ""),
        ] {
            dirs.extend(numbered(Path::new(root), prefix).map(|found| found.join("bin")));
        }
        dirs.iter().filter_map(|dir| Self::at(dir)).collect()
    }
}

/// What to install, in the words of the usual systems.
pub(super) fn install(major: Option<u32>) -> String {
    let (debian, brew) = major.map_or(("postgresql".to_owned(), 17), |major| (format!("postgresql-{major}"), major));
    format!(
        "install {debian} (Debian, Ubuntu), postgresql-server (Fedora) or postgresql@{brew} (Homebrew), \
         or give --database-url"
    )
}

/// Of several with the same version the first: `PATH` goes before the usual places.
fn newest(all: Vec<Binaries>, major: Option<u32>) -> Option<Binaries> {
    let fits = |found: &Binaries| major.map_or(found.major >= OLDEST_MAJOR, |major| found.major == major);
    all.into_iter().rev().filter(fits).max_by_key(|found| found.major)
}

/// The entries of `root` that are named `prefix` and a number.
fn numbered(root: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> {
    let is_numbered = move |name: &OsStr| {
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    fs::read_dir(root).into_iter().flatten().flatten().filter(move |e| is_numbered(&e.file_name())).map(|e| e.path())
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`; about 5 ms.
fn major_of(postgres: &Path) -> Option<u32> {
    let said = Command::new(postgres).arg("--version").output().ok()?.stdout;
    parse_major(&String::from_utf8_lossy(&said))
}

fn parse_major(said: &str) -> Option<u32> {
    let version = said.split(") ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }

    #[test]
    fn the_newest_version_wins_and_the_first_of_equals() {
        let found = |dir: &str, major| Binaries { dir: dir.into(), major };
        let all = vec![found("a", 16), found("b", 17), found("c", 17), found("d", 14)];
        assert_eq!(newest(all.clone(), None), Some(found("b", 17)));
        assert_eq!(newest(all.clone(), Some(16)), Some(found("a", 16)));
        assert_eq!(newest(all, Some(15)), None);
        assert_eq!(newest(vec![found("old", 14)], None), None, "below the oldest supported version");
    }
}

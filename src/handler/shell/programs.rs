//! Which programs may be run, and where they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The programs that the worker's configuration allows.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs {
    pub(super) any: bool,
    /// Absolute paths, names to be looked up in PATH, and directories (with a slash at the end).
    pub(super) allowed: Vec<String>,
}

impl Programs {
    /// The program that `name`, an absolute path or a name without slashes, stands for here.
    ///
    /// Compared is the directory with all its links followed, and the name in it as it is: where one binary
    /// has many names (busybox), one that is allowed does not allow the others.
    pub(super) fn find(&self, name: &str, path: &str) -> Result<PathBuf, Refused> {
        if name.contains('/') && !name.starts_with('/') {
            return Err(Refused::NotAllowed(format!(
                "{name:?} must be an absolute path, or a name without slashes that is looked up in PATH"
            )));
        }
        let found = locate(name, path);
        if self.any {
            return found.ok_or_else(|| Refused::NotFound(missing(name, path)));
        }
        let asked = found.clone().unwrap_or_else(|| PathBuf::from(name));
        if self.allowed.iter().any(|entry| allows(entry, &asked, path)) {
            return found.ok_or_else(|| Refused::NotFound(missing(name, path)));
        }
        let list = if self.allowed.is_empty() { "none".to_owned() } else { self.allowed.join(", ") };
        let is = if asked.as_os_str() == name { String::new() } else { format!(" ({})", asked.display()) };
        Err(Refused::NotAllowed(format!(
            "program {name:?}{is} is not allowed by this worker's configuration (allowed: {list})"
        )))
    }

    /// What is wrong with the list, if anything.
    pub(super) fn problem(&self, path: &str) -> Option<String> {
        self.allowed.iter().find_map(|entry| match entry {
            entry if entry.is_empty() => Some("a program has no name".to_owned()),
            entry if entry.ends_with('/') => {
                let sound = entry.starts_with('/') && Path::new(entry).is_dir();
                (!sound).then(|| format!("{entry:?} is no directory by an absolute path"))
            }
            entry if entry.contains('/') && !entry.starts_with('/') => {
                Some(format!("{entry:?} must be an absolute path, or a name without slashes"))
            }
            entry => locate(entry, path).is_none().then(|| missing(entry, path)),
        })
    }
}

/// Why a program is not run.
#[derive(Debug)]
pub(super) enum Refused {
    /// No worker with this configuration would run it.
    NotAllowed(String),
    /// It is not here; it may be elsewhere, or later.
    NotFound(String),
}

fn missing(name: &str, path: &str) -> String {
    if name.starts_with('/') {
        format!("{name:?} is no program here")
    } else {
        format!("no program {name:?} in {path}")
    }
}

fn allows(entry: &str, asked: &Path, path: &str) -> bool {
    if entry.ends_with('/') {
        return fs::canonicalize(entry).is_ok_and(|dir| asked.parent() == Some(&dir));
    }
    locate(entry, path).is_some_and(|allowed| allowed == asked) || Path::new(entry) == asked
}

/// The file that is executed under this name, its directory's links followed.
fn locate(name: &str, path: &str) -> Option<PathBuf> {
    let in_dir = |dir: &Path, file: &std::ffi::OsStr| {
        let found = fs::canonicalize(dir).ok()?.join(file);
        let meta = fs::metadata(&found).ok()?;
        (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(found)
    };
    if name.starts_with('/') {
        let whole = Path::new(name);
        return in_dir(whole.parent()?, whole.file_name()?);
    }
    if name.is_empty() || name == "." || name == ".." {
        return None;
    }
    path.split(':').filter(|dir| dir.starts_with('/')).find_map(|dir| in_dir(Path::new(dir), name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/usr/bin:/bin";

    fn programs(allowed: &[&str]) -> Programs {
        Programs { any: false, allowed: allowed.iter().map(|&entry| entry.to_owned()).collect() }
    }

    #[test]
    fn a_program_is_compared_by_the_file_it_is() {
        let list = programs(&["/bin/cat"]);
        assert!(list.find("cat", PATH).is_ok() && list.find("/bin/cat", PATH).is_ok());
        for other in ["sh", "/bin/sh", "./cat", "/bin/../bin/sh", "/tmp/cat", ""] {
            assert!(matches!(list.find(other, PATH), Err(Refused::NotAllowed(_))), "{other}");
        }
        assert!(programs(&["/bin/"]).find("sh", PATH).is_ok());
        assert!(programs(&["/tmp/"]).find("sh", PATH).is_err());
        assert!(matches!(programs(&["/bin/nosuch"]).find("/bin/nosuch", PATH), Err(Refused::NotFound(_))));
    }

    #[test]
    fn a_list_with_a_program_that_is_not_there_is_refused() {
        assert_eq!(programs(&["cat"]).problem(PATH), None);
        assert_eq!(programs(&["nosuch"]).problem(PATH), Some("no program \"nosuch\" in /usr/bin:/bin".to_owned()));
        assert_eq!(
            programs(&["bin/cat"]).problem(PATH),
            Some("\"bin/cat\" must be an absolute path, or a name without slashes".to_owned())
        );
    }
}

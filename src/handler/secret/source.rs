//! Where a secret's value is.

use std::{fs::File, io::Read, path::PathBuf, str::FromStr};

/// Fewest bytes of a secret: masking a shorter one would blacken half of the output.
const BYTES_MIN: usize = 4;
/// Most bytes of a secret.
const BYTES_MAX: usize = 16 * 1024;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A secret's name, and where its value is; never the value itself.
///
/// As text `NAME=env:VARIABLE` or `NAME=file:/path`; `NAME@HOST=...` for one that goes to this host only (or
/// these: `NAME@HOST@HOST=...`).
///
/// ```
/// use watchbell::handler::secret::Secret;
///
/// let secret: Secret = "TOKEN@api.example.com=file:/run/secrets/token".parse()?;
/// assert_eq!((secret.name(), secret.hosts()), ("TOKEN", &["api.example.com".to_owned()][..]));
/// assert!("TOKEN=abc123".parse::<Secret>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    source: Source,
    hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Variable(String),
    File(PathBuf),
}

impl Secret {
    /// The value of an environment variable of the worker.
    pub fn env(name: impl Into<String>, variable: impl Into<String>) -> Self {
        Self { name: name.into(), source: Source::Variable(variable.into()), hosts: vec![] }
    }

    /// The contents of a file, without the last line end.
    pub fn file(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), source: Source::File(path.into()), hosts: vec![] }
    }

    /// Sent by the handler `http` to this host, refused everywhere else; may be called several times.
    #[must_use]
    pub fn only_for(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// What payloads call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hosts that it is only for; none: it may go anywhere.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The value as it is now. Errors name the source and never show the value.
    pub(super) async fn read(&self) -> Result<String, String> {
        let value = match &self.source {
            Source::Variable(variable) => std::env::var_os(variable)
                .ok_or_else(|| format!("environment variable {variable} is not set"))?
                .into_string()
                .map_err(|_| format!("environment variable {variable} is not UTF-8 text"))?,
            Source::File(path) => {
                let (path, shown) = (path.clone(), path.display());
                // a file may be on a device that does not answer
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![];
                    File::open(path)?.take(BYTES_MAX as u64 + 2).read_to_end(&mut bytes).map(|_| bytes)
                });
                let bytes = read.await.map_err(|e| e.to_string())?.map_err(|e| format!("cannot read {shown}: {e}"))?;
                let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
        };
        if (BYTES_MIN..=BYTES_MAX).contains(&value.len()) {
            Ok(value)
        } else {
            Err(format!("its value must have {BYTES_MIN} to {BYTES_MAX} bytes"))
        }
    }
}

impl FromStr for Secret {
    type Err = String;

    /// Says what is wrong without repeating what may be a secret in the wrong place.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be NAME=env:VARIABLE or NAME=file:/path";
        let (names, source) = text.split_once('=').ok_or(FORM)?;
        let mut names = names.split('@');
        let name = names.next().unwrap_or_default();
        let is_sound = |c: u8| c.is_ascii_alphanumeric() || b"_-.".contains(&c);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_sound) {
            return Err(format!("must begin with a name of 1 to {NAME_BYTES_MAX} letters, digits and _ - ."));
        }
        let secret = match source.split_once(':') {
            Some(("env", variable)) if !variable.is_empty() => Self::env(name, variable),
            Some(("file", path)) if !path.is_empty() => Self::file(name, path),
            _ => return Err(format!("{FORM}; the value itself is never given here")),
        };
        names.try_fold(secret, |secret, host| {
            if host.is_empty() { Err("has an empty host after @".to_owned()) } else { Ok(secret.only_for(host)) }
        })
    }
}

//! The configuration file of `worker run` and `up`: its values become arguments of the command line.
//!
//! So every value passes through the parser of its option, and its bounds are said once. An option that stands
//! on the command line or in the environment is left out here: it is stronger than the file.

mod entries;
mod options;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Command, error::ErrorKind, parser::ValueSource};

use super::output::note;
use crate::error::{Error, Result};
use entries::{Entry, entries};
use options::Options;

/// The name of the option that names the file.
const CONFIG: &str = "config";
/// Stands for no file at all.
const NONE: &str = "none";

/// What the file said.
#[derive(Debug, Default)]
pub(crate) struct File {
    path: PathBuf,
    /// Where the values of an option stand, by the option's long name.
    places: BTreeMap<String, Vec<Place>>,
    /// The address of the database, weaker than every variable.
    pub(super) database_url: Option<String>,
}

/// A line, the key on it with its section, and its values.
#[derive(Debug)]
struct Place {
    line: usize,
    key: String,
    values: Vec<String>,
}

impl File {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where this value of an option stands, or the first of its values, if the file gave it.
    pub(crate) fn place(&self, long: &str, value: &str) -> Option<String> {
        let places = self.places.get(long)?;
        let place = places.iter().find(|place| place.values.iter().any(|own| own == value)).or(places.first())?;
        Some(format!("{} line {}: {}", self.path.display(), place.line, place.key))
    }

    /// Reads the file that these arguments, the environment or the usual places name, if the command takes
    /// one; appends its values to the arguments.
    ///
    /// # Errors
    /// [`Error::Invalid`] names file, line and key; [`Error::Io`] for a file that was named and cannot be read.
    pub(super) fn append(command: &Command, arguments: &mut Vec<OsString>) -> Result<Option<Self>> {
        let mut command = command.clone();
        command.build();
        let Some(matches) = look(&command, arguments) else { return Ok(None) };
        let (leaf, matches) = leaf(&command, &matches);
        if !leaf.get_arguments().any(|arg| arg.get_id() == CONFIG) {
            return Ok(None);
        }
        let Some(path) = path(matches) else { return Ok(None) };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::io(format!("reading the configuration file {}", path.display()), error))?;
        let options = Options::of(&command);
        let found = entries(&text, &options)
            .map_err(|(line, problem)| Error::invalid(format!("{} line {line}", path.display()), problem))?;
        warn_of_passwords(&path, &text);
        let mut file = Self { path, ..Self::default() };
        let off = switched_off(&found, leaf, matches);
        for Entry { long, section, key, line, values } in found {
            if off.contains(&section) {
                continue;
            }
            let place = Place { line, key, values: values.clone() };
            if long == "database-url" {
                file.database_url = values.into_iter().next();
                file.places.insert(long, vec![place]);
                continue;
            }
            let Some(arg) = leaf.get_arguments().find(|arg| arg.get_long() == Some(&long)) else { continue };
            let source = matches.value_source(arg.get_id().as_str());
            if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
                continue;
            }
            let is_flag = !arg.get_action().takes_values();
            arguments.extend(values.into_iter().filter(|value| !is_flag || value == "true").map(|value| {
                let text = if is_flag { format!("--{long}") } else { format!("--{long}={value}") };
                OsString::from(text)
            }));
            file.places.entry(long).or_default().push(place);
        }
        Ok(Some(file))
    }
}

/// A first look at the arguments; `None` if they are wrong whatever the file says, which the real parser tells.
fn look(command: &Command, arguments: &[OsString]) -> Option<ArgMatches> {
    match command.clone().try_get_matches_from(arguments) {
        Ok(matches) => Some(matches),
        // the file may give what is missing
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            command.clone().ignore_errors(true).try_get_matches_from(arguments).ok()
        }
        Err(_) => None,
    }
}

/// The sections with `enable = false`, unless an option or a variable is stronger: the rest of such a section
/// counts as not written, since options of a handler that is off are refused.
fn switched_off(found: &[Entry], leaf: &Command, matches: &ArgMatches) -> Vec<String> {
    let is_off = |entry: &&Entry| {
        let switch = leaf.get_arguments().find(|arg| arg.get_long() == Some(&entry.long));
        entry.long == format!("enable-{}", entry.section)
            && entry.values == ["false"]
            && switch.is_some_and(|switch| !matches.get_flag(switch.get_id().as_str()))
    };
    found.iter().filter(is_off).map(|entry| entry.section.clone()).collect()
}

/// The command that was called, below all nouns.
pub(super) fn leaf<'a>(command: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    let below = matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
    below.map_or((command, matches), |(command, matches)| leaf(command, matches))
}

/// The file that is named, else the user's, else the machine's.
fn path(matches: &ArgMatches) -> Option<PathBuf> {
    if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
        return Some(path.clone()).filter(|path| path != Path::new(NONE));
    }
    let of_user = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let of_user = of_user.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let usual = of_user.into_iter().chain([PathBuf::from("/etc")]).map(|dir| dir.join("watchbell.toml"));
    usual.into_iter().find(|path| path.is_file())
}

/// A file with a password that everybody on the host may read is worth a word.
#[cfg(unix)]
fn warn_of_passwords(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let is_open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    let has_password = text.lines().any(|line| {
        let user = line.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        user.is_some_and(|user| user.contains(':') && !user.contains('/'))
    });
    if is_open && has_password {
        let path = path.display();
        note(&format!(
            "warning: {path} holds a password, and every user of this host may read it; run: chmod o-r {path}"
        ));
    }
}

#[cfg(not(unix))]
fn warn_of_passwords(_: &Path, _: &str) {}

impl File {
    /// What every option of the called command is set to, and by what.
    pub(super) fn effective(command: &Command, matches: &ArgMatches, file: Option<&Self>) -> Vec<Effective> {
        let mut command = command.clone();
        command.build();
        let (leaf, matches) = leaf(&command, matches);
        let mut rows = vec![];
        for arg in leaf.get_arguments() {
            let (Some(long), Some(source)) = (arg.get_long(), matches.value_source(arg.get_id().as_str())) else {
                continue;
            };
            let Some(raw) = matches.get_raw(arg.get_id().as_str()).filter(|_| !arg.is_hide_set()) else { continue };
            let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
            let value = if arg.is_hide_env_values_set() || long == "database-url" {
                "***".to_owned()
            } else {
                values.join(",")
            };
            let source = match source {
                ValueSource::CommandLine => {
                    file.and_then(|file| file.place(long, &value)).unwrap_or_else(|| format!("--{long}"))
                }
                ValueSource::EnvVariable => {
                    arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                }
                _ => "default".to_owned(),
            };
            rows.push(Effective { option: long.to_owned(), value, source });
        }
        rows
    }
}

/// An option's value, and where it comes from.
#[derive(Debug, serde::Serialize)]
pub(super) struct Effective {
    pub(super) option: String,
    pub(super) value: String,
    pub(super) source: String,
}

//! What may stand in the file: the options of the worker, by section and short name.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

/// The commands whose options the file may hold.
const COMMANDS: [&[&str]; 2] = [&["worker", "run"], &["up"]];
/// Options of one invocation.
const NOT_IN_FILES: [&str; 5] = ["config", "help", "version", "output", "json"];

/// Options by section and key. The section of what stands above all sections is empty.
#[derive(Debug)]
pub(super) struct Options {
    by_section: BTreeMap<String, BTreeMap<String, Known>>,
}

/// One option.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) long: String,
    pub(super) is_flag: bool,
    pub(super) is_list: bool,
    /// Its values are pairs, `NAME=...`.
    pub(super) is_named: bool,
}

impl Options {
    /// Of a command that was built.
    pub(super) fn of(command: &Command) -> Self {
        let mut by_section: BTreeMap<String, BTreeMap<String, Known>> = BTreeMap::new();
        for path in COMMANDS {
            let leaf = path.iter().try_fold(command, |command, name| command.find_subcommand(name));
            let arguments = leaf.into_iter().flat_map(Command::get_arguments);
            for arg in arguments.filter(|arg| !arg.is_hide_set()) {
                let Some(long) = arg.get_long().filter(|long| !NOT_IN_FILES.contains(long)) else { continue };
                let section = section(arg);
                let known = Known {
                    long: long.to_owned(),
                    is_flag: !arg.get_action().takes_values(),
                    is_list: arg.get_value_delimiter().is_some() || matches!(arg.get_action(), ArgAction::Append),
                    is_named: arg.get_value_names().is_some_and(|names| names[0].contains('=')),
                };
                let short = short(long, &section, &known);
                by_section.entry(section).or_default().insert(short, known);
            }
        }
        Self { by_section }
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        self.by_section.keys().map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn has_section(&self, section: &str) -> bool {
        !section.is_empty() && self.by_section.contains_key(section)
    }

    /// The option of this key: its short name, or the whole one of the command line.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&Known> {
        let keys = self.by_section.get(section)?;
        keys.get(key).or_else(|| keys.values().find(|known| known.long.replace('-', "_") == key))
    }

    pub(super) fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        self.by_section.get(section).into_iter().flat_map(|keys| keys.keys().map(String::as_str))
    }
}

/// `sql` for what stands under "The handler sql" in the help.
fn section(arg: &Arg) -> String {
    match arg.get_help_heading() {
        None => "worker".to_owned(),
        Some("Global options") => String::new(),
        Some(heading) => heading.rsplit(' ').next().unwrap_or_default().to_lowercase(),
    }
}

/// `enable_sql` is `enable` in the section `sql`, `http_allow` is `allow`, and `sql_login`, which may be given
/// several times, `logins`.
fn short(long: &str, section: &str, known: &Known) -> String {
    let words: Vec<&str> = long.split('-').filter(|word| *word != section).collect();
    let mut short = words.join("_");
    if known.is_list && known.is_named && !short.ends_with('s') {
        short.push('s');
    }
    short
}

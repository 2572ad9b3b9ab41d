//! What a run asks for, read key by key so that each mistake is answered in one sentence.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::limits::Limit;
use super::nearest;

const KEYS: [&str; 10] =
    ["argv", "command", "env", "cwd", "stdin", "run_as", "umask", "limits", "success_exit_codes", "fatal_exit_codes"];

/// Most arguments of a command.
const ARGV_MAX: usize = 1000;
/// Most variables in `env`, and codes in a list.
const LIST_MAX: usize = 256;

/// The payload of the handler `shell`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) what: What,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: Option<String>,
    pub(super) stdin: Option<String>,
    pub(super) run_as: Option<String>,
    pub(super) umask: Option<u32>,
    pub(super) limits: BTreeMap<Limit, u64>,
    pub(super) success_exit_codes: Vec<i32>,
    pub(super) fatal_exit_codes: Vec<i32>,
}

/// A program with its arguments, or a line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Argv(Vec<String>),
    Command(String),
}

impl Payload {
    /// Reads a JSON object, or says what is wrong with it.
    pub(super) fn read(object: &Map<String, Value>) -> Result<Self, String> {
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(format!("unknown key {key:?}; {}", nearest(key, KEYS)));
        }
        let what = match (object.get("argv"), object.get("command")) {
            (Some(argv), None) => What::Argv(argv_of(argv)?),
            (None, Some(command)) => {
                let line = text("command", command)?;
                if line.trim().is_empty() {
                    return Err("\"command\" is empty".to_owned());
                }
                What::Command(line)
            }
            (Some(_), Some(_)) => return Err("\"argv\" and \"command\" exclude each other".to_owned()),
            (None, None) => return Err("either \"argv\" or \"command\" is needed".to_owned()),
        };
        let optional = |key: &str| object.get(key).filter(|value| !value.is_null());
        let optional_text = |key: &str| optional(key).map(|value| text(key, value)).transpose();
        let codes = |key: &str| optional(key).map(|value| codes(key, value)).transpose();
        let payload = Self {
            what,
            env: optional("env").map(env).transpose()?.unwrap_or_default(),
            cwd: optional_text("cwd")?,
            stdin: optional("stdin").map(stdin).transpose()?,
            run_as: optional_text("run_as")?,
            umask: optional_text("umask")?.map(|text| umask(&text)).transpose()?,
            limits: optional("limits").map(limits).transpose()?.unwrap_or_default(),
            success_exit_codes: codes("success_exit_codes")?.unwrap_or_else(|| vec![0]),
            fatal_exit_codes: codes("fatal_exit_codes")?.unwrap_or_default(),
        };
        if payload.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
            return Err(format!("\"cwd\" {:?} must be an absolute path", payload.cwd.unwrap_or_default()));
        }
        Ok(payload)
    }
}

fn argv_of(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("\"argv\" must be a list of 1 to {ARGV_MAX} strings, not {}", shown(value));
    let list = value.as_array().filter(|list| (1..=ARGV_MAX).contains(&list.len())).ok_or_else(wrong)?;
    let argv = list.iter().enumerate().map(|(n, value)| text(&format!("argv[{n}]"), value));
    let argv = argv.collect::<Result<Vec<_>, _>>()?;
    if argv[0].is_empty() {
        return Err("\"argv[0]\" is empty".to_owned());
    }
    Ok(argv)
}

/// A string that a system call can take.
fn text(key: &str, value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("\"{key}\" must be a string, not {}", shown(value)))?;
    if text.contains('\0') {
        return Err(format!("\"{key}\" has a NUL character, which no program can be given"));
    }
    Ok(text.to_owned())
}

/// Any bytes that JSON can say; what is no string is given as JSON.
fn stdin(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => serde_json::to_string(other).map_err(|e| format!("\"stdin\": {e}")),
    }
}

fn env(value: &Value) -> Result<Vec<(String, String)>, String> {
    let object = value.as_object().filter(|object| object.len() <= LIST_MAX);
    let object = object.ok_or_else(|| {
        format!("\"env\" must be an object of at most {LIST_MAX} names and values, not {}", shown(value))
    })?;
    let pairs = object.iter().map(|(name, value)| {
        variable(name).map_err(|problem| format!("\"env\": {problem}"))?;
        Ok((name.clone(), text(&format!("env.{name}"), value)?))
    });
    pairs.collect()
}

/// Refuses names that could not be set, and those that change which code is run rather than what it does.
pub(super) fn variable(name: &str) -> Result<(), String> {
    let sound = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !sound {
        return Err(format!("{name:?} must be letters, digits and _, no digit first"));
    }
    let of_loader = name.starts_with("LD_") || name.starts_with("DYLD_") || name.starts_with("GLIBC_");
    let of_shell = ["BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "IFS", "PATH", "GCONV_PATH"].contains(&name);
    if of_loader || of_shell {
        return Err(format!("{name} decides which code is run: only the worker's configuration may"));
    }
    if name.starts_with("WATCHBELL_") {
        return Err(format!("{name}: names that begin with WATCHBELL_ are the worker's"));
    }
    Ok(())
}

/// An umask in octal digits, as `umask` takes it.
pub(crate) fn umask(text: &str) -> Result<u32, String> {
    let value = u32::from_str_radix(text, 8).ok().filter(|value| *value <= 0o777);
    value.ok_or_else(|| format!("umask {text:?} must be 000 to 777 in octal digits"))
}

fn limits(value: &Value) -> Result<BTreeMap<Limit, u64>, String> {
    let object = value.as_object();
    let object = object.ok_or_else(|| format!("\"limits\" must be an object, not {}", shown(value)))?;
    let limits = object.iter().map(|(name, value)| {
        let limit = Limit::named(name)?;
        let value = match value {
            Value::String(text) => limit.value(text)?,
            value => value.as_u64().ok_or_else(|| {
                format!("limit {limit} must be a whole number, or a string with its unit, not {}", shown(value))
            })?,
        };
        Ok((limit, value))
    });
    limits.collect()
}

fn codes(key: &str, value: &Value) -> Result<Vec<i32>, String> {
    let wrong = || format!("\"{key}\" must be a list of at most {LIST_MAX} exit codes, 0 to 255, not {}", shown(value));
    let list = value.as_array().filter(|list| list.len() <= LIST_MAX).ok_or_else(wrong)?;
    let code = |value: &Value| value.as_i64().filter(|code| (0..=255).contains(code)).ok_or_else(wrong);
    list.iter().map(|value| code(value).map(|code| i32::try_from(code).unwrap_or_default())).collect()
}

/// A value in a message, at most so long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Payload, String> {
        Payload::read(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_key_is_read() {
        let payload = read(
            r#"{"argv": ["tar", "c"], "env": {"A": "1"}, "cwd": "/tmp", "stdin": {"a": 1}, "run_as": "app",
                "umask": "027", "limits": {"cpu": "1m", "open_files": 64}, "success_exit_codes": [0, 1],
                "fatal_exit_codes": [2]}"#,
        );
        let expected = Payload {
            what: What::Argv(vec!["tar".to_owned(), "c".to_owned()]),
            env: vec![("A".to_owned(), "1".to_owned())],
            cwd: Some("/tmp".to_owned()),
            stdin: Some("{\"a\":1}".to_owned()),
            run_as: Some("app".to_owned()),
            umask: Some(0o27),
            limits: BTreeMap::from([(Limit::Cpu, 60), (Limit::OpenFiles, 64)]),
            success_exit_codes: vec![0, 1],
            fatal_exit_codes: vec![2],
        };
        assert_eq!(payload, Ok(expected));
    }

    #[test]
    fn mistakes_are_named_with_key_value_and_limit() {
        for (json, sentence) in [
            ("{}", "either \"argv\" or \"command\" is needed"),
            (r#"{"arg": ["a"]}"#, "unknown key \"arg\"; did you mean \"argv\"?"),
            (r#"{"argv": ["a"], "command": "b"}"#, "\"argv\" and \"command\" exclude each other"),
            (r#"{"argv": "ls -l"}"#, "\"argv\" must be a list of 1 to 1000 strings, not \"ls -l\""),
            (r#"{"argv": []}"#, "\"argv\" must be a list of 1 to 1000 strings, not []"),
            (r#"{"argv": ["a", 5]}"#, "\"argv[1]\" must be a string, not 5"),
            (r#"{"argv": ["a\u0000b"]}"#, "\"argv[0]\" has a NUL character, which no program can be given"),
            (r#"{"command": " "}"#, "\"command\" is empty"),
            (r#"{"command": "a", "cwd": "tmp"}"#, "\"cwd\" \"tmp\" must be an absolute path"),
            (
                r#"{"command": "a", "success_exit_codes": [256]}"#,
                "\"success_exit_codes\" must be a list of at most 256 exit codes, 0 to 255, not [256]",
            ),
            (
                r#"{"command": "a", "env": {"LD_PRELOAD": "x.so"}}"#,
                "\"env\": LD_PRELOAD decides which code is run: only the worker's configuration may",
            ),
            (r#"{"command": "a", "env": {"A": 1}}"#, "\"env.A\" must be a string, not 1"),
            (r#"{"command": "a", "umask": "8"}"#, "umask \"8\" must be 000 to 777 in octal digits"),
            (
                r#"{"command": "a", "limits": {"cpu": -1}}"#,
                "limit cpu must be a whole number, or a string with its unit, not -1",
            ),
        ] {
            assert_eq!(read(json), Err(sentence.to_owned()), "{json}");
        }
    }
}

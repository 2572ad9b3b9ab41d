//! YAML as a way to write what JSON says: fields a line each, texts quoted as soon as they could mean something else.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The value as a document.
pub(super) fn text(value: &impl Serialize) -> Result<String> {
    // through text, since a payload is kept as the text it came as
    let value = serde_json::to_string(value).and_then(|text| serde_json::from_str(&text));
    let value: Value = value.map_err(|e| Error::io("writing YAML", e.into()))?;
    let mut text = String::new();
    write(&mut text, &value, 0);
    Ok(text)
}

/// Lines at this depth, each with its end; a list stands at the depth of its name.
fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                text.push_str(&format!("{indent}{}:", scalar(name)));
                below(text, value, depth + usize::from(value.is_object()));
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                // the first line of what is in it follows the dash
                let mut inner = String::new();
                write(&mut inner, item, depth + 1);
                text.push_str(&format!("{indent}- {}", inner.trim_start_matches(' ')));
            }
        }
        value => text.push_str(&format!("{indent}{}\n", leaf(value))),
    }
}

/// After `name:`: the value on the same line, or what it holds on those below.
fn below(text: &mut String, value: &Value, depth: usize) {
    let is_leaf = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if is_leaf {
        text.push_str(&format!(" {}\n", leaf(value)));
    } else {
        text.push('\n');
        write(text, value, depth);
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// The text plain if nothing else can be read into it, else quoted as in JSON, which YAML reads alike.
fn scalar(text: &str) -> String {
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", ".inf", ".nan"];
    let first = text.chars().next().unwrap_or(' ');
    let is_number = text.parse::<f64>().is_ok();
    let starts_plain = first.is_ascii_alphabetic() || (first.is_ascii_digit() && text.contains(' '));
    let is_plain = starts_plain
        && !is_number
        && !text.ends_with(' ')
        && !words.contains(&text.to_lowercase().as_str())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./*,@()+=".contains(c));
    if is_plain { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

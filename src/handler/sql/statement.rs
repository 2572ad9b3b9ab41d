//! What a payload asks for, checked before it is sent.

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgConnection};

/// Most arguments of one statement.
const ARGS_MAX: usize = 1000;

/// The payload of the handler `sql`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    pub(super) statement: String,
    #[serde(default)]
    args: Vec<Box<RawValue>>,
    #[serde(rename = "as")]
    pub(super) login: Option<String>,
}

/// One statement and its arguments.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    text: &'a str,
    args: Vec<Option<String>>,
    /// Keys of the rows it is about, a list for each column.
    keys: Vec<Vec<&'a str>>,
}

impl<'a> Statement<'a> {
    /// The payload's, or why it cannot be executed here.
    pub(super) fn of(payload: &'a Payload) -> Result<Self, String> {
        let word = first_word(&payload.statement).to_ascii_lowercase();
        match word.as_str() {
            "" => return Err("\"statement\" is empty".to_owned()),
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" | "prepare" => {
                return Err(format!(
                    "\"statement\" begins with {}: the run's end is recorded in the statement's own transaction, \
                     so it cannot control that transaction",
                    word.to_uppercase()
                ));
            }
            "set" | "reset" | "discard" | "listen" | "unlisten" => {
                return Err(format!(
                    "\"statement\" begins with {}: the session is shared with other runs; \
                     use set_config(name, value, true) within a statement",
                    word.to_uppercase()
                ));
            }
            "copy" => return Err("\"statement\" begins with COPY: a run has no data stream".to_owned()),
            _ => {}
        }
        if payload.args.len() > ARGS_MAX {
            return Err(format!("\"args\" has {} values, at most {ARGS_MAX} are allowed", payload.args.len()));
        }
        Ok(Self { text: &payload.statement, args: payload.args.iter().map(|arg| text_of(arg)).collect(), keys: vec![] })
    }

    /// Its own arguments.
    pub(super) fn args(&self) -> &[Option<String>] {
        &self.args
    }

    /// The same with this text, over rows with these keys.
    pub(super) fn over(self, text: &'a str, keys: &'a [Vec<String>]) -> Self {
        let width = keys.first().map_or(0, Vec::len);
        let column = |n: usize| keys.iter().map(|key| key[n].as_str()).collect();
        Self { text, args: self.args, keys: (0..width).map(column).collect() }
    }

    /// Executes it and answers how many rows it touched or returned.
    pub(super) async fn execute(&self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        // Not prepared under a name: a plan kept by the session would outlive changes of the user's tables.
        let query = sqlx::query(AssertSqlSafe(self.text.to_owned())).persistent(false);
        let query = self.args.iter().fold(query, |query, arg| query.bind(arg));
        let query = self.keys.iter().fold(query, |query, column| query.bind(column));
        query.execute(connection).await.map(|done| done.rows_affected())
    }
}

/// A string as it is, null as NULL, all else as its JSON text, to the last digit.
fn text_of(arg: &RawValue) -> Option<String> {
    match arg.get() {
        "null" => None,
        text => Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())),
    }
}

/// The first word, after blanks, comments and brackets.
fn first_word(statement: &str) -> &str {
    let mut rest = statement;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            after_comment(comment)
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            return if rest.is_empty() { "" } else { &rest[..end.max(1).min(rest.len())] };
        };
    }
}

/// What follows a block comment; they nest.
fn after_comment(text: &str) -> &str {
    let (mut depth, mut rest) = (1, text);
    while depth > 0 {
        let Some(at) = rest.find("/*").into_iter().chain(rest.find("*/")).min() else { return "" };
        depth = if rest[at..].starts_with("/*") { depth + 1 } else { depth - 1 };
        rest = &rest[at + 2..];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        let payload: Payload = serde_json::from_str(json).unwrap();
        Statement::of(&payload).err().unwrap_or_default()
    }

    #[test]
    fn control_of_the_transaction_is_refused_behind_comments_too() {
        for text in ["COMMIT", "  rollback", "/* a /* b */ c */ begin", "-- x\\n end", ";start transaction", "(abort"] {
            let said = refusal(&format!("{{\"statement\": \"{text}\"}}"));
            assert!(said.contains("cannot control that transaction"), "{text}: {said}");
        }
        assert!(refusal("{\"statement\": \"set role to x\"}").contains("shared with other runs"));
        assert!(refusal("{\"statement\": \"copy t from stdin\"}").contains("no data stream"));
        for text in
            ["select 1", "with a as (select 1) select 1", "committed", "\u{e9}t\u{e9}", "é", "update setting set a = 1"]
        {
            assert_eq!(refusal(&format!("{{\"statement\": \"{text}\"}}")), "", "{text}");
        }
        for text in ["", "  -- only a comment", "/* never closed"] {
            assert_eq!(refusal(&format!("{{\"statement\": \"{text}\"}}")), "\"statement\" is empty");
        }
    }

    #[test]
    fn arguments_become_text_to_the_last_digit() {
        let payload =
            r#"{"statement": "x", "args": [null, "null", "a\nb", 12345678901234567890.10, true, {"a": [1]}]}"#;
        let payload: Payload = serde_json::from_str(payload).unwrap();
        let args: Vec<Option<String>> = Statement::of(&payload).unwrap().args;
        let args: Vec<Option<&str>> = args.iter().map(Option::as_deref).collect();
        let expected =
            [None, Some("null"), Some("a\nb"), Some("12345678901234567890.10"), Some("true"), Some("{\"a\": [1]}")];
        assert_eq!(args, expected);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<Payload>(r#"{"statement": "x", "login": "y"}"#).is_err());
    }
}

//! A statement over the rows that a watch has taken: it sees them, whole, as the relation `claimed`.

use std::fmt::Write;

use super::statement::{Payload, Statement};
use crate::handler::{
    StatementOver,
    lexer::{Kind, pieces},
};

/// The payload's statement as part of the transaction that moves the rows.
pub(super) fn over(payload: &Payload, claimed: &dyn Fn(usize) -> String) -> Result<StatementOver, String> {
    if let Some(login) = &payload.login {
        return Err(format!(
            "\"as\": \"{login}\" would be another session, which cannot be part of the transaction that moves the rows"
        ));
    }
    merged(payload, claimed)
}

/// The payload's statement with `claimed` among its common table expressions: `claimed` gives the query for its rows,
/// whose parameters stand behind the statement's own.
pub(super) fn merged(payload: &Payload, claimed: &dyn Fn(usize) -> String) -> Result<StatementOver, String> {
    let args = Statement::of(payload)?.args().len();
    let text = &payload.statement;
    let with = format!("claimed as materialized ({})", claimed(args + 1));
    let mut words = words(text);
    let (at, first) = words.next().ok_or("\"statement\" is empty")?;
    let mut merged = String::with_capacity(text.len() + with.len() + 8);
    let _ = match first.to_ascii_lowercase().as_str() {
        "with" => {
            let end = match words.next() {
                Some((at, word)) if word.eq_ignore_ascii_case("recursive") => at + word.len(),
                _ => at + first.len(),
            };
            write!(merged, "{} {with}, {}", &text[..end], &text[end..])
        }
        "select" | "insert" | "update" | "delete" | "merge" | "(" => {
            write!(merged, "{}with {with} {}", &text[..at], &text[at..])
        }
        _ => {
            return Err(format!(
                "\"statement\" begins with {}: in a watch it is one SELECT, INSERT, UPDATE, DELETE or MERGE, which may \
                 have a WITH before it",
                first.to_uppercase()
            ));
        }
    };
    Ok(StatementOver { text: merged, args })
}

/// Words and brackets outside of comments, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    pieces(text)
        .map(move |(kind, piece)| {
            at += piece.len();
            (kind, at - piece.len(), piece)
        })
        .filter(|(kind, _, _)| !matches!(kind, Kind::Blank | Kind::Comment))
        .map(|(_, at, piece)| (at, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(statement: &str, args: &str) -> Result<String, String> {
        let json = format!("{{\"statement\": {}, \"args\": {args}}}", serde_json::Value::from(statement));
        let payload: Payload = serde_json::from_str(&json).unwrap();
        over(&payload, &|first| format!("t ${first}")).map(|over| over.text)
    }

    #[test]
    fn claimed_joins_what_the_statement_has_before_it() {
        for (statement, args, wanted) in [
            (
                "insert into a select id from claimed",
                "[]",
                "with claimed as materialized (t $1) insert into a select id from claimed",
            ),
            (
                "/* with */ With b as (select 1) select 1",
                "[1]",
                "/* with */ With claimed as materialized (t $2),  b as (select 1) select 1",
            ),
            (
                "with -- x\n recursive r as (select 1) delete from r",
                "[]",
                "with -- x\n recursive claimed as materialized (t $1),  r as (select 1) delete from r",
            ),
            ("(select 1)", "[1, 2]", "with claimed as materialized (t $3) (select 1)"),
        ] {
            let text = text_of(statement, args).unwrap();
            assert_eq!(text.replace("  ", " "), wanted.replace("  ", " "), "{statement}");
        }
        for refused in ["do $$ begin end $$", "call x()", "truncate a", "create table x ()"] {
            assert!(
                text_of(refused, "[]").unwrap_err().contains("SELECT, INSERT, UPDATE, DELETE or MERGE"),
                "{refused}"
            );
        }
        let payload: Payload = serde_json::from_str(r#"{"statement": "select 1", "as": "x"}"#).unwrap();
        assert!(over(&payload, &|_| String::new()).unwrap_err().contains("another session"));
    }
}

//! Names and values as they stand in SQL. Nothing else in this program quotes.

/// A name: `"Host Name"`, a quote in it doubled.
pub fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A name within a schema.
pub fn qualified(schema: &str, text: &str) -> String {
    format!("{}.{}", name(schema), name(text))
}

/// A string: `'it''s'`; with a backslash in it `E'..'`, so that no setting of the session changes its meaning.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A name as a person would type it: bare where that means the same.
pub fn shown(text: &str) -> String {
    let is_bare = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&text);
    if is_bare { text.to_owned() } else { name(text) }
}

/// Reserved words that people do call tables and columns.
const RESERVED: [&str; 24] = [
    "all",
    "analyse",
    "analyze",
    "array",
    "case",
    "check",
    "column",
    "default",
    "desc",
    "end",
    "from",
    "group",
    "limit",
    "offset",
    "order",
    "primary",
    "references",
    "select",
    "table",
    "to",
    "union",
    "user",
    "when",
    "where",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_or_value_holds_stays_inside_its_quotes() {
        assert_eq!(name("a\"; drop table x"), "\"a\"\"; drop table x\"");
        assert_eq!(qualified("My Schema", "Über"), "\"My Schema\".\"Über\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\' or true --"), "E'a\\\\'' or true --'");
        assert_eq!([shown("hosts"), shown("Hosts"), shown("order")], ["hosts", "\"Hosts\"", "\"order\""]);
    }
}

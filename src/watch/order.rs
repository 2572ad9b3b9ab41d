//! In which order rows are taken: the column `order_by`, read and written anew.

use super::quote;

/// One column of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The column's name, without quotes.
    pub column: String,
    /// Largest first.
    pub desc: bool,
}

/// Reads `priority desc, "Created at"`. Names fold to lower case unless quoted, as in SQL.
///
/// # Errors
/// One sentence that begins with `order_by`.
pub fn read(text: &str) -> Result<Vec<By>, String> {
    let refuse = |part: &str| format!("order_by: \"{}\" is not a column with an optional asc or desc", part.trim());
    let mut order = vec![];
    let mut rest = text.trim();
    loop {
        let (column, after) = column(rest).ok_or_else(|| refuse(rest))?;
        let end = after.find(',');
        let direction = after[..end.unwrap_or(after.len())].trim().to_ascii_lowercase();
        let desc = match direction.as_str() {
            "" | "asc" => false,
            "desc" => true,
            _ => return Err(refuse(rest)),
        };
        if order.iter().any(|by: &By| by.column == column) {
            return Err(format!("order_by: column {} stands there twice", quote::shown(&column)));
        }
        order.push(By { column, desc });
        match end {
            None => return Ok(order),
            Some(end) => rest = after[end + 1..].trim_start(),
        }
    }
}

/// The name that a text begins with, and what follows it.
fn column(text: &str) -> Option<(String, &str)> {
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let end = rest.find('"')?;
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            let Some(more) = rest.strip_prefix('"') else { break };
            name.push('"');
            rest = more;
        }
        return (!name.is_empty()).then_some((name, rest));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(text.len());
    let is_name = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    is_name.then(|| (text[..end].to_lowercase(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_as_sql_reads_them() {
        let by = |column: &str, desc| By { column: column.to_owned(), desc };
        assert_eq!(read("Priority DESC, created_at").unwrap(), [by("priority", true), by("created_at", false)]);
        assert_eq!(read(" \"A \"\"b\"\", c\" desc").unwrap(), [by("A \"b\", c", true)]);
        for bad in ["", "a,", "lower(a)", "a nulls first", "a; drop table b", "1", "\"a", "a b"] {
            assert!(read(bad).unwrap_err().starts_with("order_by: "), "{bad}");
        }
        assert!(read("a, A").unwrap_err().contains("twice"));
    }
}

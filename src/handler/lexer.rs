//! Where strings, comments and brackets of a text in SQL begin and end. No more is understood of it.

/// What a piece of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or a bare name.
    Word,
    /// A string or a quoted name, of any form.
    Quoted,
    /// One that does not end.
    Unclosed,
    /// `-- ...` or `/* ... */`.
    Comment,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// `;`
    Semicolon,
    /// `$1`
    Parameter,
    /// Blanks.
    Blank,
    /// Whatever else, a character.
    Other,
}

/// The pieces of a text in their order; together they are the text.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = (Kind, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (kind, length) = piece(rest)?;
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some((kind, piece))
    })
}

/// Checks a condition that will stand in brackets of its own: it can neither end them nor hide their end.
pub(crate) fn condition(text: &str) -> Result<(), String> {
    let mut open = vec![];
    let mut is_empty = true;
    for (kind, piece) in pieces(text) {
        is_empty &= kind == Kind::Blank;
        match kind {
            Kind::Unclosed => return Err(format!("a quote or comment is not closed: {}", start(piece))),
            Kind::Comment => return Err(format!("a comment is not allowed here: {}", start(piece))),
            Kind::Semicolon => return Err("it is one condition, without a semicolon".to_owned()),
            Kind::Parameter => return Err(format!("{piece} has no value here")),
            Kind::Open => open.push(piece),
            Kind::Close if open.pop() != Some(if piece == ")" { "(" } else { "[" }) => {
                return Err(format!("\"{piece}\" closes nothing"));
            }
            _ => {}
        }
    }
    match open.pop() {
        Some(bracket) => Err(format!("\"{bracket}\" is not closed")),
        None if is_empty => Err("it is empty; leave it out to take every row".to_owned()),
        None => Ok(()),
    }
}

/// The start of a text, as much as a sentence bears.
fn start(text: &str) -> String {
    text.chars().take(20).collect()
}

/// What stands at the start of a text, and how many bytes it has.
fn piece(text: &str) -> Option<(Kind, usize)> {
    let first = text.chars().next()?;
    let closed = |end: Option<usize>, kind| end.map_or((Kind::Unclosed, text.len()), |end| (kind, end));
    Some(match first {
        '\'' => closed(after_quote(text, '\'', false), Kind::Quoted),
        '"' => closed(after_quote(text, '"', false), Kind::Quoted),
        'e' | 'E' if text[1..].starts_with('\'') => {
            closed(after_quote(&text[1..], '\'', true).map(|end| end + 1), Kind::Quoted)
        }
        '-' if text.starts_with("--") => (Kind::Comment, text.find('\n').unwrap_or(text.len())),
        '/' if text.starts_with("/*") => closed(after_comment(text), Kind::Comment),
        '$' => dollar(text),
        '(' | '[' => (Kind::Open, 1),
        ')' | ']' => (Kind::Close, 1),
        ';' => (Kind::Semicolon, 1),
        c if c.is_whitespace() => (Kind::Blank, text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len())),
        c if c.is_alphanumeric() || c == '_' => {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
            (Kind::Word, end.unwrap_or(text.len()))
        }
        other => (Kind::Other, other.len_utf8()),
    })
}

/// Where a quoted text ends; a doubled quote stays inside, and so does one behind a backslash where that escapes.
fn after_quote(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && escapes {
            characters.next();
        } else if c == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => drop(characters.next()),
                _ => return Some(at + 1),
            }
        }
    }
    None
}

/// Where a comment of the form `/* */` ends; they nest.
fn after_comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let next = [text[at..].find("/*"), text[at..].find("*/")].into_iter().flatten().min()?;
        depth = if text[at + next..].starts_with("/*") { depth + 1 } else { depth - 1 };
        at += next + 2;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// `$1`, or a string between `$tag$` and the same again.
fn dollar(text: &str) -> (Kind, usize) {
    let digits = text[1..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| end + 1);
    if digits > 1 {
        return (Kind::Parameter, digits);
    }
    let Some(tag) = text[1..].find('$').map(|end| &text[..end + 2]) else { return (Kind::Other, 1) };
    if !tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return (Kind::Other, 1);
    }
    match text[tag.len()..].find(tag) {
        Some(end) => (Kind::Quoted, end + 2 * tag.len()),
        None => (Kind::Unclosed, text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_text() {
        for text in ["", "a 'b''c' \"d\"\"e\" -- f", "E'\\'' || $x$ ' $x$ + $1 /* /* */ */", "é – 'ü", "$a b$", "1e'"]
        {
            assert_eq!(pieces(text).map(|(_, piece)| piece).collect::<String>(), text);
        }
    }

    #[test]
    fn a_condition_stays_within_its_brackets() {
        for good in
            ["a = 1", "a = ')' and (b or c[1] = 2)", "x = $$;--$$", "\"a;b\" is null", "E'\\')' = c", "a - -1 > 0"]
        {
            assert_eq!(condition(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("a) or (true", "\")\" closes nothing"),
            ("(a]", "\"]\" closes nothing"),
            ("(a", "\"(\" is not closed"),
            ("a; drop table b", "without a semicolon"),
            ("a -- b", "a comment is not allowed"),
            ("a /* b */", "a comment is not allowed"),
            ("a = 'b", "is not closed"),
            ("E'\\' = a", "is not closed"),
            ("a = $1", "$1 has no value"),
            ("$x$ a", "is not closed"),
            ("  ", "it is empty"),
        ] {
            let refused = condition(bad).unwrap_err();
            assert!(refused.contains(said), "{bad}: {refused}");
        }
    }
}

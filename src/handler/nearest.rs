//! "Did you mean": the known word that a misspelt one was meant to be.

/// Names the word it was probably meant to be, as the end of a sentence; empty if none is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let reach = (word.chars().count() / 3).clamp(1, 3);
    let near = known.into_iter().map(|known| (distance(word, known), known)).filter(|(far, _)| *far <= reach);
    near.min().map_or_else(String::new, |(_, known)| format!("; did you mean \"{known}\"?"))
}

/// How many letters must be added, left out, replaced or exchanged with their neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_if_it_is_near() {
        let known = ["url", "method", "headers", "expect_body"];
        assert_eq!(did_you_mean("header", known), "; did you mean \"headers\"?");
        assert_eq!(did_you_mean("ulr", known), "; did you mean \"url\"?");
        assert_eq!(did_you_mean("expectBody", known), "; did you mean \"expect_body\"?");
        assert_eq!(did_you_mean("verify", known), "");
    }
}

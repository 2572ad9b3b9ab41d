//! The forms in which a secret shows up in output.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Shortest piece that is masked on its own (a line, the inside of base64), in bytes: shorter ones are
/// found in text that has nothing to do with the secret.
const PIECE_MIN: usize = 8;

/// What may stay as it is in an address, beside letters and digits: nothing more, or all but what parsers of
/// paths and queries escape.
const UNESCAPED: [&str; 4] =
    ["-._~", "!$%&'()*+,-./:;=@[\\]^_|~", "!$%&'()*+,-./:;=@[\\]_|~", "!$%&()*+,-./:;=?@[\\]^_`{|}~"];

/// The secret as it is and in lower case (host names), escaped as in JSON, HTML and addresses, inside base64,
/// and line by line.
pub(super) fn forms(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::from([secret.as_bytes().to_vec(), json(secret).into_bytes()]);
    found.insert(secret.to_ascii_lowercase().into_bytes());
    found.extend([false, true].map(|slashes| ascii_json(secret, slashes).into_bytes()));
    for (quote, apostrophe) in [("&quot;", "&#39;"), ("&#34;", "&#x27;"), ("\"", "'")] {
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        found.insert(html.replace('"', quote).replace('\'', apostrophe).into_bytes());
    }
    for form in UNESCAPED.iter().flat_map(|plain| [percent(secret, plain, "%20"), percent(secret, plain, "+")]) {
        found.insert(form.to_ascii_lowercase().into_bytes());
        found.insert(form.into_bytes());
    }
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= PIECE_MIN);
    found.extend(lines.map(|line| line.as_bytes().to_vec()));
    found.extend(within_base64(secret.as_bytes()));
    found
}

fn json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As writers of JSON do who keep to ASCII; some escape slashes too.
fn ascii_json(secret: &str, slashes: bool) -> String {
    json(secret).chars().fold(String::new(), |mut text, letter| {
        match letter {
            '/' if slashes => text.push_str("\\/"),
            letter if letter.is_ascii() => text.push(letter),
            letter => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
        text
    })
}

/// Everything but letters, digits and these as `%XX`.
fn percent(secret: &str, plain: &str, blank: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b if b.is_ascii_alphanumeric() || plain.as_bytes().contains(&b) => text.push(char::from(b)),
            b' ' => text.push_str(blank),
            b => drop(write!(text, "%{b:02X}")),
        }
        text
    })
}

/// What of the base64 text depends on the secret alone, wherever it stands in what was encoded: it may begin
/// at the first, second or third byte of a group (`user:password` of basic authentication).
fn within_base64(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const IN_ADDRESSES: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let pieces = [STANDARD, IN_ADDRESSES].into_iter().flat_map(move |alphabet| {
        (0..3_usize).map(move |before| {
            let bits = |at: usize| -> Option<usize> {
                // six bits from this one on, if all of them are the secret's
                let byte = |index: usize| secret.get(index.checked_sub(before)?).map(|b| usize::from(*b));
                let (first, shift) = (at / 8, at % 8);
                let value = if shift <= 2 {
                    byte(first)? >> (2 - shift)
                } else {
                    (byte(first)? << (shift - 2)) | (byte(first + 1)? >> (10 - shift))
                };
                Some(value & 63)
            };
            (0..(before + secret.len()) * 8).step_by(6).filter_map(bits).map(|bits| alphabet[bits]).collect::<Vec<u8>>()
        })
    });
    pieces.filter(|piece| piece.len() >= PIECE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_in_its_usual_disguises() {
        let forms = forms("pa ss\"/wörd12");
        for disguise in [
            "pa ss\"/wörd12",
            "pa ss\\\"/wörd12",
            "pa ss\\\"/w\\u00f6rd12",
            "pa ss\\\"\\/w\\u00f6rd12",
            "pa ss&quot;/wörd12",
            "pa%20ss%22%2Fw%C3%B6rd12",
            "pa%20ss%22%2fw%c3%b6rd12",
            "pa+ss%22%2Fw%C3%B6rd12",
            "pa%20ss%22/w%C3%B6rd12",
            "cGEgc3MiL3fDtnJkMT", // printf 'pa ss"/wörd12' | base64, without its last, incomplete letter
        ] {
            assert!(forms.contains(disguise.as_bytes()), "{disguise} is not among {forms:?}");
        }
        // printf 'u:pa ss"/wörd12' | base64 is dTpwYSBzcyIvd8O2cmQxMg==
        assert!(
            forms.iter().any(|f| !f.is_empty() && "dTpwYSBzcyIvd8O2cmQxMg==".contains(&*String::from_utf8_lossy(f)))
        );
    }

    #[test]
    fn short_lines_are_not_masked_alone() {
        let forms = forms("-----BEGIN KEY-----\nab\nlonger line\n");
        assert!(forms.contains(&b"longer line"[..]) && !forms.contains(&b"ab"[..]));
    }
}

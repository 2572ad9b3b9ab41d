//! Secrets by reference: only what the worker declares, at every attempt anew, and `***` wherever they show up.

use proptest::prelude::*;
use serde_json::json;
use watchbell::handler::secret::{Mask, Secret, Secrets};

#[tokio::test]
async fn a_reference_is_replaced_wherever_a_string_may_stand() {
    let dir = Directory::new("replaced");
    let secrets: Secrets = [Secret::file("TOKEN", dir.file("token", "s3cr3t\n"))].into_iter().collect();
    let mut payload = json!({
        "a": {"$secret": "TOKEN"},
        "b": [1, {"c": {"$secret": "TOKEN", "prefix": "Bearer "}}],
        "$secrets": "TOKEN"
    });
    let mask = secrets.resolve(&mut payload).await.unwrap();
    assert_eq!(payload, json!({"a": "s3cr3t", "b": [1, {"c": "Bearer s3cr3t"}], "$secrets": "TOKEN"}));
    assert_eq!(mask.text(&payload.to_string()), r#"{"$secrets":"TOKEN","a":"***","b":[1,{"c":"Bearer ***"}]}"#);
    assert_eq!(format!("{mask:?}"), "Mask(***)");

    // a file that changed is seen by the next attempt
    dir.file("token", "0ther\r\n");
    let mut payload = json!({"$secret": "TOKEN"});
    secrets.resolve(&mut payload).await.unwrap();
    assert_eq!(payload, json!("0ther"));
}

#[tokio::test]
async fn only_declared_secrets_of_a_sound_length_exist() {
    let dir = Directory::new("declared");
    let secrets: Secrets = [
        Secret::file("SHORT", dir.file("short", "abc")),
        Secret::file("LONG", dir.file("long", &"x".repeat(16 * 1024 + 1))),
        Secret::file("GONE", dir.path("gone")),
        Secret::env("UNSET", "WATCHBELL_TEST_THAT_IS_NOT_SET"),
        Secret::file("BOUND", dir.file("bound", "for one host")).only_for("api.example.com"),
    ]
    .into_iter()
    .collect();
    for (payload, expected) in [
        (json!({"$secret": "PATH"}), "this worker's configuration has no secret \"PATH\" (it has: BOUND, GONE, LONG"),
        (json!({"$secret": 7}), "a secret is referred to by {\"$secret\": \"NAME\"}"),
        (json!({"$secret": "SHORT", "suffix": "x"}), "a secret is referred to by"),
        (json!({"$secret": "SHORT"}), "secret \"SHORT\": its value must have 4 to 16384 bytes"),
        (json!({"$secret": "LONG"}), "secret \"LONG\": its value must have 4 to 16384 bytes"),
        (json!({"$secret": "GONE"}), "No such file"),
        (json!({"$secret": "UNSET"}), "environment variable WATCHBELL_TEST_THAT_IS_NOT_SET is not set"),
        (
            json!({"$secret": "BOUND"}),
            "secret \"BOUND\" is declared for the host api.example.com and goes nowhere else",
        ),
        (json!(vec![json!({"$secret": "SHORT"}); 101]), "at most 100 times"),
    ] {
        let said = secrets.resolve(&mut payload.clone()).await.unwrap_err().to_string();
        assert!(said.contains(expected), "{payload}: {said}");
    }
    let said = secrets.check().await.unwrap_err().to_string();
    assert!(said.starts_with("secret GONE: cannot read "), "{said}");
}

#[test]
fn a_declaration_never_repeats_what_may_be_a_value() {
    for (text, expected) in [
        ("TOKEN", "must be NAME=env:VARIABLE or NAME=file:/path"),
        ("TOKEN=hunter2", "must be NAME=env:VARIABLE or NAME=file:/path; the value itself is never given here"),
        ("A B=env:X", "must begin with a name of 1 to 128 letters, digits and _ - ."),
        ("A@=env:X", "has an empty host after @"),
        ("A=env:", "must be NAME=env:VARIABLE or NAME=file:/path; the value itself is never given here"),
    ] {
        assert_eq!(text.parse::<Secret>().unwrap_err(), expected, "{text}");
    }
}

#[test]
fn a_stream_that_is_cut_off_does_not_end_in_the_beginning_of_a_secret() {
    let mask = Mask::of(["correct horse"]);
    let mut out = vec![];
    let mut masking = mask.stream();
    masking.push(b"it is correct ho", &mut out);
    masking.cut(&mut out);
    assert_eq!(out, b"it is ***");
}

#[test]
fn what_is_held_back_is_no_longer_than_a_secret() {
    let mask = Mask::of(["aaaaaaaaaaaaaaaab"]);
    let (mut masking, mut out, mut given) = (mask.stream(), vec![], 0);
    for _ in 0..1000 {
        masking.push(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &mut out);
        given += 35;
        assert!(given - out.len() < 17);
    }
}

proptest! {
    /// Against a mask that sees all bytes at once and marks every byte of every occurrence.
    #[test]
    fn chunks_make_no_difference(
        secrets in prop::collection::vec("[ab]{4,7}", 1..4),
        pieces in prop::collection::vec("[abc]{0,12}", 0..20),
    ) {
        let mask = Mask::of(&secrets);
        let whole = pieces.concat();
        let (mut masking, mut out) = (mask.stream(), vec![]);
        for piece in &pieces {
            masking.push(piece.as_bytes(), &mut out);
        }
        masking.finish(&mut out);
        // escaped forms of these are the same; base64 of theirs has capitals, which no piece has
        prop_assert_eq!(String::from_utf8(out).unwrap(), naive(&whole, &secrets));
        prop_assert_eq!(mask.text(&whole), naive(&whole, &secrets));
    }

    /// No secret survives, whatever its letters and wherever it stands.
    #[test]
    fn no_secret_survives(
        secret in "[ -~äß€\n]{4,20}",
        before in "[ -~]{0,9}",
        after in "[ -~]{0,9}",
        at in 0..40_usize,
    ) {
        prop_assume!(!"***".contains(&secret));
        let text = format!("{before}{secret}{after}");
        let (mut masking, mut out) = (Mask::of([&secret]).stream(), vec![]);
        let (head, tail) = text.as_bytes().split_at(at.min(text.len()));
        masking.push(head, &mut out);
        masking.push(tail, &mut out);
        masking.finish(&mut out);
        let out = String::from_utf8_lossy(&out).into_owned();
        prop_assert!(out.contains("***"), "{out}");
        prop_assert!(!out.replace("***", "\u{0}").contains(&secret), "{out}");
    }
}

fn naive(text: &str, secrets: &[String]) -> String {
    let mut covered = vec![false; text.len()];
    for secret in secrets {
        for at in 0..text.len() {
            if text[at..].starts_with(secret.as_str()) {
                covered[at..at + secret.len()].fill(true);
            }
        }
    }
    let mut masked = String::new();
    for (at, letter) in text.chars().enumerate() {
        match (covered[at], at > 0 && covered[at - 1]) {
            (false, _) => masked.push(letter),
            (true, false) => masked.push_str("***"),
            (true, true) => {}
        }
    }
    masked
}

/// Removed at its end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("watchbell-secrets-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

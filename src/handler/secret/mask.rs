//! `***` in the place of secrets, in text and in streams of bytes.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::forms::forms;

const STARS: &[u8] = b"***";

/// Replaces every occurrence of some secrets by `***`, also where they are escaped or inside base64.
///
/// Cheap to clone. The default masks nothing.
#[derive(Clone, Default)]
pub struct Mask {
    /// What is looked for, the longest first, by its first byte; `None`: nothing.
    patterns: Option<Arc<[Vec<Vec<u8>>; 256]>>,
}

impl fmt::Debug for Mask {
    /// Says nothing about what is masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Mask(nothing)" } else { "Mask(***)" })
    }
}

impl Mask {
    /// Of these secrets, in all the forms in which they show up.
    pub fn of<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut all = BTreeSet::new();
        for secret in secrets {
            all.extend(forms(secret.as_ref()));
        }
        all.remove(&[][..]);
        if all.is_empty() {
            return Self::default();
        }
        let mut patterns = [const { Vec::new() }; 256];
        for form in all {
            patterns[usize::from(form[0])].push(form);
        }
        for list in &mut patterns {
            list.sort_by_key(|form| std::cmp::Reverse(form.len()));
        }
        Self { patterns: Some(Arc::new(patterns)) }
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_none()
    }

    /// The text with its secrets masked.
    pub fn text(&self, text: &str) -> String {
        // what is left between two masked pieces of valid text is valid, but for a piece that began amid a letter
        String::from_utf8(self.bytes(text.as_bytes()))
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// The bytes with their secrets masked.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(bytes.len());
        let mut masking = self.stream();
        masking.push(bytes, &mut masked);
        masking.finish(&mut masked);
        masked
    }

    /// A filter for bytes that come in chunks.
    pub fn stream(&self) -> Masking {
        Masking { mask: self.clone(), held: vec![], covered: 0, is_masking: false }
    }

    /// How many of the first bytes begin nothing that is looked for.
    fn plain(&self, bytes: &[u8]) -> usize {
        let Some(patterns) = &self.patterns else { return bytes.len() };
        bytes.iter().position(|byte| !patterns[usize::from(*byte)].is_empty()).unwrap_or(bytes.len())
    }

    /// What begins at the first of these bytes.
    fn look(&self, bytes: &[u8]) -> Found {
        let (Some(patterns), Some(first)) = (&self.patterns, bytes.first()) else { return Found::Nothing };
        for pattern in &patterns[usize::from(*first)] {
            if bytes.starts_with(pattern) {
                return Found::Secret(pattern.len());
            }
            if pattern.starts_with(bytes) {
                return Found::Perhaps;
            }
        }
        Found::Nothing
    }
}

enum Found {
    Nothing,
    /// The longest that begins here has this many bytes.
    Secret(usize),
    /// These bytes are all there are yet, and a secret could begin with them.
    Perhaps,
}

/// A filter for bytes that come in chunks: secrets are found across their borders.
///
/// Holds back what may become a secret, at most as many bytes as the longest form of one. Secrets that touch
/// or overlap are masked as one.
#[derive(Debug)]
pub struct Masking {
    mask: Mask,
    /// Bytes whose fate is open.
    held: Vec<u8>,
    /// How many of the next bytes belong to a secret that was found.
    covered: usize,
    /// Whether the byte before belonged to one.
    is_masking: bool,
}

impl Masking {
    /// Takes a chunk; appends to `out` what is certain now.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.mask.is_empty() {
            out.extend_from_slice(chunk);
            return;
        }
        self.held.extend_from_slice(chunk);
        self.advance(out, false);
    }

    /// The end of the stream: appends the rest.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.advance(out, true);
    }

    /// The stream goes on but is no longer read: what is held back may be the beginning of a secret, and is
    /// masked.
    pub fn cut(self, out: &mut Vec<u8>) {
        if !self.held.is_empty() && !self.is_masking {
            out.extend_from_slice(STARS);
        }
    }

    fn advance(&mut self, out: &mut Vec<u8>, is_end: bool) {
        let mut at = 0;
        while at < self.held.len() {
            // most bytes begin no secret
            let plain = if self.covered == 0 { self.mask.plain(&self.held[at..]) } else { 0 };
            if plain > 0 {
                out.extend_from_slice(&self.held[at..at + plain]);
                self.is_masking = false;
                at += plain;
                continue;
            }
            let found = match self.mask.look(&self.held[at..]) {
                Found::Perhaps if !is_end => break,
                // the bytes are the last: shorter forms may be complete
                Found::Perhaps => self.complete(at),
                Found::Secret(bytes) => bytes,
                Found::Nothing => 0,
            };
            self.covered = self.covered.max(found);
            if self.covered == 0 {
                out.push(self.held[at]);
                self.is_masking = false;
            } else {
                self.covered -= 1;
                if !std::mem::replace(&mut self.is_masking, true) {
                    out.extend_from_slice(STARS);
                }
            }
            at += 1;
        }
        self.held.drain(..at);
    }

    /// The longest form that is complete here.
    fn complete(&self, at: usize) -> usize {
        let (bytes, patterns) = (&self.held[at..], self.mask.patterns.as_deref());
        let list = patterns.map(|patterns| &patterns[usize::from(bytes[0])]);
        list.into_iter().flatten().find(|pattern| bytes.starts_with(pattern)).map_or(0, Vec::len)
    }
}

//! The body of an answer: read up to a limit, without the secrets that it may repeat.

use reqwest::Response;

use crate::handler::{Context, secret::Mask};

/// What was kept of an answer's body.
#[derive(Debug)]
pub(super) struct Body {
    /// With secrets masked; what is not UTF-8 is replaced.
    pub(super) masked: String,
    /// As it came.
    raw: Vec<u8>,
    /// Whether there was more.
    pub(super) is_cut: bool,
}

impl Body {
    /// Reads until the end or until there are this many bytes.
    pub(super) async fn read(response: &mut Response, most: usize, mask: &Mask) -> reqwest::Result<Self> {
        let (mut raw, mut is_cut) = (vec![], false);
        while let Some(chunk) = response.chunk().await? {
            let room = most - raw.len();
            raw.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                is_cut = true;
                break;
            }
        }
        let (mut masking, mut masked) = (mask.stream(), vec![]);
        masking.push(&raw, &mut masked);
        if is_cut {
            masking.cut(&mut masked);
        } else {
            masking.finish(&mut masked);
        }
        let masked = String::from_utf8(masked).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok(Self { masked, raw, is_cut })
    }

    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// What a pattern is matched against.
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.raw)
    }

    /// The beginning, on one line, for an error message.
    pub(super) fn beginning(&self) -> String {
        const CHARS: usize = 300;
        let line = self.masked.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut beginning: String = line.chars().filter(|c| !c.is_control()).take(CHARS).collect();
        if line.chars().nth(CHARS).is_some() {
            beginning.push('…');
        }
        beginning
    }

    /// Writes it to the run's output, in few pieces: each costs a place in the writer's queue.
    pub(super) fn log(&self, ctx: &Context) {
        const PIECE_BYTES: usize = 12 * 1024;
        let mut rest = self.masked.trim_end_matches('\n');
        while !rest.is_empty() {
            let most =
                (0..=PIECE_BYTES.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            // at the end of a line, if there is one
            let end =
                if most < rest.len() { rest[..most].rfind('\n').filter(|at| *at > 0).unwrap_or(most) } else { most };
            ctx.log(&rest[..end]);
            rest = rest[end..].strip_prefix('\n').unwrap_or(&rest[end..]);
        }
    }
}

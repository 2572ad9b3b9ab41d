//! What comes out of one of a command's pipes, on its way to the run's output.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::handler::secret::{Mask, Masking};
use crate::handler::{Context, Stream};

/// Read at once from a pipe, which holds 64 KiB.
const READ: usize = 32 * 1024;

/// Longest end of standard error that stands in a message.
const LAST_WORDS: usize = 1024;

/// One stream of a command. Secrets are masked first: what is kept, cut or quoted of it never had them.
#[derive(Debug)]
pub(super) struct Printed<'a> {
    ctx: &'a Context,
    stream: Stream,
    /// None where nothing is masked: then bytes are not copied.
    masking: Option<Masking>,
    masked: Vec<u8>,
    last: Vec<u8>,
    complete: bool,
}

impl<'a> Printed<'a> {
    pub(super) fn new(ctx: &'a Context, stream: Stream, mask: &Mask) -> Self {
        let masking = (!mask.is_empty()).then(|| mask.stream());
        Self { ctx, stream, masking, masked: vec![], last: vec![], complete: false }
    }

    /// Reads to the end, always: a command never waits for the database.
    pub(super) async fn pump(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut bytes = vec![0; READ];
        while let Ok(read) = pipe.read(&mut bytes).await {
            if read == 0 {
                self.complete = true;
                return;
            }
            self.take(&bytes[..read]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(masking) = &mut self.masking else {
            self.ctx.output(self.stream, bytes);
            return keep_end(&mut self.last, bytes);
        };
        self.masked.clear();
        masking.push(bytes, &mut self.masked);
        self.put();
    }

    fn put(&mut self) {
        self.ctx.output(self.stream, &self.masked);
        keep_end(&mut self.last, &self.masked);
    }

    /// Puts out what was held back, as it could have become a secret; answers the last bytes of all.
    ///
    /// What was broken off, because it was not read to its end or the command was killed, may end amid a secret.
    pub(super) fn end(mut self, was_broken_off: bool) -> Vec<u8> {
        if let Some(masking) = self.masking.take() {
            self.masked.clear();
            if self.complete && !was_broken_off {
                masking.finish(&mut self.masked);
            } else {
                masking.cut(&mut self.masked);
            }
            self.put();
        }
        self.last
    }
}

/// Keeps the last bytes of all.
fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    let more = &bytes[bytes.len().saturating_sub(LAST_WORDS)..];
    let excess = (kept.len() + more.len()).saturating_sub(LAST_WORDS);
    kept.drain(..excess);
    kept.extend_from_slice(more);
}

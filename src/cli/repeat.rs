//! `--watch`: a list again and again, until Ctrl-C.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::Setting;
use super::value;
use crate::error::Result;

/// The option of lists that show what changes.
#[derive(Debug, Clone, Args)]
pub(super) struct Repeat {
    /// List it again every so often, until Ctrl-C [default: 2s].
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = value::seconds(1..=86_400))]
    watch: Option<Duration>,
}

impl Repeat {
    /// Calls it once, or until nobody reads it any more; on a terminal each time on an empty screen.
    pub(super) async fn show(&self, setting: &Setting, mut list: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        loop {
            if self.watch.is_some() && setting.output.is_terminal() {
                setting.output.write("\x1b[H\x1b[2J\x1b[3J")?;
            }
            list().await?;
            match self.watch {
                Some(pause) if !setting.output.is_closed() => sleep(pause).await,
                _ => return Ok(()),
            }
        }
    }
}

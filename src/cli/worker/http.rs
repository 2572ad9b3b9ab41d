//! The options of the handler `http`.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::cli::value;
use crate::handler::http::{Allowed, Http};
use crate::handler::secret::Secrets;

/// Whether and where the handler `http` may call.
#[derive(Debug, Args)]
#[command(next_help_heading = "The handler http")]
pub(in crate::cli) struct HttpArgs {
    /// Let runs of the handler http call public web addresses.
    #[arg(long, env = "WATCHBELL_ENABLE_HTTP", value_parser = BoolishValueParser::new())]
    pub(super) enable_http: bool,
    /// Let it call these too, with commas between: localhost:8080, 10.1.2.3, 10.0.0.0/8.
    ///
    /// Host names, addresses and networks, with a port if only that one is meant. Loopback, private, link-local
    /// and other special addresses are refused otherwise.
    #[arg(long, env = "WATCHBELL_HTTP_ALLOW", value_name = "HOSTS", value_delimiter = ',', requires = "enable_http")]
    http_allow: Vec<Allowed>,
    /// How long a call may take if its payload does not say, 1s to 1d.
    #[arg(long, env = "WATCHBELL_HTTP_TIMEOUT", value_name = "DURATION", default_value = "1m", value_parser = value::seconds(1..=86_400))]
    http_timeout: Duration,
    /// How long connecting may take, 1s to 5m.
    #[arg(long, env = "WATCHBELL_HTTP_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = value::seconds(1..=300))]
    http_connect_timeout: Duration,
    /// How much of an answer is read and kept, 0 to 16777216 bytes.
    #[arg(long, env = "WATCHBELL_HTTP_RESPONSE_BYTES", value_name = "N", default_value_t = 65_536, value_parser = value::number(0..=16_777_216))]
    http_response_bytes: u32,
}

impl HttpArgs {
    /// The handler as configured.
    pub(super) fn handler(&self, secrets: Secrets) -> Http {
        let http = Http::new()
            .secrets(secrets)
            .timeout(self.http_timeout)
            .connect_timeout(self.http_connect_timeout)
            .response_bytes(self.http_response_bytes as usize);
        self.http_allow.iter().cloned().fold(http, Http::allow)
    }
}

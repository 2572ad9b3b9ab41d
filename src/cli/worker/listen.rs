//! Where a worker listens for HTTP, and what it answers there.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::error::Result;
use crate::server::{Address, DEFAULT_PORT, Recorder, Server, bind, bind_somewhere};
use crate::worker::{Builder, Health};

/// The options of the HTTP port.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListenArgs {
    /// Answer /metrics, /healthz and /readyz at this address [default: off; 127.0.0.1:8077 for up].
    ///
    /// Port 0 is any that is free. For up, so is the default one if it is taken.
    #[arg(long, env = "WATCHBELL_LISTEN", value_name = "ADDRESS")]
    pub(in crate::cli) listen: Option<Address>,
    /// Let --listen name an address that other machines can reach. There is no login.
    #[arg(long, env = "WATCHBELL_LISTEN_PUBLIC", value_parser = BoolishValueParser::new())]
    listen_public: bool,
    /// If the port of --listen is taken, any that is free will do.
    #[arg(long, hide = true)]
    listen_nearby: bool,
    /// Without --listen, listen on the default port of the loopback interface.
    #[arg(skip)]
    pub(in crate::cli) by_default: bool,
}

/// A port that is bound and a recorder that is installed: the worker may start.
pub(super) struct Port {
    listener: tokio::net::TcpListener,
    recorder: Recorder,
}

impl ListenArgs {
    /// Binds the address, if there is to be one.
    pub(super) async fn port(&self) -> Result<Option<Port>> {
        let listener = match self.listen {
            Some(Address::At(address)) if self.listen_nearby => bind_somewhere(address.port()).await?,
            Some(Address::At(address)) => bind(address, self.listen_public).await?,
            None if self.by_default => bind_somewhere(DEFAULT_PORT).await?,
            Some(Address::Off) | None => return Ok(None),
        };
        Ok(Some(Port { listener, recorder: Recorder::install()? }))
    }
}

impl Port {
    /// The worker whose metrics it shows.
    pub(super) fn measured(&self, builder: Builder) -> Builder {
        builder.cluster_metrics(true)
    }

    /// Answers from now on.
    pub(super) fn open(self, health: Health) -> Result<Server> {
        let server = Server::start(self.listener, self.recorder, health)?;
        tracing::info!("listening on http://{} for /metrics, /healthz and /readyz", server.address());
        Ok(server)
    }
}

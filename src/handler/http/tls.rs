//! How https is spoken: with the certificate authorities of the host, and without a provider for the process.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use rustls_platform_verifier::Verifier;

use crate::handler::HandlerResult;

/// What every connection is configured with; made at the first call.
#[derive(Debug, Default)]
pub(super) struct Tls {
    made: OnceLock<(ClientConfig, Option<String>)>,
}

impl Tls {
    pub(super) fn config(&self) -> ClientConfig {
        self.made().0.clone()
    }

    /// Whether https can be spoken at all; it may come true when certificates are installed and the worker restarted.
    pub(super) fn check(&self) -> HandlerResult {
        match &self.made().1 {
            None => Ok(()),
            Some(problem) => {
                Err(format!("this worker's host has no certificate authorities to check https with: {problem}").into())
            }
        }
    }

    fn made(&self) -> &(ClientConfig, Option<String>) {
        self.made.get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let (mut config, problem) = match Verifier::new(Arc::clone(&provider)) {
                Ok(verifier) => {
                    let config = versions(provider).dangerous().with_custom_certificate_verifier(Arc::new(verifier));
                    (config.with_no_client_auth(), None)
                }
                Err(error) => {
                    let nobody = versions(provider).with_root_certificates(RootCertStore::empty());
                    (nobody.with_no_client_auth(), Some(error.to_string()))
                }
            };
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            (config, problem)
        })
    }
}

/// All versions that rustls speaks.
fn versions(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(error) => unreachable!("ring speaks TLS 1.2 and 1.3: {error}"),
    }
}

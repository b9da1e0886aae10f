//! TLS for `https`: the certificates of servers are always checked, against the roots that this
//! system trusts.
//!
//! There is no switch to turn that off. Whoever runs a server with a root of his own names it in
//! `SSL_CERT_FILE` or `SSL_CERT_DIR`, as for other programs. Why rustls:
//! `docs/decisions/0007-tls-by-rustls-and-the-roots-of-the-system.md`.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The roots, read when they are needed for the first time.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    config: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
}

/// Why there is no safe connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "no root certificates on this system: install ca-certificates or name a file in \
         SSL_CERT_FILE"
    )]
    NoRoots,
    #[error("{0:?} is no host name")]
    Name(String),
    #[error("the certificate {0}")]
    Certificate(&'static str),
    #[error("TLS: {0}")]
    Other(String),
}

impl Tls {
    /// Shakes hands over `stream` with the server of this name.
    pub(super) fn connect<S: Read + Write>(
        &self,
        host: &str,
        mut stream: S,
    ) -> io::Result<StreamOwned<ClientConnection, S>> {
        let config = self.config.get_or_init(system_config).clone();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_: InvalidDnsNameError| TlsError::Name(host.to_owned()));
        let mut connection = config
            .and_then(|config| Ok((config, name?)))
            .and_then(|(config, name)| {
                ClientConnection::new(config, name).map_err(|error| tls_error(&error))
            })
            .map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    #[cfg(test)]
    pub(crate) fn with_roots(roots: RootCertStore) -> Self {
        Self {
            config: OnceLock::from(client_config(roots)),
        }
    }
}

impl TlsError {
    /// What TLS has to say about an error of a stream, if it was one of TLS.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        inner
            .downcast_ref::<Self>()
            .cloned()
            .or_else(|| inner.downcast_ref::<rustls::Error>().map(tls_error))
    }
}

fn system_config() -> Result<Arc<ClientConfig>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a root certificate cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "root certificates");
    if added == 0 {
        return Err(TlsError::NoRoots);
    }
    client_config(roots)
}

fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_error(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of errors is open")]
fn tls_error(error: &rustls::Error) -> TlsError {
    let rustls::Error::InvalidCertificate(why) = error else {
        return TlsError::Other(match error {
            rustls::Error::InvalidMessage(_) => "the server does not speak it".to_owned(),
            error => error.to_string(),
        });
    };
    TlsError::Certificate(match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; is the clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name"
        }
        CertificateError::UnknownIssuer => "is signed by nobody whom this system trusts",
        CertificateError::Revoked => "is revoked",
        CertificateError::BadSignature => "has a bad signature",
        _ => "is not valid",
    })
}

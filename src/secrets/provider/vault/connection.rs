//! Connections to the server: TCP, and TLS where the address says so.

use crate::diag::Diagnostic;
use crate::secrets::codes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The certificates that the system trusts, as Debian keeps them.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the server is, and who may vouch for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// True where TLS is spoken.
    pub tls: bool,
    /// A name or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Certificates in PEM form that may vouch for it; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Makes connections to one server.
pub struct Connector {
    server: Server,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    /// For a server; reads the certificates that may vouch for it.
    ///
    /// # Errors
    /// When there are none, or the server's name is none that a certificate can hold.
    pub fn new(server: &Server) -> Result<Self, Diagnostic> {
        if !server.tls {
            return Ok(Self { server: server.clone(), tls: None });
        }
        let file = server.ca_file.as_deref().unwrap_or(Path::new(SYSTEM));
        let wrong = |what: String| {
            Diagnostic::error(codes::VAULT_UNREACHABLE, format!("{}: {what}", file.display())).hint(
                "`ca_file` under [secrets] names the certificates, in PEM form, of the authority that signed the server's; without it Debian's package ca-certificates counts",
            )
        };
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            // The system's collection holds certificates that this implementation finds fault with.
            if let Err(error) = roots.add(certificate)
                && server.ca_file.is_some()
            {
                return Err(wrong(error.to_string()));
            }
        }
        if roots.is_empty() {
            return Err(wrong("no certificate in it".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(server.host.clone()).map_err(|_| {
            wrong(format!("`{}` is no name that a certificate could hold", server.host))
        })?;
        Ok(Self { server: server.clone(), tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    /// A new connection.
    ///
    /// # Errors
    /// When nobody answers, or nobody vouches for who does.
    pub async fn connect(&self) -> Result<Box<dyn Stream>, Diagnostic> {
        let server = &self.server;
        let stream =
            TcpStream::connect((server.host.as_str(), server.port)).await.map_err(|error| {
                unreachable(server, &error.to_string()).hint(
                    "is it running, and may this host reach it? `address` under [secrets] names it",
                )
            })?;
        // Small messages there and back; waiting to fill a packet would only delay them.
        stream.set_nodelay(true).map_err(|error| unreachable(server, &error.to_string()))?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| {
                    unreachable(server, &format!("TLS: {error}")).hint(
                        "nothing was sent to it. `ca_file` under [secrets] names the authority that signed the server's certificate, which must hold the name in `address`",
                    )
                })?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// The diagnostic for a server that is not there.
pub fn unreachable(server: &Server, reason: &str) -> Diagnostic {
    Diagnostic::error(
        codes::VAULT_UNREACHABLE,
        format!("the secrets at {server} cannot be reached: {reason}"),
    )
}

//! Why a server did not answer.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

/// Why a server did not answer, worded as Go words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The name has no address.
    #[error("{0}")]
    Name(String),
    /// Nobody listens there.
    #[error("dial tcp {address}: connect: {cause}")]
    Dial {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        cause: String,
    },
    /// The server could not prove who it is, or wants a proof of the client.
    #[error("tls: failed to verify certificate: x509: {0}")]
    Certificate(String),
    /// The two ends do not speak the same TLS.
    #[error("remote error: tls: {0}")]
    Tls(String),
    /// It took too long.
    #[error("context deadline exceeded")]
    Deadline,
    /// The answer is larger than is taken.
    #[error("response is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// Certificates or keys cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl RemoteError {
    pub(crate) fn dial(address: SocketAddr, error: &io::Error) -> Self {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "connection timed out".to_owned(),
            _ => error.to_string(),
        };
        Self::Dial { address, cause }
    }

    pub(crate) fn handshake(error: &io::Error) -> Self {
        use rustls::CertificateError as Bad;
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(bad)) => Self::Certificate(match bad {
                Bad::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. } => "certificate has expired or is not yet valid".to_owned(),
                other => other.to_string(),
            }),
            Some(other) => Self::Tls(other.to_string()),
            None => Self::Broken(error.to_string()),
        }
    }

    /// The error of ours that a client's error was made of, or its text.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        let mut last = String::new();
        while let Some(one) = cause {
            if let Some(own) = one.downcast_ref::<RemoteError>() {
                return own.clone();
            }
            last = one.to_string();
            cause = one.source();
        }
        Self::Broken(last)
    }
}

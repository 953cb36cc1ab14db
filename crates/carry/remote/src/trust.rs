//! Whom to trust, and who one is.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::RemoteError;
use crate::pinned::Pinned;

/// Who vouches for a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authorities {
    /// Those that the system trusts.
    System,
    /// These certificates (PEM), and no others.
    Bundle(Vec<u8>),
    /// Nobody: any certificate will do. For `insecureSkipTLSVerify`, and for pods, whose certificates nobody here knows.
    Anybody,
}

/// A client's certificate chain and key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

/// TLS of a client.
///
/// # Errors
/// When certificates or keys cannot be read, or the system trusts nobody.
pub fn client_tls(
    authorities: &Authorities,
    identity: Option<&Identity>,
) -> Result<ClientConfig, RemoteError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match authorities {
        Authorities::System => builder.with_platform_verifier().map_err(unusable)?,
        Authorities::Bundle(pem) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned(pem, &provider)?))
        }
        Authorities::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(unusable)?;
            builder.with_client_auth_cert(chain(&identity.certificate)?, key).map_err(unusable)
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Unusable(error.to_string())
}

pub(crate) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RemoteError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unusable)
}

/// A verifier that takes a bundle's word.
pub(crate) fn pinned(bundle: &[u8], provider: &Arc<CryptoProvider>) -> Result<Pinned, RemoteError> {
    let certificates = chain(bundle)?;
    if certificates.is_empty() {
        return Err(unusable("unable to load root certificates: unable to parse bytes as PEM block"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    let authorities =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(Pinned { authorities: authorities.map_err(unusable)?, certificates })
}

/// Takes any certificate, yet wants proof that its key is there.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

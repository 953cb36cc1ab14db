//! Where a request comes from, and which authority vouches for a client's certificate.

use std::path::Path;
use std::sync::Arc;

use plimsoll_pki::Subject;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::server::{StartError, roots};
use crate::user::User;

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Over TLS.
    Remote(Certified),
    /// From a part of this process.
    Inside(User),
}

/// What a client's certificate proves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certified {
    /// The user that an authority of clients vouches for.
    pub(crate) client: Option<Subject>,
    /// The proxy that the authority of front proxies vouches for.
    pub(crate) proxy: Option<Subject>,
    /// There is a certificate at all.
    pub(crate) present: bool,
}

/// Checks clients' certificates.
#[derive(Clone, Debug)]
pub(crate) struct Verifiers {
    clients: Arc<dyn ClientCertVerifier>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

impl Verifiers {
    /// Of the authorities in two files.
    pub(crate) fn read(clients: &Path, proxies: Option<&Path>) -> Result<Self, StartError> {
        Ok(Self { clients: verifier(clients)?, proxies: proxies.map(verifier).transpose()? })
    }

    /// What a chain of certificates proves, the client's own first.
    pub(crate) fn certify(&self, chain: &[CertificateDer<'_>]) -> Certified {
        let Some((own, between)) = chain.split_first() else { return Certified::default() };
        let holds = |verifier: &Arc<dyn ClientCertVerifier>| {
            verifier.verify_client_cert(own, between, UnixTime::now()).is_ok()
        };
        let subject = |good: bool| if good { plimsoll_pki::subject(own) } else { None };
        Certified {
            client: subject(holds(&self.clients)),
            proxy: subject(self.proxies.as_ref().is_some_and(holds)),
            present: true,
        }
    }
}

fn verifier(authority: &Path) -> Result<Arc<dyn ClientCertVerifier>, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| StartError::Pem { path: authority.to_owned(), cause: error.to_string() })
}

/// Lets any certificate pass whose key the client has: who it is of is found out for each connection
/// by [`Verifiers::certify`], so that a stranger is answered with 401 like anybody unknown.
impl ClientCertVerifier for Verifiers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Clients have several certificates at times; without hints they send the one they were given.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        if self.proxies.is_some() { &[] } else { self.clients.root_hint_subjects() }
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

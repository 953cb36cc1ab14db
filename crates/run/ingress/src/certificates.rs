//! Certificates by the host that a client asks for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use plimsoll_route::SecretKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{Error, Routes};

/// The certificates of all Secrets. New ones count from the next handshake on.
pub(crate) struct Certificates {
    routes: Arc<ArcSwap<Routes>>,
    known: ArcSwap<HashMap<SecretKey, Arc<CertifiedKey>>>,
    default: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl Certificates {
    pub(crate) fn new(routes: Arc<ArcSwap<Routes>>) -> Result<Self, Error> {
        let default = Arc::new(stopgap().map_err(Error::Certificate)?);
        Ok(Self { routes, known: ArcSwap::default(), default })
    }

    /// Takes the certificate of a Secret. A broken one changes nothing, and says why.
    pub(crate) fn set(&self, key: &SecretKey, secret: &Secret) -> Result<(), String> {
        let part = |name: &str| {
            let found = secret.data.as_ref().and_then(|data| data.get(name));
            found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("has no {name}"))
        };
        let certified = Arc::new(certified(part("tls.crt")?, part("tls.key")?)?);
        let mut known = HashMap::clone(&self.known.load());
        known.insert(key.clone(), certified);
        self.known.store(Arc::new(known));
        Ok(())
    }

    /// Forgets the certificate of a Secret that is gone.
    pub(crate) fn remove(&self, key: &SecretKey) {
        let mut known = HashMap::clone(&self.known.load());
        known.remove(key);
        self.known.store(Arc::new(known));
    }

    /// Whether the certificate of a Secret is there.
    pub(crate) fn has(&self, key: &SecretKey) -> bool {
        self.known.load().contains_key(key)
    }

    fn of(&self, port: u16, ingress: bool, host: Option<&str>) -> Arc<CertifiedKey> {
        let routes = self.routes.load();
        let known = self.known.load();
        let secret = routes.certificate(port, ingress, &host.unwrap_or_default().to_ascii_lowercase());
        secret.and_then(|secret| known.get(secret)).unwrap_or(&self.default).clone()
    }
}

/// The certificates of a port.
#[derive(Debug)]
pub(crate) struct AtPort {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) port: u16,
    /// Whether Ingresses are served there.
    pub(crate) ingress: bool,
}

impl ResolvesServerCert for AtPort {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificates.of(self.port, self.ingress, hello.server_name()))
    }
}

fn certified(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let chain = chain.map_err(|error| format!("tls.crt: {error}"))?;
    if chain.is_empty() {
        return Err("tls.crt: no certificate in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("tls.key: {error}"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| format!("certificate and key: {error}"))
}

/// For hosts that have no certificate: nobody trusts it, but the connection is encrypted.
fn stopgap() -> Result<CertifiedKey, String> {
    let made = || -> Result<_, rcgen::Error> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
        let name = "Kubernetes Ingress Controller Fake Certificate";
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme Co");
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = made().map_err(|error| error.to_string())?;
    certified(certificate.as_bytes(), key.as_bytes())
}

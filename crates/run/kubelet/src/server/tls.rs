//! TLS of the agent's server. Certificates are read again when their files change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::ring::kx_group;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// How often it is looked whether the files changed.
const LOOK: Duration = Duration::from_secs(5);

/// Versions of TLS where the least one is 1.3.
static ONLY_NEWEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What the server shows and whom it believes.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM of the certificate, the authorities' behind it.
    pub certificate: PathBuf,
    /// PEM of its key; may be the same file.
    pub key: PathBuf,
    /// PEM of the authorities of clients' certificates; without it clients have none.
    pub clients: Option<PathBuf>,
    /// Go's name of the least version, `VersionTLS13`; empty for 1.2.
    pub min_version: String,
    /// Go's names of the ciphers of TLS 1.2; empty for all good ones.
    pub ciphers: Vec<String>,
    /// The key exchanges that are offered, by their numbers (RFC 8446, 4.2.7); empty for all good ones.
    pub curves: Vec<i32>,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not usable.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
}

impl Tls {
    /// What a listener needs.
    ///
    /// # Errors
    /// The authorities cannot be read, or a name of a version or cipher is not known. Certificates that are
    /// not there yet are waited for.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(self.provider()?);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions()?)
            .map_err(|error| TlsError::Setting(error.to_string()))?;
        let builder = match &self.clients {
            Some(file) => {
                let clients = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(authorities(file)?),
                    provider.clone(),
                );
                let clients =
                    clients.allow_unauthenticated().build().map_err(|error| unusable(file, &error))?;
                builder.with_client_cert_verifier(clients)
            }
            None => builder.with_no_client_auth(),
        };
        let files = Files { tls: self.clone(), provider, seen: Mutex::default() };
        let mut config = builder.with_cert_resolver(Arc::new(files));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn versions(&self) -> Result<&'static [&'static SupportedProtocolVersion], TlsError> {
        match self.min_version.as_str() {
            // Older versions are not offered, whatever the least one is.
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(rustls::ALL_VERSIONS),
            "VersionTLS13" => Ok(ONLY_NEWEST),
            other => Err(TlsError::Setting(format!("unknown tls version {other:?}"))),
        }
    }

    fn provider(&self) -> Result<CryptoProvider, TlsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.curves.is_empty() {
            provider.kx_groups = self.curves.iter().map(|number| curve(*number)).collect::<Result<_, _>>()?;
        }
        if self.ciphers.is_empty() {
            return Ok(provider);
        }
        let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
        for wanted in &self.ciphers {
            // Go names some ciphers without their hash.
            let is_it = |known: &String| known == wanted || known.strip_suffix("_SHA256") == Some(wanted);
            if !provider.cipher_suites.iter().map(name).any(|known| is_it(&known)) {
                return Err(TlsError::Setting(format!(
                    "Cipher suite {wanted} not supported or doesn't exist"
                )));
            }
        }
        let is_wanted = |suite: &rustls::SupportedCipherSuite| {
            let known = name(suite);
            let wanted = |it: &String| *it == known || known.strip_suffix("_SHA256") == Some(it);
            suite.tls13().is_some() || self.ciphers.iter().any(wanted)
        };
        provider.cipher_suites.retain(is_wanted);
        Ok(provider)
    }
}

fn curve(number: i32) -> Result<&'static dyn SupportedKxGroup, TlsError> {
    match number {
        23 => Ok(kx_group::SECP256R1),
        24 => Ok(kx_group::SECP384R1),
        29 => Ok(kx_group::X25519),
        other => Err(TlsError::Setting(format!(
            "tlsCurvePreferences: {other} is not offered; 23 (P-256), 24 (P-384) and 29 (X25519) are"
        ))),
    }
}

fn unusable(path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(file, &error))? {
        let certificate = certificate.map_err(|error| unusable(file, &error))?;
        roots.add(certificate).map_err(|error| unusable(file, &error))?;
    }
    if roots.is_empty() {
        return Err(unusable(file, &"no certificate in it"));
    }
    Ok(roots)
}

/// The certificate as its files have it.
#[derive(Debug)]
struct Files {
    tls: Tls,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    looked: Instant,
    changed: Option<SystemTime>,
    key: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut seen = self.seen.lock().expect("no code under the lock panics");
        let changed = || fs::metadata(&self.tls.certificate).and_then(|it| it.modified()).ok();
        match &mut *seen {
            // Without a certificate every handshake looks.
            Some(it) if it.key.is_some() && it.looked.elapsed() < LOOK => {}
            Some(it) if it.key.is_some() && it.changed == changed() => it.looked = Instant::now(),
            _ => {
                let before = seen.take().and_then(|it| it.key);
                let key = self.load().map_err(|error| {
                    tracing::warn!(%error, file = %self.tls.certificate.display(), "no serving certificate");
                });
                *seen = Some(Seen { looked: Instant::now(), changed: changed(), key: key.ok().or(before) });
            }
        }
        seen.as_ref().and_then(|it| it.key.clone())
    }
}

impl Files {
    fn load(&self) -> io::Result<Arc<CertifiedKey>> {
        let chain = CertificateDer::pem_file_iter(&self.tls.certificate).map_err(io::Error::other)?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(&self.tls.key).map_err(io::Error::other)?;
        CertifiedKey::from_der(chain, key, &self.provider).map(Arc::new).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_ciphers_have_gos_names() {
        let with = |min_version: &str, ciphers: &[&str]| Tls {
            min_version: min_version.to_owned(),
            ciphers: ciphers.iter().map(|it| (*it).to_owned()).collect(),
            ..Tls::default()
        };
        assert!(with("", &[]).server().is_ok());
        assert!(with("VersionTLS13", &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).server().is_ok());
        for (tls, expected) in [
            (with("VersionTLS9", &[]), "unknown tls version \"VersionTLS9\""),
            (
                with("", &["TLS_RSA_WITH_RC4_128_SHA"]),
                "Cipher suite TLS_RSA_WITH_RC4_128_SHA not supported or doesn't exist",
            ),
        ] {
            assert_eq!(tls.server().map(drop).map_err(|error| error.to_string()), Err(expected.to_owned()));
        }
        let curves = |curves: &[i32]| Tls { curves: curves.to_vec(), ..Tls::default() };
        let names =
            |tls: &Tls| tls.provider().map(|it| it.kx_groups.iter().map(|it| u16::from(it.name())).collect());
        assert_eq!(names(&curves(&[24, 29])).ok(), Some(vec![24, 29]));
        let refused = "tlsCurvePreferences: 25 is not offered; 23 (P-256), 24 (P-384) and 29 (X25519) are";
        assert_eq!(
            curves(&[25]).server().map(drop).map_err(|error| error.to_string()),
            Err(refused.to_owned())
        );
        let all = with("", &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])
            .provider()
            .map(|it| it.cipher_suites.len());
        assert_eq!(all.ok(), Some(4));
    }
}

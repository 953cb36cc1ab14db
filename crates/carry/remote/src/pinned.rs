//! Servers whose certificate the bundle holds itself.
//!
//! A bundle may name a certificate that is no authority of the server's but its own: people make one by
//! `openssl req -x509` and use it on both sides. Go takes a certificate that is among its roots as proven,
//! whatever else it says; the usual verifier wants an authority that is not the server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Wants an authority of the bundle, or a certificate of the bundle.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) authorities: Arc<WebPkiServerVerifier>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// Whether only the way to an authority is missing. Dates are held against the clock before that.
fn lacks_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(bad) = error else { return false };
    match bad {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::Other(other) => {
            other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
        }
        _ => false,
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        match verified {
            Err(error)
                if lacks_authority(&error) && self.certificates.iter().any(|one| one == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::trust::pinned;

    fn params(is_ca: IsCa) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["hook.web.svc".to_owned()]).expect("a name");
        params.is_ca = is_ca;
        params.not_before = SystemTime::now().checked_sub(Duration::from_secs(3600)).expect("a time").into();
        params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
        params
    }

    #[test]
    fn a_certificate_of_the_bundle_proves_its_server() {
        let key = || KeyPair::generate().expect("a key");
        let authority = IsCa::Ca(BasicConstraints::Unconstrained);
        let both = params(authority).self_signed(&key()).expect("a certificate");
        let own = params(IsCa::ExplicitNoCa).self_signed(&key()).expect("a certificate");
        let issuer = CertifiedIssuer::self_signed(params(authority), key()).expect("an authority");
        let issued = params(IsCa::NoCa).signed_by(&key(), &issuer).expect("a certificate");
        let other = params(IsCa::NoCa).self_signed(&key()).expect("a certificate");
        let (both, own) = (both.pem(), own.pem());
        let (issuer, issued, other) = (issuer.pem(), issued.pem(), other.pem());
        // the bundle, the server's certificate, the name it is asked by, the hours since, whether it will do
        let table = [
            (&both, &both, "hook.web.svc", 0, true),
            (&own, &own, "hook.web.svc", 0, true),
            (&issuer, &issued, "hook.web.svc", 0, true),
            (&issued, &issued, "hook.web.svc", 0, true),
            (&both, &both, "other.web.svc", 0, false),
            (&both, &both, "hook.web.svc", 2, false),
            (&both, &own, "hook.web.svc", 0, false),
            (&both, &other, "hook.web.svc", 0, false),
            (&issuer, &other, "hook.web.svc", 0, false),
        ];
        for (at, (bundle, shown, name, hours, accepted)) in table.into_iter().enumerate() {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = pinned(bundle.as_bytes(), &provider).expect("a verifier");
            let shown = crate::trust::chain(shown.as_bytes()).expect("a chain").remove(0);
            let name = ServerName::try_from(name).expect("a name");
            let now = UnixTime::since_unix_epoch(
                UnixTime::now().as_secs().checked_add(hours * 3600).map(Duration::from_secs).expect("a time"),
            );
            let verified = verifier.verify_server_cert(&shown, &[], &name, &[], now);
            assert_eq!(verified.is_ok(), accepted, "row {at}: {verified:?}");
        }
    }
}

//! Keys of pods, and the empty requests that show that whoever asks has the key
//! (kubelet: pkg/kubelet/podcertificate, v1.37).

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::der;
use crate::files::PkiError;

/// A new key and the request for its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodKey {
    /// The private key: PKCS #8 in PEM.
    pub private: String,
    /// A PKCS #10 request in DER that names nobody.
    pub request: Vec<u8>,
}

impl PodKey {
    /// Makes a key of a type in the words of the API: `RSA3072`, `ECDSAP256`, `ED25519`, …
    ///
    /// # Errors
    /// When there is no such type, or no randomness.
    pub fn generate(kind: &str) -> Result<Self, PkiError> {
        let failed = |_: Unspecified| unusable(kind, "no key can be made");
        match kind {
            "RSA3072" => rsa(KeySize::Rsa3072).map_err(failed),
            "RSA4096" => rsa(KeySize::Rsa4096).map_err(failed),
            "ECDSAP256" => curve(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, 2).map_err(failed),
            "ECDSAP384" => curve(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, 3).map_err(failed),
            "ECDSAP521" => curve(&signature::ECDSA_P521_SHA512_ASN1_SIGNING, 4).map_err(failed),
            "ED25519" => edwards().map_err(failed),
            _ => Err(unusable(kind, "unknown key type")),
        }
    }
}

fn unusable(kind: &str, cause: &str) -> PkiError {
    PkiError::Issue { name: kind.to_owned(), cause: cause.to_owned() }
}

fn rsa(size: KeySize) -> Result<PodKey, Unspecified> {
    let key = signature::RsaKeyPair::generate(size)?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
    let private: Pkcs8V1Der<'_> = key.as_der()?;
    let algorithm = der::sequence(&[&der::oid(&[1, 2, 840, 113_549, 1, 1, 11]), &der::element(5, &[])]);
    let request = request(public.as_ref(), &algorithm, |message| {
        let mut signed = vec![0; key.public_modulus_len()];
        key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signed)?;
        Ok(signed)
    })?;
    Ok(PodKey { private: pem(private.as_ref()), request })
}

/// A key of a curve; `digest` is the last number of ECDSA's identifier with its digest.
fn curve(kind: &'static EcdsaSigningAlgorithm, digest: u32) -> Result<PodKey, Unspecified> {
    let key = EcdsaKeyPair::generate(kind)?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
    let algorithm = der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, digest])]);
    let sign = |message: &[u8]| Ok(key.sign(&SystemRandom::new(), message)?.as_ref().to_vec());
    let request = request(public.as_ref(), &algorithm, sign)?;
    Ok(PodKey { private: pem(key.to_pkcs8v1()?.as_ref()), request })
}

fn edwards() -> Result<PodKey, Unspecified> {
    let key = Ed25519KeyPair::generate()?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
    let algorithm = der::sequence(&[&der::oid(&[1, 3, 101, 112])]);
    let sign = |message: &[u8]| Ok(key.sign(message).as_ref().to_vec());
    let request = request(public.as_ref(), &algorithm, sign)?;
    Ok(PodKey { private: pem(key.to_pkcs8v1()?.as_ref()), request })
}

/// `CertificationRequest` of RFC 2986 without a subject and without attributes.
fn request(
    public: &[u8],
    algorithm: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<Vec<u8>, Unspecified> {
    let info = der::sequence(&[&der::integer(&[0]), &der::sequence(&[]), public, &der::element(0xa0, &[])]);
    let signed = sign(&info)?;
    Ok(der::sequence(&[&info, algorithm, &der::bits(&signed)]))
}

fn pem(key: &[u8]) -> String {
    let text = STANDARD.encode(key);
    let mut out = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + "-----END PRIVATE KEY-----\n"
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    #[test]
    fn every_type_shows_that_it_has_its_key() {
        for (kind, verified) in [
            ("RSA3072", true),
            ("ECDSAP256", true),
            ("ECDSAP384", true),
            // The reader of tests knows no such curve.
            ("ECDSAP521", false),
            ("ED25519", true),
        ] {
            let key = PodKey::generate(kind).unwrap();
            let (rest, read) = X509CertificationRequest::from_der(&key.request).unwrap();
            assert!(rest.is_empty(), "{kind}");
            assert_eq!(read.certification_request_info.subject.iter().count(), 0, "{kind}");
            assert_eq!(read.verify_signature().is_ok(), verified, "{kind}");
            assert!(key.private.starts_with("-----BEGIN PRIVATE KEY-----\nM"), "{kind}");
            assert!(key.private.lines().all(|line| line.len() <= 64), "{kind}");
        }
        assert!(PodKey::generate("DSA").is_err());
    }
}

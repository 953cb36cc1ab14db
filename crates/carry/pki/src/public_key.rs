//! Public keys that signatures of tokens are checked with: read from PEM or JSON web keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Verifier;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::der;

/// Elliptic curve P-256, also in names of JSON web keys.
const P256: &str = "P-256";
const P384: &str = "P-384";
const P521: &str = "P-521";
/// Object identifiers of what keys are for.
pub(crate) const RSA: &[u32] = &[1, 2, 840, 113_549, 1, 1, 1];
pub(crate) const EC: &[u32] = &[1, 2, 840, 10045, 2, 1];

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// `kid`; may be empty.
    pub id: String,
    /// The only algorithm it may be used with, if it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point: 4, then both coordinates.
    Ec {
        curve: &'static str,
        point: Vec<u8>,
    },
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`. Its name is the digest of it, as upstream derives `kid`
    /// (pkg/serviceaccount/jwt.go).
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        let material = match info.parsed().ok()? {
            x509_parser::public_key::PublicKey::RSA(key) => {
                Material::Rsa { modulus: trimmed(key.modulus), exponent: trimmed(key.exponent) }
            }
            x509_parser::public_key::PublicKey::EC(point) => Material::of_point(point.data())?,
            _ => return None,
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        Some(Self { id: URL_SAFE_NO_PAD.encode(digest), algorithm: None, material })
    }

    /// All public keys of a PEM text: bare ones and those of certificates.
    pub fn from_pem(text: &str) -> Vec<Self> {
        let blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok);
        let read = |block: x509_parser::pem::Pem| match block.label.as_str() {
            "PUBLIC KEY" => Self::from_spki(&block.contents),
            "RSA PUBLIC KEY" => {
                let algorithm = der::sequence(&[&der::oid(RSA), &der::element(5, &[])]);
                Self::from_spki(&der::sequence(&[&algorithm, &der::bits(&block.contents)]))
            }
            "CERTIFICATE" => Self::from_spki(block.parse_x509().ok()?.public_key().raw),
            _ => None,
        };
        blocks.filter_map(read).collect()
    }

    /// The keys of a JSON web key set that can check signatures.
    pub fn from_key_set(set: &Value) -> Vec<Self> {
        set["keys"].as_array().into_iter().flatten().filter_map(Self::from_jwk).collect()
    }

    fn from_jwk(key: &Value) -> Option<Self> {
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(key[field].as_str()?.trim_end_matches('=')).ok();
        if key["use"].as_str().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let material = match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("RSA", _) => Material::Rsa { modulus: trimmed(&bytes("n")?), exponent: trimmed(&bytes("e")?) },
            ("EC", Some(P256 | P384 | P521)) => {
                Material::of_point(&[vec![4], bytes("x")?, bytes("y")?].concat())?
            }
            _ => return None,
        };
        let text = |field: &str| key[field].as_str().map(str::to_owned);
        Some(Self { id: text("kid").unwrap_or_default(), algorithm: text("alg"), material })
    }

    /// The key as a JSON web key.
    pub fn to_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = json!({"use": "sig", "kid": self.id, "alg": self.signs()});
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                key["kty"] = json!("RSA");
                key["n"] = json!(text(modulus));
                key["e"] = json!(text(exponent));
            }
            Material::Ec { curve, point } => {
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                key["kty"] = json!("EC");
                key["crv"] = json!(curve);
                key["x"] = json!(text(x));
                key["y"] = json!(text(y));
            }
        }
        key
    }

    /// The algorithm that the cluster signs with by such a key.
    pub fn signs(&self) -> &'static str {
        match &self.material {
            Material::Rsa { .. } => "RS256",
            Material::Ec { curve, .. } => match *curve {
                P521 => "ES512",
                P384 => "ES384",
                _ => "ES256",
            },
        }
    }

    /// Checks a signature that was made with `algorithm`.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            return false;
        }
        match (&self.material, algorithm) {
            (Material::Rsa { modulus, exponent }, _) => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            (Material::Ec { curve, point }, _) => {
                let wanted: &dyn signature::VerificationAlgorithm = match (*curve, algorithm) {
                    (P521, "ES512") => return is_signed_on_p521(point, message, signature),
                    (P256, "ES256") => &signature::ECDSA_P256_SHA256_FIXED,
                    (P384, "ES384") => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => return false,
                };
                UnparsedPublicKey::new(wanted, point).verify(message, signature).is_ok()
            }
        }
    }
}

impl Material {
    fn of_point(point: &[u8]) -> Option<Self> {
        let curve = match (point.first(), point.len()) {
            (Some(4), 65) => P256,
            (Some(4), 97) => P384,
            (Some(4), 133) => P521,
            _ => return None,
        };
        Some(Self::Ec { curve, point: point.to_vec() })
    }
}

/// The long curve is not one of `ring`'s.
fn is_signed_on_p521(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point);
    let signature = p521::ecdsa::Signature::from_slice(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

fn trimmed(number: &[u8]) -> Vec<u8> {
    number[number.iter().take_while(|byte| **byte == 0).count()..].to_vec()
}

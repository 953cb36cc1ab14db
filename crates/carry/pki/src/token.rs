//! Service account tokens: JSON web tokens signed with the newest of the cluster's keys.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Signer as _;
use p521::pkcs8::DecodePrivateKey;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};

use crate::der;
use crate::files::{self, PkiError};
use crate::jwt::Jwt;
use crate::public_key::{EC, PublicKey, RSA};

/// Signs tokens with one key and checks them with several, so that a key can be replaced while
/// tokens of the old one are about.
pub struct Tokens {
    signer: Signer,
    /// The signer's first.
    keys: Vec<PublicKey>,
}

enum Signer {
    Pair(Box<KeyPair>),
    /// The long curve is not one of `ring`'s.
    P521(Box<p521::ecdsa::SigningKey>),
}

/// Object identifiers of curves.
const P256: &[u32] = &[1, 2, 840, 10045, 3, 1, 7];
const P384: &[u32] = &[1, 3, 132, 0, 34];
const P521: &[u32] = &[1, 3, 132, 0, 35];

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// The key in a PEM file, made if it is not there; tokens of the keys in `older` are accepted, too.
    pub fn ensure(signing: &Path, older: &[PathBuf]) -> Result<Self, PkiError> {
        if !signing.exists() {
            let pair = KeyPair::generate().map_err(|error| PkiError::unusable(signing, error))?;
            files::write_private(signing, pair.serialize_pem().as_bytes())?;
        }
        Self::read(signing, older)
    }

    /// The keys as the files have them; a missing file is an error.
    pub fn read(signing: &Path, older: &[PathBuf]) -> Result<Self, PkiError> {
        let signer = Signer::read(signing, &files::read(signing)?)?;
        let mut keys = vec![signer.public_key(signing)?];
        for path in older {
            let text = files::read(path)?;
            let mut found = PublicKey::from_pem(&text);
            if found.is_empty() {
                found.push(Signer::read(path, &text)?.public_key(path)?);
            }
            for key in found {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        Ok(Self { signer, keys })
    }

    /// A signed token.
    pub fn sign(&self, claims: &Value) -> Result<String, PkiError> {
        let failed = |cause: String| PkiError::Issue { name: "token".to_owned(), cause };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": self.keys[0].signs(), "kid": self.keys[0].id});
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = match &self.signer {
            Signer::Pair(pair) => {
                let made = pair.sign(signed.as_bytes()).map_err(|error| failed(error.to_string()))?;
                let made = match self.keys[0].signs() {
                    "ES256" => fixed(&made, 32),
                    "ES384" => fixed(&made, 48),
                    _ => Some(made),
                };
                made.ok_or_else(|| failed("the signature has an odd form".to_owned()))?
            }
            Signer::P521(key) => {
                let made: Result<p521::ecdsa::Signature, _> = key.try_sign(signed.as_bytes());
                made.map_err(|error| failed(error.to_string()))?.to_bytes().to_vec()
            }
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether these are the same keys in the same order.
    pub fn are(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Whether one of the keys made the token.
    pub fn made(&self, token: &Jwt<'_>) -> bool {
        token.is_signed_by(&self.keys)
    }

    /// The public keys as a JSON web key set.
    pub fn key_set(&self) -> Value {
        json!({"keys": self.keys.iter().map(PublicKey::to_jwk).collect::<Vec<_>>()})
    }

    /// The algorithms of all keys, in order.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = self.keys.iter().map(PublicKey::signs).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Signer {
    /// Reads a private key: PKCS #8, or the older forms of RSA and elliptic curves, which are wrapped in it.
    fn read(path: &Path, text: &str) -> Result<Self, PkiError> {
        let unusable = |error: &dyn std::fmt::Display| PkiError::unusable(path, error);
        let blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok);
        let block = blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
        let block = block.ok_or_else(|| unusable(&"no private key in it"))?;
        let wrapped = |algorithm: &[&[u8]]| {
            let (algorithm, inner) = (der::sequence(algorithm), der::element(4, &block.contents));
            der::sequence(&[&der::integer(&[0]), &algorithm, &inner])
        };
        let contents = match block.label.as_str() {
            "RSA PRIVATE KEY" => wrapped(&[&der::oid(RSA), &der::element(5, &[])]),
            "EC PRIVATE KEY" => wrapped(&[&der::oid(EC), &curve(&block.contents)]),
            _ => block.contents,
        };
        match p521::ecdsa::SigningKey::from_pkcs8_der(&contents) {
            Ok(key) => Ok(Self::P521(Box::new(key))),
            Err(_) => {
                let pair = KeyPair::try_from(contents.as_slice()).map_err(|error| unusable(&error))?;
                Ok(Self::Pair(Box::new(pair)))
            }
        }
    }

    fn public_key(&self, path: &Path) -> Result<PublicKey, PkiError> {
        let spki = match self {
            Self::Pair(pair) => pair.subject_public_key_info(),
            Self::P521(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let algorithm = der::sequence(&[&der::oid(EC), &der::oid(P521)]);
                der::sequence(&[&algorithm, &der::bits(point.as_bytes())])
            }
        };
        PublicKey::from_spki(&spki)
            .ok_or_else(|| PkiError::unusable(path, "neither RSA nor ECDSA over P-256, P-384 or P-521"))
    }
}

/// The curve that a key of the older form names, as an element; keys that name none are of the usual one.
fn curve(key: &[u8]) -> Vec<u8> {
    let named = |curve: &Vec<u8>| key.windows(curve.len()).any(|part| part == curve);
    [P521, P384].map(der::oid).into_iter().find(named).unwrap_or_else(|| der::oid(P256))
}

/// Both numbers of an ECDSA signature in DER, side by side in `size` bytes each, as tokens carry them.
fn fixed(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = der.strip_prefix(&[0x30]).and_then(|rest| match rest {
        [0x81, _, rest @ ..] => Some(rest),
        [_, rest @ ..] => Some(rest),
        [] => None,
    })?;
    let mut out = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let [0x02, length, tail @ ..] = rest else { return None };
        let number = tail.get(..usize::from(*length))?;
        rest = &tail[usize::from(*length)..];
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        out.extend(std::iter::repeat_n(0, size.checked_sub(number.len())?));
        out.extend_from_slice(number);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(tokens: &Tokens, token: &str) -> bool {
        Jwt::parse(token).is_some_and(|token| tokens.made(&token))
    }

    #[test]
    fn tokens_hold_only_with_their_key() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("sa.key");
        let tokens = Tokens::ensure(&path, &[]).expect("key");
        let claims = json!({"sub": "system:serviceaccount:a:b"});
        let token = tokens.sign(&claims).expect("signed");
        assert!(made(&tokens, &token));
        assert_eq!(Jwt::parse(&token).expect("token").claims, claims);
        assert!(made(&Tokens::ensure(&path, &[]).expect("adopted"), &token));
        let other = Tokens::ensure(&directory.path().join("other.key"), &[]).expect("key");
        assert!(!made(&other, &token));
        let forged = {
            let parts: Vec<&str> = token.split('.').collect();
            let claims = URL_SAFE_NO_PAD.encode(json!({"sub": "system:admin"}).to_string());
            format!("{}.{claims}.{}", parts[0], parts[2])
        };
        for damaged in ["", "a.b", "a.b.c", &token[..token.len() - 4], &forged] {
            assert!(!made(&tokens, damaged), "{damaged}");
        }
    }

    #[test]
    fn a_token_holds_until_its_key_is_taken_away() {
        let directory = tempfile::tempdir().expect("directory");
        let (old, new) = (directory.path().join("old.key"), directory.path().join("new.key"));
        let before = Tokens::ensure(&old, &[]).expect("key");
        let token = before.sign(&json!({})).expect("signed");
        let rotated = Tokens::ensure(&new, std::slice::from_ref(&old)).expect("keys");
        assert!(made(&rotated, &token));
        assert!(!made(&before, &rotated.sign(&json!({})).expect("signed")));
        assert_eq!(rotated.key_set()["keys"].as_array().map(Vec::len), Some(2));
        assert!(!made(&Tokens::ensure(&new, &[]).expect("keys"), &token));
    }

    #[test]
    fn older_forms_of_keys_are_read() {
        // Written by `openssl genrsa -traditional`, `openssl ecparam -genkey` and `openssl genpkey`.
        let directory = tempfile::tempdir().expect("directory");
        for (name, text, algorithm) in [
            ("rsa", include_str!("testdata/rsa.pem"), "RS256"),
            ("p256", include_str!("testdata/p256.pem"), "ES256"),
            ("p384", include_str!("testdata/p384.pem"), "ES384"),
            ("p521", include_str!("testdata/p521.pem"), "ES512"),
            ("PKCS #8", include_str!("testdata/p521-pkcs8.pem"), "ES512"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            let tokens = Tokens::ensure(&path, &[]).expect(name);
            assert_eq!(tokens.algorithms(), [algorithm]);
            let token = tokens.sign(&json!({})).expect("signed");
            assert!(made(&tokens, &token), "{name}");
            let keys = PublicKey::from_key_set(&tokens.key_set());
            assert!(Jwt::parse(&token).expect("token").is_signed_by(&keys), "{name}");
        }
    }

    #[test]
    fn key_sets_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().expect("directory");
        let tokens = Tokens::ensure(&directory.path().join("sa.key"), &[]).expect("key");
        let token = tokens.sign(&json!({})).expect("signed");
        let keys = PublicKey::from_key_set(&tokens.key_set());
        assert_eq!(keys.len(), 1);
        assert!(Jwt::parse(&token).expect("token").is_signed_by(&keys));
        assert_eq!(tokens.algorithms(), ["ES256"]);
    }

    #[test]
    fn every_signature_fits_its_fixed_form() {
        let directory = tempfile::tempdir().expect("directory");
        let tokens = Tokens::ensure(&directory.path().join("sa.key"), &[]).expect("key");
        // Numbers of a signature are shorter than usual once in a few hundred times.
        for at in 0..600 {
            let token = tokens.sign(&json!({ "jti": at })).expect("signed");
            assert!(made(&tokens, &token), "{token}");
        }
    }
}

//! Service account tokens: JSON web tokens signed with ES256.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files::{self, PkiError};

/// Clocks of other machines may be this many seconds off.
const LEEWAY: i64 = 10;

/// Signs and checks tokens with one key.
pub struct Tokens {
    key: EcdsaKeyPair,
    public: Vec<u8>,
    id: String,
    random: SystemRandom,
}

/// What a token says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Claims {
    /// Audiences.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// End, in seconds since 1970.
    pub exp: i64,
    /// Beginning.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// Unique id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Not valid before.
    #[serde(default)]
    pub nbf: i64,
    /// User name.
    pub sub: String,
    /// What the token is bound to.
    #[serde(rename = "kubernetes.io", default)]
    pub bound: Value,
}

/// Why a token is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not of our making.
    #[error("token is not signed by this cluster")]
    Foreign,
    /// Its time is over or not come yet.
    #[error("token has expired or is not valid yet")]
    Expired,
}

impl Tokens {
    /// The key in a PEM file, made if it is not there.
    pub fn ensure(path: &Path) -> Result<Self, PkiError> {
        if !path.exists() {
            let pair = KeyPair::generate().map_err(|error| PkiError::unusable(path, error))?;
            files::write_private(path, pair.serialize_pem().as_bytes())?;
        }
        let pair = KeyPair::from_pem(&files::read(path)?).map_err(|error| PkiError::unusable(path, error))?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &random)
            .map_err(|error| PkiError::unusable(path, error))?;
        let public = pair.der_bytes().to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &pair.subject_public_key_info());
        Ok(Self { key, public, id: URL_SAFE_NO_PAD.encode(digest), random })
    }

    /// A signed token.
    pub fn sign(&self, claims: &Claims) -> Result<String, PkiError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.id});
        let claims = serde_json::to_value(claims).expect("claims have text keys");
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|error| PkiError::Issue { name: "token".to_owned(), cause: error.to_string() })?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Checks signature and time (`now` in seconds since 1970).
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Foreign);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Foreign)?;
        if header["alg"] != "ES256" {
            return Err(TokenError::Foreign);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Foreign)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Foreign)?;
        if now > claims.exp.saturating_add(LEEWAY) || now < claims.nbf.saturating_sub(LEEWAY) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// The public key as a JSON web key set.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = &self.public[1..];
        let (x, y) = point.split_at(point.len() / 2);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_until_their_end_and_only_with_their_key() {
        let directory = tempfile::tempdir().expect("directory");
        let tokens = Tokens::ensure(&directory.path().join("sa.key")).expect("key");
        let claims =
            Claims { exp: 1000, iat: 0, sub: "system:serviceaccount:a:b".to_owned(), ..Claims::default() };
        let token = tokens.sign(&claims).expect("signed");
        assert_eq!(tokens.verify(&token, 500).expect("valid").sub, claims.sub);
        assert_eq!(tokens.verify(&token, 2000).expect_err("late"), TokenError::Expired);
        let adopted = Tokens::ensure(&directory.path().join("sa.key")).expect("key");
        assert!(adopted.verify(&token, 500).is_ok());
        let other = Tokens::ensure(&directory.path().join("other.key")).expect("key");
        assert_eq!(other.verify(&token, 500).expect_err("foreign"), TokenError::Foreign);
        for damaged in ["", "a.b", "a.b.c", &token[..token.len() - 4]] {
            assert_eq!(tokens.verify(damaged, 500).expect_err("damaged"), TokenError::Foreign);
        }
    }
}

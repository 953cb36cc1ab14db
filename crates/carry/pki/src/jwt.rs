//! JSON web tokens as they were sent.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::public_key::PublicKey;

/// A token in its parts; nothing of it is proven yet.
#[derive(Clone, Debug)]
pub struct Jwt<'a> {
    /// `alg` of the header.
    pub algorithm: String,
    /// `kid` of the header; may be empty.
    pub key_id: String,
    /// The claims.
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart; `None` when it is none. Critical header extensions are none that we know.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
        if !claims.is_object() || !header["crit"].is_null() {
            return None;
        }
        Some(Self {
            algorithm: header["alg"].as_str()?.to_owned(),
            key_id: header["kid"].as_str().unwrap_or_default().to_owned(),
            claims,
            signed,
            signature: decode(signature)?,
        })
    }

    /// `iss` of the claims; empty if there is none.
    pub fn issuer(&self) -> &str {
        self.claims["iss"].as_str().unwrap_or_default()
    }

    /// Whether one of the keys made the signature. A key with another name than the token's was not it.
    pub fn is_signed_by<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) -> bool {
        keys.into_iter()
            .filter(|key| self.key_id.is_empty() || key.id.is_empty() || key.id == self.key_id)
            .any(|key| key.verify(&self.algorithm, self.signed.as_bytes(), &self.signature))
    }
}

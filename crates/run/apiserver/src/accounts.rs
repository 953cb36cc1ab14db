//! Tokens of service accounts: making and accepting them, and telling others how to check them.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use plimsoll_access::account_token::{self, LEGACY_ISSUER};
use plimsoll_access::issuer::audiences;
use plimsoll_pki::{Jwt, PkiError, Tokens};
use serde_json::{Value, json};

use crate::authenticate::stored;
use crate::config::{Credentials, ServiceAccounts};
use crate::server::{Api, StartError};
use crate::user::User;

/// The cluster's keys and the rules for tokens.
pub(crate) struct Accounts {
    tokens: RwLock<Arc<Tokens>>,
    signing_key: PathBuf,
    verification_keys: Vec<PathBuf>,
    /// The first one issues, all are accepted.
    issuers: Vec<String>,
    /// Audiences that mean the API.
    pub(crate) audiences: Vec<String>,
    /// Most seconds that a token lasts.
    pub(crate) longest: Option<i64>,
    /// Whether tokens of pods last longer than they were asked for.
    pub(crate) extend: bool,
    key_set_url: Option<String>,
}

impl Accounts {
    pub(crate) fn read(rules: &ServiceAccounts, keys: &Credentials) -> Result<Self, StartError> {
        Ok(Self {
            tokens: RwLock::new(Arc::new(Tokens::ensure(
                &keys.service_account_key,
                &rules.verification_keys,
            )?)),
            signing_key: keys.service_account_key.clone(),
            verification_keys: rules.verification_keys.clone(),
            issuers: rules.issuers.clone(),
            audiences: rules.audiences(),
            longest: rules.longest,
            extend: rules.extend,
            key_set_url: rules.key_set_url.clone(),
        })
    }

    fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The files of the keys, the signing one first.
    pub(crate) fn key_files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.signing_key).chain(&self.verification_keys)
    }

    /// Takes the keys that the files have now; whether they are others than before. Files that mean nothing
    /// leave the keys as they are.
    pub(crate) fn read_again(&self) -> Result<bool, PkiError> {
        let tokens = Tokens::read(&self.signing_key, &self.verification_keys)?;
        let mut known = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let changed = !known.are(&tokens);
        if changed {
            *known = Arc::new(tokens);
        }
        Ok(changed)
    }

    /// A signed token of the cluster's first issuer.
    pub(crate) fn sign(&self, mut claims: Value) -> Result<String, PkiError> {
        claims["iss"] = json!(self.issuers.first());
        self.tokens().sign(&claims)
    }

    /// The user of a token and the audiences it is good for; `None` for tokens of other issuers.
    pub(crate) fn user(
        &self,
        api: &Api,
        token: &str,
        jwt: &Jwt<'_>,
        wanted: &[String],
    ) -> Option<Result<(User, Vec<String>), String>> {
        let legacy = jwt.issuer() == LEGACY_ISSUER;
        let ours = legacy || self.issuers.iter().any(|issuer| issuer == jwt.issuer());
        ours.then(|| self.check(api, token, jwt, wanted))
    }

    fn check(
        &self,
        api: &Api,
        token: &str,
        jwt: &Jwt<'_>,
        wanted: &[String],
    ) -> Result<(User, Vec<String>), String> {
        if !self.tokens().made(jwt) {
            return Err("invalid bearer token".to_owned());
        }
        let named = audiences(&jwt.claims);
        let named = if named.is_empty() { self.audiences.clone() } else { named };
        let wanted = if wanted.is_empty() { &self.audiences } else { wanted };
        let common: Vec<String> = named.iter().filter(|one| wanted.contains(one)).cloned().collect();
        if common.is_empty() {
            return Err(format!("token audiences {named:?} is invalid for the target audiences {wanted:?}"));
        }
        let now = jiff::Timestamp::now();
        let find = |plural: &str, namespace: &str, name: &str| stored(api, plural, namespace, name);
        let user = match jwt.issuer() == LEGACY_ISSUER {
            true => account_token::legacy_user(token, &jwt.claims, &find, now)?,
            false => {
                account_token::check_time(&jwt.claims, now)?;
                account_token::user(&jwt.claims, &find, now)?
            }
        };
        Ok((user, common))
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn key_set(&self) -> Value {
        self.tokens().key_set()
    }

    /// `/.well-known/openid-configuration`; `None` where the issuer is no URL that can be discovered.
    pub(crate) fn discovery(&self, external: &str) -> Option<Value> {
        let issuer = self.issuers.first().filter(|issuer| issuer.starts_with("https://"))?;
        let keys = match &self.key_set_url {
            Some(url) => url.clone(),
            None => format!("https://{external}/openid/v1/jwks"),
        };
        Some(json!({
            "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": self.tokens().algorithms(),
        }))
    }
}

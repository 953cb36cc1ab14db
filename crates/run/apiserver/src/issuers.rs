//! Issuers of identity tokens elsewhere: their keys are fetched when they are first needed, and again
//! when a token names one that is not known.

use std::time::{Duration, Instant};

use plimsoll_access::issuer::Issuer;
use plimsoll_client::Endpoint;
use plimsoll_pki::{Jwt, PublicKey};
use tokio::sync::Mutex;

use crate::user::User;

/// A slow issuer is as good as none.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens with made-up keys do not have the issuer asked more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// A trusted issuer and its keys.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) issuer: Issuer,
    /// The lock is held while keys are fetched: whoever needs them waits for the same answer.
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    url: Option<String>,
    known: Vec<PublicKey>,
    asked: Option<Instant>,
}

impl Provider {
    pub(crate) fn new(issuer: Issuer) -> Self {
        Self { issuer, keys: Mutex::default() }
    }

    /// The user of a token that says it is of this issuer.
    pub(crate) async fn user(&self, token: &Jwt<'_>) -> Result<User, String> {
        if !self.issuer.algorithms.contains(&token.algorithm) {
            return Err(format!(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, expected {:?} got {:?}",
                self.issuer.algorithms, token.algorithm
            ));
        }
        let mut keys = self.keys.lock().await;
        if !token.is_signed_by(&keys.known) {
            if keys.asked.is_none_or(|at| at.elapsed() > PAUSE) {
                keys.asked = Some(Instant::now());
                self.fetch(&mut keys).await.map_err(|error| format!("oidc: fetch keys: {error}"))?;
            }
            if !token.is_signed_by(&keys.known) {
                return Err(
                    "oidc: verify token: failed to verify signature: failed to verify id token signature"
                        .to_owned(),
                );
            }
        }
        drop(keys);
        self.issuer.user(&token.claims, jiff::Timestamp::now().as_second() as f64)
    }

    async fn fetch(&self, keys: &mut Keys) -> Result<(), String> {
        let get = async |url: &str| -> Result<serde_json::Value, String> {
            let remote = Endpoint::at(url, self.issuer.authority.as_deref(), PATIENCE);
            remote.map_err(|error| error.to_string())?.get().await.map_err(|error| format!("{url}: {error}"))
        };
        let url = match &keys.url {
            Some(url) => url.clone(),
            None => self.issuer.key_set_url(&get(&self.issuer.discovery()).await?)?,
        };
        keys.known = PublicKey::from_key_set(&get(&url).await?);
        keys.url = Some(url);
        Ok(())
    }
}

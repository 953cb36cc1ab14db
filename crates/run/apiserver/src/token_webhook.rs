//! A server elsewhere that knows tokens.

use std::time::Duration;

use plimsoll_access::token_review::{Answer, answer, question};
use plimsoll_client::Endpoint;
use sha2::{Digest, Sha256};

use crate::config;
use crate::kept::Kept;
use crate::outgoing;
use crate::server::StartError;
use crate::user::User;

/// Time to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a refusal is remembered.
const REFUSED: Duration = Duration::from_secs(10);
/// How many answers are remembered.
const MOST: usize = 32 * 1024;

/// The server, and what it said lately.
#[derive(Debug)]
pub(crate) struct TokenWebhook {
    remote: Endpoint,
    version: String,
    accepted: Duration,
    /// By digest, so that no token stays in memory.
    kept: Kept<[u8; 32], Answer>,
}

impl TokenWebhook {
    pub(crate) async fn read(config: &config::TokenWebhook) -> Result<Self, StartError> {
        let remote = Endpoint::from_kubeconfig(&config.config_file, PATIENCE).await;
        Ok(Self {
            remote: remote.map_err(|error| StartError::configuration(&config.config_file, error))?,
            version: config.version.clone(),
            accepted: config.cache_ttl,
            kept: Kept::new(MOST),
        })
    }

    /// The user of a token, and for which of the wanted audiences it is good if the server tells.
    pub(crate) async fn user(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        let key = digest(token, wanted);
        let said = match self.kept.get(&key) {
            Some(said) => said,
            None => {
                let review = outgoing::ask(&self.remote, &question(&self.version, token, wanted)).await;
                let said = answer(&review.map_err(|error| error.to_string())?, wanted);
                let time = if matches!(said, Answer::User(..)) { self.accepted } else { REFUSED };
                if !time.is_zero() {
                    self.kept.put(key, said.clone(), time);
                }
                said
            }
        };
        match said {
            Answer::User(user, audiences) => Ok(Some((user, audiences))),
            Answer::Refused(error) if error.is_empty() => Ok(None),
            Answer::Refused(error) => Err(error),
        }
    }
}

fn digest(token: &str, wanted: &[String]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in std::iter::once(token).chain(wanted.iter().map(String::as_str)) {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

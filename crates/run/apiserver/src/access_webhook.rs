//! A server elsewhere that decides what somebody may do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_access::access_review::{answer, is_worth_keeping, review, specification};
use plimsoll_access::authorization_config::{Match, OnFailure, Webhook};
use plimsoll_access::{Decision, User};
use plimsoll_admission::rbac::Attributes;
use plimsoll_client::Endpoint;

use crate::kept::Kept;
use crate::metrics::Metrics;
use crate::outgoing;
use crate::server::StartError;

/// How many answers are remembered.
const MOST: usize = 8192;

/// The server, and what it said lately.
#[derive(Debug)]
pub(crate) struct AccessWebhook {
    remote: Endpoint,
    rules: Webhook,
    kept: Kept<String, Decision>,
    metrics: Arc<Metrics>,
}

impl AccessWebhook {
    pub(crate) async fn read(rules: &Webhook, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let path = Path::new(&rules.config_file);
        let remote = Endpoint::from_kubeconfig(path, Duration::from_secs_f64(rules.timeout)).await;
        let remote = remote.map_err(|error| StartError::configuration(path, error))?;
        Ok(Self { remote, rules: rules.clone(), kept: Kept::new(MOST), metrics: Arc::clone(metrics) })
    }

    /// What the server says, and what went wrong if it said nothing.
    pub(crate) async fn decide(&self, user: &User, wanted: &Attributes<'_>) -> (Decision, Option<String>) {
        let spec = specification(user, wanted);
        match self.rules.matches(&spec) {
            Match::Asked => {}
            Match::Passed => return (Decision::NoOpinion(String::new()), None),
            Match::Failed(error) => return (self.without_answer(), Some(error)),
        }
        let key = spec.to_string();
        if let Some(said) = self.kept.get(&key) {
            return (said, None);
        }
        let since = Instant::now();
        let asked = outgoing::ask(&self.remote, &review(&self.rules.version, &spec)).await;
        self.metrics.access.asked(&self.rules.name, asked.is_ok(), since.elapsed());
        match asked {
            Ok(review) => {
                let said = answer(&review);
                let time = match said {
                    Decision::Allow(_) => self.rules.authorized_ttl,
                    _ => self.rules.unauthorized_ttl,
                };
                if let (Some(seconds), true) = (time, is_worth_keeping(wanted)) {
                    self.kept.put(key, said.clone(), Duration::from_secs_f64(seconds));
                }
                (said, None)
            }
            Err(error) => {
                tracing::error!(webhook = self.rules.name, %error, "an authorization webhook does not answer");
                (self.without_answer(), Some(error.to_string()))
            }
        }
    }

    fn without_answer(&self) -> Decision {
        match self.rules.on_failure {
            OnFailure::Deny => Decision::Deny(String::new()),
            OnFailure::NoOpinion => {
                self.metrics.access.failed_open(&self.rules.name);
                Decision::NoOpinion(String::new())
            }
        }
    }
}

//! Who asks the agent: a certificate of the cluster, a token that the API server knows, or nobody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Api;
use kube::api::PostParams;
use plimsoll_pki::Subject;
use tokio::sync::Mutex;

/// Answers that are remembered at most.
const REMEMBERED: usize = 1024;

/// A client of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) uid: Option<String>,
    pub(super) groups: Vec<String>,
    /// What else is known, sorted.
    pub(super) extra: Vec<(String, Vec<String>)>,
}

impl Identity {
    /// Whether this is the agent of a node.
    pub(super) fn is_node(&self) -> bool {
        self.user.starts_with("system:node:") && self.groups.iter().any(|group| group == "system:nodes")
    }
}

impl From<Subject> for Identity {
    fn from(subject: Subject) -> Self {
        let Subject { common_name: user, organizations: mut groups } = subject;
        groups.push("system:authenticated".into());
        Self { user, groups, ..Self::default() }
    }
}

/// Whom the server lets in, and how it finds out.
#[derive(Clone, Copy, Debug)]
pub struct Authentication {
    /// How long reviews of tokens hold; none when tokens do not count.
    pub tokens: Option<Duration>,
    /// Whether clients without credentials are `system:anonymous`.
    pub anonymous: bool,
}

impl Default for Authentication {
    fn default() -> Self {
        Self { tokens: Some(Duration::from_secs(120)), anonymous: false }
    }
}

/// Finds out who asks.
pub(super) struct Doorkeeper {
    client: kube::Client,
    rules: Authentication,
    known: Mutex<HashMap<String, (Option<Identity>, Instant)>>,
}

impl Doorkeeper {
    pub(super) fn new(client: kube::Client, rules: Authentication) -> Self {
        Self { client, rules, known: Mutex::default() }
    }

    /// The client; none when it is to be refused.
    pub(super) async fn recognize(
        &self,
        certificate: Option<Subject>,
        headers: &HeaderMap,
    ) -> Option<Identity> {
        if let Some(subject) = certificate {
            return Some(subject.into());
        }
        if let (Some(holds), Some(token)) = (self.rules.tokens, bearer(headers)) {
            return self.review(token, holds).await;
        }
        self.rules.anonymous.then(|| Identity {
            user: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Identity::default()
        })
    }

    async fn review(&self, token: &str, holds: Duration) -> Option<Identity> {
        let known = self.known.lock().await.get(token).cloned();
        if let Some((identity, _)) = known.filter(|(_, until)| *until > Instant::now()) {
            return identity;
        }
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let answer = match reviews.create(&PostParams::default(), &review).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the API does not review a token");
                return None;
            }
        };
        let is_known = answer.authenticated == Some(true);
        let identity = answer.user.filter(|_| is_known).map(|user| Identity {
            user: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default().into_iter().collect(),
        });
        let mut known = self.known.lock().await;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(token.to_owned(), (identity.clone(), Instant::now() + holds));
        identity
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

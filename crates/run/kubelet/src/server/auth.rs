//! Who may ask the agent for what: the API server decides.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::Mutex;

use super::identity::Identity;
use super::{Body, plain};
use crate::peers::PATH;

/// Answers that are remembered at most.
const REMEMBERED: usize = 1024;

type Question = (Identity, &'static str, &'static str);

/// Who decides what clients may do.
#[derive(Clone, Copy, Debug)]
pub enum Authorization {
    /// Nobody: whoever is known may do everything.
    AlwaysAllow,
    /// The API server, whose answers hold for a while.
    Webhook {
        /// How long it holds that somebody may.
        allowed: Duration,
        /// How long it holds that somebody may not.
        denied: Duration,
    },
}

impl Default for Authorization {
    fn default() -> Self {
        Self::Webhook { allowed: Duration::from_secs(300), denied: Duration::from_secs(30) }
    }
}

/// Asks the API whether a user may do what he asks for.
pub(super) struct Gate {
    client: kube::Client,
    node: String,
    rules: Authorization,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
}

impl Gate {
    pub(super) fn new(client: kube::Client, node: String, rules: Authorization) -> Self {
        Self { client, node, rules, answers: Mutex::default() }
    }

    pub(super) async fn check(
        &self,
        who: &Identity,
        method: &Method,
        path: &[&str],
    ) -> Result<(), Response<Body>> {
        let Authorization::Webhook { allowed, denied } = self.rules else { return Ok(()) };
        // Nodes know everything about endpoints anyway.
        if path.first() == Some(&PATH) && who.is_node() {
            return Ok(());
        }
        let verb = verb(method);
        // The finer right is asked for first, then the one that covers everything.
        for subresource in subresources(path).iter().copied() {
            match self.ask((who.clone(), verb, subresource), allowed, denied).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let text = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        who.user
                    );
                    tracing::warn!(%error, "{text}");
                    return Err(plain(StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        let asked = subresources(path).join(",");
        let subresources = if asked.contains(',') { format!("[{asked}]") } else { asked };
        let text =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresources})", who.user);
        Err(plain(StatusCode::FORBIDDEN, text))
    }

    async fn ask(&self, question: Question, yes: Duration, no: Duration) -> Result<bool, kube::Error> {
        let known = self.answers.lock().await.get(&question).copied();
        if let Some((allowed, _)) = known.filter(|(_, until)| *until > Instant::now()) {
            return Ok(allowed);
        }
        let review = review(&question, &self.node);
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let until = Instant::now() + if allowed { yes } else { no };
        let mut answers = self.answers.lock().await;
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(question, (allowed, until));
        Ok(allowed)
    }
}

fn review((who, verb, subresource): &Question, node: &str) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some((*verb).to_owned()),
        version: Some("v1".into()),
        resource: Some("nodes".into()),
        subresource: Some((*subresource).to_owned()),
        name: Some(node.to_owned()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(who.user.clone()),
            uid: who.uid.clone(),
            groups: Some(who.groups.clone()),
            extra: Some(who.extra.iter().cloned().collect()).filter(|_| !who.extra.is_empty()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    }
}

/// The subresources of nodes that stand for a path (kubelet: pkg/kubelet/server/auth.go).
fn subresources(path: &[&str]) -> &'static [&'static str] {
    match path.first().copied().unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_rights() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&["exec", "ns", "p", "c"], &["proxy"]),
            (&["stats", "summary"], &["stats"]),
            (&["metrics", "resource"], &["metrics"]),
            (&["pods"], &["pods", "proxy"]),
            (&["runningpods"], &["pods", "proxy"]),
            (&["configz"], &["configz", "proxy"]),
            (&["checkpoint", "ns", "p", "c"], &["checkpoint"]),
            (&[], &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), expected, "{path:?}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST), verb(&Method::HEAD)), ("get", "create", "get"));
    }
}

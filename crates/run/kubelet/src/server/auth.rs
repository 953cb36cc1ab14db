//! Who may ask the agent for what: the API server decides.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use plimsoll_pki::Subject;
use tokio::sync::Mutex;

use super::{Body, plain};

/// How long answers count (kubelet: webhook cache TTLs).
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers that are remembered at most.
const REMEMBERED: usize = 1024;

type Question = (String, Vec<String>, &'static str, &'static str);

/// Asks the API whether a user may do what he asks for.
pub(super) struct Gate {
    client: kube::Client,
    node: String,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
}

impl Gate {
    pub(super) fn new(client: kube::Client, node: String) -> Self {
        Self { client, node, answers: Mutex::default() }
    }

    pub(super) async fn check(
        &self,
        user: &Subject,
        method: &Method,
        path: &[&str],
    ) -> Result<(), Response<Body>> {
        let verb = verb(method);
        // The finer right is asked for first, then the one that covers everything.
        for subresource in subresources(path).iter().copied() {
            let question = (user.common_name.clone(), user.organizations.clone(), verb, subresource);
            match self.ask(question).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let text =
                        format!("Authorization error (user={}, verb={verb}): {error}", user.common_name);
                    return Err(plain(StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        let resource = subresources(path).last().copied().unwrap_or("proxy");
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource={resource})",
            user.common_name
        );
        Err(plain(StatusCode::FORBIDDEN, text))
    }

    async fn ask(&self, question: Question) -> Result<bool, kube::Error> {
        let known = self.answers.lock().await.get(&question).copied();
        if let Some((allowed, _)) = known.filter(|(_, until)| *until > Instant::now()) {
            return Ok(allowed);
        }
        let review = review(&question, &self.node);
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let until = Instant::now() + if allowed { ALLOWED } else { DENIED };
        let mut answers = self.answers.lock().await;
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(question, (allowed, until));
        Ok(allowed)
    }
}

fn review((user, groups, verb, subresource): &Question, node: &str) -> SubjectAccessReview {
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
            user: Some(user.clone()),
            groups: Some(groups.clone()),
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
        "healthz" => &["healthz", "proxy"],
        "pods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_rights() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["exec", "ns", "p", "c"], &["proxy"]),
            (&["stats", "summary"], &["stats"]),
            (&["metrics", "resource"], &["metrics"]),
            (&["pods"], &["pods", "proxy"]),
            (&[], &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), expected, "{path:?}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST), verb(&Method::HEAD)), ("get", "create", "get"));
    }
}

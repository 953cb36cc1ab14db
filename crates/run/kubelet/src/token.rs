//! Service account tokens bound to a pod, renewed before they end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest as Api, TokenRequestSpec, TokenRequestStatus,
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use plimsoll_podlife::projection::{TokenRequest, projection};

use crate::agent::Agent;
use crate::volume::volumes;

/// The tokens of one pod.
#[derive(Default)]
pub(crate) struct Tokens {
    held: BTreeMap<TokenRequest, Held>,
}

struct Held {
    token: String,
    renew: Timestamp,
}

/// A token older than this is renewed however long it lives.
const OLD: SignedDuration = SignedDuration::from_hours(24);

impl Tokens {
    /// Tokens for everything that the pod's volumes ask for.
    pub(crate) async fn get(
        &mut self,
        agent: &Agent,
        pod: &Pod,
    ) -> Result<BTreeMap<TokenRequest, String>, String> {
        let requests: Vec<_> =
            volumes(pod).filter_map(projection).flat_map(|it| it.tokens().collect::<Vec<_>>()).collect();
        let mut tokens = BTreeMap::new();
        for request in requests {
            let now = Timestamp::now();
            if self.held.get(&request).is_none_or(|held| held.renew <= now) {
                match ask(agent, pod, &request, now).await {
                    Ok(held) => drop(self.held.insert(request.clone(), held)),
                    // The old one still lives for a while.
                    Err(why) if self.held.contains_key(&request) => {
                        tracing::warn!(pod = pod.metadata.name, why, "service account token not renewed");
                    }
                    Err(why) => return Err(format!("failed to fetch token: {why}")),
                }
            }
            tokens.extend(self.held.get(&request).map(|held| (request, held.token.clone())));
        }
        Ok(tokens)
    }

    /// When the first token is to be renewed.
    pub(crate) fn renewal(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.renew).min()
    }
}

async fn ask(agent: &Agent, pod: &Pod, request: &TokenRequest, now: Timestamp) -> Result<Held, String> {
    let audience = request.audience.as_str();
    let status = self::request(agent, pod, audience, Some(request.seconds)).await?;
    let (Some(token), Some(end)) = (status.token, status.expiration_timestamp) else {
        return Err("the API gave no token".into());
    };
    let life = end.0.duration_since(now);
    // At four fifths of its life, as upstream does.
    Ok(Held { token, renew: now + (life * 4 / 5).min(OLD) })
}

/// A token of the pod's account for somebody; the API server for nobody in particular.
pub(crate) async fn request(
    agent: &Agent,
    pod: &Pod,
    audience: &str,
    seconds: Option<i64>,
) -> Result<TokenRequestStatus, String> {
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let accounts = kube::Api::<ServiceAccount>::namespaced(
        agent.client.clone(),
        meta.namespace.as_deref().unwrap_or("default"),
    );
    let body = Api {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]).filter(|_| !audience.is_empty()),
            expiration_seconds: seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..Api::default()
    };
    let answer: Api = accounts
        .create_subresource("token", account, &PostParams::default(), &body)
        .await
        .map_err(|error| error.to_string())?;
    answer.status.ok_or_else(|| "the API gave no token".to_owned())
}

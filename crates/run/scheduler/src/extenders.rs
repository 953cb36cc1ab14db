//! Programs that have their say over HTTP.
//!
//! Nobody else waits for them: pods that they have a say about are decided about in the background, and the node that
//! they leave is looked at again before the pod goes there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_client::Informer;
use plimsoll_remote::{Authorities, Identity, Remote, SystemNames, client_tls};
use plimsoll_schedule::configuration::{ExtenderFields, ExtenderTls};
use plimsoll_schedule::extender::{
    Refusal, Scored, add_scores, arguments, filtered, is_interested, preemption, reviewed,
};
use plimsoll_schedule::{PodInfo, Preemption};
use serde_json::Value;

/// How long an extender may take where the configuration does not say.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is taken.
const LONGEST: usize = 64 << 20;

/// An extender and the way to it.
#[derive(Clone, Debug)]
pub struct Extender {
    fields: ExtenderFields,
    remote: Remote,
}

/// What the extenders leave of a pod's nodes.
#[derive(Debug)]
pub(crate) struct Consulted {
    pub(crate) nodes: Scored,
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// Who is asked about a pod.
pub(crate) struct Question {
    pub(crate) extenders: Vec<Extender>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
}

impl Extender {
    /// Prepares the way to an extender.
    ///
    /// # Errors
    /// Its certificates cannot be used.
    pub fn new(fields: ExtenderFields) -> Result<Self, String> {
        let none = ExtenderTls::default();
        let tls = fields.tls_config.as_ref().unwrap_or(&none);
        let authorities = match (tls.insecure, part(&tls.ca_data, &tls.ca_file)?) {
            (true, _) => Authorities::Anybody,
            (false, Some(bundle)) => Authorities::Bundle(bundle),
            (false, None) => Authorities::System,
        };
        let identity = match (part(&tls.cert_data, &tls.cert_file)?, part(&tls.key_data, &tls.key_file)?) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            _ => None,
        };
        let tls = client_tls(&authorities, identity.as_ref()).map_err(|error| error.to_string())?;
        Ok(Self { fields, remote: Remote::new(tls, Arc::new(SystemNames), LONGEST) })
    }

    pub(crate) fn is_interested(&self, pod: &Pod) -> bool {
        is_interested(&self.fields, pod)
    }

    /// Whether it binds pods.
    pub(crate) fn binds(&self) -> bool {
        !self.fields.bind_verb.is_empty()
    }

    pub(crate) async fn bind(&self, order: &Value) -> Result<Value, String> {
        self.send(&self.fields.bind_verb, order).await
    }

    async fn send(&self, verb: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/{verb}", self.fields.url_prefix.trim_end_matches('/'));
        let failed = |why: String| format!("Post {url:?}: {why}");
        let request = http::Request::post(&url)
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| failed(error.to_string()))?;
        let said = self.fields.http_timeout.length();
        let patience = if said.is_zero() { PATIENCE } else { said };
        let answer = self.remote.send(request, patience).await.map_err(|error| failed(error.to_string()))?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!(
                "failed {verb} with extender at URL {url}, code {}",
                answer.status().as_u16()
            ));
        }
        serde_json::from_slice(answer.body()).map_err(|error| failed(error.to_string()))
    }
}

impl Question {
    /// Asks them all, one after the other.
    pub(crate) async fn ask(&self, nodes: Scored) -> Result<Consulted, String> {
        let mut left = Consulted { nodes, refused: BTreeMap::new() };
        for extender in self.extenders.iter().filter(|one| !one.fields.filter_verb.is_empty()) {
            if left.nodes.is_empty() {
                break;
            }
            let answer =
                extender.send(&extender.fields.filter_verb, &self.about(extender, &left.nodes)).await;
            match answer.and_then(|answer| filtered(&extender.fields, &left.nodes, &answer)) {
                Ok((nodes, refused)) => {
                    left.nodes = nodes;
                    left.refused.extend(refused);
                }
                Err(why) if extender.fields.ignorable => {
                    tracing::warn!(extender = extender.fields.url_prefix, why, "extender skipped");
                }
                Err(why) => return Err(why),
            }
        }
        for extender in self.extenders.iter().filter(|one| !one.fields.prioritize_verb.is_empty()) {
            if left.nodes.is_empty() {
                break;
            }
            match extender.send(&extender.fields.prioritize_verb, &self.about(extender, &left.nodes)).await {
                Ok(answer) => add_scores(&extender.fields, &mut left.nodes, &answer),
                // Scores of extenders are wishes: a pod does not wait for them.
                Err(why) => {
                    tracing::info!(extender = extender.fields.url_prefix, why, "extender gave no scores")
                }
            }
        }
        Ok(left)
    }

    /// Whether somebody is asked before others end for the pod.
    pub(crate) fn reviews(&self) -> bool {
        self.extenders.iter().any(|extender| !extender.fields.preempt_verb.is_empty())
    }

    /// Asks them all whether others may end, one after the other.
    pub(crate) async fn review(&self, mut found: Vec<Preemption>) -> Result<Option<Preemption>, String> {
        for extender in self.extenders.iter().filter(|one| !one.fields.preempt_verb.is_empty()) {
            if found.is_empty() {
                break;
            }
            let object =
                |pod: &PodInfo| serde_json::to_value(self.pods.get(&pod.namespace, &pod.name)?.as_ref()).ok();
            let question = preemption(&extender.fields, &self.pod, &found, object);
            let answer = extender.send(&extender.fields.preempt_verb, &question).await;
            match answer.and_then(|answer| reviewed(&extender.fields, found.clone(), &answer)) {
                Ok(left) => found = left,
                Err(why) if extender.fields.ignorable => {
                    tracing::warn!(extender = extender.fields.url_prefix, why, "extender skipped");
                }
                Err(why) => return Err(why),
            }
        }
        Ok(Preemption::cheapest(found))
    }

    fn about(&self, extender: &Extender, nodes: &Scored) -> Value {
        let object = |name: &str| serde_json::to_value(self.nodes.get("", name)?.as_ref()).ok();
        arguments(&extender.fields, &self.pod, nodes.iter().map(|(name, _)| name.as_str()), object)
    }
}

/// Certificates or keys, from base64 or a file.
fn part(data: &str, file: &str) -> Result<Option<Vec<u8>>, String> {
    use base64::Engine as _;
    if !data.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data);
        return decoded.map(Some).map_err(|error| error.to_string());
    }
    if file.is_empty() {
        return Ok(None);
    }
    std::fs::read(file).map(Some).map_err(|error| format!("{file}: {error}"))
}

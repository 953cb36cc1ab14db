//! Words that a driver gets from Secrets, and tokens of the pod's account.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Pod, Secret, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::Api;

use crate::agent::Agent;
use crate::token;

/// The content of a Secret as text; nothing where none is named.
pub(super) async fn words(
    agent: &Agent,
    reference: Option<&SecretReference>,
    what: &str,
) -> Result<HashMap<String, String>, String> {
    let Some(reference) = reference else { return Ok(HashMap::new()) };
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    let secret = Api::<Secret>::namespaced(agent.client.clone(), namespace).get(name).await;
    let secret = secret.map_err(|error| {
        format!(
            "fetching {what} {namespace}/{name} failed: failed to find the secret {name} in the namespace \
             {namespace} with error: {error}"
        )
    })?;
    let text = |(key, value): (String, k8s_openapi::ByteString)| {
        (key, String::from_utf8_lossy(&value.0).into_owned())
    };
    Ok(secret.data.unwrap_or_default().into_iter().map(text).collect())
}

/// Tokens for every audience that the driver names, as JSON; nothing where it names none.
pub(super) async fn tokens(
    agent: &Agent,
    pod: &Pod,
    driver: Option<&CSIDriver>,
) -> Result<Option<String>, String> {
    let wanted = driver.and_then(|driver| driver.spec.token_requests.clone()).unwrap_or_default();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut all = BTreeMap::new();
    for request in wanted {
        let status = token::request(agent, pod, &request.audience, request.expiration_seconds).await?;
        all.insert(request.audience, status);
    }
    serde_json::to_string(&all).map(Some).map_err(|error| error.to_string())
}

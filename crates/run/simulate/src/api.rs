//! Writes whose answers nobody reads.

use std::collections::BTreeMap;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

/// Where the nodes' signs of life are.
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// Where nodes are.
pub(crate) const NODES: &str = "/api/v1/nodes";
/// The least that the server says of what was written.
const SHORT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    Merge,
    Strategic,
}

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such object, or it is another one by now.
    Gone,
    /// There is one already.
    Exists,
    /// It may happen later.
    Later(String),
}

/// The API, written to without looking at what comes back.
#[derive(Clone)]
pub(crate) struct Api(kube::Client);

#[derive(Deserialize)]
struct Answer {
    metadata: ObjectMeta,
}

impl Api {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self(client)
    }

    /// Makes an object; gives its unique id.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<String, Refusal> {
        let body = self.send(Method::POST, path, "application/json", object.to_string()).await?;
        let answer = body.collect_bytes().await.map_err(later)?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(later)?;
        Ok(answer.metadata.uid.unwrap_or_default())
    }

    /// The labels of what is there.
    pub(crate) async fn labels(&self, path: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let body = self.send(Method::GET, path, "application/json", String::new()).await?;
        let answer = body.collect_bytes().await.map_err(later)?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(later)?;
        Ok(answer.metadata.labels.unwrap_or_default())
    }

    pub(crate) async fn patch(&self, path: &str, kind: Patch, patch: &Value) -> Result<(), Refusal> {
        let kind = match kind {
            Patch::Merge => "application/merge-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
        };
        self.done(Method::PATCH, path, kind, patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<(), Refusal> {
        self.done(Method::DELETE, path, "application/json", options.to_string()).await
    }

    async fn done(&self, method: Method, path: &str, kind: &str, body: String) -> Result<(), Refusal> {
        // A connection is used again only when the answer has been read.
        self.send(method, path, kind, body).await?.collect_bytes().await.map(drop).map_err(later)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: String) -> Result<Body, Refusal> {
        let request =
            Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind).header(ACCEPT, SHORT);
        let request = request.body(Body::from(body.into_bytes())).map_err(later)?;
        let response = self.0.send(request).await.map_err(later)?;
        let (status, body) = (response.status(), response.into_body());
        if status.is_success() {
            return Ok(body);
        }
        let text = body.collect_bytes().await.map_err(later)?;
        let status_of: Value = serde_json::from_slice(&text).unwrap_or_default();
        match (status.as_u16(), status_of["reason"].as_str()) {
            (404, _) | (409, Some("Conflict")) => Err(Refusal::Gone),
            (409, _) => Err(Refusal::Exists),
            _ => Err(Refusal::Later(String::from_utf8_lossy(&text).into_owned())),
        }
    }
}

fn later(error: impl std::fmt::Display) -> Refusal {
    Refusal::Later(error.to_string())
}

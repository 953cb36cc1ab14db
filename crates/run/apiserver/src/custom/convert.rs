//! Custom objects from one version to another: by their version's name alone, or by a webhook.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use plimsoll_admission::webhook::server_answer;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_remote::{Authorities, Remote, client_tls};
use plimsoll_store::Store;
use plimsoll_structural::conversion;
use serde_json::Value;

use super::definition::{Definition, prune};
use crate::reach::ServiceNames;
use crate::server::Api;

/// How long a webhook may take, as upstream lets it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer that is taken, in bytes.
const LIMIT: usize = 64 << 20;

/// How objects get from one version to another.
#[derive(Debug)]
pub(crate) enum Conversion {
    /// All versions have the same fields.
    Name,
    /// Somebody is asked.
    Webhook(Box<Hook>),
}

/// Who is asked.
#[derive(Debug)]
pub(crate) struct Hook {
    url: String,
    /// The version of the review that both sides speak.
    review: Option<String>,
    way: Result<(Remote, Uri), String>,
}

impl Conversion {
    pub(super) fn read(conversion: &Value, store: &Store) -> Self {
        if conversion["strategy"] != "Webhook" {
            return Self::Name;
        }
        let client = &conversion["webhook"]["clientConfig"];
        let url = url(client);
        let spoken = conversion["webhook"]["conversionReviewVersions"].as_array().into_iter().flatten();
        let review = conversion::review_version(spoken.filter_map(Value::as_str)).map(str::to_owned);
        let way = way(client, &url, store);
        Self::Webhook(Box::new(Hook { url, review, way }))
    }
}

fn url(client: &Value) -> String {
    if let Some(url) = client["url"].as_str() {
        return format!("{url}?timeout=30s");
    }
    let service = &client["service"];
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    let path = text("path").trim_start_matches('/');
    let port = service["port"].as_u64().unwrap_or(443);
    format!("https://{}.{}.svc:{port}/{path}?timeout=30s", text("name"), text("namespace"))
}

fn way(client: &Value, url: &str, store: &Store) -> Result<(Remote, Uri), String> {
    let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
    let authorities = match client["caBundle"].as_str().unwrap_or_default() {
        "" => Authorities::System,
        bundle => Authorities::Bundle(STANDARD.decode(bundle).map_err(|error| error.to_string())?),
    };
    let tls = client_tls(&authorities, None).map_err(|error| error.to_string())?;
    Ok((Remote::new(tls, Arc::new(ServiceNames(store.clone())), LIMIT), uri))
}

/// Stored objects in the version of `kind`, in their order; objects whose schema changed since they were
/// written lose what it does not know any more, and get its defaults.
pub(crate) async fn presented(
    definition: &Definition,
    kind: &Kind,
    mut objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    for object in &mut objects {
        let version = version(object);
        if let Some(schema) = definition.family.schema(&version) {
            prune(Some(&schema), object).map_err(unreadable)?;
            plimsoll_structural::default(object, &schema);
        }
    }
    converted(definition, kind, &definition.version, objects).await
}

/// An object of another version of the same kind in this one.
pub(crate) async fn convert(api: &Api, kind: &Kind, object: Value) -> Result<Value, Status> {
    let definition = api.customs.require(kind)?;
    let mut objects = converted(&definition, kind, kind.version, vec![object]).await?;
    objects.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
}

/// An object of `kind` in the version that is kept.
pub(crate) async fn stored(definition: &Definition, kind: &Kind, object: Value) -> Result<Value, Status> {
    let version = definition.family.storage.clone();
    let mut objects = converted(definition, kind, &version, vec![object]).await?;
    objects.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
}

/// Brings objects that have another version into this one.
async fn converted(
    definition: &Definition,
    kind: &Kind,
    version: &str,
    mut objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let desired = format!("{}/{version}", kind.group);
    let others: Vec<usize> =
        (0..objects.len()).filter(|&at| objects[at]["apiVersion"] != desired.as_str()).collect();
    if others.is_empty() {
        return Ok(objects);
    }
    match &definition.family.conversion {
        Conversion::Name => {
            for at in &others {
                objects[*at]["apiVersion"] = desired.clone().into();
            }
        }
        Conversion::Webhook(hook) => {
            let asked: Vec<&Value> = others.iter().map(|&at| &objects[at]).collect();
            let answers = hook.ask(&asked, &desired).await?;
            for (at, answer) in others.iter().zip(answers) {
                objects[*at] = answer;
            }
        }
    }
    let schema = definition.family.schema(version);
    for at in others {
        prune(schema.as_deref(), &mut objects[at]).map_err(unreadable)?;
    }
    Ok(objects)
}

/// Whether an object lies in another version than those that are written now.
pub(crate) fn is_outdated(definition: &Definition, kind: &Kind, object: &Value) -> bool {
    object["apiVersion"] != format!("{}/{}", kind.group, definition.family.storage).as_str()
}

fn version(object: &Value) -> String {
    object["apiVersion"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned()
}

fn unreadable(error: plimsoll_meta::field::FieldError) -> Status {
    Status::internal(error)
}

impl Hook {
    /// Objects of one version in another, in their order.
    async fn ask(&self, objects: &[&Value], desired: &str) -> Result<Vec<Value>, Status> {
        let first = objects.first().copied().unwrap_or(&Value::Null);
        let subject = format!(
            "{}, Kind={}",
            first["apiVersion"].as_str().unwrap_or_default(),
            first["kind"].as_str().unwrap_or_default()
        );
        let failed = |why: String| Status::new(500, "", format!("conversion webhook for {subject} {why}"));
        let Some(version) = &self.review else {
            return Err(Status::new(500, "", "no supported conversion review versions"));
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let review = conversion::review(version, &uid, desired, objects);
        let bytes =
            self.post(review.to_string().into()).await.map_err(|why| failed(format!("failed: {why}")))?;
        let answer =
            serde_json::from_slice::<Value>(&bytes).map_err(|error| failed(format!("failed: {error}")))?;
        let answers = conversion::answer(version, &uid, objects.len(), &answer).map_err(failed)?;
        // Each object is held against itself, as if it had been asked for alone.
        let accepted = objects.iter().zip(answers);
        accepted
            .map(|(original, answer)| conversion::accept(original, answer, desired).map_err(failed))
            .collect()
    }

    async fn post(&self, body: Bytes) -> Result<Bytes, String> {
        let (remote, uri) = self.way.as_ref().map_err(Clone::clone)?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-conversion"));
        let answer =
            remote.send(request, DEADLINE).await.map_err(|error| format!("Post {:?}: {error}", self.url))?;
        match answer.status().as_u16() {
            200..=206 => Ok(answer.into_body()),
            code => Err(server_answer(code, answer.body())),
        }
    }
}

//! All groups in one document (`apidiscovery.k8s.io`).
//!
//! A document is made when it is asked for and something it tells of has changed since the last time; until then
//! the same bytes are sent under the same tag.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderValue, Response, StatusCode};
use plimsoll_catalogue::Kind;
use serde_json::{Value, json};

use super::{groups, kinds_of, verbs};
use crate::aggregate::Offers;
use crate::body::{self, ResponseBody};
use crate::custom::Served;
use crate::server::Api;
use crate::stages::Asked;
use crate::{conditional, openapi, registry};

/// Which groups a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one without a name.
    Core,
    /// All others.
    Groups,
}

/// The versions of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V2Beta1,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// The documents as they were last made, by side and version.
#[derive(Debug, Default)]
pub(crate) struct Discovered([Mutex<Option<Document>>; 4]);

#[derive(Clone, Debug)]
struct Document {
    /// What it was made of; the same as long as nothing changed.
    customs: Arc<Served>,
    offers: Offers,
    tag: Arc<str>,
    text: Bytes,
}

impl Discovered {
    fn get(&self, api: &Api, side: Side, version: Version) -> Document {
        let place = &self.0[(side as usize) * 2 + version as usize];
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        let (customs, offers) = (api.customs.served(), api.aggregator.offers());
        match &*kept {
            Some(known) if Arc::ptr_eq(&known.customs, &customs) && known.offers.is(&offers) => known.clone(),
            _ => {
                // Made of what is there now, which may be newer than what was just seen: then it is made again.
                let text = Bytes::from(whole(api, &registry::kinds(api), side, version).to_string());
                let document = Document { customs, offers, tag: openapi::tag(&text).into(), text };
                kept.insert(document).clone()
            }
        }
    }
}

/// The document, or 304 for who has it.
pub(super) fn answer(api: &Api, asked: &Asked, side: Side, version: Version) -> Response<ResponseBody> {
    let document = api.discovered.get(api, side, version);
    let mut response = conditional::unless_known(&asked.headers, &document.tag, || {
        let mut response = body::encoded(StatusCode::OK, "application/json", document.text.clone());
        let version = version.name();
        let media = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        if let Ok(media) = HeaderValue::from_str(&media) {
            response.headers_mut().insert(CONTENT_TYPE, media);
        }
        response
    });
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// The version of the aggregated document that the client asks for first.
pub(super) fn version(asked: &Asked) -> Option<Version> {
    let accept = asked.headers.get(ACCEPT)?.to_str().ok()?;
    let first = accept.split(',').find(|choice| {
        choice.contains("application/json")
            && (!choice.contains("as=") || choice.contains("as=APIGroupDiscoveryList"))
    })?;
    if !first.contains("as=APIGroupDiscoveryList") {
        return None;
    }
    match () {
        () if first.contains("v=v2beta1") => Some(Version::V2Beta1),
        () if first.contains("v=v2") => Some(Version::V2),
        () => None,
    }
}

/// All groups in one document (`apidiscovery.k8s.io`).
fn whole(api: &Api, kinds: &[&'static Kind], side: Side, version: Version) -> Value {
    let mut items: Vec<Value> = groups(kinds)
        .iter()
        .filter(|group| group.name.is_empty() == (side == Side::Core))
        .map(|group| {
            let versions: Vec<Value> =
                group.versions.iter().map(|version| aggregate_version(kinds, group.name, version)).collect();
            let metadata = if side == Side::Core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group.name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    if side == Side::Groups {
        api.aggregator.add_documents(&mut items);
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{}", version.name()), "metadata": {}, "items": items})
}

fn aggregate_version(kinds: &[&'static Kind], group: &str, version: &str) -> Value {
    let resources: Vec<Value> = kinds_of(kinds, group, version).into_iter().map(aggregate_resource).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregate_resource(kind: &Kind) -> Value {
    let response =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut value = json!({
        "resource": kind.plural, "responseKind": response(kind.group, kind.version, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": verbs(kind.verbs),
    });
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) = if sub.version.is_empty() { (kind.group, kind.version) } else { (sub.group, sub.version) };
            json!({"subresource": sub.name, "responseKind": response(group, version, sub.kind), "verbs": verbs(sub.verbs)})
        })
        .collect();
    if !subresources.is_empty() {
        value["subresources"] = json!(subresources);
    }
    value
}

//! What the API offers: the plain documents and the aggregated one ([`aggregated`]).

mod aggregated;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response, StatusCode};
use plimsoll_catalogue::{Group, Kind, Storage, Subresource, Verbs};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::{self, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;
use crate::usage;
use crate::{negotiate, registry};

pub(crate) use aggregated::Discovered;
use aggregated::Side;

/// Answers a discovery path, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    let aggregated = aggregated::version(asked);
    let kinds = registry::kinds(api);
    let document = match parts[..] {
        [""] => paths(&kinds),
        ["api"] | ["apis"] => {
            if let Some(version) = aggregated {
                let side = if parts[0] == "api" { Side::Core } else { Side::Groups };
                return Some(aggregated::answer(api, asked, side, version));
            }
            if parts[0] == "api" { core_versions(api) } else { group_list(api, &kinds) }
        }
        ["api", version] => resources(api, &kinds, "", version)?,
        ["apis", group] => group_document(api, &kinds, group)?,
        ["apis", group, version] => resources(api, &kinds, group, version)?,
        _ => return None,
    };
    Some(body::json(StatusCode::OK, &document))
}

/// Refuses clients that take none of the encodings of a discovery document.
pub(crate) fn offered(path: &str, headers: &HeaderMap) -> Result<(), Status> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["api"] | ["api", _] | ["apis", _, _] => negotiate::offered(headers, negotiate::ALL),
        ["apis"] | ["apis", _] => {
            negotiate::offered(headers, negotiate::ALL).map_err(|_| Status::not_acceptable(negotiate::ALL))
        }
        ["version"] => negotiate::offered(headers, "application/json"),
        _ => Ok(()),
    }
}

fn kinds_of(kinds: &[&'static Kind], group: &str, version: &str) -> Vec<&'static Kind> {
    kinds.iter().copied().filter(|kind| kind.group == group && kind.version == version).collect()
}

fn groups(kinds: &[&'static Kind]) -> Vec<Group> {
    plimsoll_catalogue::groups_of(kinds.iter().copied())
}

fn paths(kinds: &[&'static Kind]) -> Value {
    let mut paths = vec![
        "/.well-known/openid-configuration".to_owned(),
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
    ];
    for group in groups(kinds).iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    for path in [
        "/healthz",
        "/healthz/etcd",
        "/healthz/ping",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ] {
        paths.push(path.to_owned());
    }
    paths.sort();
    json!({"paths": paths})
}

fn core_versions(api: &Api) -> Value {
    let address = json!({"clientCIDR": "0.0.0.0/0", "serverAddress": api.advertise.to_string()});
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})
}

fn group_list(api: &Api, kinds: &[&'static Kind]) -> Value {
    let mut groups: Vec<Value> = groups(kinds)
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(|group| group_value(group.name, &group.versions))
        .collect();
    api.aggregator.add_groups(&mut groups);
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_value(name: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": all, "preferredVersion": all.first()})
}

fn group_document(api: &Api, kinds: &[&'static Kind], name: &str) -> Option<Value> {
    let own = groups(kinds).into_iter().find(|group| group.name == name && !name.is_empty());
    let mut list: Vec<Value> = own.iter().map(|group| group_value(group.name, &group.versions)).collect();
    api.aggregator.add_groups(&mut list);
    let mut value = list.into_iter().find(|group| group["name"] == name)?;
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn verbs(verbs: Verbs) -> Vec<&'static str> {
    verbs.iter().map(plimsoll_catalogue::Verb::name).collect()
}

fn resources(api: &Api, kinds: &[&'static Kind], group: &str, version: &str) -> Option<Value> {
    if (group, version) == (usage::GROUP, usage::VERSION) {
        return Some(usage::resources());
    }
    let kinds = kinds_of(kinds, group, version);
    let first = kinds.first()?;
    let mut list = Vec::new();
    for kind in &kinds {
        list.push(resource(api, kind));
        list.extend(kind.subresources.iter().map(|sub| subresource(kind, sub)));
    }
    let mut document =
        json!({"kind": "APIResourceList", "groupVersion": first.api_version(), "resources": list});
    // Clients of the first days know the core group without.
    if !group.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    Some(document)
}

fn resource(api: &Api, kind: &Kind) -> Value {
    let mut value = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": verbs(kind.verbs),
    });
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    if let Some(hash) = storage_version_hash(api, kind) {
        value["storageVersionHash"] = json!(hash);
    }
    value
}

/// What changes when objects of a kind are kept in another version (upstream:
/// `k8s.io/apiserver/pkg/endpoints/discovery`, `StorageVersionHash`).
fn storage_version_hash(api: &Api, kind: &Kind) -> Option<String> {
    let Storage::Stored { group, version, .. } = kind.storage else { return None };
    let definition = if kind.is_custom() { api.customs.definition(kind) } else { None };
    let version = definition.as_ref().map_or(version, |definition| &definition.family.storage);
    Some(STANDARD.encode(&Sha256::digest(format!("{group}/{version}/{}", kind.kind))[..8]))
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
        "kind": sub.kind, "verbs": verbs(sub.verbs),
    });
    if !sub.version.is_empty() {
        value["group"] = json!(sub.group);
        value["version"] = json!(sub.version);
    }
    value
}

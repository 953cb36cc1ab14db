//! Extension servers in discovery.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value, json};

use super::{Aggregator, Extension, local};
use crate::server::Api;
use crate::usage;

/// Remembers what an extension server offers in its group version.
pub(super) fn learn(api: &Api, extension: &Extension, answer: &[u8]) {
    let Ok(list) = serde_json::from_slice::<Value>(answer) else { return };
    let document = version_document(&extension.group, &extension.version, &list);
    if api.aggregator.documents().get(&extension.name) != Some(&document) {
        api.aggregator.change_documents(|documents| drop(documents.insert(extension.name.clone(), document)));
    }
}

/// An APIResourceList as a version of the aggregated document.
fn version_document(group: &str, version: &str, list: &Value) -> Value {
    let all = || list["resources"].as_array().into_iter().flatten();
    let response = |one: &Value| {
        let own = |field: &str, usual: &str| match one[field].as_str() {
            Some(given) if !given.is_empty() => given.to_owned(),
            _ => usual.to_owned(),
        };
        json!({"group": own("group", group), "version": own("version", version), "kind": one["kind"]})
    };
    let below = |name: &str| -> Vec<Value> {
        all()
            .filter_map(|sub| Some((sub, sub["name"].as_str()?.strip_prefix(name)?.strip_prefix('/')?)))
            .map(|(sub, part)| {
                json!({"subresource": part, "responseKind": response(sub), "verbs": sub["verbs"]})
            })
            .collect()
    };
    let mut resources: Vec<Value> = Vec::new();
    for one in all() {
        let name = one["name"].as_str().unwrap_or_default();
        if name.contains('/') {
            continue;
        }
        let mut resource = json!({
            "resource": name, "responseKind": response(one),
            "scope": if one["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": one["singularName"], "verbs": one["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if one[field].is_array() {
                resource[field] = one[field].clone();
            }
        }
        let subresources = below(name);
        if !subresources.is_empty() {
            resource["subresources"] = Value::Array(subresources);
        }
        resources.push(resource);
    }
    json!({"version": version, "freshness": "Current", "resources": resources})
}

/// What extension servers offer, in one state that is the same until something changes.
#[derive(Clone)]
pub(crate) struct Offers {
    extensions: Arc<BTreeMap<String, Arc<Extension>>>,
    documents: Arc<BTreeMap<String, Value>>,
}

impl Offers {
    /// Is this the same state?
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.extensions, &other.extensions) && Arc::ptr_eq(&self.documents, &other.documents)
    }
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offers")
    }
}

impl Aggregator {
    /// What all extension servers offer now.
    pub(crate) fn offers(&self) -> Offers {
        Offers { extensions: self.extensions(), documents: self.documents() }
    }

    fn documents(&self) -> Arc<BTreeMap<String, Value>> {
        Arc::clone(&self.documents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who has the documents keeps them as they are.
    pub(super) fn change_documents(&self, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        change(Arc::make_mut(&mut self.documents.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Adds the groups of extension servers to an APIGroupList's `groups`.
    pub(crate) fn add_groups(&self, groups: &mut Vec<Value>) {
        self.merge(groups, "name", |extension| {
            let whole = format!("{}/{}", extension.group, extension.version);
            json!({"groupVersion": whole, "version": extension.version})
        });
        for group in groups.iter_mut().filter(|group| group["preferredVersion"].is_null()) {
            group["preferredVersion"] = group["versions"][0].clone();
        }
    }

    /// Adds the groups of extension servers to the items of the aggregated document.
    pub(crate) fn add_documents(&self, items: &mut Vec<Value>) {
        let documents = self.documents();
        let own = version_document(usage::GROUP, usage::VERSION, &usage::resources());
        let document = |name: &str| match name {
            _ if self.extensions().contains_key(name) => documents.get(name),
            usage::SERVICE => Some(&own),
            _ => None,
        };
        self.merge(items, "metadata", |extension| match document(&extension.name) {
            Some(document) if extension.available => document.clone(),
            Some(document) => {
                let mut stale = document.clone();
                stale["freshness"] = json!("Stale");
                stale
            }
            None => json!({"version": extension.version, "freshness": "Stale"}),
        });
    }

    /// Puts versions into their groups, and new groups where their priority wants them. `identity` tells
    /// how groups say their name: a text, or metadata with one.
    fn merge(&self, groups: &mut Vec<Value>, identity: &str, version: impl Fn(&Extension) -> Value) {
        let extensions = self.extensions();
        let own = own(&extensions);
        let mut sorted: Vec<&Extension> = extensions.values().map(|one| &**one).chain(&own).collect();
        sorted.sort_by_key(|one| std::cmp::Reverse((one.group_priority, one.version_priority)));
        for extension in sorted {
            let entry = version(extension);
            if let Some(group) = groups.iter_mut().find(|group| name(group, identity) == extension.group) {
                if let Some(versions) = group["versions"].as_array_mut() {
                    versions.retain(|one| one["version"] != extension.version.as_str());
                    versions.push(entry);
                }
                continue;
            }
            let named = match identity {
                "metadata" => json!({"name": extension.group, "creationTimestamp": null}),
                _ => json!(extension.group),
            };
            let group =
                Map::from_iter([(identity.to_owned(), named), ("versions".to_owned(), json!([entry]))]);
            let place = groups.iter().position(|one| {
                local::group_priority(name(one, identity)) < extension.group_priority
                    && !extensions.values().any(|other| other.group == name(one, identity))
            });
            groups.insert(place.unwrap_or(groups.len()), Value::Object(group));
        }
    }
}

/// The group that stands here as if an extension server served it, until one does.
fn own(extensions: &BTreeMap<String, Arc<Extension>>) -> Option<Extension> {
    (!extensions.contains_key(usage::SERVICE)).then(|| Extension {
        name: usage::SERVICE.to_owned(),
        group: usage::GROUP.to_owned(),
        version: usage::VERSION.to_owned(),
        group_priority: local::group_priority(usage::GROUP),
        version_priority: 0,
        spec: Value::Null,
        namespace: String::new(),
        service: String::new(),
        port: 0,
        available: true,
        reach: Err("it is served here".to_owned()),
    })
}

fn name<'g>(group: &'g Value, identity: &str) -> &'g str {
    let named = &group[identity];
    named.as_str().or_else(|| named["name"].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_list_becomes_a_version_of_the_aggregated_document() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
             "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale",
             "group": "autoscaling", "version": "v1", "verbs": ["get"]},
        ]});
        assert_eq!(
            version_document("wardle.example.com", "v1", &list),
            json!({"version": "v1", "freshness": "Current", "resources": [{
                "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced",
                "verbs": ["get"], "shortNames": ["fl"],
                "responseKind": {"group": "wardle.example.com", "version": "v1", "kind": "Flunder"},
                "subresources": [{"subresource": "scale", "verbs": ["get"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}],
            }]})
        );
    }
}

//! The paths of kinds with their operations, as OpenAPI documents describe them.
//!
//! Names, actions, tags and media types are upstream's, because generated clients are named after them.
//! Parameters stand where they are used; upstream's document keeps them aside under names made of hashes.

mod connections;
mod names;
mod operation;
mod parameters;

use plimsoll_catalogue::{Kind, Subresource, Verb};
use serde_json::{Map, Value};

use super::Style;
use super::definitions::{STATUS, WATCH_EVENT, list_name, object_name};
use names::{article, package};
pub(super) use names::{capital, group_words};
use operation::Operation;
pub(super) use operation::content;
use parameters::{DELETE, LIST, LOG, PRETTY};

/// The paths of these kinds.
pub(super) fn paths(kinds: &[&Kind], style: Style) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in kinds {
        let operations = Operations { kind, style };
        operations.describe(&mut paths);
        for sub in kind.subresources {
            operations.describe_below(sub, &mut paths);
        }
    }
    paths
}

/// The operations of one kind.
struct Operations<'a> {
    kind: &'a Kind,
    style: Style,
}

impl<'a> Operations<'a> {
    fn root(&self) -> String {
        match self.kind.group {
            "" => format!("/api/{}", self.kind.version),
            group => format!("/apis/{group}/{}", self.kind.version),
        }
    }

    fn collection(&self) -> String {
        let scope = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{scope}/{}", self.root(), self.kind.plural)
    }

    fn object(&self) -> String {
        // Namespaces are the one kind whose objects stand where other kinds have their namespace.
        format!("{}/{{name}}", self.collection())
    }

    /// `Namespaced` or nothing.
    fn scope(&self) -> &'static str {
        if self.kind.namespaced { "Namespaced" } else { "" }
    }

    fn identity(&self) -> (&'a str, &'a str, &'a str) {
        (self.kind.group, self.kind.version, self.kind.kind)
    }

    fn describe(&self, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let (list, object) = (list_name(self.kind), object_name(self.kind));
        let allows = |verb| self.kind.allows(verb, None);
        let mut collection = Vec::new();
        if allows(Verb::List) {
            collection.push(self.listing("list", format!("{}{kind}", self.scope()), &list));
        }
        if allows(Verb::Create) {
            let answer = Operation {
                verb: "create",
                subject: format!("{}{kind}", self.scope()),
                description: format!("create {} {kind}", article(kind)),
                ..self.write("post", &object)
            };
            collection.push(answer);
        }
        if allows(Verb::DeleteCollection) {
            let mut parameters = DELETE.to_vec();
            parameters.extend(LIST.iter().filter(|one| !["allowWatchBookmarks", "watch"].contains(&one.0)));
            collection.push(Operation {
                verb: "delete",
                subject: format!("Collection{}{kind}", self.scope()),
                action: "deletecollection",
                description: format!("delete collection of {kind}"),
                answer: STATUS,
                codes: &["200"],
                parameters,
                ..self.deletion(STATUS)
            });
        }
        self.add(paths, self.collection(), collection, &[PRETTY]);
        self.describe_object(&object, paths);
        if allows(Verb::List) && self.kind.namespaced {
            let everywhere = self.listing("list", format!("{kind}ForAllNamespaces"), &list);
            let path = format!("{}/{}", self.root(), self.kind.plural);
            let mut parameters = LIST.to_vec();
            parameters.push(PRETTY);
            self.add(paths, path, vec![Operation { parameters: Vec::new(), ..everywhere }], &parameters);
        }
        if allows(Verb::Watch) {
            self.describe_watches(paths);
        }
    }

    fn describe_object(&self, object: &str, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let allows = |verb| self.kind.allows(verb, None);
        let subject = || format!("{}{kind}", self.scope());
        let mut single = Vec::new();
        if allows(Verb::Get) {
            let description = format!("read the specified {kind}");
            single.push(Operation { subject: subject(), description, ..self.reading(object) });
        }
        for (verb, method, word) in [(Verb::Update, "put", "replace"), (Verb::Patch, "patch", "patch")] {
            if allows(verb) {
                single.push(Operation {
                    verb: word,
                    subject: subject(),
                    description: match verb {
                        Verb::Update => format!("replace the specified {kind}"),
                        _ => format!("partially update the specified {kind}"),
                    },
                    ..self.write(method, object)
                });
            }
        }
        if allows(Verb::Delete) {
            let told = DELETED_ANSWERS
                .iter()
                .any(|(group, kinds)| *group == self.kind.group && kinds.contains(&kind));
            let answer = if told { object } else { STATUS };
            single.push(Operation {
                subject: subject(),
                description: format!("delete {} {kind}", article(kind)),
                ..self.deletion(answer)
            });
        }
        self.add(paths, self.object(), single, &[PRETTY]);
    }

    fn describe_watches(&self, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let watched = self.root() + "/watch";
        let below = |path: String| path.replacen(&self.root(), &watched, 1);
        let mut parameters = LIST.to_vec();
        parameters.push(PRETTY);
        let list = |subject: String| Operation {
            action: "watchlist",
            description: format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
            ),
            answer: WATCH_EVENT,
            parameters: Vec::new(),
            ..self.listing("watch", subject, WATCH_EVENT)
        };
        let of_namespace = list(format!("{}{kind}List", self.scope()));
        self.add(paths, below(self.collection()), vec![of_namespace], &parameters);
        if self.kind.namespaced {
            let path = format!("{watched}/{}", self.kind.plural);
            self.add(paths, path, vec![list(format!("{kind}ListForAllNamespaces"))], &parameters);
        }
        if self.kind.allows(Verb::Get, None) {
            let one = Operation {
                action: "watch",
                description: format!(
                    "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
                ),
                ..list(format!("{}{kind}", self.scope()))
            };
            self.add(paths, below(self.object()), vec![one], &parameters);
        }
    }

    fn describe_below(&self, sub: &'a Subresource, paths: &mut Map<String, Value>) {
        let Kind { kind, .. } = *self.kind;
        let path = format!("{}/{}", self.object(), sub.name);
        let subject = format!("{}{kind}{}", self.scope(), capital(sub.name));
        if CONNECTIONS.contains(&sub.name) {
            return self.describe_connection(sub, &subject, path, paths);
        }
        let (group, version) = if sub.version.is_empty() {
            (self.kind.group, self.kind.version)
        } else {
            (sub.group, sub.version)
        };
        let identity = (group, version, sub.kind);
        let spoken = match sub.kind == kind {
            true => object_name(self.kind),
            false => plimsoll_catalogue::by_kind(group, version, sub.kind)
                .map_or_else(|| format!("io.k8s.api.{}.{version}.{}", package(group), sub.kind), object_name),
        };
        let mut operations = Vec::new();
        if sub.verbs.contains(Verb::Get) {
            let text = sub.name == "log";
            let mut produces = self.objects();
            if text {
                produces.insert(0, "text/plain");
            }
            operations.push(Operation {
                subject: subject.clone(),
                description: format!("read {} of the specified {kind}", sub.name),
                identity,
                produces,
                ..self.reading(if text { "" } else { &spoken })
            });
        }
        for (verb, method, word) in [
            (Verb::Create, "post", "create"),
            (Verb::Update, "put", "replace"),
            (Verb::Patch, "patch", "patch"),
        ] {
            if sub.verbs.contains(verb) {
                operations.push(Operation {
                    verb: word,
                    subject: subject.clone(),
                    description: match verb {
                        Verb::Create => format!("create {} of {} {kind}", sub.name, article(kind)),
                        Verb::Update => format!("replace {} of the specified {kind}", sub.name),
                        _ => format!("partially update {} of the specified {kind}", sub.name),
                    },
                    identity,
                    ..self.write(method, &spoken)
                });
            }
        }
        let mut parameters = if sub.name == "log" { LOG.to_vec() } else { Vec::new() };
        parameters.push(PRETTY);
        self.add(paths, path, operations, &parameters);
    }
}

/// Kinds whose deletion answers with the object, by group.
const DELETED_ANSWERS: [(&str, &[&str]); 3] = [
    (
        "",
        &[
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ResourceQuota",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("resource.k8s.io", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    (
        "storage.k8s.io",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"],
    ),
];

/// Subresources that are connections.
const CONNECTIONS: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

#[cfg(test)]
mod tests;

//! An API server in memory: objects, versions, and a log of changes that watches read as late as they like.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_reconcile::action::{Delete, Living, Patch, Propagation, Resource, Target};
use plimsoll_reconcile::garbage::{self, FOREGROUND, ORPHAN, Owner};
use plimsoll_volume::annotation::{CLAIM_PROTECTION, VOLUME_PROTECTION};
use serde_json::{Value, json};

use crate::attaching;
use crate::kind::{self, Kind, KindId, Typed};

/// Namespace and name.
pub(crate) type Name = (String, String);

/// An object as the server has it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    pub(crate) typed: Typed,
    pub(crate) node: Arc<garbage::Node>,
}

/// A change of one object; nothing is left of one that is gone.
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) name: Name,
    pub(crate) now: Option<Stored>,
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What the server says of an object it has written.
pub(crate) struct Answer {
    pub(crate) uid: String,
    pub(crate) version: u64,
}

/// The server.
pub(crate) struct Api {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) objects: Vec<BTreeMap<Name, Stored>>,
    pub(crate) log: Vec<Vec<Change>>,
    pub(crate) version: u64,
    /// Nodes that nothing is heard of, and since when.
    pub(crate) silent: BTreeMap<String, Timestamp>,
    /// Whether volumes have to be attached to nodes.
    pub(crate) remote: bool,
    made: u64,
}

impl Api {
    pub(crate) fn new() -> Self {
        let kinds = kind::all();
        let objects = kinds.iter().map(|_| BTreeMap::new()).collect();
        let log = kinds.iter().map(|_| Vec::new()).collect();
        Self { kinds, objects, log, version: 0, silent: BTreeMap::new(), remote: false, made: 0 }
    }

    /// The kind of a resource.
    pub(crate) fn kind(&self, resource: &Resource) -> KindId {
        self.kind_named(&resource.kind)
    }

    pub(crate) fn kind_named(&self, name: &str) -> KindId {
        let found = self.kinds.iter().position(|kind| kind.resource.kind == name);
        found.unwrap_or_else(|| panic!("no kind {name} in the simulation"))
    }

    /// All objects of a type.
    pub(crate) fn all<K: k8s_openapi::Resource + Send + Sync + 'static>(&self) -> Vec<Arc<K>> {
        let objects = &self.objects[self.kind_named(K::KIND)];
        objects.values().map(|stored| kind::typed(&stored.typed)).collect()
    }

    /// One object.
    pub(crate) fn get(&self, kind: KindId, name: &Name) -> Option<&Stored> {
        self.objects[kind].get(name)
    }

    /// Whether an owner may still take something.
    pub(crate) fn lives(&self, living: &Living) -> bool {
        let name = (living.target.namespace.clone(), living.target.name.clone());
        let found = self.get(self.kind(&living.target.resource), &name);
        found.is_some_and(|stored| *stored.node.uid == *living.uid && !stored.node.deleting)
    }

    /// Makes an object.
    pub(crate) fn create(
        &mut self,
        kind: KindId,
        namespace: &str,
        mut object: Value,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        self.made += 1;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().unwrap_or_default();
            // Names must not say in which order objects were made.
            let suffix = self.made.wrapping_mul(0x9E37_79B1) % 0xFF_FFFF;
            meta["name"] = json!(format!("{prefix}{suffix:05x}"));
        }
        if self.ends(namespace) {
            let message = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(refuse(403, "Forbidden", message));
        }
        let meta = &mut object["metadata"];
        meta["uid"] = json!(format!("u{}", self.made));
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!(whole(now));
        let name = (namespace.to_owned(), meta["name"].as_str().unwrap_or_default().to_owned());
        if self.objects[kind].contains_key(&name) {
            return Err(refuse(409, "AlreadyExists", format!("\"{}\" already exists", name.1)));
        }
        self.complete(kind, &mut object);
        Ok(self.put(kind, &name, object))
    }

    fn ends(&self, namespace: &str) -> bool {
        let found = self.get(self.kind_named("Namespace"), &(String::new(), namespace.to_owned()));
        !namespace.is_empty() && found.is_none_or(|found| found.node.deleting)
    }

    /// Takes what holds a namespace from it.
    pub(crate) fn finalize(&mut self, target: &Target, object: &Value) {
        let (kind, name) = self.find(target);
        self.edit(kind, &name, |namespace| {
            namespace["spec"]["finalizers"] = object["spec"]["finalizers"].clone()
        });
    }

    /// What the server adds to objects by itself.
    fn complete(&self, kind: KindId, object: &mut Value) {
        match self.kinds[kind].resource.kind.as_ref() {
            "Pod" => object["status"] = json!({"phase": "Pending"}),
            "Node" => {}
            "PersistentVolumeClaim" => hold(object, CLAIM_PROTECTION),
            "PersistentVolume" => {
                hold(object, VOLUME_PROTECTION);
                if self.remote {
                    attaching::attachable(object);
                }
            }
            "Job" => {
                object.as_object_mut().map(|job| job.remove("status"));
                let uid = object["metadata"]["uid"].clone();
                let spec = &mut object["spec"];
                for (field, value) in
                    [("parallelism", json!(1)), ("backoffLimit", json!(6)), ("suspend", json!(false))]
                {
                    if spec[field].is_null() {
                        spec[field] = value;
                    }
                }
                if spec["completions"].is_null() {
                    spec["completions"] = json!(1);
                }
                let label = "batch.kubernetes.io/controller-uid";
                spec["selector"] = json!({"matchLabels": {label: uid}});
                spec["template"]["metadata"]["labels"][label] = uid;
            }
            _ => {
                object.as_object_mut().map(|object| object.remove("status"));
            }
        }
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch(&mut self, patch: &Patch) -> Result<Answer, Refusal> {
        let (kind, name) = self.find(&patch.target);
        let Some(old) = self.get(kind, &name) else { return Err(missing(&name)) };
        let asked = &patch.body["metadata"];
        let meta = &old.value["metadata"];
        let stale = |field: &str| !asked[field].is_null() && asked[field] != meta[field];
        if stale("resourceVersion") || stale("uid") {
            return Err(refuse(409, "Conflict", format!("{} has changed", name.1)));
        }
        let mut new = merged(old.value.clone(), &patch.body);
        if self.kinds[kind].has_status {
            let kept = if patch.subresource == Some("status") { "spec" } else { "status" };
            if old.value.get(kept).is_some() {
                new[kept] = old.value[kept].clone();
            } else {
                new.as_object_mut().map(|new| new.remove(kept));
            }
        }
        Ok(self.put(kind, &name, new))
    }

    /// Changes an object in place, as those do who read it just before.
    pub(crate) fn edit(&mut self, kind: KindId, name: &Name, how: impl FnOnce(&mut Value)) {
        if let Some(old) = self.get(kind, name) {
            let mut new = old.value.clone();
            how(&mut new);
            self.put(kind, name, new);
        }
    }

    /// Deletes an object, or begins to.
    pub(crate) fn delete(&mut self, delete: &Delete, now: Timestamp) -> Result<Answer, Refusal> {
        let (kind, name) = self.find(&delete.target);
        let Some(old) = self.get(kind, &name) else { return Err(missing(&name)) };
        let meta = &old.value["metadata"];
        let differs = |wanted: &Option<String>, field: &str| {
            wanted.as_ref().is_some_and(|wanted| meta[field].as_str() != Some(wanted))
        };
        if differs(&delete.uid, "uid") || differs(&delete.resource_version, "resourceVersion") {
            return Err(refuse(409, "Conflict", format!("{} is another", name.1)));
        }
        let mut new = old.value.clone();
        let grace = self.grace(kind, &new, delete.grace);
        let meta = &mut new["metadata"];
        if meta["deletionTimestamp"].is_null() {
            meta["deletionTimestamp"] = json!(whole(now + SignedDuration::from_secs(grace)));
            let finalizer = match delete.propagation {
                Some(Propagation::Foreground) => Some(FOREGROUND),
                Some(Propagation::Orphan) => Some(ORPHAN),
                _ => None,
            };
            if let Some(finalizer) = finalizer {
                let mut all = meta["finalizers"].as_array().cloned().unwrap_or_default();
                all.push(json!(finalizer));
                meta["finalizers"] = json!(all);
            }
            meta["deletionGracePeriodSeconds"] = json!(grace);
        } else if meta["deletionGracePeriodSeconds"].as_i64().is_none_or(|known| grace < known) {
            meta["deletionGracePeriodSeconds"] = json!(grace);
        }
        Ok(self.put(kind, &name, new))
    }

    /// Seconds that a deleted pod has to end; nothing else has any.
    fn grace(&self, kind: KindId, object: &Value, asked: Option<i64>) -> i64 {
        let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let bound = !object["spec"]["nodeName"].is_null();
        match self.kinds[kind].resource.kind.as_ref() {
            "Pod" if bound && !ended => asked.unwrap_or(30),
            _ => 0,
        }
    }

    fn find(&self, target: &Target) -> (KindId, Name) {
        (self.kind(&target.resource), (target.namespace.clone(), target.name.clone()))
    }

    /// Writes an object, or takes it away when nothing holds it any more. A write that changes nothing
    /// makes no version.
    fn put(&mut self, kind: KindId, name: &Name, mut object: Value) -> Answer {
        let old = self.objects[kind].get(name);
        if let Some(old) = old {
            let version = old.value["metadata"]["resourceVersion"].clone();
            object["metadata"]["resourceVersion"] = version;
            if object == old.value {
                let version =
                    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                return Answer { uid: old.node.uid.to_string(), version: version.unwrap_or_default() };
            }
            if object["spec"] != old.value["spec"] {
                let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let meta = &object["metadata"];
        let some = |all: &Value| all.as_array().is_some_and(|all| !all.is_empty());
        let held = some(&meta["finalizers"]) || some(&object["spec"]["finalizers"]);
        let ends = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() > 0;
        let uid = meta["uid"].as_str().unwrap_or_default().to_owned();
        let now = if !meta["deletionTimestamp"].is_null() && !held && !ends {
            self.objects[kind].remove(name);
            None
        } else {
            let typed = (self.kinds[kind].read)(&object);
            let node = Arc::new(graph_node(&self.kinds[kind].resource, name, &object));
            let stored = Stored { value: object, typed, node };
            self.objects[kind].insert(name.clone(), stored.clone());
            Some(stored)
        };
        self.log[kind].push(Change { version: self.version, name: name.clone(), now });
        Answer { uid, version: self.version }
    }
}

/// Holds a new object until nobody uses it.
fn hold(object: &mut Value, finalizer: &str) {
    let mut all = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    all.push(json!(finalizer));
    object["metadata"]["finalizers"] = json!(all);
    object["status"] = json!({"phase": "Pending"});
}

fn graph_node(resource: &Resource, name: &Name, object: &Value) -> garbage::Node {
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let owner = |one: &Value| {
        let mut owner = Owner::new(
            &text(&one["apiVersion"]),
            &text(&one["kind"]),
            &text(&one["name"]),
            &text(&one["uid"]),
            one["blockOwnerDeletion"].as_bool().unwrap_or_default(),
        );
        owner.controller = one["controller"].as_bool().unwrap_or_default();
        owner
    };
    garbage::Node {
        uid: text(&meta["uid"]).into(),
        resource_version: text(&meta["resourceVersion"]).into(),
        target: Target { resource: resource.clone(), namespace: name.0.clone(), name: name.1.clone() },
        owners: meta["ownerReferences"].as_array().into_iter().flatten().map(owner).collect(),
        finalizers: meta["finalizers"].as_array().into_iter().flatten().map(|one| text(one).into()).collect(),
        deleting: !meta["deletionTimestamp"].is_null(),
    }
}

/// Metadata has whole seconds.
fn whole(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).expect("in range").to_string()
}

fn refuse(code: u16, reason: &'static str, message: String) -> Refusal {
    Refusal { code, reason, message }
}

fn missing(name: &Name) -> Refusal {
    refuse(404, "NotFound", format!("\"{}\" not found", name.1))
}

/// A JSON merge patch.
fn merged(mut old: Value, patch: &Value) -> Value {
    let Some(fields) = patch.as_object() else { return patch.clone() };
    if !old.is_object() {
        old = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            old.as_object_mut().map(|object| object.remove(key));
        } else {
            let part = merged(old[key].take(), value);
            old[key] = part;
        }
    }
    old
}

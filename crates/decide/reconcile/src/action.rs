//! What a decision asks to be done.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A kind of object, by every name the API knows it under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// `v1` or `group/version`.
    pub api_version: Cow<'static, str>,
    /// The kind.
    pub kind: Cow<'static, str>,
    /// Its plural in paths.
    pub plural: Cow<'static, str>,
}

impl Resource {
    /// The resource of a built-in type.
    pub fn of<K: k8s_openapi::Resource>() -> Self {
        Self { api_version: K::API_VERSION.into(), kind: K::KIND.into(), plural: K::URL_PATH_SEGMENT.into() }
    }

    /// The path of its collection; `namespace` is "" in cluster scope.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let Self { api_version, plural, .. } = self;
        match namespace {
            "" => format!("/{root}/{api_version}/{plural}"),
            _ => format!("/{root}/{api_version}/namespaces/{namespace}/{plural}"),
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace, or "" in cluster scope.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// Where an object of a built-in type is.
    pub fn of<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        let meta = object.metadata();
        Self {
            resource: Resource::of::<K>(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.resource.path(&self.namespace), self.name)
    }
}

/// An object, and that it is this one and not a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Where it is.
    pub target: Target,
    /// Its unique id.
    pub uid: String,
}

/// How the dependents of a deleted object fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// Whether an event tells of the usual or of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Things go as they should.
    Normal,
    /// Somebody may have to look.
    Warning,
}

/// Something to tell users.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What it is about.
    pub about: ObjectReference,
    /// Usual or trouble.
    pub severity: Severity,
    /// One word.
    pub reason: &'static str,
    /// One sentence; where it is told after an action, the object's name or the error takes the place of
    /// `{}`, or follows.
    pub message: String,
}

impl Note {
    /// The sentence with what was learned by the action.
    pub fn sentence(&self, learned: &str) -> String {
        match self.message.split_once("{}") {
            Some((before, after)) if !learned.is_empty() => format!("{before}{learned}{after}"),
            _ => format!("{}{learned}", self.message),
        }
    }
}

/// Makes an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace, or "".
    pub namespace: String,
    /// All of it.
    pub object: Value,
    /// Told when made, with the given name.
    pub made: Option<Note>,
    /// Told when refused, with the error.
    pub refused: Option<Note>,
}

/// Changes an object by a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Which.
    pub target: Target,
    /// Through which door.
    pub subresource: Option<&'static str>,
    /// The merge patch.
    pub body: Value,
    /// Only if the server says that this object still lives and is not being deleted.
    pub guard: Option<Living>,
}

/// Deletes an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// Which.
    pub target: Target,
    /// Only if it is still this one.
    pub uid: Option<String>,
    /// Only if it has not changed.
    pub resource_version: Option<String>,
    /// What becomes of its dependents.
    pub propagation: Option<Propagation>,
    /// Seconds to end in.
    pub grace: Option<i64>,
    /// Told when done, with the name.
    pub done: Option<Note>,
    /// Told when refused, with the error.
    pub refused: Option<Note>,
}

impl Delete {
    /// Deletes whatever has this name.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            uid: None,
            resource_version: None,
            propagation: None,
            grace: None,
            done: None,
            refused: None,
        }
    }
}

/// One step. Steps are taken in order and end at the first that fails; neighbouring creations run
/// side by side, first one, then two, then four; so do neighbouring deletions and patches, at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make an object.
    Create(Box<Create>),
    /// Change an object.
    Patch(Box<Patch>),
    /// Put an object in the place of what is there.
    Replace {
        /// Which.
        target: Target,
        /// Through which door.
        subresource: Option<&'static str>,
        /// All of it.
        object: Value,
    },
    /// Delete an object.
    Delete(Box<Delete>),
    /// Tell users.
    Event(Note),
    /// Decide again after this long, even if nothing changes.
    RequeueAfter(Duration),
}

impl Action {
    /// Makes `object` in the namespace that its metadata names.
    pub fn create<K>(object: &K) -> Create
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        Create {
            resource: Resource::of::<K>(),
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            object: serde_json::to_value(object).expect("API types are JSON"),
            made: None,
            refused: None,
        }
    }

    /// Deletes this very object.
    pub fn delete<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Delete {
        Delete { uid: object.metadata().uid.clone(), ..Delete::of(Target::of(object)) }
    }

    /// Changes this very version of an object; `body` is a merge patch.
    pub fn patch<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(object: &K, mut body: Value) -> Self {
        let version = object.metadata().resource_version.as_deref();
        body["metadata"]["resourceVersion"] = json!(version);
        let target = Target::of(object);
        Self::Patch(Box::new(Patch { target, subresource: None, body, guard: None }))
    }

    /// Writes the difference between two states of an object's status; nothing if there is none.
    pub fn update_status<K, S>(object: &K, old: &S, new: &S) -> Option<Self>
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
        S: Serialize + ?Sized,
    {
        status_change(old, new).map(|body| Self::patch_status(object, body))
    }

    /// Changes the status of this very version of an object, and what of its metadata goes with it.
    pub fn patch_status<K>(object: &K, body: Value) -> Self
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        match Self::patch(object, body) {
            Self::Patch(patch) => Self::Patch(Box::new(Patch { subresource: Some("status"), ..*patch })),
            other => other,
        }
    }

    /// Tells something about an object.
    pub fn event<K>(object: &K, severity: Severity, reason: &'static str, message: impl Into<String>) -> Self
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        Self::Event(Note { about: reference(object), severity, reason, message: message.into() })
    }
}

impl From<Create> for Action {
    fn from(create: Create) -> Self {
        Self::Create(Box::new(create))
    }
}

impl From<Delete> for Action {
    fn from(delete: Delete) -> Self {
        Self::Delete(Box::new(delete))
    }
}

/// What an action met.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What was tried.
    pub action: Action,
    /// The server's HTTP code, 0 when it could not be reached.
    pub code: u16,
    /// The server's reason, one word.
    pub reason: String,
    /// The server's sentence.
    pub message: String,
    /// Reasons of its causes.
    pub causes: Vec<String>,
}

impl Failure {
    /// Whether it failed because its namespace is being deleted: nobody need be told.
    pub fn namespace_ends(&self) -> bool {
        self.causes.iter().any(|cause| cause == "NamespaceTerminating")
    }
}

/// A reference for events.
pub fn reference<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The merge patch that puts the status `new` in the place of `old`.
pub(crate) fn status_change<S: Serialize + ?Sized>(old: &S, new: &S) -> Option<Value> {
    let value = |status: &S| serde_json::to_value(status).expect("API types are JSON");
    Some(json!({ "status": difference(&value(old), &value(new))? }))
}

/// The merge patch that makes `new` of `old`; `None` when they are equal.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return Some(new.clone()) };
    let mut change = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        change.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        let part = match before.get(key) {
            Some(known) => difference(known, value),
            None => Some(value.clone()),
        };
        change.extend(part.map(|part| (key.clone(), part)));
    }
    Some(Value::Object(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_merge_patches() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1, "y": 3}}), Some(json!({"a": {"y": 3}}))),
            (json!({"a": [1]}), json!({"a": [1, 2]}), Some(json!({"a": [1, 2]}))),
            (json!(null), json!({"a": 1}), Some(json!({"a": 1}))),
        ];
        for (old, new, expected) in cases {
            assert_eq!(difference(&old, &new), expected, "{old} → {new}");
        }
    }

    #[test]
    fn notes_say_what_was_learned() {
        let note = |message: &str| Note {
            about: ObjectReference::default(),
            severity: Severity::Normal,
            reason: "R",
            message: message.to_owned(),
        };
        let cases = [
            ("Created pod: ", "a-1", "Created pod: a-1"),
            (
                "create Pod {} in StatefulSet a successful",
                "a-1",
                "create Pod a-1 in StatefulSet a successful",
            ),
            ("all {}", "", "all {}"),
        ];
        for (message, learned, expected) in cases {
            assert_eq!(note(message).sentence(learned), expected);
        }
    }

    #[test]
    fn paths_follow_group_and_scope() {
        let pods = Resource::of::<k8s_openapi::api::core::v1::Pod>();
        let jobs = Resource::of::<k8s_openapi::api::batch::v1::Job>();
        assert_eq!(pods.path("ns"), "/api/v1/namespaces/ns/pods");
        assert_eq!(jobs.path(""), "/apis/batch/v1/jobs");
    }
}

//! A request as webhooks and policies see it: what is done, to what, by whom, with which options.

use std::sync::OnceLock;

use plimsoll_admission::matching::{Attributes, Kind as KindName, Operation, Resource, Surroundings, Target};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::object::meta;
use crate::options::WriteOptions;
use crate::query::Query;
use crate::registry;
use crate::server::Api;
use crate::stages::Asked;
use crate::target::ResourcePath;
use crate::user::User;
use crate::warning::Warnings;
use crate::write::Write;

/// Everything about a request but the object.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) api: &'a Api,
    pub(crate) user: &'a User,
    /// The row that the path names.
    pub(crate) kind: &'static Kind,
    /// Resource, and kind of the body.
    pub(crate) target: Target<'static>,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    /// Empty until an object has a name.
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    pub(crate) dry_run: bool,
    /// `CreateOptions` and the like; null for connections.
    pub(crate) options: Value,
    pub(crate) warnings: Warnings,
    equivalents: OnceLock<Vec<Target<'static>>>,
    surrounding: OnceLock<Result<Value, Status>>,
}

impl<'a> Subject<'a> {
    /// A write of an object.
    pub(crate) fn of_write(write: &Write<'a>, operation: Operation, options: Value) -> Self {
        let subresource = write.subresource.unwrap_or_default();
        Self {
            api: write.api,
            user: write.user,
            kind: write.kind,
            target: target(write.kind, subresource),
            subresource,
            namespace: write.namespace,
            name: write.name,
            operation,
            dry_run: write.dry_run,
            options,
            warnings: write.warnings.clone(),
            equivalents: OnceLock::new(),
            surrounding: OnceLock::new(),
        }
    }

    /// An action below an object, or a question: its body is not stored.
    pub(crate) fn of_action(
        api: &'a Api,
        asked: &'a Asked,
        kind: &'static Kind,
        path: &'a ResourcePath,
        operation: Operation,
    ) -> Result<Self, Status> {
        let dry_run = operation != Operation::Connect && WriteOptions::read(asked)?.dry_run;
        Ok(Self {
            api,
            user: &asked.user,
            kind,
            target: target(kind, &path.subresource),
            subresource: &path.subresource,
            namespace: if kind.namespaced { &path.namespace } else { "" },
            name: &path.name,
            operation,
            dry_run,
            options: options(operation, Some(&asked.query), dry_run),
            warnings: asked.warnings.clone(),
            equivalents: OnceLock::new(),
            surrounding: OnceLock::new(),
        })
    }

    /// The request with both states of its object.
    pub(crate) fn attributes<'b>(
        &'b self,
        object: Option<&'b Value>,
        old: Option<&'b Value>,
    ) -> Attributes<'b> {
        let name = match (self.name, object) {
            ("", Some(object)) => meta(object, "name"),
            (name, _) => name,
        };
        let is_namespace = (self.kind.group, self.kind.plural) == ("", "namespaces");
        Attributes {
            operation: self.operation,
            target: self.target,
            subresource: self.subresource,
            namespace: if is_namespace { name } else { self.namespace },
            name,
            object,
            old,
        }
    }
}

impl<'a> Surroundings<'a> for Subject<'_> {
    fn equivalents(&self) -> &[Target<'a>] {
        self.equivalents.get_or_init(|| {
            registry::kinds(self.api)
                .into_iter()
                .filter(|kind| same_objects(kind, self.kind))
                .filter(|kind| self.subresource.is_empty() || kind.subresource(self.subresource).is_some())
                .map(|kind| target(kind, self.subresource))
                .collect()
        })
    }

    fn namespace(&self, name: &str) -> Result<&Value, Status> {
        let missing = || Status::not_found("", "namespaces", name);
        let found = self.surrounding.get_or_init(|| {
            let kind = plimsoll_catalogue::find("", "v1", "namespaces").ok_or_else(missing)?;
            let key = kind.key("", name).ok_or_else(missing)?;
            registry::served(kind, &*self.api.store.get(&key).ok_or_else(missing)?)
        });
        found.as_ref().map_err(Clone::clone)
    }
}

/// Versions of one resource; events are served by two groups.
fn same_objects(one: &Kind, other: &Kind) -> bool {
    let events = |kind: &Kind| {
        kind.plural == "events" && matches!(kind.group, "" | "events.k8s.io") && !kind.is_custom()
    };
    (one.group, one.plural) == (other.group, other.plural) || (events(one) && events(other))
}

/// The resource of a row and the kind that travels in its requests.
pub(crate) fn target(kind: &'static Kind, subresource: &str) -> Target<'static> {
    let resource = Resource { group: kind.group, version: kind.version, resource: kind.plural };
    let body = match kind.subresource(subresource) {
        Some(sub) if !sub.version.is_empty() => {
            KindName { group: sub.group, version: sub.version, kind: sub.kind }
        }
        Some(sub) => KindName { group: kind.group, version: kind.version, kind: sub.kind },
        None => KindName { group: kind.group, version: kind.version, kind: kind.kind },
    };
    Target { resource, kind: body }
}

/// The options object of a request, from its query.
pub(crate) fn options(operation: Operation, query: Option<&Query>, dry_run: bool) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    for field in ["fieldManager", "fieldValidation"] {
        let value = query.map(|query| query.get(field)).unwrap_or_default();
        if !value.is_empty() {
            options[field] = json!(value);
        }
    }
    options
}

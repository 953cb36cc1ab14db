//! Admission: what the cluster adds to a write or has against it.
//!
//! The built-in part is here; [`chain`] says where webhooks come in.
//! Reads the objects that a decision needs from the store and leaves the decision to
//! `plimsoll-admission`.

mod builtin;
mod call;
mod certificates;
pub(crate) mod chain;
mod configuration;
pub(crate) mod connection;
mod expressions;
pub(crate) mod hooks;
mod mutating;
mod mutating_policies;
mod node_restriction;
mod notes;
mod params;
mod pod_security;
pub(crate) mod policies;
mod seen;
mod subject;
pub(crate) mod type_checking;
mod validating;
mod validating_policies;

use plimsoll_access::node::{self, Attempt};
pub(crate) use plimsoll_admission::matching::Operation;
use plimsoll_admission::plugins::Plugin;
use plimsoll_admission::priority;
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::object::{deleting, meta};
use crate::server::Api;
use crate::stages::Asked;
use crate::target::ResourcePath;
use crate::write::Write;

pub(crate) use configuration::Admission;

/// Namespaces that cannot be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// Brings the object of a create or update into the form that the cluster wants, or refuses it.
/// `old` is the present state; it stands alone (with `object` null) when the object is deleted.
pub(crate) async fn mutate(
    write: &mut Write<'_>,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if on(write, Plugin::NamespaceLifecycle) {
        lifecycle(write, operation, object)?;
    }
    if on(write, Plugin::NodeRestriction) {
        node_restriction::check(write.api, write.user, &attempt(write, operation, object, old)).await?;
    }
    certificates::settle(write, operation, object, old);
    if operation != Operation::Delete {
        builtin::mutate(write, operation, object).await?;
    }
    if operation != Operation::Delete
        && write.kind.group == "rbac.authorization.k8s.io"
        && old.is_none_or(|old| old != object)
    {
        crate::authorize::escalation(write, object).await?;
    }
    Ok(())
}

/// Has the last word about an object that is otherwise valid.
pub(crate) async fn validate(
    write: &mut Write<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    certificates::check(write, operation, object, old).await?;
    if operation != Operation::Delete {
        builtin::validate(write, operation, object, old)?;
        pod_security::validate(write, object, old)?;
    }
    if on(write, Plugin::AlwaysDeny) {
        return Err(refused(write, object, "admission control is denying all modifications"));
    }
    if operation != Operation::Delete
        && on(write, Plugin::Priority)
        && write.kind.kind == "PriorityClass"
        && !write.kind.is_custom()
    {
        priority::check_class(object, old, &all(write, "scheduling.k8s.io", "priorityclasses"))?;
    }
    Ok(())
}

/// A deletion.
pub(crate) async fn delete(write: &mut Write<'_>, old: &Value) -> Result<(), Status> {
    mutate(write, Operation::Delete, &mut Value::Null, Some(old)).await?;
    validate(write, Operation::Delete, &Value::Null, Some(old)).await
}

/// Something created below an object.
async fn action(
    api: &Api,
    asked: &Asked,
    target: &ResourcePath,
    operation: Operation,
    object: &Value,
) -> Result<(), Status> {
    if operation != Operation::Create || !api.admission.plugins.has(Plugin::NodeRestriction) {
        return Ok(());
    }
    let attempt = Attempt {
        operation: node::Operation::Create,
        group: &target.group,
        resource: &target.resource,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: &target.name,
        object,
        old: &Value::Null,
    };
    node_restriction::check(api, &asked.user, &attempt).await
}

fn attempt<'a>(
    write: &'a Write<'_>,
    operation: Operation,
    object: &'a Value,
    old: Option<&'a Value>,
) -> Attempt<'a> {
    Attempt {
        operation: match operation {
            Operation::Create => node::Operation::Create,
            Operation::Update => node::Operation::Update,
            Operation::Delete | Operation::Connect => node::Operation::Delete,
        },
        group: write.kind.group,
        resource: write.kind.plural,
        subresource: write.subresource.unwrap_or_default(),
        namespace: write.namespace,
        name: if operation == Operation::Create { meta(object, "name") } else { write.name },
        object,
        old: old.unwrap_or(&Value::Null),
    }
}

/// Namespaces begin and end in order.
fn lifecycle(write: &Write<'_>, operation: Operation, object: &Value) -> Result<(), Status> {
    match operation {
        Operation::Create => namespace_accepts(write, object),
        Operation::Delete
            if write.kind.group.is_empty()
                && write.kind.kind == "Namespace"
                && IMMORTAL.contains(&write.name) =>
        {
            Err(Status::forbidden("", "namespaces", write.name, "this namespace may not be deleted"))
        }
        _ => Ok(()),
    }
}

/// Namespaced objects need a namespace that exists and is not about to go.
fn namespace_accepts(write: &Write<'_>, object: &Value) -> Result<(), Status> {
    if !write.kind.namespaced || !write.kind.is_stored() {
        return Ok(());
    }
    let namespace = write.namespace;
    let Some(found) = one(write, "", "namespaces", "", namespace) else {
        return Err(Status::not_found("", "namespaces", namespace));
    };
    if !deleting(&found) {
        return Ok(());
    }
    let cause =
        format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(write.kind.group, write.kind.plural, meta(object, "name"), cause);
    status.details["causes"] = serde_json::json!([{
        "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace",
    }]);
    Err(status)
}

/// Is this plugin on?
fn on(write: &Write<'_>, plugin: Plugin) -> bool {
    write.api.admission.plugins.has(plugin)
}

/// The 403 about the object of a write.
fn refused(write: &Write<'_>, object: &Value, cause: impl std::fmt::Display) -> Status {
    let name = if write.name.is_empty() { meta(object, "name") } else { write.name };
    Status::forbidden(write.kind.group, write.kind.plural, name, cause)
}

fn one(write: &Write<'_>, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let kind = plimsoll_catalogue::find(group, "v1", plural)?;
    let entry = write.api.store.get(&kind.key(namespace, name)?)?;
    crate::registry::served(kind, &entry).ok()
}

/// All objects of a kind.
fn all(write: &Write<'_>, group: &str, plural: &str) -> Vec<Value> {
    all_in(write, group, plural, "")
}

/// All objects of a kind in a namespace, or everywhere for "".
fn all_in(write: &Write<'_>, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
    let Some(kind) = plimsoll_catalogue::find(group, "v1", plural) else { return Vec::new() };
    let Ok(prefix) = crate::registry::prefix(kind, namespace) else { return Vec::new() };
    let page = write.api.store.range(&prefix, None, usize::MAX, None);
    page.map(|page| {
        page.entries.iter().filter_map(|entry| crate::registry::served(kind, entry).ok()).collect()
    })
    .unwrap_or_default()
}

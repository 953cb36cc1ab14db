//! The plugins that look at single kinds: what they add, and what they have against an object.

use std::time::Duration;

use plimsoll_admission::plugins::Plugin;
use plimsoll_admission::{
    claim, defaults, limit_range, priority, runtime_class, service_account, strict, topology,
};
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::{Operation, all, all_in, on, one, refused};
use crate::identity::random_suffix;
use crate::object::deleting;
use crate::write::Write;

/// How long a pod waits for the account that a controller makes for its new namespace.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(2);

/// What an object gets.
pub(super) async fn mutate(
    write: &mut Write<'_>,
    operation: Operation,
    object: &mut Value,
) -> Result<(), Status> {
    if write.kind.group.is_empty() && write.kind.plural == "pods" {
        return pod(write, operation, object).await;
    }
    if operation == Operation::Create {
        added(write, object);
    }
    Ok(())
}

/// What is wrong with an object.
pub(super) fn validate(
    write: &Write<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    match (write.kind.group, write.kind.plural, write.subresource) {
        ("", "pods", subresource) => {
            check_pod(write, operation, subresource, object).map_err(|cause| refused(write, object, cause))
        }
        ("", "persistentvolumeclaims", None) => {
            check_claim(write, operation, object, old).map_err(|cause| refused(write, object, cause))
        }
        ("", "services", None) if on(write, Plugin::DenyServiceExternalIPs) => {
            strict::check_external_ips(object, old).map_err(|cause| refused(write, object, cause))
        }
        _ => Ok(()),
    }
}

fn check_claim(
    write: &Write<'_>,
    operation: Operation,
    claim: &Value,
    old: Option<&Value>,
) -> Result<(), String> {
    // What goes must be able to, however large it is.
    if !old.is_some_and(deleting) {
        limit_range::check_claim(claim, &ranges(write, operation))?;
    }
    match old.filter(|_| on(write, Plugin::PersistentVolumeClaimResize)) {
        Some(old) => {
            claim::check_resize(claim, old, |class| one(write, "storage.k8s.io", "storageclasses", "", class))
                .map_err(str::to_owned)
        }
        None => Ok(()),
    }
}

/// The LimitRanges that count for a write: none where what they limit cannot change.
fn ranges(write: &Write<'_>, operation: Operation) -> Vec<Value> {
    let limited = match (write.kind.plural, write.subresource) {
        ("persistentvolumeclaims", None) => true,
        ("pods", None) => operation == Operation::Create,
        ("pods", Some("resize")) => operation == Operation::Update,
        _ => false,
    };
    match limited && on(write, Plugin::LimitRanger) {
        true => all_in(write, "", "limitranges", write.namespace),
        false => Vec::new(),
    }
}

/// What new objects of some kinds get.
fn added(write: &Write<'_>, object: &mut Value) {
    match (write.kind.group, write.kind.plural) {
        ("", "persistentvolumeclaims") => {
            if on(write, Plugin::DefaultStorageClass) {
                defaults::storage_class(object, || all(write, "storage.k8s.io", "storageclasses"));
            }
            if on(write, Plugin::StorageObjectInUseProtection) {
                defaults::protect(object, "kubernetes.io/pvc-protection");
            }
        }
        ("", "persistentvolumes") if on(write, Plugin::StorageObjectInUseProtection) => {
            defaults::protect(object, "kubernetes.io/pv-protection");
        }
        ("networking.k8s.io", "ingresses") if on(write, Plugin::DefaultIngressClass) => {
            defaults::ingress_class(object, || all(write, "networking.k8s.io", "ingressclasses"));
        }
        ("", "nodes") if on(write, Plugin::TaintNodesByCondition) => defaults::not_ready_taint(object),
        _ => {}
    }
}

async fn pod(write: &mut Write<'_>, operation: Operation, object: &mut Value) -> Result<(), Status> {
    limit_range::apply(object, &ranges(write, operation));
    match (operation, write.subresource) {
        (Operation::Create, None) => new_pod(write, object).await?,
        (Operation::Update, Some("binding")) => label_by_node(write, object),
        _ => {}
    }
    if write.subresource.is_none() {
        if on(write, Plugin::DefaultTolerationSeconds) {
            defaults::tolerations(object);
        }
        if on(write, Plugin::ExtendedResourceToleration) {
            strict::tolerate_extended_resources(object);
        }
    }
    if on(write, Plugin::AlwaysPullImages) && matches!(write.subresource, None | Some("ephemeralcontainers"))
    {
        strict::pull_images(object);
    }
    Ok(())
}

async fn new_pod(write: &mut Write<'_>, object: &mut Value) -> Result<(), Status> {
    if on(write, Plugin::ServiceAccount)
        && let Some(name) = service_account::account_name(object).map(str::to_owned)
    {
        match account(write, &name).await {
            Some(account) => service_account::apply(object, &name, &account, &random_suffix()),
            None => {
                return Err(refused(write, object, service_account::missing(write.namespace, &name)));
            }
        }
    }
    if on(write, Plugin::Priority) {
        priority::resolve(object, &all(write, "scheduling.k8s.io", "priorityclasses"))
            .map_err(|cause| refused(write, object, cause))?;
    }
    if on(write, Plugin::RuntimeClass) {
        class_of(write, object)
            .and_then(|class| runtime_class::apply(object, class.as_ref()))
            .map_err(|cause| refused(write, object, cause))?;
    }
    label_by_node(write, object);
    Ok(())
}

/// A pod that has a node carries its zone and region.
fn label_by_node(write: &Write<'_>, object: &mut Value) {
    let name = object["spec"]["nodeName"].as_str().unwrap_or_default();
    if name.is_empty() || !on(write, Plugin::PodTopologyLabels) {
        return;
    }
    if let Some(node) = one(write, "", "nodes", "", name) {
        topology::label(object, &node);
    }
}

fn check_pod(
    write: &Write<'_>,
    operation: Operation,
    subresource: Option<&str>,
    object: &Value,
) -> Result<(), String> {
    let account = |name: &str| one(write, "", "serviceaccounts", write.namespace, name);
    let accounts = on(write, Plugin::ServiceAccount);
    limit_range::check_pod(object, &ranges(write, operation))?;
    match (operation, subresource) {
        (Operation::Create, None) => {
            if accounts {
                service_account::check(object, account)?;
            }
            if on(write, Plugin::RuntimeClass) {
                runtime_class::check(object, class_of(write, object)?.as_ref())?;
            }
        }
        (Operation::Update, Some("ephemeralcontainers")) if accounts => {
            service_account::check_ephemeral(object, account)?;
        }
        _ => {}
    }
    match on(write, Plugin::LimitPodHardAntiAffinityTopology) && subresource.is_none() {
        true => strict::check_anti_affinity(object),
        false => Ok(()),
    }
}

fn class_of(write: &Write<'_>, pod: &Value) -> Result<Option<Value>, String> {
    runtime_class::find(pod, |class| one(write, "node.k8s.io", "runtimeclasses", "", class))
}

/// The account of a pod. That of a new namespace is made by a controller, which may take a moment.
async fn account(write: &Write<'_>, name: &str) -> Option<Value> {
    let look = || one(write, "", "serviceaccounts", write.namespace, name);
    if let Some(found) = look() {
        return Some(found);
    }
    if name != "default" {
        return None;
    }
    let key = plimsoll_catalogue::find("", "v1", "serviceaccounts")?.key(write.namespace, name)?;
    let mut watch = write.api.store.watch(&key, None).ok()?;
    let appears = async {
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            watch.next().await.ok()?;
        }
    };
    tokio::time::timeout(ACCOUNT_PATIENCE, appears).await.ok().flatten()
}

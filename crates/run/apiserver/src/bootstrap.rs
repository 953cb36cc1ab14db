//! What every cluster has: namespaces, roles, priority classes, the `kubernetes` Service.

use futures::future::BoxFuture;
use plimsoll_admission::bootstrap as roles;
use plimsoll_admission::priority::SYSTEM_CLASSES;
use plimsoll_admission::reconciliation::{Reconciled, reconcile};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::aggregate::local;
use crate::claims;
use crate::config::Config;
use crate::delete::Options;
use crate::legacy_tokens;
use crate::object::{meta, metadata_mut};
use crate::server::Api;
use crate::user::User;
use crate::write::{MANAGER, Ownership, Proposal, Write};

/// Makes what is missing and brings up to date what the server owns.
pub(crate) async fn ensure(api: &Api, config: &Config) -> Result<(), Status> {
    let mut objects: Vec<Value> = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    objects.push(claims::default_range(config));
    objects.extend(roles::objects());
    objects.extend(plimsoll_flow::levels());
    objects.extend(plimsoll_flow::schemas());
    for (name, value) in SYSTEM_CLASSES {
        objects.push(json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": format!("Used for system critical pods that must not be moved from their current {}.",
                if name == "system-node-critical" { "node" } else { "cluster" }),
        }));
    }
    objects.push(kubernetes_service(config));
    objects.push(dns_service(config));
    objects.extend(local::services(plimsoll_catalogue::kinds()));
    objects.push(local::metrics());
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": {
            "rbac.authorization.k8s.io/aggregate-to-admin": "true",
            "rbac.authorization.k8s.io/aggregate-to-edit": "true",
            "rbac.authorization.k8s.io/aggregate-to-view": "true",
        }},
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }));
    objects.extend(config.own_objects.iter().cloned());
    objects.push(published_authorities(api, config)?);
    if is_new(api) {
        objects.extend(config.first_objects.iter().cloned());
    }
    let user = User::server();
    // Independent objects are committed as one group, so a first start does not wait for each sync.
    let (first, rest) = objects.split_at(5);
    for group in [first, rest] {
        let mut writes: Vec<BoxFuture<'_, Result<(), Status>>> = Vec::with_capacity(group.len());
        for object in group {
            writes.push(Box::pin(put(api, &user, object)));
        }
        futures::future::try_join_all(writes).await?;
    }
    claims::adopt(api).await?;
    legacy_tokens::ensure(api).await?;
    for object in [endpoints(config), slice(config)] {
        put(api, &user, &object).await?;
    }
    Ok(())
}

/// Whether the cluster never started completely: what is written last is not there.
fn is_new(api: &Api) -> bool {
    let slices = plimsoll_catalogue::by_kind("discovery.k8s.io", "v1", "EndpointSlice");
    let key = slices.and_then(|kind| kind.key("default", "kubernetes"));
    key.is_none_or(|key| api.store.get(&key).is_none())
}

/// Creates an object, or updates what the server owns of it.
pub(crate) async fn put(api: &Api, user: &User, object: &Value) -> Result<(), Status> {
    let (group, version) = match object["apiVersion"].as_str().unwrap_or_default().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap_or_default()),
    };
    let kind = plimsoll_catalogue::by_kind(group, version, object["kind"].as_str().unwrap_or_default())
        .ok_or_else(|| Status::internal(format!("{} is not in the catalogue", object["kind"])))?;
    let mut write = Write::of_server(api, user, kind, meta(object, "namespace"), meta(object, "name"))?;
    let known = kind.key(write.namespace, write.name).and_then(|key| api.store.get(&key)).is_some();
    if !known {
        let proposal = match is_common(object) {
            true => Proposal { object: given_away(object, &write), ownership: Ownership::Applied },
            false => Proposal { object: object.clone(), ownership: Ownership::Track },
        };
        return match write.create_proposed(proposal).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(()),
        };
    }
    if kind.group == "rbac.authorization.k8s.io" {
        return bring_up_to_date(&mut write, object).await;
    }
    // Of existing objects only what can have changed with the release or the configuration is written.
    let fields: &[&str] = match kind.kind {
        "ConfigMap" => &["data"],
        "CustomResourceDefinition" => &["spec"],
        "Endpoints" => &["subsets"],
        "EndpointSlice" => &["endpoints", "ports"],
        _ => return Ok(()),
    };
    let change = |_: &mut Write<'_>, old: &Value| {
        let mut new = old.clone();
        if kind.unconditional_update {
            metadata_mut(&mut new).remove("resourceVersion");
        }
        let mut ownership = Ownership::Track;
        if is_common(object) {
            if is_others(old) {
                return Ok(Proposal { object: new, ownership: Ownership::Track });
            }
            new["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
            ownership = Ownership::Applied;
        }
        for field in fields {
            if !object[*field].is_null() {
                new[*field] = object[*field].clone();
            }
        }
        Ok(Proposal { object: new, ownership })
    };
    write.update(change, None).await.map(drop)
}

/// An annotation of definitions that many projects install.
const COMMON: &str = "plimsoll.io/built-in";

fn is_common(object: &Value) -> bool {
    object["metadata"]["annotations"][COMMON].is_string()
}

/// A common definition of which the server owns no field but its own annotation: who applies another one meets no
/// conflict.
fn given_away(object: &Value, write: &Write<'_>) -> Value {
    let mut object = object.clone();
    object["metadata"]["managedFields"] = json!([{
        "manager": MANAGER, "operation": "Update", "apiVersion": object["apiVersion"], "time": write.now,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": {format!("f:{COMMON}"): {}}}},
    }]);
    object
}

/// Whether somebody else wrote to an object: a common definition is theirs from then on.
fn is_others(object: &Value) -> bool {
    let writers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut writers = writers.filter(|entry| entry["subresource"].is_null());
    writers.any(|entry| entry["manager"] != MANAGER)
}

/// A default role or binding that is there already.
async fn bring_up_to_date(write: &mut Write<'_>, default: &Value) -> Result<(), Status> {
    let mut outcome = Reconciled::Kept;
    let change = |_: &mut Write<'_>, old: &Value| {
        outcome = reconcile(old, default);
        let mut new = match &outcome {
            Reconciled::Updated(new) => new.clone(),
            Reconciled::Kept | Reconciled::Replaced => old.clone(),
        };
        metadata_mut(&mut new).remove("resourceVersion");
        Ok(Proposal { object: new, ownership: Ownership::Track })
    };
    write.update(change, None).await?;
    if outcome == Reconciled::Replaced {
        write.delete(&Options::default()).await?;
        write.create(default.clone()).await?;
    }
    Ok(())
}

/// Tells extension servers whose certificates and which proxies to believe.
fn published_authorities(api: &Api, config: &Config) -> Result<Value, Status> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Status::internal(format!("{}: {error}", path.display())))
    };
    let proxies = config.authentication.front_proxy.as_ref();
    let authority = proxies.map(|proxies| read(&proxies.authority)).transpose()?;
    let rules = api.authenticators.front_proxy.clone().unwrap_or_default();
    Ok(rules.published(&read(&config.credentials.client_ca)?, authority.as_deref()))
}

fn first_address(config: &Config) -> String {
    config
        .service_cidrs
        .first()
        .and_then(|range| range.hosts().next())
        .map_or_else(String::new, |address| address.to_string())
}

fn kubernetes_service(config: &Config) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": first_address(config), "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.advertise.port()}],
        },
    })
}

/// The resolver of the node agents answers on these addresses; the Service shows where, as users expect.
fn dns_service(config: &Config) -> Value {
    let addresses: Vec<_> = config.cluster_dns.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilyPolicy": if addresses.len() > 1 { "PreferDualStack" } else { "SingleStack" },
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
        },
    })
}

fn endpoints(config: &Config) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": config.advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": config.advertise.port(), "protocol": "TCP"}],
        }],
    })
}

fn slice(config: &Config) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if config.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [config.advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.advertise.port(), "protocol": "TCP"}],
    })
}

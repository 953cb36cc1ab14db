//! Where the schemas that `k8s-openapi` carries say something else than upstream's documents.
//!
//! They list as required what Go always writes (metadata, for example); upstream lists what a client must send.

use serde_json::{Map, Value, json};

/// (definition without `io.k8s.api.`, what upstream requires of it).
const REQUIRED: &[(&str, &[&str])] = &[
    ("apps.v1.ControllerRevision", &["revision"]),
    ("apps.v1.DaemonSet", &[]),
    ("apps.v1.DaemonSetCondition", &["status", "type"]),
    ("apps.v1.Deployment", &[]),
    ("apps.v1.DeploymentCondition", &["status", "type"]),
    ("apps.v1.ReplicaSet", &[]),
    ("apps.v1.ReplicaSetCondition", &["status", "type"]),
    ("apps.v1.StatefulSet", &[]),
    ("apps.v1.StatefulSetCondition", &["status", "type"]),
    ("core.v1.ConfigMapEnvSource", &[]),
    ("core.v1.ConfigMapKeySelector", &["key"]),
    ("core.v1.ConfigMapProjection", &[]),
    ("core.v1.ConfigMapVolumeSource", &[]),
    ("core.v1.LocalObjectReference", &[]),
    ("core.v1.SecretEnvSource", &[]),
    ("core.v1.SecretKeySelector", &["key"]),
    ("core.v1.SecretProjection", &[]),
    ("core.v1.Event", &["involvedObject", "metadata"]),
    ("events.v1.Event", &["eventTime"]),
    ("flowcontrol.v1.FlowSchema", &[]),
    ("flowcontrol.v1.FlowSchemaCondition", &[]),
    ("flowcontrol.v1.LimitedPriorityLevelConfiguration", &[]),
    ("flowcontrol.v1.PriorityLevelConfiguration", &[]),
    ("flowcontrol.v1.PriorityLevelConfigurationCondition", &[]),
    ("resource.v1.DeviceClass", &["spec"]),
    ("resource.v1.ResourceClaim", &["spec"]),
    ("resource.v1.ResourceClaimTemplate", &["spec"]),
    ("resource.v1.ResourceClaimTemplateSpec", &["spec"]),
];

/// (definition without `io.k8s.api.`, discriminator or "", field and its name in Go).
type Union = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const UNIONS: &[Union] = &[
    ("core.v1.AppArmorProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("core.v1.PodSchedulingGroup", "", &[("podGroupName", "PodGroupName")]),
    ("core.v1.SeccompProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("flowcontrol.v1.LimitResponse", "type", &[("queuing", "Queuing")]),
    (
        "flowcontrol.v1.PriorityLevelConfigurationSpec",
        "type",
        &[("exempt", "Exempt"), ("limited", "Limited")],
    ),
    (
        "flowcontrol.v1.Subject",
        "kind",
        &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")],
    ),
];

/// (definition without `io.k8s.`, field, key, value).
const FIELDS: &[(&str, &str, &str, &str)] = &[
    (
        "api.core.v1.PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
        "x-kubernetes-map-type",
        "granular",
    ),
    ("api.core.v1.PersistentVolumeSpec", "claimRef", "x-kubernetes-map-type", "granular"),
    ("api.policy.v1.PodDisruptionBudgetSpec", "selector", "x-kubernetes-patch-strategy", "replace"),
    (
        "kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec",
        "caBundle",
        "x-kubernetes-list-type",
        "atomic",
    ),
];

/// Types that are spoken below objects or tell about the API: (definition without `io.k8s.`, group).
const SPOKEN: &[(&str, &str)] = &[
    ("api.authentication.v1.TokenRequest", "authentication.k8s.io"),
    ("api.autoscaling.v1.Scale", "autoscaling"),
    ("api.policy.v1.Eviction", "policy"),
    ("apimachinery.pkg.apis.meta.v1.APIGroup", ""),
    ("apimachinery.pkg.apis.meta.v1.APIGroupList", ""),
    ("apimachinery.pkg.apis.meta.v1.APIResourceList", ""),
    ("apimachinery.pkg.apis.meta.v1.APIVersions", ""),
];

/// Types of any value, of whose form upstream says nothing; clients would refuse what has another.
const ANYTHING: &[&str] =
    &["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"];

/// Brings all definitions into the form that upstream publishes.
pub(crate) fn correct(all: &mut Map<String, Value>) {
    for (name, definition) in all.iter_mut() {
        require(name, definition);
    }
    for name in ANYTHING {
        let name = format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}");
        if let Some(definition) = all.get_mut(&name) {
            *definition = json!({"description": definition["description"]});
        }
    }
    for (name, discriminator, fields) in UNIONS {
        let Some(definition) = all.get_mut(&format!("io.k8s.api.{name}")) else { continue };
        let fields: Map<String, Value> =
            fields.iter().map(|(field, go)| ((*field).to_owned(), json!(go))).collect();
        let mut union = json!({"fields-to-discriminateBy": fields});
        if !discriminator.is_empty() {
            union["discriminator"] = json!(discriminator);
        }
        definition["x-kubernetes-unions"] = json!([union]);
    }
    for (name, field, key, value) in FIELDS {
        let Some(definition) = all.get_mut(&format!("io.k8s.{name}")) else { continue };
        if let Some(field) = definition.pointer_mut(&format!("/properties/{field}")) {
            field[*key] = json!(value);
        }
    }
    for (name, group) in SPOKEN {
        let Some(definition) = all.get_mut(&format!("io.k8s.{name}")) else { continue };
        let kind = name.rsplit('.').next().unwrap_or_default();
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "kind": kind, "version": "v1"}]);
    }
    if let Some(resource) = all.get_mut("io.k8s.apimachinery.pkg.apis.meta.v1.APIResource")
        && let Some(verbs) = resource.pointer_mut("/properties/verbs").and_then(Value::as_object_mut)
    {
        verbs.remove("x-kubernetes-list-type");
    }
}

fn require(name: &str, definition: &mut Value) {
    let Some(definition) = definition.as_object_mut() else { return };
    let short = name.strip_prefix("io.k8s.api.").unwrap_or(name);
    let required: Vec<Value> = match REQUIRED.iter().find(|(known, _)| *known == short) {
        Some((_, required)) => required.iter().map(|field| json!(field)).collect(),
        None => {
            let listed = definition.get("required").and_then(Value::as_array).into_iter().flatten();
            listed.filter(|field| *field != "metadata").cloned().collect()
        }
    };
    match required.is_empty() {
        true => drop(definition.remove("required")),
        false => drop(definition.insert("required".to_owned(), Value::Array(required))),
    }
}

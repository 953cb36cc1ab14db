//! The defaults that documents of version 3 tell: what Go writes for a field that nobody set.
//!
//! A text, number or truth that must be there has its zero, a structure that is no pointer is empty, and the
//! elements of lists and maps are either. What has a form of its own (times, quantities) has none. Tables hold
//! what does not follow from the schemas. Source: the Go types of v1.37 and the markers in their comments.

use serde_json::{Map, Value, json};

/// Types that fields hold by value, beside those that end in `Spec` or `Status`; without `io.k8s.api.`.
const BY_VALUE: &[&str] = &[
    "admissionregistration.v1.WebhookClientConfig",
    "apps.v1.DaemonSetUpdateStrategy",
    "apps.v1.DeploymentStrategy",
    "apps.v1.StatefulSetUpdateStrategy",
    "authentication.v1.UserInfo",
    "autoscaling.v1.CrossVersionObjectReference",
    "autoscaling.v2.CrossVersionObjectReference",
    "autoscaling.v2.MetricIdentifier",
    "autoscaling.v2.MetricTarget",
    "core.v1.ContainerState",
    "core.v1.DaemonEndpoint",
    "core.v1.EventSource",
    "core.v1.NodeDaemonEndpoints",
    "core.v1.NodeSelectorTerm",
    "core.v1.NodeSystemInfo",
    "core.v1.PodAffinityTerm",
    "core.v1.VolumeResourceRequirements",
    "discovery.v1.EndpointConditions",
    "flowcontrol.v1.LimitResponse",
    "flowcontrol.v1.PriorityLevelConfigurationReference",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "resource.v1.DeviceAllocationResult",
    "resource.v1.DeviceClaim",
    "resource.v1.DeviceTaint",
    "resource.v1.ResourcePool",
    "storage.v1.VolumeAttachmentSource",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionNames",
    "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionForDiscovery",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// Types that end so and are held by pointer.
const BY_POINTER: &[&str] = &[
    "autoscaling.v2.ContainerResourceMetricStatus",
    "autoscaling.v2.ExternalMetricStatus",
    "autoscaling.v2.ObjectMetricStatus",
    "autoscaling.v2.PodsMetricStatus",
    "autoscaling.v2.ResourceMetricStatus",
    "core.v1.ImageVolumeStatus",
    "core.v1.ModifyVolumeStatus",
    "core.v1.NodeConfigStatus",
    "core.v1.NodeSwapStatus",
    "core.v1.PodExtendedResourceClaimStatus",
    "core.v1.VolumeStatus",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus",
];

/// Types that write themselves, so that their zero is nobody's business.
const OF_THEIR_OWN: &[&str] = &[
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
];

/// Fields of which all that is not so: (definition without `io.k8s.api.`, field, default in JSON or "").
const FIELDS: &[(&str, &str, &str)] = &[
    ("admissionregistration.v1.MutatingWebhook", "sideEffects", ""),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "policyName", ""),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", ""),
    ("apps.v1.StatefulSetOrdinals", "start", "0"),
    ("apps.v1.StatefulSetSpec", "serviceName", "\"\""),
    ("apps.v1.StatefulSetStatus", "availableReplicas", "0"),
    ("authentication.v1.TokenRequestStatus", "token", "\"\""),
    ("authentication.v1.TokenReviewSpec", "token", ""),
    ("autoscaling.v1.ScaleSpec", "replicas", "0"),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", "status", "\"\""),
    ("certificates.v1.PodCertificateRequestSpec", "maxExpirationSeconds", "86400"),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", "\"ReadWrite\""),
    ("core.v1.AzureDiskVolumeSource", "fsType", "\"ext4\""),
    ("core.v1.AzureDiskVolumeSource", "kind", "\"Shared\""),
    ("core.v1.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.v1.Binding", "target", "{}"),
    ("core.v1.ConfigMapEnvSource", "name", "\"\""),
    ("core.v1.ConfigMapKeySelector", "name", "\"\""),
    ("core.v1.ConfigMapProjection", "name", "\"\""),
    ("core.v1.ConfigMapVolumeSource", "name", "\"\""),
    ("core.v1.Container", "resources", "{}"),
    ("core.v1.ContainerPort", "protocol", "\"TCP\""),
    ("core.v1.ContainerRestartRule", "action", ""),
    ("core.v1.ContainerRestartRuleOnExitCodes", "operator", ""),
    ("core.v1.EphemeralContainer", "resources", "{}"),
    ("core.v1.Event", "involvedObject", "{}"),
    ("core.v1.Event", "reportingComponent", "\"\""),
    ("core.v1.Event", "reportingInstance", "\"\""),
    ("core.v1.EvictionResponder", "priority", ""),
    ("core.v1.FileKeySelector", "optional", "false"),
    ("core.v1.GRPCAction", "service", "\"\""),
    ("core.v1.ISCSIPersistentVolumeSource", "iscsiInterface", "\"default\""),
    ("core.v1.ISCSIVolumeSource", "iscsiInterface", "\"default\""),
    ("core.v1.ImageVolumeStatus", "imageRef", ""),
    ("core.v1.LocalObjectReference", "name", "\"\""),
    ("core.v1.NodeRuntimeHandler", "name", "\"\""),
    ("core.v1.PersistentVolumeClaimStatus", "healthStatus", ""),
    ("core.v1.PodCertificateProjection", "keyType", ""),
    ("core.v1.PodCertificateProjection", "signerName", ""),
    ("core.v1.RBDPersistentVolumeSource", "keyring", "\"/etc/ceph/keyring\""),
    ("core.v1.RBDPersistentVolumeSource", "pool", "\"rbd\""),
    ("core.v1.RBDPersistentVolumeSource", "user", "\"admin\""),
    ("core.v1.RBDVolumeSource", "keyring", "\"/etc/ceph/keyring\""),
    ("core.v1.RBDVolumeSource", "pool", "\"rbd\""),
    ("core.v1.RBDVolumeSource", "user", "\"admin\""),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds", "0"),
    ("core.v1.ReplicationControllerSpec", "replicas", "1"),
    ("core.v1.ReplicationControllerSpec", "template", ""),
    ("core.v1.ScaleIOPersistentVolumeSource", "fsType", "\"xfs\""),
    ("core.v1.ScaleIOPersistentVolumeSource", "storageMode", "\"ThinProvisioned\""),
    ("core.v1.ScaleIOVolumeSource", "fsType", "\"xfs\""),
    ("core.v1.ScaleIOVolumeSource", "storageMode", "\"ThinProvisioned\""),
    ("core.v1.SecretEnvSource", "name", "\"\""),
    ("core.v1.SecretKeySelector", "name", "\"\""),
    ("core.v1.SecretProjection", "name", "\"\""),
    ("core.v1.ServicePort", "protocol", "\"TCP\""),
    ("events.v1.Event", "regarding", "{}"),
    ("flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence", "0"),
    ("flowcontrol.v1.QueuingConfiguration", "handSize", "0"),
    ("flowcontrol.v1.QueuingConfiguration", "queueLengthLimit", "0"),
    ("flowcontrol.v1.QueuingConfiguration", "queues", "0"),
    ("networking.v1.HTTPIngressPath", "backend", "{}"),
    ("networking.v1.HTTPIngressPath", "pathType", ""),
    ("networking.v1.NetworkPolicySpec", "podSelector", "{}"),
    ("networking.v1.ParentReference", "name", ""),
    ("networking.v1.ParentReference", "resource", ""),
    ("policy.v1.PodDisruptionBudgetStatus", "currentHealthy", "0"),
    ("policy.v1.PodDisruptionBudgetStatus", "desiredHealthy", "0"),
    ("policy.v1.PodDisruptionBudgetStatus", "disruptionsAllowed", "0"),
    ("policy.v1.PodDisruptionBudgetStatus", "expectedPods", "0"),
    ("rbac.v1.RoleRef", "apiGroup", "\"\""),
    ("resource.v1.AllocatedDeviceStatus", "data", ""),
    ("resource.v1.DeviceToleration", "operator", "\"Equal\""),
    ("scheduling.v1.PriorityClass", "value", "0"),
    ("storage.v1.VolumeAttachmentSource", "inlineVolumeSpec", ""),
];

/// Adds the defaults to definitions of version 3 that are otherwise complete.
pub(super) fn fill(all: &mut Map<String, Value>) {
    for (name, definition) in all {
        let required: Vec<String> =
            serde_json::from_value(definition["required"].clone()).unwrap_or_default();
        let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
        for (field, property) in properties.into_iter().flatten() {
            let must = required.contains(field);
            if let Some(default) = of_field(short(name), field, property, must) {
                put(property, default);
            }
            elements(property);
        }
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.api.").unwrap_or(name)
}

fn of_field(definition: &str, field: &str, property: &Value, must: bool) -> Option<Value> {
    if let Some((.., default)) = FIELDS.iter().find(|(name, known, _)| (*name, *known) == (definition, field))
    {
        return serde_json::from_str(default).ok();
    }
    match target(property).map(short) {
        Some(to) => is_by_value(to).then(|| json!({})),
        None if must => zero(property),
        None => None,
    }
}

fn is_by_value(name: &str) -> bool {
    BY_VALUE.contains(&name)
        || ((name.ends_with("Spec") || name.ends_with("Status")) && !BY_POINTER.contains(&name))
}

/// The elements of a list or a map, and theirs.
fn elements(property: &mut Value) {
    for key in ["items", "additionalProperties"] {
        let Some(element) = property.get_mut(key).filter(|element| element.is_object()) else { continue };
        let default = match target(element) {
            Some(to) => (!OF_THEIR_OWN.contains(&to)).then(|| json!({})),
            None => zero(element),
        };
        if let Some(default) = default {
            put(element, default);
        }
        elements(element);
    }
}

/// The definition that a schema refers to.
fn target(schema: &Value) -> Option<&str> {
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str())?;
    reference.rsplit('/').next()
}

fn zero(schema: &Value) -> Option<Value> {
    match schema["type"].as_str()? {
        "string" if schema["format"] != "byte" => Some(json!("")),
        "boolean" => Some(json!(false)),
        "integer" | "number" => Some(json!(0)),
        _ => None,
    }
}

/// Nothing may stand beside a reference, but around it.
fn put(schema: &mut Value, default: Value) {
    if let Some(reference) = schema.as_object_mut().and_then(|schema| schema.remove("$ref")) {
        schema["allOf"] = json!([{"$ref": reference}]);
    }
    schema["default"] = default;
}

#[cfg(test)]
mod tests {
    use super::super::{Style, definitions};
    use super::*;

    #[test]
    fn fields_have_the_defaults_of_upstreams_documents() {
        let all = definitions::builtin(Style::V3);
        for (definition, place, expected) in [
            ("core.v1.Pod", "/metadata", json!({})),
            ("core.v1.Pod", "/apiVersion", Value::Null),
            ("core.v1.PodList", "/items/items", json!({})),
            ("core.v1.PodList", "/metadata", json!({})),
            ("core.v1.PodSpec", "/securityContext", Value::Null),
            ("core.v1.PodSpec", "/resources", Value::Null),
            ("core.v1.PodSpec", "/nodeSelector/additionalProperties", json!("")),
            ("core.v1.PodSpec", "/overhead/additionalProperties", Value::Null),
            ("core.v1.Container", "/name", json!("")),
            ("core.v1.Container", "/image", Value::Null),
            ("core.v1.Container", "/args/items", json!("")),
            ("core.v1.Container", "/env/items", json!({})),
            ("core.v1.ContainerPort", "/containerPort", json!(0)),
            ("core.v1.ContainerPort", "/protocol", json!("TCP")),
            ("core.v1.Secret", "/data/additionalProperties", Value::Null),
            ("core.v1.Event", "/firstTimestamp", Value::Null),
            ("core.v1.LocalObjectReference", "/name", json!("")),
            ("core.v1.ContainerStatus", "/ready", json!(false)),
            ("apps.v1.DeploymentSpec", "/selector", Value::Null),
            ("apps.v1.DeploymentSpec", "/strategy", json!({})),
            ("authentication.v1.UserInfo", "/extra/additionalProperties", Value::Null),
            ("authentication.v1.UserInfo", "/extra/additionalProperties/items", json!("")),
            ("networking.v1.NetworkPolicySpec", "/podSelector", json!({})),
        ] {
            let properties = &all[&format!("io.k8s.api.{definition}")]["properties"];
            let schema = properties.pointer(place).unwrap_or_else(|| panic!("{definition}{place}"));
            assert_eq!(schema["default"], expected, "{definition}{place}");
        }
        let known = |name: &str, field: &str| all[&format!("io.k8s.api.{name}")]["properties"].get(field);
        for (definition, field, _) in FIELDS {
            assert!(known(definition, field).is_some(), "{definition}: {field}");
        }
    }
}

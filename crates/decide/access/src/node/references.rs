//! Objects that a pod or volume names.

use serde_json::Value;

use crate::document::{list, text};

/// The objects of its namespace that a pod needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    pub(super) secrets: Vec<String>,
    pub(super) config_maps: Vec<String>,
    pub(super) claims: Vec<String>,
    pub(super) resource_claims: Vec<String>,
}

/// Volume sources that name a Secret: the source, the field with the reference, and whether the
/// field is the name itself.
const SECRET_SOURCES: &[(&str, &str, bool)] = &[
    ("secret", "secretName", true),
    ("azureFile", "secretName", true),
    ("cephfs", "secretRef", false),
    ("cinder", "secretRef", false),
    ("flexVolume", "secretRef", false),
    ("rbd", "secretRef", false),
    ("scaleIO", "secretRef", false),
    ("iscsi", "secretRef", false),
    ("storageos", "secretRef", false),
    ("csi", "nodePublishSecretRef", false),
];

/// Secrets of a volume that an agent needs, apart from `azureFile`, which has its own rules: the
/// source and the field.
const VOLUME_SECRETS: &[(&str, &str)] = &[
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("iscsi", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodeStageSecretRef"),
    ("csi", "nodePublishSecretRef"),
    ("csi", "nodeExpandSecretRef"),
];

impl References {
    /// Of a pod (pkg/api/v1/pod, VisitPodSecretNames and VisitPodConfigmapNames).
    pub(super) fn of_pod(pod: &Value) -> Self {
        let mut found = Self::default();
        let spec = &pod["spec"];
        found.secrets.extend(list(spec, "imagePullSecrets").iter().filter_map(|one| text(one, "name")));
        for containers in ["initContainers", "containers", "ephemeralContainers"] {
            list(spec, containers).iter().for_each(|container| found.container(container));
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        list(spec, "volumes").iter().for_each(|volume| found.volume(volume, name));
        for claim in list(spec, "resourceClaims") {
            found.resource_claims.extend(resource_claim(claim, &pod["status"]));
        }
        let extended = &pod["status"]["extendedResourceClaimStatus"];
        found.resource_claims.extend(text(extended, "resourceClaimName"));
        for names in
            [&mut found.secrets, &mut found.config_maps, &mut found.claims, &mut found.resource_claims]
        {
            names.sort();
            names.dedup();
        }
        found
    }

    fn container(&mut self, container: &Value) {
        for source in list(container, "envFrom") {
            self.secrets.extend(text(&source["secretRef"], "name"));
            self.config_maps.extend(text(&source["configMapRef"], "name"));
        }
        for variable in list(container, "env") {
            self.secrets.extend(text(&variable["valueFrom"]["secretKeyRef"], "name"));
            self.config_maps.extend(text(&variable["valueFrom"]["configMapKeyRef"], "name"));
        }
    }

    fn volume(&mut self, volume: &Value, pod: &str) {
        for (source, field, plain) in SECRET_SOURCES {
            let holder = if *plain { &volume[source] } else { &volume[source][field] };
            self.secrets.extend(text(holder, if *plain { field } else { "name" }));
        }
        self.config_maps.extend(text(&volume["configMap"], "name"));
        for source in list(&volume["projected"], "sources") {
            self.secrets.extend(text(&source["secret"], "name"));
            self.config_maps.extend(text(&source["configMap"], "name"));
        }
        self.claims.extend(text(&volume["persistentVolumeClaim"], "claimName"));
        if volume["ephemeral"].is_object() {
            self.claims.extend(text(volume, "name").map(|name| format!("{pod}-{name}")));
        }
    }
}

/// The name of a pod's resource claim: given, or told in the status once it was made.
fn resource_claim(claim: &Value, status: &Value) -> Option<String> {
    text(claim, "resourceClaimName").or_else(|| {
        claim["resourceClaimTemplateName"].as_str()?;
        let made = list(status, "resourceClaimStatuses").iter().find(|one| one["name"] == claim["name"])?;
        text(made, "resourceClaimName")
    })
}

/// Namespace and name of the Secrets that an agent needs for a volume
/// (pkg/api/v1/persistentvolume, VisitPVSecretNames).
pub(super) fn secrets_of_volume(volume: &Value) -> Vec<(String, String)> {
    let spec = &volume["spec"];
    let claim = text(&spec["claimRef"], "namespace").unwrap_or_default();
    let mut found = Vec::new();
    if let Some(name) = text(&spec["azureFile"], "secretName") {
        found.push((text(&spec["azureFile"], "secretNamespace").unwrap_or_else(|| claim.clone()), name));
    }
    for (source, field) in VOLUME_SECRETS {
        let reference = &spec[source][field];
        if let Some(name) = text(reference, "name") {
            found.push((text(reference, "namespace").unwrap_or_else(|| claim.clone()), name));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_name_what_they_need() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "env"}}, {"configMapRef": {"name": "env"}}]}],
            "containers": [{"env": [
                {"name": "a", "value": "x"},
                {"name": "b", "valueFrom": {"secretKeyRef": {"name": "key"}}},
                {"name": "c", "valueFrom": {"configMapKeyRef": {"name": "key"}}}]}],
            "volumes": [
                {"name": "v1", "secret": {"secretName": "mounted"}},
                {"name": "v2", "configMap": {"name": "mounted"}},
                {"name": "v3", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "part"}}]}},
                {"name": "v4", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "v5", "ephemeral": {}},
                {"name": "v6", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"name": "v7", "secret": {"secretName": "mounted"}}],
            "resourceClaims": [
                {"name": "r1", "resourceClaimName": "gpu"},
                {"name": "r2", "resourceClaimTemplateName": "t"},
                {"name": "r3", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "r2", "resourceClaimName": "p-r2-x"}]}});
        let found = References::of_pod(&pod);
        assert_eq!(found.secrets, ["csi", "env", "key", "mounted", "part", "pull"]);
        assert_eq!(found.config_maps, ["env", "key", "mounted", "part"]);
        assert_eq!(found.claims, ["data", "p-v5"]);
        assert_eq!(found.resource_claims, ["gpu", "p-r2-x"]);
    }

    #[test]
    fn volumes_name_secrets_of_their_claim_or_of_a_namespace() {
        let volume = json!({"spec": {"claimRef": {"namespace": "a"}, "azureFile": {"secretName": "s"},
            "csi": {"nodeStageSecretRef": {"name": "t", "namespace": "b"}}}});
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(secrets_of_volume(&volume), [pair("a", "s"), pair("b", "t")]);
    }
}

//! Static pods: what a file or an address says, made pods of this node, and the mirrors that show them in
//! the API (kubelet: pkg/kubelet/config, pkg/kubelet/pod).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::{Value, json};

/// The annotation with the fingerprint of what a static pod was made from; it is the pod's UID, too.
pub const HASH: &str = "kubernetes.io/config.hash";
/// The annotation of a mirror: the fingerprint of its static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// The annotation with the time when a static pod was first seen.
pub const SEEN: &str = "kubernetes.io/config.seen";
/// The annotation with where a static pod comes from: `file` or `http`.
pub const SOURCE: &str = "kubernetes.io/config.source";

/// Where a document comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A file, by its path.
    File(&'a str),
    /// An address.
    Url(&'a str),
}

/// The name of a pod among those of a cluster: namespace and name.
pub type FullName = (String, String);

/// Reads the pods of a document: one pod, or at an address also a list of them.
///
/// # Errors
/// What is wrong, in upstream's words.
pub fn read(document: Value, origin: Origin<'_>, node: &str, now: Timestamp) -> Result<Vec<Pod>, String> {
    let kind = document["kind"].as_str().unwrap_or_default();
    if document["apiVersion"] != "v1" || !matches!(kind, "Pod" | "PodList") {
        return Err(format!("invalid pod: kind {kind:?} of {}", document["apiVersion"]));
    }
    if kind == "Pod" {
        return Ok(vec![read_pod(document, origin, node, now)?]);
    }
    let (Origin::Url(_), Value::Array(items)) = (origin, document["items"].clone()) else {
        return Err(format!("invalid pod: kind {kind:?}"));
    };
    items.into_iter().map(|item| read_pod(item, origin, node, now)).collect()
}

fn read_pod(mut pod: Value, origin: Origin<'_>, node: &str, now: Timestamp) -> Result<Pod, String> {
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let schemas = plimsoll_schema::builtin();
    let row = plimsoll_catalogue::by_kind("", "v1", "Pod").ok_or("pods have a row")?;
    let root = schemas.lookup(row.definition).ok_or("pods have a shape")?;
    plimsoll_schema::check(schemas, root, &mut pod)?;
    // Whatever the document says of it, the status is the agent's.
    pod["status"] = json!({"phase": "Pending"});
    let hash = pod["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()).map(str::to_owned);
    let hash = hash.unwrap_or_else(|| fingerprint(&pod, origin, node));
    row.default(&mut pod);
    if let Some(resource) = reference(&pod["spec"]) {
        return Err(format!("static pods may not reference {resource}"));
    }
    let metadata = &mut pod["metadata"];
    metadata["uid"] = json!(hash);
    metadata["name"] = json!(format!("{}-{node}", metadata["name"].as_str().unwrap_or_default()));
    if metadata["namespace"].as_str().unwrap_or_default().is_empty() {
        metadata["namespace"] = json!("default");
    }
    metadata["annotations"][HASH] = json!(hash);
    metadata["annotations"][SEEN] = json!(now.to_string());
    metadata["annotations"][SOURCE] = json!(match origin {
        Origin::File(_) => "file",
        Origin::Url(_) => "http",
    });
    pod["spec"]["nodeName"] = json!(node);
    if matches!(origin, Origin::File(_)) {
        tolerate_everything(&mut pod["spec"]);
    }
    let errors = row.validate(&pod);
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(format!("invalid pod: [{}]", texts.join(", ")));
    }
    serde_json::from_value(pod).map_err(|error| format!("invalid pod: {error}"))
}

/// Pods of files stay whatever happens to the node.
fn tolerate_everything(spec: &mut Value) {
    let wanted = json!({"operator": "Exists", "effect": "NoExecute"});
    let Some(list) = spec["tolerations"].as_array_mut() else {
        spec["tolerations"] = json!([wanted]);
        return;
    };
    if !list.contains(&wanted) {
        list.push(wanted);
    }
}

/// A name for what a document says at its place: another content is another pod.
fn fingerprint(pod: &Value, origin: Origin<'_>, node: &str) -> String {
    let place = match origin {
        Origin::File(path) => format!("host:{node}file:{path}"),
        Origin::Url(url) => format!("url:{url}"),
    };
    // FNV-1a of 128 bits: the same over versions of this program, so that restarts adopt what runs.
    let mut sum = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in pod.to_string().bytes().chain(place.bytes()) {
        sum = (sum ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{sum:032x}")
}

/// The first kind of object that a specification refers to. Static pods live without the API.
fn reference(spec: &Value) -> Option<&'static str> {
    let has = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    if has(&spec["serviceAccountName"]) || has(&spec["serviceAccount"]) {
        return Some("serviceaccounts");
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers: Vec<&Value> =
        lists.iter().flat_map(|list| spec[*list].as_array().into_iter().flatten()).collect();
    let env = |from: &str, single: &str| {
        containers.iter().any(|it| {
            let any =
                |list: &str, is: &dyn Fn(&Value) -> bool| it[list].as_array().into_iter().flatten().any(is);
            any("envFrom", &|one| !one[from].is_null())
                || any("env", &|one| !one["valueFrom"][single].is_null())
        })
    };
    let volumes: Vec<&Value> = spec["volumes"].as_array().into_iter().flatten().collect();
    let sources: Vec<&Value> =
        volumes.iter().flat_map(|it| it["projected"]["sources"].as_array().into_iter().flatten()).collect();
    let any = |list: &[&Value], name: &str| list.iter().any(|it| !it[name].is_null());
    let pull = spec["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    // Volumes of other systems carry their secrets inside.
    let inside = |it: &&Value| {
        let kinds = it.as_object().into_iter().flatten();
        kinds.filter(|(_, source)| source.is_object()).any(|(_, source)| {
            ["secretRef", "nodePublishSecretRef"].iter().any(|name| !source[*name].is_null())
        })
    };
    if pull
        || env("secretRef", "secretKeyRef")
        || any(&volumes, "secret")
        || any(&sources, "secret")
        || volumes.iter().any(inside)
    {
        return Some("secrets");
    }
    if env("configMapRef", "configMapKeyRef") || any(&volumes, "configMap") || any(&sources, "configMap") {
        return Some("configmaps");
    }
    if spec["resourceClaims"].as_array().is_some_and(|list| !list.is_empty()) {
        return Some("resourceclaims");
    }
    if any(&volumes, "persistentVolumeClaim") || any(&volumes, "ephemeral") {
        return Some("persistentvolumeclaims");
    }
    [("serviceAccountToken", "serviceaccounts"), ("clusterTrustBundle", "clustertrustbundles")]
        .into_iter()
        .find(|(name, _)| any(&sources, name))
        .map(|(_, resource)| resource)
}

/// Namespace and name of a pod.
#[must_use]
pub fn full_name(pod: &Pod) -> FullName {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a pod comes from elsewhere than the API.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api") && !is_mirror(pod)
}

/// Whether a pod of the API only shows a static pod.
#[must_use]
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// The UID of the static pod that a mirror shows.
#[must_use]
pub fn shown_by(mirror: &Pod) -> Option<&str> {
    annotation(mirror, MIRROR)
}

/// What shows a static pod in the API.
#[must_use]
pub fn mirror(pod: &Pod, node: &str, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    let metadata = &mut mirror.metadata;
    let hash = metadata.uid.take().unwrap_or_default();
    metadata.resource_version = None;
    metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

/// A static pod whose document is gone: it is to end in its own time.
#[must_use]
pub fn ended(pod: &Pod, now: Timestamp) -> Pod {
    let mut pod = pod.clone();
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod.metadata.deletion_timestamp = Some(Time(now));
    pod
}

/// What is to be done about a mirror.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It shows nothing that there is, or something older.
    Delete {
        /// Its namespace and name.
        name: FullName,
        /// Its UID.
        uid: String,
    },
    /// A static pod is not shown.
    Create(Arc<Pod>),
}

/// What is to be done so that every static pod has its mirror, and nothing else has one.
#[must_use]
pub fn plan(statics: &BTreeMap<FullName, Arc<Pod>>, in_api: &[Arc<Pod>]) -> Vec<Step> {
    let mut steps = Vec::new();
    for mirror in in_api.iter().filter(|pod| is_mirror(pod)) {
        let name = full_name(mirror);
        let wanted = statics.get(&name).and_then(|pod| pod.metadata.uid.as_deref());
        let is_right = wanted.is_some() && wanted == shown_by(mirror);
        if !is_right || mirror.metadata.deletion_timestamp.is_some() {
            steps.push(Step::Delete { name, uid: mirror.metadata.uid.clone().unwrap_or_default() });
        }
    }
    let missing = statics.iter().filter(|(name, _)| !in_api.iter().any(|pod| full_name(pod) == **name));
    steps.extend(missing.map(|(_, pod)| Step::Create(pod.clone())));
    steps
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn document(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})
    }

    fn simple() -> Value {
        json!({"containers": [{"name": "c", "image": "demo:1"}]})
    }

    fn from_file(document: Value) -> Result<Pod, String> {
        read(document, Origin::File("/etc/a.yaml"), "n1", Timestamp::UNIX_EPOCH)
            .map(|mut pods| pods.remove(0))
    }

    #[test]
    fn a_document_becomes_a_pod_of_the_node() {
        let pod = from_file(document(simple())).unwrap();
        assert_eq!(full_name(&pod), ("default".to_owned(), "web-n1".to_owned()));
        let uid = pod.metadata.uid.clone().unwrap();
        assert_eq!(uid.len(), 32);
        let annotations = pod.metadata.annotations.clone().unwrap();
        assert_eq!((annotations[HASH].as_str(), annotations[SOURCE].as_str()), (uid.as_str(), "file"));
        assert_eq!(annotations[SEEN], "1970-01-01T00:00:00Z");
        let spec = pod.spec.clone().unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("n1"), Some("Always")));
        let toleration = &spec.tolerations.unwrap()[0];
        assert_eq!(
            (toleration.operator.as_deref(), toleration.effect.as_deref()),
            (Some("Exists"), Some("NoExecute"))
        );
        assert!(is_static(&pod) && !is_mirror(&pod));
        assert_eq!(from_file(document(simple())).unwrap().metadata.uid, Some(uid.clone()));
        let mut other = simple();
        other["containers"][0]["image"] = json!("demo:2");
        assert_ne!(from_file(document(other)).unwrap().metadata.uid, Some(uid));
    }

    #[test]
    fn addresses_may_have_lists() {
        let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [
            {"metadata": {"name": "a"}, "spec": simple()}, {"metadata": {"name": "b"}, "spec": simple()}]});
        let pods = read(list.clone(), Origin::Url("http://x"), "n1", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(pods.len(), 2);
        assert_eq!(pods[0].metadata.annotations.as_ref().unwrap()[SOURCE], "http");
        assert!(pods[0].spec.as_ref().unwrap().tolerations.is_none());
        assert!(from_file(list).is_err());
    }

    #[test]
    fn what_is_no_pod_or_needs_the_api_is_refused() {
        let with = |name: &str, value: Value| {
            let mut spec = simple();
            spec[name] = value;
            from_file(document(spec)).unwrap_err()
        };
        assert_eq!(with("serviceAccountName", json!("sa")), "static pods may not reference serviceaccounts");
        for (volume, resource) in [
            (json!({"secret": {"secretName": "s"}}), "secrets"),
            (json!({"configMap": {"name": "s"}}), "configmaps"),
            (json!({"projected": {"sources": [{"configMap": {"name": "s"}}]}}), "configmaps"),
            (json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}), "serviceaccounts"),
            (json!({"persistentVolumeClaim": {"claimName": "s"}}), "persistentvolumeclaims"),
        ] {
            let mut volume = volume;
            volume["name"] = json!("v");
            assert_eq!(with("volumes", json!([volume])), format!("static pods may not reference {resource}"));
        }
        let env = json!([{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": {
            "secretKeyRef": {"name": "s", "key": "k"}}}]}]);
        assert_eq!(with("containers", env), "static pods may not reference secrets");
        let bad = with("containers", json!([{"name": "C", "image": "i"}]));
        assert!(bad.starts_with("invalid pod: [spec.containers[0].name: Invalid value: \"C\""), "{bad}");
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
        assert!(from_file(service).is_err());
    }

    #[test]
    fn every_static_pod_is_shown_once_and_as_it_is() {
        let pod = Arc::new(from_file(document(simple())).unwrap());
        let statics = BTreeMap::from([(full_name(&pod), pod.clone())]);
        let mut shown = mirror(&pod, "n1", "node-uid");
        shown.metadata.uid = Some("m".to_owned());
        assert_eq!(shown_by(&shown), pod.metadata.uid.as_deref());
        let owner = &shown.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("Node", "node-uid", Some(true))
        );
        let shown = Arc::new(shown);
        assert_eq!(plan(&statics, &[]), [Step::Create(pod.clone())]);
        assert_eq!(plan(&statics, std::slice::from_ref(&shown)), []);
        let delete = Step::Delete { name: full_name(&pod), uid: "m".to_owned() };
        assert_eq!(plan(&BTreeMap::new(), std::slice::from_ref(&shown)), std::slice::from_ref(&delete));
        let mut older = (*shown).clone();
        older.metadata.annotations.as_mut().unwrap().insert(MIRROR.to_owned(), "old".to_owned());
        assert_eq!(plan(&statics, &[Arc::new(older)]), std::slice::from_ref(&delete));
        let ending = ended(&shown, Timestamp::UNIX_EPOCH);
        assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
        assert_eq!(plan(&statics, &[Arc::new(ending)]), [delete]);
    }
}

//! Which objects lead to which nodes (plugin/pkg/auth/authorizer/node/graph.go, v1.37).
//!
//! ```text
//! Secret, ConfigMap, ServiceAccount, ResourceClaim ─→ Pod ─→ Node
//! Secret ─→ PersistentVolume ─→ PersistentVolumeClaim ─→ Pod ─→ Node
//! VolumeAttachment, ResourceSlice ─→ Node
//! ```
//!
//! Paths through pods are counted when pods come and go, so an answer is one look into a table; only
//! a Secret of volumes is followed through its volumes, and a volume to its claim.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::references::{References, secrets_of_volume};
use crate::document::text;

/// A kind of object that leads to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vertex {
    /// `secrets`
    Secret,
    /// `configmaps`
    ConfigMap,
    /// `persistentvolumeclaims`
    Claim,
    /// `persistentvolumes`
    Volume,
    /// `resourceclaims.resource.k8s.io`
    ResourceClaim,
    /// `serviceaccounts`
    ServiceAccount,
    /// `volumeattachments.storage.k8s.io`
    Attachment,
    /// `resourceslices.resource.k8s.io`
    Slice,
    /// `pods`
    Pod,
}

type Place = (String, String);

/// All paths from objects to nodes.
#[derive(Debug, Default)]
pub struct Graph {
    /// How many pods of each node need an object.
    needs: HashMap<(Vertex, Place), HashMap<String, usize>>,
    pods: HashMap<Place, Pod>,
    volumes: HashMap<String, Volume>,
    /// The volumes that need a Secret.
    by_secret: HashMap<Place, HashSet<String>>,
    /// Nodes of attachments and slices.
    direct: HashMap<(Vertex, String), String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    node: String,
    needs: Vec<(Vertex, String)>,
}

#[derive(Debug)]
struct Volume {
    claim: Place,
    secrets: Vec<Place>,
}

impl Graph {
    /// Takes in an object in place of an older state of it.
    pub fn put(&mut self, object: &Value) {
        let name = text(&object["metadata"], "name").unwrap_or_default();
        match object["kind"].as_str().unwrap_or_default() {
            "Pod" => self.put_pod(object),
            "PersistentVolume" => self.put_volume(name, object),
            "VolumeAttachment" => {
                self.put_direct(Vertex::Attachment, name, text(&object["spec"], "nodeName"))
            }
            "ResourceSlice" => self.put_direct(Vertex::Slice, name, text(&object["spec"], "nodeName")),
            _ => {}
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        match kind {
            "Pod" => self.remove_pod(&(namespace.to_owned(), name.to_owned())),
            "PersistentVolume" => self.remove_volume(name),
            "VolumeAttachment" => self.put_direct(Vertex::Attachment, name.to_owned(), None),
            "ResourceSlice" => self.put_direct(Vertex::Slice, name.to_owned(), None),
            _ => {}
        }
    }

    /// Forgets all objects of a kind.
    pub fn remove_all(&mut self, kind: &str) {
        match kind {
            "Pod" => {
                self.pods.clear();
                self.needs.clear();
            }
            "PersistentVolume" => {
                self.volumes.clear();
                self.by_secret.clear();
            }
            "VolumeAttachment" => self.direct.retain(|(vertex, _), _| *vertex != Vertex::Attachment),
            "ResourceSlice" => self.direct.retain(|(vertex, _), _| *vertex != Vertex::Slice),
            _ => {}
        }
    }

    /// Whether an object leads to a node.
    pub fn leads(&self, vertex: Vertex, namespace: &str, name: &str, node: &str) -> bool {
        let place = || (namespace.to_owned(), name.to_owned());
        match vertex {
            Vertex::Attachment | Vertex::Slice => {
                self.direct.get(&(vertex, name.to_owned())).is_some_and(|found| found == node)
            }
            Vertex::Pod => self.pods.get(&place()).is_some_and(|pod| pod.node == node),
            Vertex::Volume => self.volume_leads(name, node),
            Vertex::Secret => {
                self.needed(vertex, place(), node)
                    || self
                        .by_secret
                        .get(&place())
                        .is_some_and(|volumes| volumes.iter().any(|volume| self.volume_leads(volume, node)))
            }
            _ => self.needed(vertex, place(), node),
        }
    }

    fn needed(&self, vertex: Vertex, place: Place, node: &str) -> bool {
        self.needs.get(&(vertex, place)).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn volume_leads(&self, name: &str, node: &str) -> bool {
        self.volumes.get(name).is_some_and(|volume| self.needed(Vertex::Claim, volume.claim.clone(), node))
    }

    fn put_pod(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let place =
            (text(metadata, "namespace").unwrap_or_default(), text(metadata, "name").unwrap_or_default());
        // A pod that has ended needs nothing any more.
        let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let Some(node) = text(&object["spec"], "nodeName").filter(|_| !ended) else {
            return self.remove_pod(&place);
        };
        let pod = Pod { node, needs: needs(object) };
        if self.pods.get(&place) == Some(&pod) {
            return;
        }
        self.remove_pod(&place);
        for (vertex, name) in &pod.needs {
            let nodes = self.needs.entry((*vertex, (place.0.clone(), name.clone()))).or_default();
            *nodes.entry(pod.node.clone()).or_default() += 1;
        }
        self.pods.insert(place, pod);
    }

    fn remove_pod(&mut self, place: &Place) {
        let Some(pod) = self.pods.remove(place) else { return };
        for (vertex, name) in pod.needs {
            let key = (vertex, (place.0.clone(), name));
            let Some(nodes) = self.needs.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&pod.node);
                }
            }
            if nodes.is_empty() {
                self.needs.remove(&key);
            }
        }
    }

    fn put_volume(&mut self, name: String, object: &Value) {
        self.remove_volume(&name);
        let claim = &object["spec"]["claimRef"];
        let (Some(namespace), Some(claim)) = (text(claim, "namespace"), text(claim, "name")) else { return };
        let secrets = secrets_of_volume(object);
        for secret in &secrets {
            self.by_secret.entry(secret.clone()).or_default().insert(name.clone());
        }
        self.volumes.insert(name, Volume { claim: (namespace, claim), secrets });
    }

    fn remove_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.remove(name) else { return };
        for secret in volume.secrets {
            if let Some(volumes) = self.by_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.by_secret.remove(&secret);
                }
            }
        }
    }

    fn put_direct(&mut self, vertex: Vertex, name: String, node: Option<String>) {
        match node {
            Some(node) => drop(self.direct.insert((vertex, name), node)),
            None => drop(self.direct.remove(&(vertex, name))),
        }
    }
}

/// What a pod needs. A mirror pod needs nothing: its node made it and must not gain by that.
fn needs(pod: &Value) -> Vec<(Vertex, String)> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Vec::new();
    }
    let found = References::of_pod(pod);
    let account = text(&pod["spec"], "serviceAccountName").map(|name| (Vertex::ServiceAccount, name));
    let named = [
        (Vertex::Secret, found.secrets),
        (Vertex::ConfigMap, found.config_maps),
        (Vertex::Claim, found.claims),
        (Vertex::ResourceClaim, found.resource_claims),
    ];
    let named =
        named.into_iter().flat_map(|(vertex, names)| names.into_iter().map(move |name| (vertex, name)));
    account.into_iter().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str) -> Value {
        json!({"kind": "Pod", "metadata": {"namespace": "a", "name": name}, "spec": {
            "nodeName": node, "serviceAccountName": "sa",
            "volumes": [{"name": "v", "secret": {"secretName": "s"}},
                        {"name": "w", "persistentVolumeClaim": {"claimName": "c"}}]}})
    }

    #[test]
    fn paths_come_and_go_with_pods_and_volumes() {
        let mut graph = Graph::default();
        let on = |graph: &Graph, node: &str| -> Vec<&str> {
            let all = [
                (Vertex::Secret, "a", "s", "secret"),
                (Vertex::Secret, "b", "s", "other secret"),
                (Vertex::ServiceAccount, "a", "sa", "account"),
                (Vertex::Claim, "a", "c", "claim"),
                (Vertex::Volume, "", "pv", "volume"),
                (Vertex::Secret, "a", "vs", "volume's secret"),
                (Vertex::Pod, "a", "p", "pod"),
                (Vertex::Attachment, "", "va", "attachment"),
            ];
            all.into_iter()
                .filter(|(vertex, namespace, name, _)| graph.leads(*vertex, namespace, name, node))
                .map(|(.., shown)| shown)
                .collect()
        };
        assert!(on(&graph, "n").is_empty());
        graph.put(&pod("p", "n"));
        graph.put(&pod("q", "n"));
        assert_eq!(on(&graph, "n"), ["secret", "account", "claim", "pod"]);
        graph.put(&json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "a", "name": "c"}, "csi": {"nodeStageSecretRef": {"name": "vs", "namespace": "a"}}}}));
        graph
            .put(&json!({"kind": "VolumeAttachment", "metadata": {"name": "va"}, "spec": {"nodeName": "n"}}));
        let everything = ["secret", "account", "claim", "volume", "volume's secret", "pod", "attachment"];
        assert_eq!(on(&graph, "n"), everything);
        assert!(on(&graph, "m").is_empty());
        graph.remove("Pod", "a", "q");
        assert_eq!(on(&graph, "n"), everything);
        graph.put(&pod("p", "m"));
        assert_eq!(on(&graph, "n"), ["attachment"]);
        assert_eq!(on(&graph, "m").len(), 6);
        let mut ended = pod("p", "m");
        ended["status"]["phase"] = json!("Succeeded");
        graph.put(&ended);
        graph.remove("VolumeAttachment", "", "va");
        graph.remove("PersistentVolume", "", "pv");
        assert!(on(&graph, "n").is_empty() && on(&graph, "m").is_empty());
        assert!(graph.needs.is_empty() && graph.by_secret.is_empty());
    }

    #[test]
    fn a_mirror_pod_gives_its_node_nothing() {
        let mut graph = Graph::default();
        let mut mirror = pod("p", "n");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        graph.put(&mirror);
        assert!(!graph.leads(Vertex::Secret, "a", "s", "n"));
        assert!(graph.leads(Vertex::Pod, "a", "p", "n"));
    }
}

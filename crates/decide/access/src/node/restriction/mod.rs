//! NodeRestriction: what the agent of a node may write
//! (plugin/pkg/admission/noderestriction, v1.37).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use plimsoll_volume::local;
use serde_json::{Map, Value};

use super::references::References;
use super::{Identity, identify};
use crate::User;
use crate::document::{list, text, texts};

const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes an object.
    Create,
    /// Changes one.
    Update,
    /// Takes one away.
    Delete,
}

/// A write.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What it does.
    pub operation: Operation,
    /// API group.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty in cluster scope.
    pub namespace: &'a str,
    /// Name of the object, of the proposed one where it is new.
    pub name: &'a str,
    /// The proposed object; null for deletions.
    pub object: &'a Value,
    /// The present object; null for new ones.
    pub old: &'a Value,
}

/// What the decision needs to know of the cluster.
pub trait Cluster {
    /// An object of the core group or `storage.k8s.io`, by plural.
    fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value>;
    /// Common name of a certificate request (base64 of PEM, as objects carry it).
    fn common_name(&self, request: &str) -> Result<String, String>;
}

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Agents must not do this.
    Forbidden(String),
    /// An object that the decision needs is not there: plural and name.
    Missing(&'static str, String),
    /// An audience that no volume of the pod asks for needs permission of its own.
    Audience {
        /// The audience.
        audience: String,
        /// The refusal if there is no such permission.
        message: String,
    },
}

/// Admits a write of a node agent, and all writes of others.
pub fn admit(user: &User, attempt: &Attempt<'_>, cluster: &dyn Cluster) -> Result<(), Refusal> {
    let node = match identify(user) {
        Identity::Other => return Ok(()),
        Identity::Unknown => return forbid(format!("could not determine node from user {:?}", user.name)),
        Identity::Node(node) => node,
    };
    let asked = Asked { node, attempt, cluster };
    match (attempt.group, attempt.resource, attempt.subresource) {
        ("", "pods", "") => asked.pod(),
        ("", "pods", "status") => asked.pod_status(),
        ("", "pods", "eviction") => asked.eviction(),
        ("", "pods", other) => {
            forbid(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) => asked.node(),
        ("", "persistentvolumeclaims", "status") => asked.claim_status(),
        ("", "persistentvolumeclaims", _) => forbid("may only update PVC status"),
        ("", "persistentvolumes", _) => asked.volume(),
        ("", "serviceaccounts", "token") if attempt.operation == Operation::Create => asked.token(),
        ("coordination.k8s.io", "leases", _) if attempt.namespace != LEASES => {
            forbid(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        ("coordination.k8s.io", "leases", _) => asked.own("node lease"),
        ("storage.k8s.io", "csinodes", _) => asked.own("CSINode"),
        ("resource.k8s.io", "resourceslices", _) => asked.slice(),
        ("certificates.k8s.io", "certificatesigningrequests", "") => asked.certificate(),
        ("certificates.k8s.io", "podcertificaterequests", _) => asked.pod_certificate(),
        _ => Ok(()),
    }
}

fn forbid(message: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Forbidden(message.into()))
}

fn need(good: bool, message: impl FnOnce() -> String) -> Result<(), Refusal> {
    if good { Ok(()) } else { Err(Refusal::Forbidden(message())) }
}

struct Asked<'a> {
    node: &'a str,
    attempt: &'a Attempt<'a>,
    cluster: &'a dyn Cluster,
}

impl Asked<'_> {
    fn operation(&self) -> &'static str {
        match self.attempt.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }

    fn unexpected(&self) -> Result<(), Refusal> {
        forbid(format!("unexpected operation {:?}", self.operation()))
    }

    fn own(&self, thing: &str) -> Result<(), Refusal> {
        need(self.attempt.name == self.node, || {
            format!("can only access {thing} with the same name as the requesting node")
        })
    }

    fn pod(&self) -> Result<(), Refusal> {
        let node = self.node;
        match self.attempt.operation {
            Operation::Create => self.mirror_pod(),
            Operation::Delete => need(self.attempt.old["spec"]["nodeName"] == node, || {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            Operation::Update => forbid(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                self.operation()
            )),
        }
    }

    fn mirror_pod(&self) -> Result<(), Refusal> {
        let (node, pod) = (self.node, self.attempt.object);
        need(pod["metadata"]["annotations"][MIRROR].is_string(), || {
            format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")
        })?;
        need(pod["spec"]["nodeName"] == node, || {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        self.owned(list(&pod["metadata"], "ownerReferences"))?;
        let cannot = |thing: &str| format!("node {node:?} can not create pods that reference {thing}");
        need(text(&pod["spec"], "serviceAccountName").is_none(), || cannot("a service account"))?;
        let named = References::of_pod(pod);
        need(named.secrets.is_empty(), || cannot("secrets"))?;
        need(named.config_maps.is_empty(), || cannot("configmaps"))?;
        let volumes = list(&pod["spec"], "volumes");
        let mut parts = volumes.iter().flat_map(|volume| list(&volume["projected"], "sources"));
        need(!parts.any(|part| part["clusterTrustBundle"].is_object()), || cannot("clustertrustbundles"))?;
        need(!volumes.iter().any(|volume| volume["persistentVolumeClaim"].is_object()), || {
            cannot("persistentvolumeclaims")
        })?;
        need(list(&pod["spec"], "resourceClaims").is_empty(), || cannot("resourceclaims"))
    }

    fn owned(&self, owners: &[Value]) -> Result<(), Refusal> {
        let node = self.node;
        let with = |what: &str| format!("node {node:?} can only create pods with {what} set to itself");
        let [owner] = owners else {
            let what = if owners.is_empty() { "an owner reference" } else { "a single owner reference" };
            return forbid(with(what));
        };
        need(owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node, || {
            with("an owner reference")
        })?;
        need(owner["controller"] == true, || with("a controller owner reference"))?;
        need(owner["blockOwnerDeletion"] != true, || {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let missing = || Refusal::Missing("nodes", node.to_owned());
        let found = self.cluster.object("nodes", "", node).ok_or_else(missing)?;
        let uid = |value: &Value| text(value, "uid").unwrap_or_default();
        let (wanted, real) = (uid(owner), uid(&found["metadata"]));
        need(wanted == real, || format!("node {node} UID mismatch: expected {wanted} got {real}"))
    }

    fn pod_status(&self) -> Result<(), Refusal> {
        let (node, new, old) = (self.node, self.attempt.object, self.attempt.old);
        if self.attempt.operation != Operation::Update {
            return self.unexpected();
        }
        need(old["spec"]["nodeName"] == node, || {
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
        })?;
        need(labels(new) == labels(old), || {
            format!("node {node:?} cannot update labels through pod status")
        })?;
        let claims = |pod: &Value| -> Vec<(Option<String>, Option<String>)> {
            let all = list(&pod["status"], "resourceClaimStatuses").iter();
            all.map(|one| (text(one, "name"), text(one, "resourceClaimName"))).collect()
        };
        need(claims(new) == claims(old), || format!("node {node:?} cannot update resource claim statues"))
    }

    fn eviction(&self) -> Result<(), Refusal> {
        let Attempt { operation, namespace, name, .. } = *self.attempt;
        if operation != Operation::Create {
            return forbid(format!("unexpected operation {}", self.operation()));
        }
        let missing = || Refusal::Missing("pods", name.to_owned());
        let pod = self.cluster.object("pods", namespace, name).ok_or_else(missing)?;
        need(pod["spec"]["nodeName"] == self.node, || {
            format!("node {} can only evict pods with spec.nodeName set to itself", self.node)
        })
    }

    fn claim_status(&self) -> Result<(), Refusal> {
        if self.attempt.operation != Operation::Update {
            return self.unexpected();
        }
        let plain = |claim: &Value| {
            let mut claim = claim.clone();
            let drop_from = |part: &mut Value, keys: &[&str]| {
                if let Some(map) = part.as_object_mut() {
                    keys.iter().for_each(|key| drop(map.remove(*key)));
                }
            };
            drop_from(&mut claim["metadata"], &["resourceVersion", "managedFields"]);
            let changeable = ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"];
            drop_from(&mut claim["status"], &changeable);
            claim
        };
        need(plain(self.attempt.object) == plain(self.attempt.old), || {
            format!(
                "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
                self.node
            )
        })
    }

    /// An agent lets go of volumes whose folders it has removed, and changes nothing else of them.
    fn volume(&self) -> Result<(), Refusal> {
        let (new, old) = (self.attempt.object, self.attempt.old);
        if self.attempt.operation != Operation::Update || !self.attempt.subresource.is_empty() {
            return self.unexpected();
        }
        let rest = |volume: &Value| {
            let mut volume = volume.clone();
            if let Some(meta) = volume["metadata"].as_object_mut() {
                ["resourceVersion", "managedFields", "finalizers"]
                    .iter()
                    .for_each(|key| drop(meta.remove(*key)));
            }
            volume
        };
        let finalizers = |volume: &Value| texts(&volume["metadata"]["finalizers"]);
        let mut kept = finalizers(old);
        kept.retain(|one| one != local::FINALIZER);
        let own = labels(old).get(local::NODE).is_some_and(|node| node == self.node);
        need(own && finalizers(new) == kept && rest(new) == rest(old), || {
            format!("node {:?} may only let go of volumes whose folders are its own", self.node)
        })
    }

    fn node(&self) -> Result<(), Refusal> {
        let (node, new, old) = (self.node, self.attempt.object, self.attempt.old);
        need(self.attempt.name == node, || {
            format!("node {node:?} is not allowed to modify node {:?}", self.attempt.name)
        })?;
        let source = |one: &Value| one["spec"]["configSource"].clone();
        let forbidden = || {
            let changed = modified(&labels(new), &labels(old));
            changed.into_iter().filter(|label| is_forbidden(label)).collect::<Vec<_>>()
        };
        match self.attempt.operation {
            Operation::Create => {
                need(source(new).is_null(), || {
                    format!("node {node:?} is not allowed to create pods with a non-nil configSource")
                })?;
                let forbidden = forbidden();
                need(forbidden.is_empty(), || {
                    let list = forbidden.join(", ");
                    format!("node {node:?} is not allowed to set the following labels: {list}")
                })
            }
            Operation::Update => {
                need(source(new).is_null() || source(new) == source(old), || {
                    format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    )
                })?;
                need(list(&new["spec"], "taints") == list(&old["spec"], "taints"), || {
                    format!("node {node:?} is not allowed to modify taints")
                })?;
                let forbidden = forbidden();
                need(forbidden.is_empty(), || {
                    format!("is not allowed to modify labels: {}", forbidden.join(", "))
                })
            }
            Operation::Delete => Ok(()),
        }
    }

    fn token(&self) -> Result<(), Refusal> {
        let Attempt { namespace, object, .. } = *self.attempt;
        let reference = &object["spec"]["boundObjectRef"];
        let name = text(reference, "name").unwrap_or_default();
        let to_pod = reference["apiVersion"] == "v1" && reference["kind"] == "Pod" && !name.is_empty();
        need(to_pod, || "node requested token not bound to a pod".to_owned())?;
        let Some(uid) = text(reference, "uid") else {
            return forbid("node requested token with a pod binding without a uid");
        };
        let missing = || Refusal::Missing("pods", name.clone());
        let pod = self.cluster.object("pods", namespace, &name).ok_or_else(missing)?;
        need(pod["metadata"]["uid"] == uid.as_str(), || {
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            )
        })?;
        need(pod["spec"]["nodeName"] == self.node, || {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        self.audience(&texts(&object["spec"]["audiences"]), &pod)
    }

    /// Tokens are for whom the pod's volumes ask them (or the API server, when none is named).
    fn audience(&self, wanted: &[String], pod: &Value) -> Result<(), Refusal> {
        let audience = match wanted {
            [] => "",
            [one] => one.as_str(),
            _ => return forbid("node may only request 0 or 1 audiences"),
        };
        let volumes = list(&pod["spec"], "volumes");
        let projected = volumes
            .iter()
            .flat_map(|volume| list(&volume["projected"], "sources"))
            .filter(|part| part["serviceAccountToken"].is_object())
            .any(|part| part["serviceAccountToken"]["audience"].as_str().unwrap_or_default() == audience);
        if audience.is_empty() || projected || volumes.iter().any(|one| self.driver_asks(one, audience, pod))
        {
            return Ok(());
        }
        let message = format!(
            "audience {audience:?} not found in pod spec volume, system:node:{} is not authorized to request tokens for this audience",
            self.node
        );
        Err(Refusal::Audience { audience: audience.to_owned(), message })
    }

    /// Whether the CSI driver of a volume asks for tokens for an audience.
    fn driver_asks(&self, volume: &Value, audience: &str, pod: &Value) -> bool {
        let asks = |driver: Option<String>| {
            let found = driver.and_then(|driver| self.cluster.object("csidrivers", "", &driver));
            found.is_some_and(|driver| {
                list(&driver["spec"], "tokenRequests").iter().any(|one| one["audience"] == audience)
            })
        };
        let claim = match volume["ephemeral"].is_object() {
            true => Some(format!(
                "{}-{}",
                text(&pod["metadata"], "name").unwrap_or_default(),
                text(volume, "name").unwrap_or_default()
            )),
            false => text(&volume["persistentVolumeClaim"], "claimName"),
        };
        let bound = || {
            let claim = self.cluster.object("persistentvolumeclaims", self.attempt.namespace, &claim?)?;
            let volume = text(&claim["spec"], "volumeName")?;
            text(&self.cluster.object("persistentvolumes", "", &volume)?["spec"]["csi"], "driver")
        };
        asks(text(&volume["csi"], "driver")) || asks(bound())
    }

    fn slice(&self) -> Result<(), Refusal> {
        let (action, slice) = match self.attempt.operation {
            Operation::Create => ("create", self.attempt.object),
            Operation::Delete => ("delete", self.attempt.old),
            Operation::Update => return Ok(()),
        };
        need(slice["spec"]["nodeName"] == self.node, || {
            format!("can only {action} ResourceSlice with the same NodeName as the requesting node")
        })
    }

    /// A certificate for a pod of the node, whose account and UID are as it says.
    fn pod_certificate(&self) -> Result<(), Refusal> {
        let Attempt { operation, namespace, subresource, object, .. } = *self.attempt;
        if operation != Operation::Create {
            return self.unexpected();
        }
        need(subresource.is_empty(), || format!("unexpected subresource {subresource:?}"))?;
        let spec = &object["spec"];
        let said = |field: &str| text(spec, field).unwrap_or_default();
        let node = said("nodeName");
        need(node == self.node, || {
            format!(
                "PodCertificateRequest.Spec.NodeName={node:?}, which is not the requesting node {:?}",
                self.node
            )
        })?;
        let name = said("podName");
        let missing = || Refusal::Missing("pods", name.clone());
        let pod = self.cluster.object("pods", namespace, &name).ok_or_else(missing)?;
        let mirror = &pod["metadata"]["annotations"]["kubernetes.io/config.mirror"];
        need(mirror.is_null(), || format!("pod {name:?} is a mirror pod"))?;
        for (field, real) in [
            ("podUID", &pod["metadata"]["uid"]),
            ("serviceAccountName", &pod["spec"]["serviceAccountName"]),
            ("nodeName", &pod["spec"]["nodeName"]),
        ] {
            need(*real == said(field).as_str(), || {
                format!(
                    "PodCertificateRequest for pod {namespace:?}/{name:?} has another {field} than the pod"
                )
            })?;
        }
        Ok(())
    }

    fn certificate(&self) -> Result<(), Refusal> {
        let request = self.attempt.object;
        let signers = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
        let concerns = request["spec"]["signerName"].as_str().is_some_and(|name| signers.contains(&name));
        if self.attempt.operation != Operation::Create || !concerns {
            return Ok(());
        }
        let name = self
            .cluster
            .common_name(request["spec"]["request"].as_str().unwrap_or_default())
            .map_err(|error| Refusal::Forbidden(format!("unable to parse csr: {error}")))?;
        need(name == format!("system:node:{}", self.node), || {
            format!("can only create a node CSR with CN=system:node:{}", self.node)
        })
    }
}

fn labels(object: &Value) -> Map<String, Value> {
    object["metadata"]["labels"].as_object().cloned().unwrap_or_default()
}

/// Keys whose values differ, in order.
fn modified(new: &Map<String, Value>, old: &Map<String, Value>) -> BTreeSet<String> {
    new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).cloned().collect()
}

/// Labels of Kubernetes that agents may set.
const AGENT_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let within = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    let reserved = within("kubernetes.io") || within("k8s.io");
    let agents =
        AGENT_LABELS.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    within("node-restriction.kubernetes.io") || (reserved && !agents)
}

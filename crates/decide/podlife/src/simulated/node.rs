//! Nodes that nobody runs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use plimsoll_meta::quantity::Quantity;
use serde_json::{Value, json};

use super::address::Addresses;
use super::{Manner, share};

/// Marks simulated nodes.
pub const LABEL: &str = "plimsoll.io/simulated";
/// A node with this annotation, if it is "true", is silent: no sign of life, and nothing happens to its pods.
pub const SILENT: &str = "plimsoll.io/silent";
/// For how long a node is silent that is chosen to be.
const SPELL: Duration = Duration::from_secs(300);

/// Many nodes of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// How their names begin: `sim` is for `sim-0`, `sim-1` and so on.
    pub prefix: String,
    /// How many there are.
    pub count: usize,
    /// Over how many zones they are spread.
    pub zones: usize,
    /// What each has.
    pub capacity: BTreeMap<String, Quantity>,
}

impl Fleet {
    /// What a node has unless something else is said.
    pub fn usual_capacity() -> BTreeMap<String, Quantity> {
        let disk = Quantity::from_bytes(100 << 30);
        let amounts = [
            ("cpu", Quantity::from_units(32)),
            ("memory", Quantity::from_bytes(256 << 30)),
            ("pods", Quantity::from_units(110)),
            ("ephemeral-storage", disk),
        ];
        amounts.map(|(name, amount)| (name.to_owned(), amount)).into()
    }

    /// The name of a node.
    pub fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// The number of the node with that name.
    pub fn number(&self, name: &str) -> Option<usize> {
        let number = name.strip_prefix(&self.prefix)?.strip_prefix('-')?.parse().ok()?;
        (number < self.count && self.name(number) == name).then_some(number)
    }

    /// The object that a node registers.
    pub fn node(&self, number: usize, version: &str, now: Timestamp) -> Value {
        let name = self.name(number);
        let zone = format!("zone-{}", number % self.zones.max(1));
        let addresses = Addresses::of(number);
        let capacity: BTreeMap<_, _> =
            self.capacity.iter().map(|(name, amount)| (name, amount.to_string())).collect();
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": "simulated", "topology.kubernetes.io/zone": zone,
                LABEL: "true",
            }},
            "spec": {"podCIDR": addresses.range(), "podCIDRs": [addresses.range()]},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [
                    {"type": "InternalIP", "address": addresses.own()}, {"type": "Hostname", "address": name},
                ],
                "conditions": conditions(None, now),
                "nodeInfo": {
                    "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "simulated",
                    "containerRuntimeVersion": "simulated://1", "kubeletVersion": version,
                    "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
                },
            },
        })
    }
}

impl Fleet {
    /// What makes a node that is there already one of this fleet: strategic merge patches of the object and of its
    /// status. Labels and conditions of others stay.
    pub fn adoption(&self, number: usize, version: &str, now: Timestamp) -> (Value, Value) {
        let mut node = self.node(number, version, now);
        let mut status = node["status"].take();
        for amounts in ["capacity", "allocatable"] {
            // What it does not have any more goes.
            status[amounts]["$patch"] = json!("replace");
        }
        (json!({"metadata": {"labels": node["metadata"]["labels"]}}), json!({"status": status}))
    }
}

/// Whether these are the labels of a simulated node.
pub fn is_simulated(labels: &BTreeMap<String, String>) -> bool {
    labels.get(LABEL).is_some_and(|value| value == "true")
}

/// Whether a node is silent now: it is annotated so, or its turn has come.
pub fn is_silent(node: &Node, number: usize, manner: &Manner, elapsed: Duration) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    let told = annotations.and_then(|all| all.get(SILENT)).is_some_and(|value| value == "true");
    let spell = i32::try_from(elapsed.as_secs() / SPELL.as_secs()).unwrap_or(i32::MAX);
    told || share(manner.seed, &number.to_string(), spell) < manner.silences
}

/// The conditions of a node that is well; times of those that stay are kept.
pub fn conditions(node: Option<&Node>, now: Timestamp) -> Value {
    let before = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    let condition = |name: &str, status: &str, reason: &str, message: &str| {
        let known = before.into_iter().flatten().find(|it| it.type_ == name && it.status == status);
        let since = known.and_then(|it| it.last_transition_time.as_ref()).map_or(now, |time| time.0);
        json!({"type": name, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": seconds(now), "lastTransitionTime": seconds(since)})
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

/// As the API writes times.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet { prefix: "sim".into(), count: 12, zones: 3, capacity: Fleet::usual_capacity() }
    }

    fn node(number: usize) -> Node {
        let now = "2026-01-01T00:00:00.5Z".parse().unwrap();
        serde_json::from_value(fleet().node(number, "v1.37.0", now)).unwrap()
    }

    #[test]
    fn names_have_numbers_and_zones_take_turns() {
        let cases =
            [("sim-0", Some(0)), ("sim-11", Some(11)), ("sim-12", None), ("sim-01", None), ("web-1", None)];
        for (name, number) in cases {
            assert_eq!(fleet().number(name), number, "{name}");
        }
        let zone = |number| node(number).metadata.labels.unwrap()["topology.kubernetes.io/zone"].clone();
        assert_eq!([zone(0), zone(1), zone(2), zone(3)], ["zone-0", "zone-1", "zone-2", "zone-0"]);
        let one = node(7);
        assert_eq!(one.spec.unwrap().pod_cidr.unwrap(), "100.64.7.0/24");
        assert_eq!(one.status.unwrap().allocatable.unwrap()["cpu"].0, "32");
    }

    #[test]
    fn nodes_of_before_become_what_is_asked_for_now() {
        let mut larger = Fleet { zones: 2, ..fleet() };
        larger.capacity.insert("cpu".to_owned(), Quantity::from_units(64));
        let (object, status) = larger.adoption(2, "v1.37.0", "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(object["metadata"]["labels"]["topology.kubernetes.io/zone"], "zone-0");
        assert!(is_simulated(&node(2).metadata.labels.unwrap()) && !is_simulated(&BTreeMap::new()));
        assert!(object["spec"].is_null(), "its range of addresses stays");
        let status = &status["status"];
        for amounts in ["capacity", "allocatable"] {
            assert_eq!(
                (&status[amounts]["cpu"], &status[amounts]["$patch"]),
                (&json!("64"), &json!("replace"))
            );
        }
        assert_eq!(status["conditions"][3]["status"], "True");
    }

    #[test]
    fn a_node_is_silent_when_told_or_when_its_turn_comes() {
        let at = Duration::from_secs;
        let (quiet, some) = (Manner::default(), Manner { silences: 0.25, ..Manner::default() });
        let mut told = node(1);
        told.metadata.annotations = Some([(SILENT.to_owned(), "true".to_owned())].into());
        assert!(is_silent(&told, 1, &quiet, at(0)) && !is_silent(&node(1), 1, &quiet, at(0)));
        let silent = |time| (0..1000).filter(|number| is_silent(&node(1), *number, &some, at(time))).count();
        assert!((200..300).contains(&silent(0)) && (200..300).contains(&silent(300)));
        assert!(
            (0..100).all(|n| is_silent(&node(1), n, &some, at(0)) == is_silent(&node(1), n, &some, at(299)))
        );
        assert!(
            (0..100).any(|n| is_silent(&node(1), n, &some, at(0)) != is_silent(&node(1), n, &some, at(300)))
        );
    }

    #[test]
    fn conditions_keep_their_times_while_they_stay() {
        let later = conditions(Some(&node(0)), "2026-01-01T00:05:00Z".parse().unwrap());
        assert_eq!(later[3]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(later[3]["lastHeartbeatTime"], "2026-01-01T00:05:00Z");
        let mut lost = node(0);
        lost.status.as_mut().unwrap().conditions.as_mut().unwrap()[3].status = "Unknown".into();
        let back = conditions(Some(&lost), "2026-01-01T00:05:00Z".parse().unwrap());
        assert_eq!(back[3]["lastTransitionTime"], "2026-01-01T00:05:00Z");
    }
}

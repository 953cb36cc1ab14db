//! Objects that are kept for history's sake, or because nobody took them away.
//!
//! What enters are objects as the API shows them; what leaves is which of them pile up, and what bounds them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// A sort of leftovers.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// How it is called.
    pub name: &'static str,
    /// The path of all objects of its kind.
    pub path: &'static str,
    /// What keeps it from growing.
    pub bound: &'static str,
    /// Whether an object is one, by itself.
    is: fn(&Value) -> bool,
}

/// All sorts.
pub const SORTS: &[Sort] = &[
    Sort {
        name: "old ReplicaSets",
        path: "/apis/apps/v1/replicasets",
        bound: "spec.revisionHistoryLimit of the Deployment",
        is: is_old_set,
    },
    Sort {
        name: "old ControllerRevisions",
        path: REVISIONS,
        bound: "spec.revisionHistoryLimit of the owner",
        is: |_| true,
    },
    Sort {
        name: "finished Jobs",
        path: "/apis/batch/v1/jobs",
        bound: "spec.ttlSecondsAfterFinished, or the limits of the CronJob",
        is: |job| has_condition(job, &["Complete", "Failed"]),
    },
    Sort {
        name: "finished Pods",
        path: "/api/v1/pods",
        bound: "--terminated-pod-gc-threshold, or their owner's history",
        is: |pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")),
    },
    Sort { name: "Events", path: "/api/v1/events", bound: "an hour", is: |_| true },
    Sort {
        name: "superseded Helm releases",
        path: "/api/v1/secrets",
        bound: "--history-max of Helm",
        is: |secret| {
            let status = secret["metadata"]["labels"]["status"].as_str().unwrap_or_default();
            secret["type"] == "helm.sh/release.v1"
                && !matches!(status, "deployed" | "")
                && !status.starts_with("pending")
        },
    },
    Sort {
        name: "decided CertificateSigningRequests",
        path: "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        bound: "an hour after the decision",
        is: |request| {
            !request["status"]["certificate"].is_null() || has_condition(request, &["Denied", "Failed"])
        },
    },
    Sort {
        name: "released PersistentVolumes",
        path: "/api/v1/persistentvolumes",
        bound: "nothing: the reclaim policy keeps them",
        is: |volume| matches!(volume["status"]["phase"].as_str(), Some("Released" | "Failed")),
    },
];

const REVISIONS: &str = "/apis/apps/v1/controllerrevisions";

/// How many of a sort a namespace has, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pile {
    /// How many.
    pub count: usize,
    /// When the oldest was made.
    pub oldest: Option<Timestamp>,
}

/// The piles of one sort by namespace; "" is the cluster.
#[derive(Clone, Debug)]
pub struct Piles {
    sort: Sort,
    found: BTreeMap<String, Pile>,
    /// Owners of which a revision was seen.
    owners: BTreeSet<String>,
}

impl Piles {
    /// None yet.
    pub fn new(sort: Sort) -> Self {
        Self { sort, found: BTreeMap::new(), owners: BTreeSet::new() }
    }

    /// Counts an object, if it is a leftover.
    pub fn take(&mut self, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        if !(self.sort.is)(object) {
            return;
        }
        if self.sort.path == REVISIONS && self.is_first(object) {
            return;
        }
        let made = text("creationTimestamp").parse::<Timestamp>().ok();
        let pile = self.found.entry(text("namespace")).or_default();
        pile.count += 1;
        pile.oldest = match (pile.oldest, made) {
            (Some(known), Some(made)) => Some(known.min(made)),
            (known, made) => known.or(made),
        };
    }

    /// One of each owner is in use; which one does not matter for how many are not.
    fn is_first(&mut self, object: &Value) -> bool {
        let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut owner = owners.filter(|owner| owner["controller"] == true);
        let Some(uid) = owner.next().and_then(|owner| owner["uid"].as_str()) else { return false };
        self.owners.insert(uid.to_owned())
    }

    /// What was found.
    pub fn found(&self) -> &BTreeMap<String, Pile> {
        &self.found
    }
}

fn is_old_set(set: &Value) -> bool {
    let owners = set["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let of_deployment =
        owners.filter(|owner| owner["kind"] == "Deployment" && owner["controller"] == true).count() > 0;
    let none = |value: &Value| value.as_i64().unwrap_or_default() == 0;
    of_deployment && none(&set["spec"]["replicas"]) && none(&set["status"]["replicas"])
}

fn has_condition(object: &Value, kinds: &[&str]) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .any(|one| one["status"] == "True" && one["type"].as_str().is_some_and(|kind| kinds.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leftovers_are_told_from_what_is_in_use() {
        let owner = |kind: &str| json!([{"kind": kind, "controller": true, "uid": "u"}]);
        let done = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
        let secret =
            |status: &str| json!({"type": "helm.sh/release.v1", "metadata": {"labels": {"status": status}}});
        let cases = [
            (
                "old ReplicaSets",
                json!({"metadata": {"ownerReferences": owner("Deployment")}, "spec": {"replicas": 0}}),
                1,
            ),
            (
                "old ReplicaSets",
                json!({"metadata": {"ownerReferences": owner("Deployment")}, "spec": {"replicas": 2}}),
                0,
            ),
            ("old ReplicaSets", json!({"metadata": {}, "spec": {"replicas": 0}}), 0),
            ("old ControllerRevisions", json!({"metadata": {"ownerReferences": owner("DaemonSet")}}), 0),
            ("old ControllerRevisions", json!({"metadata": {}}), 1),
            ("finished Jobs", json!({"status": done("Complete")}), 1),
            ("finished Jobs", json!({"status": done("Suspended")}), 0),
            ("finished Pods", json!({"status": {"phase": "Failed"}}), 1),
            ("finished Pods", json!({"status": {"phase": "Running"}}), 0),
            ("Events", json!({}), 1),
            ("superseded Helm releases", secret("superseded"), 1),
            ("superseded Helm releases", secret("deployed"), 0),
            ("superseded Helm releases", json!({"type": "Opaque"}), 0),
            ("decided CertificateSigningRequests", json!({"status": {"certificate": "YQ=="}}), 1),
            ("decided CertificateSigningRequests", json!({"status": done("Denied")}), 1),
            ("decided CertificateSigningRequests", json!({"status": done("Approved")}), 0),
            ("released PersistentVolumes", json!({"status": {"phase": "Released"}}), 1),
            ("released PersistentVolumes", json!({"status": {"phase": "Bound"}}), 0),
        ];
        for (name, object, count) in cases {
            let sort = SORTS.iter().find(|sort| sort.name == name).expect("a sort");
            let mut piles = Piles::new(*sort);
            piles.take(&object);
            assert_eq!(
                piles.found().values().map(|pile| pile.count).sum::<usize>(),
                count,
                "{name}: {object}"
            );
        }
    }

    #[test]
    fn piles_know_their_number_and_age() {
        let sort = SORTS.iter().find(|sort| sort.name == "Events").expect("a sort");
        let mut piles = Piles::new(*sort);
        for (namespace, made) in [("a", "2026-01-02T00:00:00Z"), ("a", "2026-01-01T00:00:00Z"), ("b", "")] {
            piles.take(&json!({"metadata": {"namespace": namespace, "creationTimestamp": made}}));
        }
        let oldest = "2026-01-01T00:00:00Z".parse().ok();
        let expected =
            [("a".to_owned(), Pile { count: 2, oldest }), ("b".to_owned(), Pile { count: 1, oldest: None })];
        assert_eq!(piles.found(), &expected.into());
    }
}

//! Which controllers run, by the names that users of kube-controller-manager know.

use crate::{Error, names};

/// Names that they had before, which scripts and manifests still use.
const FORMER: [(&str, &str); 37] = [
    ("service", "service-lb-controller"),
    ("serviceaccount-token", "serviceaccount-token-controller"),
    ("endpoint", "endpoints-controller"),
    ("endpointslice", "endpointslice-controller"),
    ("endpointslicemirroring", "endpointslice-mirroring-controller"),
    ("replicationcontroller", "replicationcontroller-controller"),
    ("podgc", "pod-garbage-collector-controller"),
    ("namespace", "namespace-controller"),
    ("serviceaccount", "serviceaccount-controller"),
    ("garbagecollector", "garbage-collector-controller"),
    ("daemonset", "daemonset-controller"),
    ("job", "job-controller"),
    ("deployment", "deployment-controller"),
    ("replicaset", "replicaset-controller"),
    ("horizontalpodautoscaling", "horizontal-pod-autoscaler-controller"),
    ("disruption", "disruption-controller"),
    ("statefulset", "statefulset-controller"),
    ("cronjob", "cronjob-controller"),
    ("csrsigning", "certificatesigningrequest-signing-controller"),
    ("csrapproving", "certificatesigningrequest-approving-controller"),
    ("csrcleaner", "certificatesigningrequest-cleaner-controller"),
    ("ttl", "ttl-controller"),
    ("bootstrapsigner", "bootstrap-signer-controller"),
    ("tokencleaner", "token-cleaner-controller"),
    ("nodeipam", "node-ipam-controller"),
    ("nodelifecycle", "node-lifecycle-controller"),
    ("persistentvolume-binder", "persistentvolume-binder-controller"),
    ("attachdetach", "persistentvolume-attach-detach-controller"),
    ("persistentvolume-expander", "persistentvolume-expander-controller"),
    ("clusterrole-aggregation", "clusterrole-aggregation-controller"),
    ("pvc-protection", "persistentvolumeclaim-protection-controller"),
    ("pv-protection", "persistentvolume-protection-controller"),
    ("ttl-after-finished", "ttl-after-finished-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
    ("ephemeral-volume", "ephemeral-volume-controller"),
    ("resource-claim-controller", "resourceclaim-controller"),
    ("legacy-service-account-token-cleaner", "legacy-serviceaccount-token-cleaner-controller"),
];

/// Which controllers run: all, but for those left out, or only those named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<String>);

impl Default for Selection {
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

impl Selection {
    /// Reads `*,-podgc` or `deployment-controller,replicaset-controller`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        text.split(',').map(|word| known(word.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a controller runs.
    pub fn includes(&self, name: &str) -> bool {
        let says = |word: &str| self.0.iter().any(|known| known == word);
        says(name) || (says("*") && !says(&format!("-{name}")))
    }
}

/// A word of a selection under the name that its controller has now.
fn known(word: &str) -> Result<String, Error> {
    let (sign, name) = word.strip_prefix('-').map_or(("", word), |name| ("-", name));
    let former = FORMER.iter().find(|(former, _)| *former == name);
    let name = former.map_or(name, |(_, name)| name);
    match name == "*" || names().any(|known| known == name) {
        true => Ok(format!("{sign}{name}")),
        false => Err(Error::UnknownController(name.to_owned())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn selections_name_what_runs() {
        let cases = [
            ("*", "job-controller", true),
            ("*,-job-controller", "job-controller", false),
            ("*,-node-ipam-controller", "node-ipam-controller", false),
            ("*,-node-ipam-controller", "job-controller", true),
            ("job-controller", "job-controller", true),
            ("*,-podgc", "pod-garbage-collector-controller", false),
            // As kubeadm wrote it.
            ("*,bootstrapsigner,tokencleaner", "token-cleaner-controller", true),
            ("job-controller", "node-ipam-controller", false),
        ];
        for (text, name, expected) in cases {
            assert_eq!(Selection::parse(text).unwrap().includes(name), expected, "{name} of {text}");
        }
        let refused = Selection::parse("*,-nonsense").unwrap_err().to_string();
        assert_eq!(refused, "controller \"nonsense\": unknown name");
    }

    #[test]
    fn former_names_are_those_of_controllers() {
        for (former, name) in FORMER {
            assert!(names().any(|known| known == name) && !names().any(|known| known == former), "{former}");
        }
    }
}

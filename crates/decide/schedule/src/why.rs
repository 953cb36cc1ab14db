//! Why a pod waits, node by node, and what would help.
//!
//! A decision ends a node's turn at the first check that refuses it. Here every check has its say.

use crate::budget::Budget;
use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::plugin::Plugin;
use crate::plugins::every_refusal;
use crate::plugins::pod_topology_spread::Constraints;
use crate::pod::PodInfo;
use crate::preemption::Preemption;
use crate::scheduler::{Decision, Scheduler, checks};
use crate::snapshot::Row;
use crate::volumes::Volumes;

/// Why a pod waits.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The node that it would get now; if none, the message of its condition.
    pub decision: Result<String, String>,
    /// What keeps it from all nodes alike.
    pub everywhere: Option<String>,
    /// Each node that refuses it, the one with the fewest causes first.
    pub nodes: Vec<Verdict>,
    /// Whose end would make room.
    pub room: Option<Preemption>,
}

/// What a node has against a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node.
    pub node: String,
    /// Everything.
    pub causes: Vec<Cause>,
}

/// One thing that a node has against a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who says so.
    pub plugin: Plugin,
    /// In upstream's words.
    pub reason: String,
    /// What would help.
    pub help: String,
}

impl Scheduler {
    /// Explains what a decision about a pod would be.
    pub fn explain(&mut self, pod: &PodInfo, budgets: &[Budget]) -> Explanation {
        let (everywhere, decision) = match self.decide(pod) {
            Decision::Node(node) => (None, Ok(node)),
            Decision::Nowhere(diagnosis) => (diagnosis.everywhere.clone(), Err(diagnosis.to_string())),
        };
        let may_preempt = decision.is_err() && !pod.never_preempts && self.profile(pod).preempts();
        let room = if may_preempt { self.preempt(pod, budgets) } else { None };
        let taken = self.snapshot.take_lesser_nominations(pod);
        let mut nodes = self.verdicts(pod);
        self.snapshot.give_back(taken);
        nodes.sort_by(|one, two| {
            one.causes.len().cmp(&two.causes.len()).then_with(|| one.node.cmp(&two.node))
        });
        Explanation { decision, everywhere, nodes, room }
    }

    fn verdicts(&mut self, pod: &PodInfo) -> Vec<Verdict> {
        let profile = self.profile(pod).clone();
        let constraints = Constraints::of(pod, &profile, &self.snapshot.selectors);
        self.snapshot.prepare(pod, &constraints.list);
        let snapshot = &self.snapshot;
        let checks = checks(pod, &profile, &constraints, snapshot);
        let volumes = Volumes::of(pod, &profile, snapshot).ok();
        let verdict = |(slot, row): (usize, &Row)| {
            let node = row.node.as_ref()?;
            let mut reasons = every_refusal(&profile, &pod.needs, row, node);
            reasons.extend(volumes.iter().flat_map(|volumes| volumes.filter(node)));
            reasons.extend(checks.iter().filter_map(|check| check.refuses(slot)));
            reasons.extend(volumes.iter().filter_map(|volumes| volumes.devices(node).err()));
            let cause = |reason: &Reason<'_>| Cause {
                plugin: reason.plugin(),
                reason: reason.to_string(),
                help: Asked { pod, needs: &pod.needs, row, node }.help(*reason),
            };
            let mut causes: Vec<Cause> = reasons.iter().map(cause).collect();
            causes.dedup();
            (!causes.is_empty()).then(|| Verdict { node: node.name.clone(), causes })
        };
        snapshot.rows().iter().enumerate().filter_map(verdict).collect()
    }
}

/// A pod that asks for a node.
struct Asked<'a> {
    pod: &'a PodInfo,
    needs: &'a Needs,
    row: &'a Row,
    node: &'a Node,
}

impl Asked<'_> {
    fn help(&self, reason: Reason<'_>) -> String {
        let node = &self.node.name;
        match reason {
            Reason::Unschedulable => format!("kubectl uncordon {node}"),
            Reason::Taint { key, value } => format!(
                "a toleration of {key}{}{value}, or kubectl taint node {node} {key}-",
                if value.is_empty() { "" } else { "=" }
            ),
            Reason::NodeAffinity | Reason::NotNamed => self.labels(),
            Reason::EnforcedAffinity => {
                "labels that addedAffinity in the scheduler's configuration asks for".to_owned()
            }
            Reason::Ports => format!("another hostPort than {}, or none", self.ports()),
            Reason::TooManyPods => format!("the end of a pod there: it takes {}", self.node.allocatable.pods),
            Reason::Insufficient(resource) => {
                let (wanted, used, all) = self.amounts(resource);
                let missing = amount(resource, wanted - (all - used));
                format!(
                    "{missing} more: {} of {} are free",
                    amount(resource, all - used),
                    amount(resource, all)
                )
            }
            Reason::Beyond(resource) => {
                let (wanted, _, all) = self.amounts(resource);
                format!("a larger node, or {} less", amount(resource, wanted - all))
            }
            Reason::SpreadLabel => format!("labels of its topologySpreadConstraints: {}", self.topologies()),
            Reason::Spread => "fewer pods like it there, or more elsewhere; or a larger maxSkew".to_owned(),
            Reason::Affinity => "pods there that its podAffinity asks for".to_owned(),
            Reason::AntiAffinity => "the end of pods there that its podAntiAffinity avoids".to_owned(),
            Reason::ExistingAntiAffinity => format!(
                "the end of pods there that avoid it, or other labels than {}",
                self.pod
                    .labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Reason::Disk => "the end of the pod there that uses its disk".to_owned(),
            Reason::ClaimOfOnePod => "the end of the pod that uses its claim".to_owned(),
            Reason::TooManyVolumes => "the end of pods with volumes there".to_owned(),
            Reason::VolumeElsewhere => "nothing there: its volume is for other nodes".to_owned(),
            Reason::VolumeZone => "nothing there: its volume is in another zone".to_owned(),
            Reason::VolumeGone => "the volume that its claim is bound to, or another claim".to_owned(),
            Reason::NoVolume => "a volume for its claim, or a class that makes some there".to_owned(),
            Reason::NoRoom => "more room where the class makes volumes".to_owned(),
            Reason::ClaimElsewhere => "nothing there: the devices of its claim are elsewhere".to_owned(),
            Reason::NoDevices => "devices there that its claims ask for".to_owned(),
            Reason::DevicesTakeTooLong => "claims with fewer constraints".to_owned(),
        }
    }

    /// What is requested, what others request, and what the node has.
    fn amounts(&self, resource: &str) -> (i64, i64, i64) {
        let resource = crate::profile::Resource::named(resource);
        (self.needs.requests.plain(&resource), self.row.used(&resource), self.node.capacity(&resource))
    }

    fn labels(&self) -> String {
        let missing =
            self.needs.selector.iter().filter(|(key, value)| self.node.labels.get(*key) != Some(value));
        let missing: Vec<String> = missing.map(|(key, value)| format!("{key}={value}")).collect();
        match &missing[..] {
            [] => "labels that its node affinity asks for".to_owned(),
            some => format!("kubectl label node {} {}", self.node.name, some.join(" ")),
        }
    }

    fn ports(&self) -> String {
        let taken =
            self.needs.ports.iter().filter(|wanted| self.row.ports.iter().any(|there| there.clashes(wanted)));
        taken.map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn topologies(&self) -> String {
        let missing = self.pod.links.spread.iter().map(|spread| spread.term.topology.as_str());
        let missing = missing.filter(|topology| !self.node.labels.contains_key(*topology));
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() { "none is missing".to_owned() } else { missing.join(", ") }
    }
}

/// As users write it.
fn amount(resource: &str, amount: i64) -> String {
    const MEBIBYTE: i64 = 1 << 20;
    match resource {
        "cpu" if amount % 1000 == 0 => (amount / 1000).to_string(),
        "cpu" => format!("{amount}m"),
        _ if resource.starts_with("hugepages-") || matches!(resource, "memory" | "ephemeral-storage") => {
            match amount % MEBIBYTE {
                0 => format!("{}Mi", amount / MEBIBYTE),
                _ => amount.to_string(),
            }
        }
        _ => amount.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, more: Value) -> k8s_openapi::api::core::v1::Node {
        let mut value = json!({"metadata": {"name": name, "labels": {"zone": "a"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}});
        value["spec"] = more;
        serde_json::from_value(value).unwrap()
    }

    fn pod(name: &str, spec: Value) -> k8s_openapi::api::core::v1::Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec}),
        )
        .unwrap()
    }

    fn asks(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}],
            "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    }

    #[test]
    fn every_check_has_its_say_and_says_what_helps() {
        let mut scheduler = Scheduler::default();
        let tainted =
            json!({"unschedulable": true, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        scheduler.snapshot.set_node(&node("far", tainted));
        scheduler.snapshot.set_node(&node("near", json!({})));
        let there = scheduler.read(&pod("there", asks("1500m", "512Mi")));
        scheduler.snapshot.place(std::sync::Arc::new(there), "near");
        let mut spec = asks("1", "2Gi");
        spec["nodeSelector"] = json!({"zone": "b"});
        let waits = scheduler.read(&pod("waits", spec));
        let explained = scheduler.explain(&waits, &[]);
        let helps = |at: usize| -> Vec<(Plugin, &str)> {
            let causes = &explained.nodes[at].causes;
            causes.iter().map(|cause| (cause.plugin, cause.help.as_str())).collect()
        };
        assert_eq!(explained.nodes[0].node, "far");
        assert_eq!(
            helps(0),
            [
                (Plugin::NodeUnschedulable, "kubectl uncordon far"),
                (Plugin::TaintToleration, "a toleration of k=v, or kubectl taint node far k-"),
                (Plugin::NodeAffinity, "kubectl label node far zone=b"),
                (Plugin::NodeResourcesFit, "a larger node, or 1024Mi less"),
            ]
        );
        assert_eq!(
            helps(1),
            [
                (Plugin::NodeAffinity, "kubectl label node near zone=b"),
                (Plugin::NodePorts, "another hostPort than 80, or none"),
                (Plugin::NodeResourcesFit, "500m more: 500m of 2 are free"),
                (Plugin::NodeResourcesFit, "a larger node, or 1024Mi less"),
            ]
        );
        let message = explained.decision.unwrap_err();
        assert!(message.starts_with("0/2 nodes are available: "), "{message}");
        let small = scheduler.read(&pod("small", json!({"containers": []})));
        assert_eq!(scheduler.explain(&small, &[]).decision.unwrap(), "near");
    }

    #[test]
    fn whose_end_makes_room() {
        let mut scheduler = Scheduler::default();
        scheduler.snapshot.set_node(&node("n", json!({})));
        let there = scheduler.read(&pod("low", asks("2", "1Mi")));
        scheduler.snapshot.place(std::sync::Arc::new(there), "n");
        let mut spec = asks("2", "1Mi");
        spec["priority"] = json!(10);
        let high = scheduler.read(&pod("high", spec));
        let room = scheduler.explain(&high, &[]).room.unwrap();
        assert_eq!((room.node.as_str(), room.victims[0].name.as_str()), ("n", "low"));
    }
}

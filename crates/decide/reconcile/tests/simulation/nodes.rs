//! A pretend scheduler and pretend node agents, which move pods through their lives.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::{Action, Delete};
use plimsoll_reconcile::daemon_set::target_node;
use plimsoll_reconcile::{node, pod};
use serde_json::{Value, json};

use crate::api::{Api, Name};
use crate::attaching;
use crate::dice::Dice;
use crate::storage::{self, Claims};

/// How often pods meet bad luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Pods fail, and lose their readiness.
    Rough,
    /// Nothing happens but what was asked for.
    Fair,
}

/// What runs where: the truth, whatever the API says.
#[derive(Default)]
pub(crate) struct Machines {
    /// The node of each pod's process, by id, and the pod's name.
    processes: BTreeMap<String, (String, Name)>,
    addresses: u32,
}

impl Machines {
    /// A node's machine is gone, and what ran on it.
    pub(crate) fn lose(&mut self, node: &str) {
        self.processes.retain(|_, (on, _)| on != node);
    }

    /// A node that comes back ends what it is no longer told to run.
    pub(crate) fn settle(&mut self, api: &Api, node: &str) {
        let pods = api.all::<Pod>();
        self.processes.retain(|uid, (on, _)| {
            on != node || pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid))
        });
    }

    /// Names of pods that two processes have at the same time.
    pub(crate) fn doubles(&self) -> Option<&Name> {
        let mut names: Vec<_> = self.processes.values().map(|(_, name)| name).collect();
        names.sort();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// One pod goes one step further; tells whether there was one to take.
    pub(crate) fn step(
        &mut self,
        api: &mut Api,
        pod: &Pod,
        weather: Weather,
        dice: &mut Dice,
        now: Timestamp,
    ) -> bool {
        let nodes = api.all::<Node>();
        let on = pod::node(pod);
        if on.is_empty() {
            return !pod::deleting(pod) && schedule(api, pod, &nodes, dice);
        }
        let alive = nodes.iter().any(|node| node.metadata.name.as_deref() == Some(on));
        if !alive || api.silent.contains_key(on) {
            return false;
        }
        if pod::deleting(pod) {
            return self.end_deleted(api, pod, dice, now);
        }
        if pod::finished(pod) {
            self.processes.remove(uid(pod));
            return false;
        }
        if pod::phase(pod) == "Pending" {
            let node = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(on));
            if !node.is_some_and(|node| attaching::is_ready(api, pod, node)) {
                return false;
            }
            self.run(api, pod, on, now);
            return true;
        }
        match once(pod) {
            true => self.go_on_once(api, pod, weather, dice, now),
            false => self.go_on(api, pod, weather, dice, now),
        }
    }

    fn run(&mut self, api: &mut Api, pod: &Pod, on: &str, now: Timestamp) {
        self.processes.insert(uid(pod).to_owned(), (on.to_owned(), name(pod)));
        self.addresses += 1;
        let ip = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        write(api, pod, |status| {
            status["phase"] = json!("Running");
            status["podIP"] = json!(ip);
            status["podIPs"] = json!([{"ip": ip}]);
            status["containerStatuses"] = json!([container(json!({"running": {}}))]);
            set_ready(status, false, now);
        });
    }

    fn go_on(&mut self, api: &mut Api, pod: &Pod, weather: Weather, dice: &mut Dice, now: Timestamp) -> bool {
        if weather == Weather::Rough && dice.permille(15) {
            self.finish(api, pod, false, now);
            return true;
        }
        if pod::ready(pod) {
            let falls = weather == Weather::Rough && dice.permille(20);
            if falls {
                write(api, pod, |status| set_ready(status, false, now));
            }
            return falls;
        }
        write(api, pod, |status| set_ready(status, true, now));
        true
    }

    /// A pod that ends by itself: a Job's.
    fn go_on_once(
        &mut self,
        api: &mut Api,
        pod: &Pod,
        weather: Weather,
        dice: &mut Dice,
        now: Timestamp,
    ) -> bool {
        if !pod::ready(pod) && dice.permille(500) {
            write(api, pod, |status| set_ready(status, true, now));
        } else if weather == Weather::Fair || dice.permille(400) {
            let succeeds = weather == Weather::Fair || dice.permille(650);
            self.finish(api, pod, succeeds, now);
        }
        true
    }

    fn finish(&mut self, api: &mut Api, pod: &Pod, succeeds: bool, now: Timestamp) {
        self.processes.remove(uid(pod));
        let (phase, code) = if succeeds { ("Succeeded", 0) } else { ("Failed", 1) };
        write(api, pod, |status| {
            status["phase"] = json!(phase);
            let end = json!({"exitCode": code, "finishedAt": seconds(now)});
            status["containerStatuses"] = json!([container(json!({"terminated": end}))]);
            set_ready(status, false, now);
        });
    }

    /// The process ends, the status says so, then the object may go.
    fn end_deleted(&mut self, api: &mut Api, pod: &Pod, dice: &mut Dice, now: Timestamp) -> bool {
        self.processes.remove(uid(pod));
        if !pod::finished(pod) {
            let succeeds = once(pod) && dice.permille(300);
            self.finish(api, pod, succeeds, now);
            return true;
        }
        if pod.metadata.deletion_grace_period_seconds == Some(0) {
            return false;
        }
        let delete = Delete { grace: Some(0), ..Action::delete(pod) };
        api.delete(&delete, now).is_ok()
    }
}

fn schedule(api: &mut Api, pod: &Pod, nodes: &[std::sync::Arc<Node>], dice: &mut Dice) -> bool {
    let wanted = target_node(pod);
    let fits = |node: &&std::sync::Arc<Node>| match wanted {
        "" => node::taints(node).is_empty(),
        wanted => node.metadata.name.as_deref() == Some(wanted),
    };
    let fitting: Vec<_> = nodes.iter().filter(fits).collect();
    let Some(node) = dice.pick(&fitting) else { return false };
    let node = node.metadata.name.clone().unwrap_or_default();
    match storage::prepare(api, pod, &node) {
        Claims::Ready => {}
        Claims::Asked => return true,
        Claims::Wait => return false,
    }
    let kind = api.kind_named("Pod");
    api.edit(kind, &name(pod), |pod| pod["spec"]["nodeName"] = json!(node));
    true
}

/// Whether its containers run only once.
fn once(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never")
}

fn write(api: &mut Api, pod: &Pod, how: impl FnOnce(&mut Value)) {
    let kind = api.kind_named("Pod");
    api.edit(kind, &name(pod), |pod| how(&mut pod["status"]));
}

fn set_ready(status: &mut Value, ready: bool, now: Timestamp) {
    let value = if ready { "True" } else { "False" };
    status["conditions"] = json!([{"type": "Ready", "status": value, "lastTransitionTime": seconds(now)}]);
    if let Some(container) = status["containerStatuses"].get_mut(0) {
        container["ready"] = json!(ready);
    }
}

fn container(state: Value) -> Value {
    json!({"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state})
}

fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).expect("in range").to_string()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn name(pod: &Pod) -> Name {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

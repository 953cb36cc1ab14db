//! The pods of all simulated nodes: one loop, and a plan for those that something will become of.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_client::{Delta, Informer, Informers};
use plimsoll_podlife::simulated::address::Addresses;
use plimsoll_podlife::simulated::status::{Place, patch, refusal};
use plimsoll_podlife::simulated::{Step, next};
use plimsoll_podlife::spec::host_network;
use plimsoll_schedule::{Misfit, Residents, Source};
use serde_json::json;
use tokio::task::JoinSet;

use crate::api::{Api, Patch, Refusal};
use crate::nodes::Nodes;

/// Steps that are under way at once.
const AT_ONCE: usize = 256;
/// Changes that are read before steps begin.
const READ_AT_ONCE: usize = 256;
/// When to try a step again that the API did not take.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the pods of nodes that were silent are looked at again.
const LOOK: Duration = Duration::from_secs(5);

type Uid = Arc<str>;

/// What will become of a pod.
struct Plan {
    pod: Arc<Pod>,
    node: usize,
    step: Step,
    /// Only the entry of the calendar and the outcome with this number count.
    stamp: u64,
    /// Its time has come, but the step before is under way.
    waits: bool,
}

struct Loop {
    nodes: Arc<Nodes>,
    api: Api,
    addresses: Vec<Addresses>,
    /// What the pods take that each node has taken.
    residents: Vec<Residents>,
    /// Whether all pods are known that were there at the start.
    synced: bool,
    /// Addresses of pods that the API does not show yet.
    given: HashMap<Uid, Ipv4Addr>,
    /// Stays until the API shows that the step was taken.
    plans: HashMap<Uid, Plan>,
    calendar: BinaryHeap<Reverse<(Timestamp, u64, Uid)>>,
    /// Pods on silent nodes, by the node.
    left: HashMap<usize, HashMap<Uid, Arc<Pod>>>,
    running: JoinSet<(Uid, u64, Result<(), Refusal>)>,
    /// The pods of the steps that are under way: what is told of one pod is told in order.
    busy: HashSet<Uid>,
    stamps: u64,
}

/// Lets pods live for ever.
pub(crate) async fn run(nodes: Arc<Nodes>, informers: Informers, api: Api) {
    nodes.informer.synced().await;
    let informer: Informer<Pod> = informers.informer();
    let mut deltas = informer.subscribe();
    let mut changes = nodes.informer.subscribe();
    let addresses = (0..nodes.count()).map(Addresses::of).collect();
    let residents = (0..nodes.count()).map(|_| Residents::default()).collect();
    let mut all = Loop {
        nodes,
        api,
        addresses,
        residents,
        synced: false,
        given: HashMap::new(),
        plans: HashMap::new(),
        calendar: BinaryHeap::new(),
        left: HashMap::new(),
        running: JoinSet::new(),
        busy: HashSet::new(),
        stamps: 0,
    };
    loop {
        let wake = all.next_time();
        tokio::select! {
            delta = deltas.recv() => match delta {
                Some(delta) => all.pod(delta),
                None => return,
            },
            Some(change) = changes.recv() => all.node(&change),
            Some(Ok((uid, stamp, outcome))) = all.running.join_next() => all.outcome(&uid, stamp, outcome),
            () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            () = tokio::time::sleep(LOOK), if !all.left.is_empty() => all.look(),
        }
        for _ in 0..READ_AT_ONCE {
            let Ok(delta) = deltas.try_recv() else { break };
            all.pod(delta);
        }
        all.begin();
    }
}

impl Loop {
    /// How long nothing is to be begun; none when that depends on others alone.
    fn next_time(&self) -> Option<Duration> {
        let Reverse((at, ..)) = self.calendar.peek().filter(|_| self.may_begin())?;
        Some(at.duration_since(Timestamp::now()).try_into().unwrap_or_default())
    }

    fn may_begin(&self) -> bool {
        self.synced && self.running.len() < AT_ONCE
    }

    fn pod(&mut self, delta: Delta<Pod>) {
        match delta {
            Delta::Applied { new, .. } => {
                if let Some(number) = self.number(&new) {
                    self.applied(number, new);
                }
            }
            Delta::Deleted(pod) => {
                if let Some(number) = self.number(&pod) {
                    self.gone(number, &pod);
                }
            }
            Delta::Synced => self.synced = true,
        }
    }

    /// The number of the pod's node if that is a simulated one.
    fn number(&self, pod: &Pod) -> Option<usize> {
        self.nodes.config.fleet.number(pod.spec.as_ref()?.node_name.as_deref()?)
    }

    fn applied(&mut self, number: usize, pod: Arc<Pod>) {
        let id = uid(&pod);
        let ended = matches!(phase(&pod), "Succeeded" | "Failed");
        if let Some(address) = address(&pod) {
            self.given.remove(&id);
            match ended {
                true => self.addresses[number].release(address),
                false => self.addresses[number].note(address),
            }
        }
        match phase(&pod) {
            "Running" => self.residents[number].place(&id, &pod),
            _ if ended => self.residents[number].remove(&id),
            _ => {}
        }
        if self.nodes.is_away(number) {
            self.plans.remove(&id);
            self.left.entry(number).or_default().insert(id, pod);
            return;
        }
        match next(&pod, &self.nodes.config.manner, Timestamp::now()) {
            None => drop(self.plans.remove(&id)),
            // What was planned stays planned for then; what was done is not done again.
            Some((_, step)) if self.plans.get(&id).is_some_and(|plan| plan.step == step) => {
                if let Some(plan) = self.plans.get_mut(&id) {
                    plan.pod = pod;
                }
            }
            Some((at, step)) => {
                let stamp = self.stamp();
                self.plans.insert(id.clone(), Plan { pod, node: number, step, stamp, waits: false });
                self.calendar.push(Reverse((at, stamp, id)));
            }
        }
    }

    fn gone(&mut self, number: usize, pod: &Pod) {
        let id = uid(pod);
        for address in address(pod).into_iter().chain(self.given.remove(&id)) {
            self.addresses[number].release(address);
        }
        self.residents[number].remove(&id);
        self.plans.remove(&id);
        if let Some(pods) = self.left.get_mut(&number) {
            pods.remove(&id);
        }
    }

    fn node(&mut self, change: &Delta<Node>) {
        if let Delta::Applied { new, .. } = change
            && let Some(number) =
                self.nodes.config.fleet.number(new.metadata.name.as_deref().unwrap_or_default())
            && self.left.contains_key(&number)
        {
            self.resume(number);
        }
    }

    /// Looks at the pods of silent nodes again.
    fn look(&mut self) {
        let numbers: Vec<_> = self.left.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.resume(number));
    }

    fn resume(&mut self, number: usize) {
        if !self.nodes.is_away(number) {
            let pods = self.left.remove(&number).unwrap_or_default();
            pods.into_values().for_each(|pod| self.applied(number, pod));
        }
    }

    /// Begins what is due.
    fn begin(&mut self) {
        let now = Timestamp::now();
        while self.may_begin() {
            match self.calendar.peek() {
                Some(Reverse((at, ..))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((_, stamp, id))) = self.calendar.pop() else { return };
            let busy = self.busy.contains(&id);
            let Some(plan) = self.plans.get_mut(&id).filter(|plan| plan.stamp == stamp) else { continue };
            plan.waits = busy;
            if busy {
                continue;
            }
            let (pod, step, number) = (plan.pod.clone(), plan.step, plan.node);
            if self.nodes.is_away(number) {
                self.plans.remove(&id);
                self.left.entry(number).or_default().insert(id, pod);
                continue;
            }
            self.busy.insert(id.clone());
            if let Some(misfit) = self.misfit(&pod, &id, number, step) {
                let api = self.api.clone();
                self.running.spawn(async move { (id, stamp, refuse(&api, &pod, &misfit).await) });
                continue;
            }
            let place = self.place(&pod, &id, number);
            let api = self.api.clone();
            self.running.spawn(async move {
                let outcome = take(&api, &pod, step, place, now).await;
                (id, stamp, outcome)
            });
        }
    }

    /// Why the node does not take a pod that is about to start; one that it takes is its own from now on.
    fn misfit(&mut self, pod: &Pod, id: &Uid, number: usize, step: Step) -> Option<Misfit> {
        let residents = &mut self.residents[number];
        if step != Step::Start || residents.requested(id, "pods") > 0 {
            return None;
        }
        let node = self.nodes.node(number)?;
        let misfit = residents.misfits(pod, Source::Api, &node).into_iter().next();
        if misfit.is_none() {
            residents.place(id, pod);
        }
        misfit
    }

    fn place(&mut self, pod: &Pod, id: &Uid, number: usize) -> Place {
        let addresses = &mut self.addresses[number];
        let host = addresses.own();
        if host_network(pod) {
            return Place { host, pod: host };
        }
        let known = address(pod).or_else(|| self.given.get(id).copied());
        let pod = known.unwrap_or_else(|| {
            let new = addresses.take();
            self.given.insert(id.clone(), new);
            new
        });
        Place { host, pod }
    }

    fn outcome(&mut self, id: &Uid, stamp: u64, outcome: Result<(), Refusal>) {
        self.busy.remove(id);
        if let Some(plan) = self.plans.get(id).filter(|plan| plan.waits) {
            self.calendar.push(Reverse((Timestamp::now(), plan.stamp, id.clone())));
        }
        match outcome {
            // The informer tells the rest.
            Ok(()) | Err(Refusal::Gone | Refusal::Exists) => {}
            Err(Refusal::Later(why)) => {
                let Some(plan) = self.plans.get(id).filter(|plan| plan.stamp == stamp) else { return };
                tracing::debug!(pod = ?plan.pod.metadata.name, why, "step of a simulated pod not taken yet");
                let at = Timestamp::now().checked_add(AGAIN).unwrap_or(Timestamp::MAX);
                self.calendar.push(Reverse((at, stamp, id.clone())));
            }
        }
    }

    fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }
}

/// Tells the API of a step.
async fn take(api: &Api, pod: &Pod, step: Step, place: Place, now: Timestamp) -> Result<(), Refusal> {
    let (meta, path) = (&pod.metadata, path(pod));
    if let Some(patch) = patch(pod, step, place, now) {
        api.patch(&format!("{path}/status"), Patch::Strategic, &patch).await?;
    }
    // Only finalizers hold a pod that has no time left.
    if step == Step::Remove && meta.deletion_grace_period_seconds != Some(0) {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid}});
        api.delete(&path, &options).await?;
    }
    Ok(())
}

/// Tells the API that the node does not take a pod.
async fn refuse(api: &Api, pod: &Pod, misfit: &Misfit) -> Result<(), Refusal> {
    match refusal(pod, misfit.reason(), &misfit.to_string()) {
        Some(patch) => api.patch(&format!("{}/status", path(pod)), Patch::Strategic, &patch).await,
        None => Ok(()),
    }
}

fn path(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let (namespace, name) =
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

fn uid(pod: &Pod) -> Uid {
    pod.metadata.uid.as_deref().unwrap_or_default().into()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn address(pod: &Pod) -> Option<Ipv4Addr> {
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

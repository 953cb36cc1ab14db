//! Whether a pod that is new to the node is taken. What is asked is decided in podlife and schedule.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use plimsoll_client::Informer;
use plimsoll_podlife::acceptance::accept;
use plimsoll_podlife::eviction::REASON;
use plimsoll_podlife::eviction::admission::refusal;
use plimsoll_podlife::preemption::{self, Candidate, Lack, victims};
use plimsoll_podlife::qos::is_critical;
use plimsoll_podlife::shutdown::rejection;
use plimsoll_podlife::static_pod::is_static;
use plimsoll_podlife::{Event, Verdict};
use plimsoll_schedule::{Misfit, Residents, Source};

use crate::agent::Agent;
use crate::node;

/// The pods that were taken, and what they take of the node.
pub(crate) struct Acceptance {
    agent: Arc<Agent>,
    nodes: Informer<Node>,
    residents: Residents,
    pods: HashMap<String, Arc<Pod>>,
}

/// What becomes of a pod.
pub(crate) enum Answer {
    /// It is taken, and the pods of these UIDs end for it.
    Taken(Vec<String>),
    /// It is not.
    Refused(Verdict),
}

impl Acceptance {
    /// Nothing is taken yet.
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        let nodes = node::informer(&agent);
        Self { agent, nodes, residents: Residents::default(), pods: HashMap::new() }
    }

    /// A pod is there, with what it was given.
    pub(crate) fn place(&mut self, uid: &str, pod: &Arc<Pod>) {
        self.residents.place(uid, pod);
        self.pods.insert(uid.to_owned(), pod.clone());
    }

    /// A pod takes nothing any more.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.residents.remove(uid);
        self.pods.remove(uid);
    }

    /// Whether a pod was taken and has not ended.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Whether the node has what a pod asks for, perhaps after others have ended for it.
    pub(crate) fn room(&self, pod: &Pod) -> Answer {
        let source = if is_static(pod) { Source::Node } else { Source::Api };
        let mut misfits = self.residents.misfits(pod, source, &self.node());
        if is_critical(pod) && misfits.iter().any(|misfit| matches!(misfit, Misfit::Shortage { .. })) {
            let (lacks, others) = lacks(misfits);
            if others.is_empty() {
                return self.make_room(pod, &lacks);
            }
            misfits = others;
        }
        match misfits.first() {
            Some(misfit) => self.refuse(pod, &misfit.reason(), misfit.to_string()),
            None => Answer::Taken(Vec::new()),
        }
    }

    fn make_room(&self, pod: &Pod, lacks: &[Lack]) -> Answer {
        let known: Vec<_> = self.pods.iter().collect();
        let asks: Vec<_> =
            known.iter().map(|(uid, _)| move |name: &str| self.residents.requested(uid, name)).collect();
        let candidates: Vec<_> =
            known.iter().zip(&asks).map(|((_, pod), requested)| Candidate { pod, requested }).collect();
        match victims(pod, &candidates, lacks) {
            Ok(chosen) => {
                for at in &chosen {
                    self.agent.tell(known[*at].1, &preemption::event());
                    self.agent.metrics.preempted(lacks.first().map_or("", |lack| &lack.resource));
                }
                Answer::Taken(chosen.iter().map(|at| known[*at].0.clone()).collect())
            }
            Err(error) => {
                let message = format!(
                    "Unexpected error while attempting to recover from admission failure: preemption: error \
                     finding a set of pods to preempt: {error}"
                );
                self.refuse(pod, "UnexpectedAdmissionError", message)
            }
        }
    }

    fn refuse(&self, pod: &Pod, reason: &str, message: String) -> Answer {
        Answer::Refused(refuse(&self.agent, pod, reason, message))
    }

    /// The node as the API server has it, with what this agent leaves to pods.
    fn node(&self) -> Node {
        let known = self.nodes.get("", &self.agent.config.node_name);
        let mut node = known.map_or_else(|| node::own(&self.agent), |node| (*node).clone());
        let status = node.status.get_or_insert_default();
        let own =
            self.agent.allocatable.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string())));
        status.allocatable.get_or_insert_default().extend(own);
        node
    }
}

fn lacks(misfits: Vec<Misfit>) -> (Vec<Lack>, Vec<Misfit>) {
    let (mut lacks, mut others) = (Vec::new(), Vec::new());
    for misfit in misfits {
        match misfit {
            Misfit::Shortage { resource, requested, used, capacity } => {
                lacks.push(Lack { resource, amount: requested - (capacity - used) });
            }
            other => others.push(other),
        }
    }
    (lacks, others)
}

/// Tells that a pod is not taken, and gives what becomes of it.
pub(crate) fn refuse(agent: &Agent, pod: &Pod, reason: &str, message: String) -> Verdict {
    agent.tell(pod, &Event::warning(reason.to_owned(), message.clone(), None));
    agent.metrics.refused(reason);
    let message = format!("Pod was rejected: {message}");
    Verdict { reason: reason.to_owned(), message, ..Verdict::default() }
}

/// Why a node leaves a pod that is new to it: the node ends, is short of something, or not able to run it.
pub(crate) fn refused(agent: &Agent, pod: &Pod) -> Option<Verdict> {
    if agent.config.leaving.is_cancelled() && !agent.config.shutdown_periods.is_empty() {
        let verdict = rejection();
        agent.tell(pod, &Event::warning("NodeShutdown", verdict.message.clone(), None));
        agent.metrics.refused(&verdict.reason);
        return Some(verdict);
    }
    if let Some(message) = refusal(pod, &agent.pressure.borrow()) {
        agent.tell(pod, &Event::warning(REASON, message.clone(), None));
        agent.metrics.refused(REASON);
        return Some(Verdict { reason: REASON.to_owned(), message, ..Verdict::default() });
    }
    let refused = accept(pod, &agent.abilities).err()?;
    Some(refuse(agent, pod, refused.reason, refused.message))
}

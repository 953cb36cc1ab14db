//! What others tell: the engine of what it has, the API of what was before this agent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::Life;
use crate::few::Few;
use crate::observed::{Container, Sandbox};
use crate::probe::{Counter, ProbeKind};

impl Life {
    /// Goes on where another agent was: since when the pod is there, what its probes had found out, how often
    /// its containers ran.
    pub(super) fn shown(&mut self, status: PodStatus) {
        let since = status.start_time.as_ref().map(|time| time.0);
        let Some(since) = since.filter(|since| since.as_second() < self.start_time.as_second()) else {
            return;
        };
        self.start_time = since;
        for (key, counter) in adopted_counters(&status) {
            self.counters.entry(key).or_insert(counter);
        }
        for (name, known) in remembered(&status) {
            self.remembered.get_or_insert(name, known);
        }
        self.told = status.conditions.unwrap_or_default();
    }

    pub(super) fn merge(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<Container>) {
        for sandbox in sandboxes {
            match self.sandboxes.iter_mut().find(|known| known.id == sandbox.id) {
                // Addresses stay: an engine forgets them when it takes the network down.
                Some(known) => {
                    known.ready &= sandbox.ready;
                    if known.ips.is_empty() {
                        known.ips = sandbox.ips;
                    }
                }
                None => {
                    self.sandboxes.reserve_exact(1);
                    self.sandboxes.push(sandbox);
                }
            }
        }
        for run in containers {
            match self.containers.iter_mut().find(|known| known.id == run.id) {
                Some(known) if known.rank() > run.rank() => {}
                Some(known) => {
                    let oom = |run: &Container| run.exit().is_some_and(|exit| exit.reason == "OOMKilled");
                    if oom(&run) && !oom(known) {
                        self.starved.push(run.name.clone());
                    }
                    let sandbox = std::mem::take(&mut known.sandbox);
                    *known = run;
                    if known.sandbox.is_empty() {
                        known.sandbox = sandbox;
                    }
                }
                None => {
                    // One is the rule, and it stays.
                    self.containers.reserve_exact(1);
                    self.containers.push(run);
                }
            }
        }
    }

    pub(super) fn replace(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<Container>) {
        self.sandboxes.retain(|known| sandboxes.iter().any(|it| it.id == known.id));
        self.containers.retain(|known| containers.iter().any(|it| it.id == known.id));
        // What could not be removed is tried again.
        self.removing.clear();
        self.merge(sandboxes, containers);
    }
}

/// The containers of a status that ran.
pub(crate) fn remembered(status: &PodStatus) -> Few<String, ContainerStatus> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let statuses = lists.into_iter().flatten().flatten().filter(|status| status.container_id.is_some());
    statuses.map(|status| (status.name.clone(), status.clone())).collect()
}

/// What another agent had found out about the runs that the API shows, so that a restart of the agent
/// takes no pod out of service.
pub(super) fn adopted_counters(status: &PodStatus) -> BTreeMap<(String, ProbeKind), Counter> {
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut counters = BTreeMap::new();
    for status in statuses {
        let Some((_, id)) = status.container_id.as_deref().and_then(|id| id.split_once("://")) else {
            continue;
        };
        if status.started == Some(true) {
            counters.insert((id.to_owned(), ProbeKind::Startup), Counter::decided(true));
        }
        if status.ready {
            counters.insert((id.to_owned(), ProbeKind::Readiness), Counter::decided(true));
        }
    }
    counters
}

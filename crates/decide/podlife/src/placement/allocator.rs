//! Giving a pod's containers processors and memory where all who give agree
//! (kubelet: pkg/kubelet/cm/topologymanager).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::hints::{Hint, Hints, Keeping, Nodes, Policy, Scope, merge};
use super::memory::Memory;
use super::{Refused, Static, pinned, whole_cpus};
use crate::spec::is_sidecar;

/// How often something was asked of an allocator, and how often it had to refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Containers that asked for processors of their own.
    pub cpu_requests: u64,
    /// Those that got none.
    pub cpu_errors: u64,
    /// Containers that asked for memory of their own.
    pub memory_requests: u64,
    /// Those that got none.
    pub memory_errors: u64,
    /// Pods or containers whose resources could not be kept together.
    pub apart: u64,
    /// Those whose resources lie on one memory node because they have to.
    pub on_one_node: u64,
    /// Containers that got whole cores because no core may be shared.
    pub whole_cores: u64,
    /// Those that did not.
    pub parted_cores: u64,
    /// Containers whose processors share one cache.
    pub one_cache: u64,
}

/// What a node gives to containers alone.
#[derive(Clone, Debug)]
pub struct Allocator {
    /// Processors; none when all share all.
    pub cpus: Option<Static>,
    /// Memory; none when all share all.
    pub memory: Option<Memory>,
    keeping: Keeping,
    nodes: Nodes,
    tally: Tally,
}

impl Allocator {
    /// An allocator of a machine with these memory nodes.
    ///
    /// # Errors
    /// The machine has more memory nodes than are allowed, or options do not go together.
    pub fn new(
        cpus: Option<Static>,
        memory: Option<Memory>,
        keeping: Keeping,
        nodes: Nodes,
    ) -> Result<Self, String> {
        if keeping.policy != Policy::None && nodes.0.len() > keeping.most_nodes {
            return Err(format!("unsupported on machines with more than {} NUMA Nodes", keeping.most_nodes));
        }
        if let Some(cpus) = &cpus {
            cpus.check(keeping.policy)?;
        }
        Ok(Self { cpus, memory, keeping, nodes, tally: Tally::default() })
    }

    /// Whether things are kept together at all.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeping.policy != Policy::None
    }

    /// Whether they are kept together for a pod as a whole.
    #[must_use]
    pub fn keeps_pods(&self) -> bool {
        self.keeps() && self.keeping.scope == Scope::Pod
    }

    /// The memory nodes of the machine.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<u32> {
        self.nodes.ids()
    }

    /// Gives a pod's containers what they ask for, in the order of their lives.
    ///
    /// # Errors
    /// Why that cannot be; nothing is given then.
    pub fn admit(&mut self, pod: &Pod) -> Result<(), Refused> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let before = self.clone();
        let result = self.admit_all(pod, spec);
        if result.is_err() {
            *self = Self { tally: self.tally, ..before };
        }
        result
    }

    /// What has been asked of it.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether things are kept together for a pod as a whole.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.keeping.scope
    }

    fn admit_all(&mut self, pod: &Pod, spec: &PodSpec) -> Result<(), Refused> {
        let whole = self.keeps_pods().then(|| self.hint_of_pod(pod, Hints::new())).transpose()?;
        for container in self.due(pod, spec) {
            self.give(pod, container, whole.as_ref(), Hints::new())?;
        }
        Ok(())
    }

    /// The containers to be given something. Init containers of a pod that is past them get nothing again.
    #[must_use]
    pub fn due<'p>(&self, pod: &Pod, spec: &'p PodSpec) -> Vec<&'p Container> {
        let is_past = spec.containers.iter().any(|container| self.has(pod, container));
        let init = spec.init_containers.iter().flatten().filter(|it| !is_past || is_sidecar(it));
        init.chain(&spec.containers).collect()
    }

    /// Where all that a pod asks for is to be; `others` is what others have to say about it.
    ///
    /// # Errors
    /// It cannot be had close enough together.
    pub fn hint_of_pod(&mut self, pod: &Pod, others: Hints) -> Result<Hint, Refused> {
        let (uid, Some(spec)) = (uid(pod), &pod.spec) else { return Ok(ANYWHERE) };
        let cpus = self.cpus.as_ref().map(|cpus| cpus.hints_of_pod(uid, spec)).unwrap_or_default();
        let memory = self.memory.as_ref().map(|memory| memory.hints_of_pod(uid, spec)).unwrap_or_default();
        self.agree([others, cpus, memory])
    }

    /// Gives one container what it asks for, at the `whole` pod's place or at its own. The place.
    ///
    /// # Errors
    /// Why that cannot be; what was given of the pod stays until it is released.
    pub fn give(
        &mut self,
        pod: &Pod,
        container: &Container,
        whole: Option<&Hint>,
        others: Hints,
    ) -> Result<Hint, Refused> {
        let (uid, Some(spec)) = (uid(pod), &pod.spec) else { return Ok(ANYWHERE) };
        let hint = match whole {
            Some(hint) => hint.clone(),
            None if self.has(pod, container) => return Ok(ANYWHERE),
            None => {
                let cpus = self.cpus.as_ref().map(|it| it.hints_of(uid, spec, container)).unwrap_or_default();
                let memory =
                    self.memory.as_ref().map(|it| it.hints_of(uid, spec, container)).unwrap_or_default();
                self.agree([others, cpus, memory])?
            }
        };
        if let Some(cpus) = self.cpus.as_mut().filter(|_| whole_cpus(spec, container).is_some()) {
            self.tally.cpu_requests += 1;
            let (strict, had) = (u64::from(cpus.keeps_cores()), cpus.own(uid, &container.name).is_some());
            if let Err(refused) = cpus.allocate(uid, spec, container, &hint) {
                self.tally.cpu_errors += 1;
                self.tally.parted_cores += strict;
                return Err(refused);
            }
            self.tally.whole_cores += strict;
            self.tally.one_cache += u64::from(!had && cpus.shares_cache(uid, &container.name));
        }
        if let Some(memory) = self.memory.as_mut().filter(|_| pinned(spec)) {
            self.tally.memory_requests += 1;
            let given = memory.allocate(uid, spec, container, &hint);
            given.inspect_err(|_| self.tally.memory_errors += 1).map_err(Refused::Memory)?;
        }
        Ok(hint)
    }

    /// A container is about to start: what the init containers before it had is for others.
    pub fn started(&mut self, pod: &Pod, container: &str) {
        let (uid, inits) = (uid(pod), pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()));
        let over = inits.take_while(|init| init.name != container).filter(|init| !is_sidecar(init));
        for init in over {
            if let Some(cpus) = &mut self.cpus {
                cpus.release_container(uid, &init.name);
            }
            if let Some(memory) = &mut self.memory {
                memory.release_container(uid, &init.name);
            }
        }
    }

    /// Takes back what a pod had.
    pub fn release(&mut self, uid: &str) {
        if let Some(cpus) = &mut self.cpus {
            cpus.release(uid);
        }
        if let Some(memory) = &mut self.memory {
            memory.release(uid);
        }
    }

    /// The pods that have something.
    #[must_use]
    pub fn pods(&self) -> BTreeSet<String> {
        let cpus = self.cpus.iter().flat_map(|cpus| cpus.state().entries.keys());
        cpus.chain(self.memory.iter().flat_map(|memory| memory.entries().keys())).cloned().collect()
    }

    fn has(&self, pod: &Pod, container: &Container) -> bool {
        let (uid, name) = (uid(pod), &container.name);
        self.cpus.as_ref().is_some_and(|cpus| cpus.own(uid, name).is_some())
            || self.memory.as_ref().is_some_and(|memory| memory.own(uid, name).is_some())
    }

    fn agree(&mut self, providers: [Hints; 3]) -> Result<Hint, Refused> {
        let (hint, admitted) = merge(&self.keeping, &self.nodes, &providers);
        if !admitted {
            self.tally.apart += 1;
            return Err(Refused::Apart);
        }
        self.tally.on_one_node += u64::from(self.keeping.policy == Policy::SingleNode);
        Ok(hint)
    }
}

/// No opinion.
const ANYWHERE: Hint = Hint { nodes: None, preferred: false };

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

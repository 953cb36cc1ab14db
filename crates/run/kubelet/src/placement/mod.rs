//! Processors and memory of containers: the records of who has which, and the engine that is told.

mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod};
use plimsoll_cri::v1;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::placement::hints::{Hint, Hints};
use plimsoll_podlife::placement::memory::{Memory, Record, reserved};
use plimsoll_podlife::placement::{Allocator, Refused, State, Static};

use crate::agent::Agent;
use crate::config::{Config, CpuManagerPolicy, MemoryManagerPolicy};
use crate::metrics::Placed;

/// The policies' names in the records.
const CPU_POLICY: &str = "static";
const MEMORY_POLICY: &str = "Static";

/// Who has which processors and memory; nobody any of his own under the policies `none`.
pub(crate) struct Placement {
    given: Mutex<Allocator>,
    cpu_record: PathBuf,
    memory_record: PathBuf,
    /// Whether anybody gives anything: without, no pod has to be looked at.
    is_idle: bool,
    /// Held while containers are told what they share, so that the last word is the newest.
    telling: tokio::sync::Mutex<()>,
}

impl Placement {
    /// Goes on where another agent of the same settings ended. `memory` are the bytes of the machine, `kept` is
    /// what reservations and thresholds of eviction keep from pods.
    pub(crate) fn new(
        config: &Config,
        memory: i64,
        kept: &BTreeMap<String, Quantity>,
    ) -> Result<Self, String> {
        let system = Path::new("/sys/devices/system");
        let cpu_record = config.data_dir.join("cpu_manager_state");
        let memory_record = config.data_dir.join("memory_manager_state");
        let cpus = match config.cpu_manager_policy {
            CpuManagerPolicy::None => None,
            CpuManagerPolicy::Static => Some(cpus(config, system, &cpu_record)?),
        };
        let memory = match config.memory_manager_policy {
            MemoryManagerPolicy::None => None,
            MemoryManagerPolicy::Static => {
                let banks = machine::banks(system, u64::try_from(memory).unwrap_or(0));
                let reserved = reserved(&banks, kept, &config.reserved_memory)?;
                Some(restored(Memory::new(&banks, &reserved), &memory_record)?)
            }
        };
        let is_idle = cpus.is_none() && memory.is_none();
        let given = Allocator::new(cpus, memory, config.topology_manager, machine::nodes(system))?;
        let telling = tokio::sync::Mutex::default();
        let placement = Self { given: Mutex::new(given), cpu_record, memory_record, is_idle, telling };
        placement.keep();
        Ok(placement)
    }

    fn given(&self) -> MutexGuard<'_, Allocator> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_cpus(&self) -> bool {
        self.given().cpus.is_some()
    }

    pub(crate) fn has_memory(&self) -> bool {
        self.given().memory.is_some()
    }

    /// Looks at who has what.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&Allocator) -> T) -> T {
        read(&self.given())
    }

    /// What is told of it.
    pub(crate) fn figures(&self) -> Placed {
        let given = self.given();
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let mut placed = Placed { tally: given.tally(), scope: given.scope(), ..Placed::default() };
        if let Some(cpus) = &given.cpus {
            placed.shared = whole(cpus.shared().len()) * 1000;
            let by_node = cpus.own_by_node();
            placed.exclusive = by_node.into_iter().map(|(node, count)| (node, whole(count))).collect();
        }
        placed
    }

    /// Gives a pod what it asks for.
    pub(crate) fn admit(&self, pod: &Pod) -> Result<Change, Refused> {
        if self.is_idle {
            return Ok(Change::None);
        }
        self.change(|given| given.admit(pod)).map(|((), change)| change)
    }

    /// Where all that a pod asks for is to be; `others` is what others have to say about it.
    pub(crate) fn hint_of_pod(&self, pod: &Pod, others: Hints) -> Result<Hint, Refused> {
        self.given().hint_of_pod(pod, others)
    }

    /// Gives one container what it asks for, and tells where.
    pub(crate) fn give(
        &self,
        pod: &Pod,
        container: &Container,
        whole: Option<&Hint>,
        others: Hints,
    ) -> Result<(Hint, Change), Refused> {
        self.change(|given| given.give(pod, container, whole, others))
    }

    /// A container is about to start: what ended before it is for others.
    pub(crate) fn started(&self, pod: &Pod, container: &str) -> Change {
        if self.is_idle {
            return Change::None;
        }
        let result = self.change(|given| {
            given.started(pod, container);
            Ok(())
        });
        result.map_or(Change::None, |((), change)| change)
    }

    /// Takes back what a pod had.
    pub(crate) fn release(&self, uid: &str) -> Change {
        if self.is_idle {
            return Change::None;
        }
        let result = self.change(|given| {
            given.release(uid);
            Ok(())
        });
        result.map_or(Change::None, |((), change)| change)
    }

    /// Takes back what pods had that are not there any more.
    pub(crate) fn forget(&self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.given().pods().into_iter().filter(|uid| !is_there(uid)).collect();
        for uid in gone {
            self.release(&uid);
        }
    }

    /// The processors that a container may use, as control groups take them; empty for all.
    pub(crate) fn cpus(&self, uid: &str, container: &str) -> String {
        let given = self.given();
        let Some(cpus) = &given.cpus else { return String::new() };
        cpus.own(uid, container).unwrap_or_else(|| cpus.shared()).to_string()
    }

    /// The memory nodes that a container may use, as control groups take them; empty for all.
    pub(crate) fn memory_nodes(&self, uid: &str, container: &str) -> String {
        let given = self.given();
        let nodes = given.memory.as_ref().map(|memory| memory.nodes_of(uid, container)).unwrap_or_default();
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Whether a container has processors of its own.
    pub(crate) fn is_own(&self, uid: &str, container: &str) -> bool {
        self.given().cpus.as_ref().is_some_and(|cpus| cpus.own(uid, container).is_some())
    }

    /// Whether anything of a pod has processors of its own.
    pub(crate) fn has_own(&self, uid: &str) -> bool {
        self.given().cpus.as_ref().is_some_and(|cpus| cpus.has_own(uid))
    }

    /// Changes what is given, and keeps it.
    fn change<T>(
        &self,
        act: impl FnOnce(&mut Allocator) -> Result<T, Refused>,
    ) -> Result<(T, Change), Refused> {
        let mut given = self.given();
        let state = |given: &Allocator| {
            let cpus = given.cpus.as_ref().map(|cpus| cpus.state().clone());
            (cpus, given.memory.as_ref().map(|memory| memory.entries().clone()))
        };
        let before = state(&given);
        let result = act(&mut given)?;
        let after = state(&given);
        let change = if before.0 == after.0 { Change::None } else { Change::Shared };
        if before != after {
            self.keep_all(&given);
        }
        Ok((result, change))
    }

    fn keep(&self) {
        self.keep_all(&self.given());
    }

    fn keep_all(&self, given: &Allocator) {
        if let Some(cpus) = &given.cpus {
            keep(&self.cpu_record, &cpus.state().write(CPU_POLICY));
        }
        if let Some(memory) = &given.memory {
            keep(&self.memory_record, &memory.record(MEMORY_POLICY));
        }
    }
}

fn keep(record: &Path, text: &str) {
    let fresh = record.with_extension("new");
    let kept = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, record));
    if let Err(error) = kept {
        tracing::warn!(path = %record.display(), %error, "who has what is not kept");
    }
}

/// What a change means for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// They share other processors now.
    Shared,
}

fn cpus(config: &Config, system: &Path, record: &Path) -> Result<Static, String> {
    let topology = machine::topology(system);
    let reserved = config.reserved().of("cpu").milli();
    let count = usize::try_from((reserved + 999) / 1000).unwrap_or(0);
    let options = config.cpu_manager_policy_options;
    let mut given = Static::new(topology, &config.reserved_system_cpus, count, options)?;
    if let Ok(text) = fs::read_to_string(record) {
        let state =
            State::read(&text, CPU_POLICY).map_err(|error| format!("{}: {error}", record.display()))?;
        given.restore(state).map_err(|error| format!("{}: {error}", record.display()))?;
    }
    Ok(given)
}

fn restored(mut memory: Memory, record: &Path) -> Result<Memory, String> {
    if let Ok(text) = fs::read_to_string(record) {
        let known = Record::read(&text, MEMORY_POLICY);
        let known = known.map_err(|error| format!("could not restore state from checkpoint: {error}, please drain this node and delete the memory manager checkpoint file {:?} before restarting Kubelet", record.display()))?;
        memory.restore(known)?;
    }
    Ok(memory)
}

/// Tells every container without processors of its own which ones there are for all.
pub(crate) async fn share(agent: Arc<Agent>) {
    let _turn = agent.placement.telling.lock().await;
    let Ok(containers) = agent.engine.containers(None).await else { return };
    let running = containers.into_iter().filter(|it| it.state == v1::ContainerState::ContainerRunning as i32);
    for container in running {
        let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
        let cpuset_cpus =
            agent.placement.cpus(&label(plimsoll_cri::POD_UID), &label(plimsoll_cri::CONTAINER_NAME));
        let linux = v1::LinuxContainerResources { cpuset_cpus, ..v1::LinuxContainerResources::default() };
        if let Err(error) = agent.engine.update_container(&container.id, linux).await {
            tracing::warn!(container = container.id, %error, "the container keeps its processors");
        }
    }
}

//! Processors of containers: the machine's topology, the record of who has which, and the engine that is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_podlife::placement::{CpuSet, Place, Refused, State, Static, Topology};

use crate::agent::Agent;
use crate::config::{Config, CpuManagerPolicy};

/// The policy's name in the record.
const STATIC: &str = "static";

/// Who has which processors; nobody any of his own under the policy `none`.
pub(crate) struct Placement {
    given: Option<Mutex<Static>>,
    record: PathBuf,
    /// Held while containers are told what they share, so that the last word is the newest.
    telling: tokio::sync::Mutex<()>,
}

impl Placement {
    /// Goes on where another agent of the same settings ended.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let record = config.data_dir.join("cpu_manager_state");
        let given = match config.cpu_manager_policy {
            CpuManagerPolicy::None => None,
            CpuManagerPolicy::Static => Some(Mutex::new(given(config, &record)?)),
        };
        let placement = Self { given, record, telling: tokio::sync::Mutex::default() };
        placement.keep();
        Ok(placement)
    }

    pub(crate) fn is_static(&self) -> bool {
        self.given.is_some()
    }

    /// Gives a pod what it asks for.
    pub(crate) fn admit(&self, pod: &Pod) -> Result<Change, Refused> {
        let Some(given) = &self.given else { return Ok(Change::None) };
        let change = change(given, |given| given.admit(pod))?;
        self.keep_if(change)
    }

    /// Takes back what a pod had.
    pub(crate) fn release(&self, uid: &str) -> Change {
        let Some(given) = &self.given else { return Change::None };
        let released = change(given, |given| {
            given.release(uid);
            Ok(())
        });
        released.and_then(|change| self.keep_if(change)).unwrap_or(Change::None)
    }

    /// Takes back what pods had that are not there any more.
    pub(crate) fn forget(&self, is_there: impl Fn(&str) -> bool) {
        let Some(given) = &self.given else { return };
        let entries: Vec<String> = {
            let given = given.lock().unwrap_or_else(PoisonError::into_inner);
            given.state().entries.keys().filter(|uid| !is_there(uid)).cloned().collect()
        };
        for uid in entries {
            self.release(&uid);
        }
    }

    /// The processors that a container may use, as control groups take them; empty for all.
    pub(crate) fn cpus(&self, uid: &str, container: &str) -> String {
        let Some(given) = &self.given else { return String::new() };
        let given = given.lock().unwrap_or_else(PoisonError::into_inner);
        given.own(uid, container).unwrap_or_else(|| given.shared()).to_string()
    }

    /// Whether a container has processors of its own.
    pub(crate) fn is_own(&self, uid: &str, container: &str) -> bool {
        let Some(given) = &self.given else { return false };
        given.lock().unwrap_or_else(PoisonError::into_inner).own(uid, container).is_some()
    }

    /// Whether anything of a pod has processors of its own.
    pub(crate) fn has_own(&self, uid: &str) -> bool {
        let Some(given) = &self.given else { return false };
        given.lock().unwrap_or_else(PoisonError::into_inner).has_own(uid)
    }

    fn keep_if(&self, change: Change) -> Result<Change, Refused> {
        if change == Change::Shared {
            self.keep();
        }
        Ok(change)
    }

    fn keep(&self) {
        let Some(given) = &self.given else { return };
        let text = given.lock().unwrap_or_else(PoisonError::into_inner).state().write(STATIC);
        let fresh = self.record.with_extension("new");
        let kept = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.record));
        if let Err(error) = kept {
            tracing::warn!(path = %self.record.display(), %error, "who has which processors is not kept");
        }
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

fn change(
    given: &Mutex<Static>,
    act: impl FnOnce(&mut Static) -> Result<(), Refused>,
) -> Result<Change, Refused> {
    let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
    let before = given.state().clone();
    act(&mut given)?;
    Ok(if *given.state() == before { Change::None } else { Change::Shared })
}

fn given(config: &Config, record: &Path) -> Result<Static, String> {
    let topology = topology(Path::new("/sys/devices/system"));
    let reserved = config.reserved().of("cpu").milli();
    let count = usize::try_from((reserved + 999) / 1000).unwrap_or(0);
    let keeping = (config.topology_manager_policy, config.topology_manager_scope);
    let options = config.cpu_manager_policy_options;
    let mut given = Static::new(topology, &config.reserved_system_cpus, count, options, keeping)?;
    if let Ok(text) = fs::read_to_string(record) {
        let state = State::read(&text, STATIC).map_err(|error| format!("{}: {error}", record.display()))?;
        given.restore(state).map_err(|error| format!("{}: {error}", record.display()))?;
    }
    Ok(given)
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

/// How processors hang together, from the files of the kernel below `system`.
fn topology(system: &Path) -> Topology {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let online: CpuSet = read(system.join("cpu/online")).parse().unwrap_or_default();
    let nodes: CpuSet = read(system.join("node/online")).parse().unwrap_or_default();
    let cpus_of = |node: u32| -> CpuSet {
        read(system.join(format!("node/node{node}/cpulist"))).parse().unwrap_or_default()
    };
    let nodes: Vec<(u32, CpuSet)> = nodes.iter().map(|node| (node, cpus_of(node))).collect();
    let place = |cpu: u32| {
        let folder = system.join(format!("cpu/cpu{cpu}/topology"));
        let siblings: CpuSet = read(folder.join("thread_siblings_list")).parse().unwrap_or_default();
        Place {
            // The first of its threads: numbers of cores repeat in each socket.
            core: siblings.iter().next().unwrap_or(cpu),
            socket: read(folder.join("physical_package_id")).parse().unwrap_or(0),
            node: nodes.iter().find(|(_, cpus)| cpus.contains(cpu)).map_or(0, |(node, _)| *node),
        }
    };
    Topology::new(online.iter().map(|cpu| (cpu, place(cpu))).collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_processors_hang_together() {
        let temp = tempfile::tempdir().unwrap();
        let put = |file: String, text: &str| {
            let path = temp.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("cpu/online".into(), "0-3\n");
        put("node/online".into(), "0-1\n");
        for (node, cpus) in [(0, "0,2\n"), (1, "1,3\n")] {
            put(format!("node/node{node}/cpulist"), cpus);
        }
        for (cpu, siblings, socket) in [(0, "0,2", "0"), (1, "1,3", "1"), (2, "0,2", "0"), (3, "1,3", "1")] {
            put(format!("cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
            put(format!("cpu/cpu{cpu}/topology/physical_package_id"), socket);
        }
        let place = |core, socket| Place { core, socket, node: socket };
        let places = [(0, place(0, 0)), (1, place(1, 1)), (2, place(0, 0)), (3, place(1, 1))];
        assert_eq!(topology(temp.path()), Topology::new(places.into()));
    }
}

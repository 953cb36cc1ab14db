//! The static policy: guaranteed pods that ask for whole processors get them for themselves
//! (kubelet: pkg/kubelet/cm/cpumanager/policy_static.go).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::choice::{Filling, combinations, packed, spread};
use super::hints::{Hint, Hints, Policy};
use super::{CpuSet, Refused, State, Topology, pinned, truth};
use crate::qos::amount;
use crate::spec::is_sidecar;

/// The resource of hints.
const CPU: &str = "cpu";

const FULL_CORES: &str = "full-pcpus-only";
const SPREAD: &str = "distribute-cpus-across-numa";
const BY_SOCKET: &str = "align-by-socket";
const ACROSS_CORES: &str = "distribute-cpus-across-cores";
const BY_CACHE: &str = "prefer-align-cpus-by-uncorecache";

/// What `cpuManagerPolicyOptions` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `full-pcpus-only`: no core is shared by two containers.
    pub full_cores: bool,
    /// `distribute-cpus-across-numa`: of several memory nodes each gives as many.
    pub spread: bool,
    /// `align-by-socket`: memory nodes of one socket are as good as one.
    pub by_socket: bool,
    /// `strict-cpu-reservation`: nobody gets reserved processors.
    pub strict: bool,
    /// `distribute-cpus-across-cores`: threads of one core go to different containers, if that is possible.
    pub across_cores: bool,
    /// `prefer-align-cpus-by-uncorecache`: what shares a cache goes to one container, if that is possible.
    pub by_cache: bool,
}

impl Options {
    /// Reads options by their names; some need the feature `CPUManagerPolicyAlphaOptions`
    /// (kubelet: pkg/kubelet/cm/cpumanager/policy_options.go).
    ///
    /// # Errors
    /// An option that there is not, a value that is neither true nor false, or options that exclude each other.
    pub fn parse(given: &BTreeMap<String, String>, alpha: bool) -> Result<Self, String> {
        let mut it = Self::default();
        for (name, value) in given {
            let option = match name.as_str() {
                FULL_CORES => &mut it.full_cores,
                SPREAD => &mut it.spread,
                "strict-cpu-reservation" => &mut it.strict,
                BY_CACHE => &mut it.by_cache,
                BY_SOCKET | ACROSS_CORES if !alpha => {
                    return Err(format!(
                        "CPU Manager Policy Alpha-level Options not enabled, but option {name:?} provided"
                    ));
                }
                BY_SOCKET => &mut it.by_socket,
                ACROSS_CORES => &mut it.across_cores,
                _ => return Err(format!("unknown CPU Manager Policy option: {name:?}")),
            };
            *option = truth(name, value)?;
        }
        let pairs = [
            ((it.full_cores, FULL_CORES), (it.across_cores, ACROSS_CORES)),
            ((it.spread, SPREAD), (it.across_cores, ACROSS_CORES)),
            ((it.by_cache, BY_CACHE), (it.across_cores, ACROSS_CORES)),
            ((it.by_cache, BY_CACHE), (it.spread, SPREAD)),
        ];
        match pairs.into_iter().find(|(one, other)| one.0 && other.0) {
            Some(((_, one), (_, other))) => {
                Err(format!("static policy options {one} and {other} can not be used at the same time"))
            }
            None => Ok(it),
        }
    }

    /// Takes `count` of the processors that are `available`.
    fn take(self, topology: &Topology, available: &CpuSet, count: usize) -> Result<CpuSet, Refused> {
        let filling = match self {
            Self { across_cores: true, .. } => Filling::Threads,
            Self { by_cache: true, .. } => Filling::Caches,
            _ => Filling::Cores,
        };
        if self.spread {
            let group = if self.full_cores { topology.cpus_per_core() } else { 1 };
            return spread(topology, available, count, group.max(1), filling);
        }
        packed(topology, available, count, filling)
    }
}

/// The processors of a node and who has them.
#[derive(Clone, Debug)]
pub struct Static {
    topology: Topology,
    reserved: CpuSet,
    options: Options,
    state: State,
    /// What init containers of a pod leave to the containers after them.
    reusable: BTreeMap<String, CpuSet>,
}

impl Static {
    /// A node of which nobody has anything. `reserved` are processors that are named, or `count` of them to be
    /// chosen.
    ///
    /// # Errors
    /// Nothing is reserved: somebody has to run what is not a pod's.
    pub fn new(
        topology: Topology,
        reserved: &CpuSet,
        count: usize,
        options: Options,
    ) -> Result<Self, String> {
        let reserved = match reserved.is_empty() {
            true => options.take(&topology, &topology.cpus(), count).map_err(|error| error.to_string())?,
            false => reserved.clone(),
        };
        if reserved.is_empty() {
            let problem = "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero";
            return Err(problem.to_owned());
        }
        let all = topology.cpus();
        let shared = if options.strict { all.difference(&reserved) } else { all };
        let state = State { shared, entries: BTreeMap::new() };
        Ok(Self { topology, reserved, options, state, reusable: BTreeMap::new() })
    }

    /// Goes on with what an agent before this one wrote.
    ///
    /// # Errors
    /// The machine is another, or other processors are reserved.
    pub fn restore(&mut self, state: State) -> Result<(), String> {
        let all = self.topology.cpus();
        let own = state.entries.values().flat_map(BTreeMap::values);
        let known = own.fold(state.shared.clone(), |all, own| all.union(own));
        let expected = if self.options.strict { all.difference(&self.reserved) } else { all };
        if !self.options.strict && !self.reserved.is_subset(&state.shared) {
            return Err(format!(
                "not all reserved cpus: \"{}\" are present in defaultCpuSet: \"{}\"",
                self.reserved, state.shared
            ));
        }
        if known != expected {
            return Err(format!(
                "current set of available CPUs \"{expected}\" doesn't match with CPUs in state \"{known}\""
            ));
        }
        self.state = state;
        Ok(())
    }

    /// What is to be kept.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The processors that containers share that have none of their own.
    #[must_use]
    pub fn shared(&self) -> &CpuSet {
        &self.state.shared
    }

    /// The processors that can be given to containers alone.
    #[must_use]
    pub fn allocatable(&self) -> CpuSet {
        self.topology.cpus().difference(&self.reserved)
    }

    /// The processors of a container alone.
    #[must_use]
    pub fn own(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.state.entries.get(uid)?.get(container)
    }

    /// Whether no core is shared by two containers.
    pub(super) fn keeps_cores(&self) -> bool {
        self.options.full_cores
    }

    /// Whether the processors of a container share one cache.
    pub(super) fn shares_cache(&self, uid: &str, container: &str) -> bool {
        let own = self.own(uid, container);
        own.is_some_and(|own| self.topology.group(own, |place| place.cache).len() <= 1)
    }

    /// How many processors of each memory node are containers' own.
    #[must_use]
    pub fn own_by_node(&self) -> BTreeMap<u32, usize> {
        let all = self.state.entries.values().flat_map(BTreeMap::values);
        let own = all.fold(CpuSet::default(), |all, own| all.union(own));
        let of = |node: u32| (node, self.topology.cpus_of(&[node].into()).intersection(&own).len());
        self.topology.nodes().into_iter().map(of).collect()
    }

    /// Whether the pod has processors of its own.
    #[must_use]
    pub fn has_own(&self, uid: &str) -> bool {
        self.state.entries.contains_key(uid)
    }

    /// Takes back what a pod had.
    pub fn release(&mut self, uid: &str) {
        self.reusable.remove(uid);
        let Some(own) = self.state.entries.remove(uid) else { return };
        let freed = own.values().fold(CpuSet::default(), |all, own| all.union(own));
        self.state.shared = self.state.shared.union(&freed);
    }

    /// Takes back what a container had and none of its pod has after it.
    pub fn release_container(&mut self, uid: &str, container: &str) {
        let Some(own) = self.state.entries.get_mut(uid) else { return };
        let Some(freed) = own.remove(container) else { return };
        let kept = own.values().fold(CpuSet::default(), |all, own| all.union(own));
        if own.is_empty() {
            self.state.entries.remove(uid);
        }
        self.state.shared = self.state.shared.union(&freed.difference(&kept));
    }

    /// Gives a container the processors that it asks for, on the memory nodes of the hint as far as they have any.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn allocate(
        &mut self,
        uid: &str,
        spec: &PodSpec,
        container: &Container,
        hint: &Hint,
    ) -> Result<(), Refused> {
        let Some(count) = whole_cpus(spec, container) else { return Ok(()) };
        if self.own(uid, &container.name).is_some() {
            return Ok(());
        }
        let leaves =
            spec.init_containers.iter().flatten().any(|it| it.name == container.name && !is_sidecar(it));
        let nodes = hint.nodes.as_ref();
        let reusable = self.reusable.get(uid).cloned().unwrap_or_default();
        let free = self.free().union(&reusable);
        if self.options.full_cores {
            self.check_cores(count, &free)?;
        }
        let near = nodes.map(|nodes| self.near(nodes).intersection(&free)).unwrap_or_default();
        let take = |from: &CpuSet, count: usize| self.options.take(&self.topology, from, count);
        let mut taken = take(&near, count.min(near.len()))?;
        if taken.len() < count {
            let rest = take(&free.difference(&taken), count - taken.len());
            let rest = rest.map_err(|_| Refused::TooFew { requested: count, available: free.len() })?;
            taken = taken.union(&rest);
        }
        self.state.shared = self.state.shared.difference(&taken);
        let kept = if leaves { reusable.union(&taken) } else { reusable.difference(&taken) };
        self.reusable.insert(uid.to_owned(), kept);
        self.state.entries.entry(uid.to_owned()).or_default().insert(container.name.clone(), taken);
        Ok(())
    }

    /// The processors of some memory nodes, or of the sockets of these.
    fn near(&self, nodes: &BTreeSet<u32>) -> CpuSet {
        match self.options.by_socket {
            true => self.topology.cpus_of_sockets(nodes),
            false => self.topology.cpus_of(nodes),
        }
    }

    /// Whether its options suit the machine and how strictly things are kept together.
    ///
    /// # Errors
    /// They do not.
    pub(super) fn check(&self, keeping: Policy) -> Result<(), String> {
        if !self.options.by_socket {
            return Ok(());
        }
        if keeping == Policy::SingleNode {
            // Upstream's word, as users search for it.
            return Err(format!(
                "Topolgy manager single-numa-node policy is incompatible with CPUManager {BY_SOCKET} policy option"
            ));
        }
        if self.topology.has_sockets_within_nodes() {
            let problem = "Align by socket is not compatible with hardware where number of sockets are more than number of NUMA";
            return Err(problem.to_owned());
        }
        Ok(())
    }

    /// Processors that can be given.
    fn free(&self) -> CpuSet {
        self.state.shared.difference(&self.reserved)
    }

    fn check_cores(&self, requested: usize, free: &CpuSet) -> Result<(), Refused> {
        let per_core = self.topology.cpus_per_core().max(1);
        if !requested.is_multiple_of(per_core) {
            return Err(Refused::PartOfCore { requested, per_core });
        }
        let cores = self.topology.group(&self.topology.cpus(), |place| place.core);
        let whole = cores.values().filter(|core| core.is_subset(free)).map(CpuSet::len);
        let available: usize = whole.sum();
        if available < requested {
            return Err(Refused::TooFewCores { available, requested, per_core });
        }
        Ok(())
    }

    /// Where a container's processors could be.
    #[must_use]
    pub fn hints_of(&self, uid: &str, spec: &PodSpec, container: &Container) -> Hints {
        let count = whole_cpus(spec, container);
        count.map(|count| self.hints(uid, count)).unwrap_or_default()
    }

    /// Where those of a pod as a whole could be: as many as are needed at once.
    #[must_use]
    pub fn hints_of_pod(&self, uid: &str, spec: &PodSpec) -> Hints {
        let of = |container: &Container| whole_cpus(spec, container).unwrap_or(0);
        let (mut sidecars, mut peak) = (0, 0);
        for container in spec.init_containers.iter().flatten() {
            if is_sidecar(container) {
                sidecars += of(container);
            } else {
                peak = peak.max(sidecars + of(container));
            }
        }
        let count = peak.max(sidecars + spec.containers.iter().map(of).sum::<usize>());
        if count == 0 { Hints::new() } else { self.hints(uid, count) }
    }

    fn hints(&self, uid: &str, count: usize) -> Hints {
        let reusable = self.reusable.get(uid).cloned().unwrap_or_default();
        let free = self.free().union(&reusable);
        let nodes = self.topology.nodes();
        let mut least = nodes.len();
        let mut found = Vec::new();
        for size in 1..=nodes.len() {
            for combination in combinations(&nodes, size) {
                let combination: BTreeSet<u32> = combination.into_iter().collect();
                let here = self.topology.cpus_of(&combination);
                if here.len() >= count {
                    least = least.min(size);
                }
                if reusable.is_subset(&here) && here.intersection(&free).len() >= count {
                    found.push(combination);
                }
            }
        }
        let hint = |nodes: BTreeSet<u32>| {
            let preferred = match self.options.by_socket {
                true => {
                    let sockets = self.topology.sockets_of(&nodes).len();
                    nodes.len() == least || sockets <= self.sockets_for(count)
                }
                false => nodes.len() == least,
            };
            Hint { nodes: Some(nodes), preferred }
        };
        Hints::from([(CPU.to_owned(), Some(found.into_iter().map(hint).collect()))])
    }

    /// How many sockets are needed at least for as many processors.
    fn sockets_for(&self, count: usize) -> usize {
        let sockets = self.topology.group(&self.topology.cpus(), |place| place.socket);
        let largest = sockets.values().map(CpuSet::len).max().unwrap_or(1);
        count.div_ceil(largest.max(1))
    }
}

/// How many processors a container gets for itself: those of guaranteed pods that ask for whole ones.
#[must_use]
pub fn whole_cpus(spec: &PodSpec, container: &Container) -> Option<usize> {
    if !pinned(spec) {
        return None;
    }
    let resources = container.resources.as_ref()?;
    let request =
        amount(resources.requests.as_ref(), CPU).or_else(|| amount(resources.limits.as_ref(), CPU))?;
    let milli = request.milli();
    let whole = milli > 0 && milli % 1000 == 0;
    usize::try_from(milli / 1000).ok().filter(|_| whole)
}

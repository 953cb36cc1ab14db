//! What is told of processors and memory that containers have for themselves.

use std::collections::BTreeMap;

use plimsoll_podlife::placement::Tally;
use plimsoll_podlife::placement::hints::Scope;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Who has what now, and how often something was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) tally: Tally,
    pub(crate) scope: Scope,
    /// Thousandths of processors that all share.
    pub(crate) shared: i64,
    /// Processors that containers have for themselves, by memory node.
    pub(crate) exclusive: BTreeMap<u32, i64>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Aligned {
    boundary: &'static str,
    scope: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Node {
    numa_node: u32,
}

impl Placed {
    /// Adds the series to those of the agent.
    pub(super) fn register(&self, all: &mut Registry) {
        let Tally { cpu_requests, cpu_errors, memory_requests, memory_errors, apart, .. } = self.tally;
        for (name, help, value) in [
            (
                "cpu_manager_pinning_requests",
                "[ALPHA] The number of cpu core allocations which required pinning.",
                cpu_requests,
            ),
            (
                "cpu_manager_pinning_errors",
                "[ALPHA] The number of cpu core allocations which required pinning failed.",
                cpu_errors,
            ),
            (
                "memory_manager_pinning_requests",
                "[ALPHA] The number of memory pages allocations which required pinning.",
                memory_requests,
            ),
            (
                "memory_manager_pinning_errors",
                "[ALPHA] The number of memory pages allocations which required pinning that failed.",
                memory_errors,
            ),
            (
                "topology_manager_admission_errors",
                "[ALPHA] The number of admission request failures where resources could not be aligned.",
                apart,
            ),
        ] {
            let counter: Counter = Counter::default();
            counter.inc_by(value);
            all.register(name, help, counter);
        }
        self.register_aligned(all);
        self.register_cpus(all);
    }

    fn register_aligned(&self, all: &mut Registry) {
        let Tally { apart, on_one_node, whole_cores, parted_cores, one_cache, .. } = self.tally;
        let here = |scope, value| if scope == self.scope { value } else { 0 };
        let (container, pod) = (Scope::Container, Scope::Pod);
        let aligned = [
            ("numa_node", "container", here(container, on_one_node)),
            ("numa_node", "pod", here(pod, on_one_node)),
            ("physical_cpu", "container", whole_cores),
            ("uncore_cache", "container", one_cache),
        ];
        let failed = [
            ("numa_node", "container", here(container, apart)),
            ("numa_node", "pod", here(pod, apart)),
            ("physical_cpu", "container", parted_cores),
        ];
        for (name, help, rows) in [
            (
                "container_aligned_compute_resources_count",
                "[ALPHA] Cumulative number of aligned compute resources allocated to containers by alignment type.",
                aligned.as_slice(),
            ),
            (
                "container_aligned_compute_resources_failure_count",
                "[ALPHA] Cumulative number of failures to allocate aligned compute resources to containers by alignment type.",
                failed.as_slice(),
            ),
        ] {
            let counters: Family<Aligned, Counter> = Family::default();
            for (boundary, scope, value) in rows {
                counters.get_or_create_owned(&Aligned { boundary, scope }).inc_by(*value);
            }
            all.register(name, help, counters);
        }
    }

    fn register_cpus(&self, all: &mut Registry) {
        let (shared, exclusive): (Gauge, Gauge) = Default::default();
        shared.set(self.shared);
        exclusive.set(self.exclusive.values().sum());
        let by_node: Family<Node, Gauge> = Family::default();
        for (numa_node, count) in &self.exclusive {
            by_node.get_or_create(&Node { numa_node: *numa_node }).set(*count);
        }
        all.register(
            "cpu_manager_shared_pool_size_millicores",
            "[ALPHA] The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
            shared,
        );
        all.register(
            "cpu_manager_exclusive_cpu_allocation_count",
            "[ALPHA] The total number of CPUs exclusively allocated to containers running on this node",
            exclusive,
        );
        all.register(
            "cpu_manager_allocation_per_numa",
            "[ALPHA] Number of CPUs allocated per NUMA node",
            by_node,
        );
    }
}

//! Requests and limits to control group values.

use plimsoll_cri::v1::LinuxContainerResources;
use plimsoll_kernel::cgroup::{DeviceRule, Limits};

/// The limits of a new container; zero means that nothing was asked for.
pub(crate) fn limits(resources: &LinuxContainerResources, devices: Vec<DeviceRule>) -> Limits {
    Limits { devices: Some(devices), ..update(resources) }
}

/// The limits to change of a running container.
pub(crate) fn update(resources: &LinuxContainerResources) -> Limits {
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    let memory = some(resources.memory_limit_in_bytes);
    Limits {
        cpu_shares: positive(resources.cpu_shares),
        cpu_quota: some(resources.cpu_quota),
        cpu_period: positive(resources.cpu_period),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        memory,
        // Without another word a container may not swap.
        memory_swap: some(resources.memory_swap_limit_in_bytes).or(memory),
        pids: None,
        hugepages: resources
            .hugepage_limits
            .iter()
            .map(|limit| (limit.page_size.clone(), limit.limit))
            .collect(),
        devices: None,
        unified: resources.unified.clone().into_iter().collect(),
    }
}

/// Takes over what `change` sets; the rest stays as it was asked for before.
pub(crate) fn merge(resources: &mut LinuxContainerResources, change: &LinuxContainerResources) {
    let put = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    put(&mut resources.cpu_period, change.cpu_period);
    put(&mut resources.cpu_quota, change.cpu_quota);
    put(&mut resources.cpu_shares, change.cpu_shares);
    put(&mut resources.memory_limit_in_bytes, change.memory_limit_in_bytes);
    put(&mut resources.memory_swap_limit_in_bytes, change.memory_swap_limit_in_bytes);
    put(&mut resources.oom_score_adj, change.oom_score_adj);
    if !change.cpuset_cpus.is_empty() {
        resources.cpuset_cpus.clone_from(&change.cpuset_cpus);
    }
    if !change.cpuset_mems.is_empty() {
        resources.cpuset_mems.clone_from(&change.cpuset_mems);
    }
    resources.unified.extend(change.unified.clone());
}

//! The order in which control groups change
//! (kubelet: pkg/kubelet/kuberuntime/kuberuntime_manager.go, `doPodResizeAction`).

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::cgroup::{Machine, Values, container, pod};

/// Whose group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// That of the pod.
    Pod,
    /// That of a run.
    Run {
        /// The container's name.
        name: String,
        /// The run.
        id: String,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose group.
    pub target: Target,
    /// What is written; -1 lifts a limit.
    pub values: Values,
    /// The limit of memory that is lowered to this must not be below what is in use.
    pub lowers_memory: bool,
}

/// The changes that lead from `before` to `after`, memory first: the pod's group grows before the groups in it
/// and shrinks after them; those that shrink make room for those that grow. `runs` are the containers that run
/// and are not restarted for it, with their ids.
#[must_use]
pub fn steps(before: &PodSpec, after: &PodSpec, runs: &[(String, String)], machine: &Machine) -> Vec<Step> {
    let whole = (pod(before, machine), pod(after, machine));
    let find = |spec: &PodSpec, name: &str| -> Option<Container> {
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.into_iter().find(|container| container.name == name).cloned()
    };
    let parts: Vec<_> = runs
        .iter()
        .filter_map(|(name, id)| {
            let values = |spec| Some(container(spec, &find(spec, name)?, machine));
            let target = Target::Run { name: name.clone(), id: id.clone() };
            Some((target, values(before)?, values(after)?))
        })
        .collect();
    let mut steps = Vec::new();
    for part in [memory as Part, processors as Part] {
        let mut inner: Vec<_> =
            parts.iter().filter_map(|(target, old, new)| part(target, old, new)).collect();
        // Stable: among each other they stay in the order of the pod.
        inner.sort_by_key(|(grows, _)| *grows);
        let outer = part(&Target::Pod, &whole.0, &whole.1);
        let (first, last) = match outer {
            Some((true, step)) => (Some(step), None),
            Some((false, step)) => (None, Some(step)),
            None => (None, None),
        };
        steps.extend(first);
        steps.extend(inner.into_iter().map(|(_, step)| step));
        steps.extend(last);
    }
    steps
}

/// A step and whether it makes the group larger; none when nothing changes.
type Part = fn(&Target, &Values, &Values) -> Option<(bool, Step)>;

/// Limits without a number are the largest.
fn grows(old: Option<i64>, new: Option<i64>) -> bool {
    new.unwrap_or(i64::MAX) > old.unwrap_or(i64::MAX)
}

fn memory(target: &Target, old: &Values, new: &Values) -> Option<(bool, Step)> {
    let files = |values: &Values| {
        let own = values.unified.iter().filter(|(file, _)| file.starts_with("memory."));
        own.map(|(file, value)| (file.clone(), value.clone())).collect()
    };
    if old.memory == new.memory && old.unified == new.unified {
        return None;
    }
    let values = Values { memory: Some(new.memory.unwrap_or(-1)), unified: files(new), ..Values::default() };
    let grows = grows(old.memory, new.memory);
    let lowers_memory = !grows && old.memory != new.memory;
    Some((grows, Step { target: target.clone(), values, lowers_memory }))
}

fn processors(target: &Target, old: &Values, new: &Values) -> Option<(bool, Step)> {
    if (old.shares, old.quota) == (new.shares, new.quota) {
        return None;
    }
    let quota = match (old.quota, new.quota) {
        (Some(_), None) => Some(-1),
        (_, new) => new,
    };
    let values = Values { shares: new.shares, quota, period: new.period.or(old.period), ..Values::default() };
    Some((grows(old.quota, new.quota), Step { target: target.clone(), values, lowers_memory: false }))
}

//! What is written into control groups, and where (kubelet: pkg/kubelet/cm/helpers_linux.go and
//! pkg/kubelet/kuberuntime/kuberuntime_container_linux.go).
//!
//! What enters: pods as they were admitted, and what the machine and its settings are ([`Machine`]). What
//! leaves: names of groups for both drivers ([`name`]), values of pods and containers ([`pod`],
//! [`container`]), of the classes and of all pods together ([`class`]), and of what is reserved
//! ([`reserved`]).

pub mod class;
mod memory;
pub mod name;
pub mod reserved;
mod sum;
pub mod swap;
pub mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use crate::qos::{Class, amount};
use sum::limit_sum;
pub use sum::{limit_total, request_sum};

/// The usual period in which a quota counts, in microseconds.
pub const PERIOD: i64 = 100_000;
const SHARES_PER_CPU: i64 = 1024;
/// The least weight.
pub const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
const LEAST_QUOTA: i64 = 1000;

/// Which interface the kernel offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// A tree for each controller.
    #[default]
    V1,
    /// One tree for all.
    V2,
}

/// What memory requests protect on version 2 (`memoryReservationPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reservation {
    /// Nothing.
    #[default]
    None,
    /// Guaranteed pods firmly (`memory.min`), burstable pods as long as it goes (`memory.low`).
    Tiered,
}

/// Whether containers may swap (`memorySwap.swapBehavior`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swap {
    /// None of them.
    #[default]
    No,
    /// Those of burstable pods, in proportion to the memory they ask for.
    Limited,
}

/// Who dies when a container has used up its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Victims {
    /// The process that the kernel chooses.
    #[default]
    One,
    /// Every process of the container; only version 2 can do that.
    All,
}

impl Victims {
    /// What `singleProcessOOMKill` says; where it says nothing, whatever the kernel can do to leave no half of a
    /// container running.
    #[must_use]
    pub fn of(single: Option<bool>, version: Version) -> Self {
        if single.unwrap_or(version == Version::V1) { Self::One } else { Self::All }
    }
}

/// The machine, and the settings that decide about values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// The interface.
    pub version: Version,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of swap.
    pub swap: i64,
    /// Bytes of memory that pods may ask for.
    pub allocatable: i64,
    /// Sizes of huge pages that the kernel knows, as its files name them (`2MB`).
    pub page_sizes: Vec<String>,
    /// The period of quotas in microseconds; without one, limits of processors are not enforced.
    pub period: Option<i64>,
    /// How many tasks a pod may have.
    pub pids: Option<i64>,
    /// Up to which part of the way from request to limit a container is not slowed down
    /// (`memoryThrottlingFactor`).
    pub throttling: Option<f64>,
    /// What requests protect.
    pub reservation: Reservation,
    /// Who may swap.
    pub swapping: Swap,
    /// Who dies for memory.
    pub victims: Victims,
}

/// What a cgroup gets; absent values are left as the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Relative weight of processor time, in the scale of cgroup v1.
    pub shares: Option<i64>,
    /// Microseconds of processor time in each [`Values::period`].
    pub quota: Option<i64>,
    /// The period of the quota.
    pub period: Option<i64>,
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Tasks.
    pub pids: Option<i64>,
    /// Bytes of huge pages by page size (`2MB`).
    pub huge_pages: BTreeMap<String, i64>,
    /// Files of version 2 and what is written into them.
    pub unified: BTreeMap<String, String>,
}

impl Values {
    fn with_quota(mut self, milli: Option<i64>, machine: &Machine) -> Self {
        let period = machine.period;
        self.quota = period.zip(milli).and_then(|(period, milli)| quota(milli, period));
        self.period = self.quota.and(period);
        self
    }
}

/// Weight for a request in thousandths of a processor.
#[must_use]
pub fn shares(milli: i64) -> i64 {
    if milli <= 0 { LEAST_SHARES } else { (milli * SHARES_PER_CPU / 1000).clamp(LEAST_SHARES, MOST_SHARES) }
}

/// Quota for a limit in thousandths of a processor; none for no limit.
#[must_use]
pub fn quota(milli: i64, period: i64) -> Option<i64> {
    (milli > 0).then(|| (milli * period / 1000).max(LEAST_QUOTA))
}

/// The values of a pod's cgroup.
#[must_use]
pub fn pod(spec: &PodSpec, machine: &Machine) -> Values {
    let huge = |name: &str| request_sum(spec, name, |amount| amount.value());
    let common = Values {
        pids: machine.pids,
        huge_pages: all_pages(machine, pages_of_pod(spec).map(|name| (name, huge(name)))),
        unified: memory::of_pod(spec, machine),
        ..Values::default()
    };
    if crate::qos::class(spec) == Class::BestEffort {
        return Values { shares: Some(LEAST_SHARES), ..common };
    }
    let values = Values {
        shares: Some(shares(request_sum(spec, "cpu", |amount| amount.milli()))),
        memory: limit_sum(spec, "memory", |amount| amount.value()),
        ..common
    };
    values.with_quota(limit_sum(spec, "cpu", |amount| amount.milli()), machine)
}

/// The values of a container's cgroup.
#[must_use]
pub fn container(spec: &PodSpec, container: &Container, machine: &Machine) -> Values {
    let none = ResourceRequirements::default();
    let resources = container.resources.as_ref().unwrap_or(&none);
    let (requests, limits) = (resources.requests.as_ref(), resources.limits.as_ref());
    let limit = limit_of(spec, container, "cpu").map(|limit| limit.milli());
    // A limit without a request is also the request.
    let request = amount(requests, "cpu").map(|request| request.milli()).or(limit).unwrap_or(0);
    let memory = limit_of(spec, container, "memory").map(|limit| limit.value());
    let pages = limits.into_iter().flatten().filter(|(name, _)| name.starts_with(HUGE_PAGES));
    let pages = pages.filter_map(|(name, text)| Some((name.as_str(), value(text)?)));
    let mut unified = memory::of_container(spec, container, machine);
    unified.extend(swap::of_container(spec, container, machine));
    if machine.version == Version::V2 && machine.victims == Victims::All {
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    let values = Values {
        shares: Some(shares(request)),
        memory: memory.filter(|bytes| *bytes > 0),
        huge_pages: all_pages(machine, pages),
        unified,
        ..Values::default()
    };
    values.with_quota(limit, machine)
}

/// A container's limit, or that of the pod as a whole.
fn limit_of(spec: &PodSpec, container: &Container, name: &str) -> Option<Quantity> {
    let of = |resources: Option<&ResourceRequirements>| {
        amount(resources?.limits.as_ref(), name).filter(|amount| !amount.is_zero())
    };
    of(container.resources.as_ref()).or_else(|| of(spec.resources.as_ref()))
}

const HUGE_PAGES: &str = "hugepages-";

/// The names of huge pages that anything in the pod asks for.
fn pages_of_pod(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let own = containers.filter_map(|container| container.resources.as_ref());
    let lists = own.chain(spec.resources.as_ref()).flat_map(|it| [&it.requests, &it.limits]);
    let names = lists.flatten().flat_map(|list| list.keys().map(String::as_str));
    names.filter(|name| name.starts_with(HUGE_PAGES))
}

/// What is asked for by page size; sizes that nothing is asked of are closed.
fn all_pages<'a>(machine: &Machine, asked: impl Iterator<Item = (&'a str, i64)>) -> BTreeMap<String, i64> {
    let mut pages: BTreeMap<_, _> = machine.page_sizes.iter().map(|size| (size.clone(), 0)).collect();
    pages.extend(asked.filter_map(|(name, bytes)| Some((page_size(name)?, bytes))));
    pages
}

/// The kernel's name for a size: `hugepages-2Mi` are pages of `2MB`.
fn page_size(resource: &str) -> Option<String> {
    let size = resource.strip_prefix(HUGE_PAGES)?.strip_suffix('i')?;
    Some(format!("{size}B"))
}

fn value(text: &Text) -> Option<i64> {
    Some(text.0.parse::<Quantity>().ok()?.value())
}

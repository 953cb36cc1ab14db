//! The control groups of pods: `kubepods`, its classes, one group for each pod, and those of what is
//! reserved.
//!
//! Names and values are decided in `plimsoll_podlife::cgroup`; here they are written.

mod unit;

use plimsoll_kernel::cgroup::{Cgroup, Error as Refused, Hierarchy, Limits};
use plimsoll_podlife::cgroup::class::{Levels, Sum, made};
use plimsoll_podlife::cgroup::name::{Driver, PODS, of_class, of_pod};
use plimsoll_podlife::cgroup::reserved::{List, Owner, Settings};
use plimsoll_podlife::cgroup::{Machine, Values, Version, pod};
use plimsoll_podlife::qos::Class;

use k8s_openapi::api::core::v1::PodSpec;

/// Why groups cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not allow it.
    #[error("control groups of pods: {0}")]
    Kernel(#[from] Refused),
    /// A group for what is reserved is not there; it is made by whoever runs in it.
    #[error("failed to enforce {owner} Reserved Cgroup Limits on {path:?}: cgroup {path:?} does not exist")]
    Missing {
        /// `Kube` or `System`.
        owner: &'static str,
        /// The group.
        path: String,
    },
}

/// Where groups are made, and by which rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) driver: Driver,
    /// The group under which that of all pods is made.
    pub(crate) root: String,
    pub(crate) reserved: Settings,
    /// The groups of what is reserved.
    pub(crate) kube_group: String,
    pub(crate) system_group: String,
}

/// The part of the hierarchy that belongs to pods.
#[derive(Clone)]
pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    driver: Driver,
    /// The names of the group of all pods, from the root down.
    root: Vec<String>,
    rules: Machine,
}

impl Cgroups {
    /// Makes the groups of the classes and limits all pods together to what is not reserved.
    pub(crate) fn new(
        hierarchy: Hierarchy,
        plan: &Plan,
        capacity: &List,
        rules: Machine,
    ) -> Result<Self, Error> {
        let mut root = plan.driver.parse(&plan.root);
        root.push(PODS.to_owned());
        let cgroups = Self { hierarchy, driver: plan.driver, root, rules };
        let whole = cgroups.pods();
        whole.create()?;
        whole.apply(&limits(&plan.reserved.pods(capacity, &cgroups.rules)))?;
        for class in [Class::Burstable, Class::BestEffort] {
            let group = cgroups.class(class);
            group.create()?;
            group.apply(&limits(&made(&cgroups.rules)))?;
        }
        for (owner, values) in plan.reserved.groups(&cgroups.rules) {
            cgroups.reserve(plan, owner, &values)?;
        }
        Ok(cgroups)
    }

    fn reserve(&self, plan: &Plan, owner: Owner, values: &Values) -> Result<(), Error> {
        let (word, path) = match owner {
            Owner::Kube => ("Kube", &plan.kube_group),
            Owner::System => ("System", &plan.system_group),
        };
        let names = self.driver.parse(path);
        let group = self.at(&names);
        if names.is_empty() || !group.exists() {
            return Err(Error::Missing { owner: word, path: path.clone() });
        }
        group.apply(&limits(values))?;
        if self.driver == Driver::Systemd {
            unit::keep(&group, values, self.rules.version);
        }
        Ok(())
    }

    /// What decides about values here.
    pub(crate) fn rules(&self) -> &Machine {
        &self.rules
    }

    /// The path of a pod's group, as the engine takes it.
    pub(crate) fn path(&self, spec: &PodSpec, uid: &str) -> String {
        self.group(spec, uid).path()
    }

    /// Makes a pod's group, or brings it up to date.
    pub(crate) fn make(&self, spec: &PodSpec, uid: &str, rules: &Machine) -> Result<(), Refused> {
        let group = self.group(spec, uid);
        group.create()?;
        group.apply(&limits(&pod(spec, rules)))
    }

    /// Removes a pod's group; what runs in it, nobody knows about any more, and is killed.
    pub(crate) fn remove(&self, spec: &PodSpec, uid: &str) -> Result<(), Refused> {
        remove(&self.group(spec, uid))
    }

    pub(crate) fn group(&self, spec: &PodSpec, uid: &str) -> Cgroup {
        self.at(&[self.root.clone(), of_pod(spec, uid)].concat())
    }

    /// The group of all pods.
    pub(crate) fn pods(&self) -> Cgroup {
        self.at(&self.root)
    }

    /// The group of the whole machine.
    pub(crate) fn machine(&self) -> Cgroup {
        self.hierarchy.group("/")
    }

    fn class(&self, class: Class) -> Cgroup {
        let own = of_class(class).map(str::to_owned);
        self.at(&self.root.iter().cloned().chain(own).collect::<Vec<_>>())
    }

    fn at(&self, names: &[String]) -> Cgroup {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.hierarchy.group(&self.driver.path(&names))
    }

    /// Shares out anew among the classes what pods ask for. Values that were written before (`known`) are not
    /// written again.
    pub(crate) fn weigh(&self, pods: &Sum, known: &mut Option<Levels>) -> Result<(), Refused> {
        let levels = pods.levels(&self.rules);
        if known.as_ref() == Some(&levels) {
            return Ok(());
        }
        self.pods().apply(&limits(&levels.pods))?;
        self.class(Class::Burstable).apply(&limits(&levels.burstable))?;
        *known = Some(levels);
        Ok(())
    }

    /// The groups of pods that nobody knows.
    pub(crate) fn strangers(&self, known: impl Fn(&str) -> bool) -> Vec<Cgroup> {
        let mut strangers = Vec::new();
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let parent = self.class(class);
            let Some(dir) = parent.dir("memory") else { continue };
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let unknown = self.driver.pod_uid(&name).is_some_and(|uid| !known(&uid));
                if unknown && entry.path().is_dir() {
                    strangers.push(self.hierarchy.group(&format!("{}/{name}", parent.path())));
                }
            }
        }
        strangers
    }
}

/// The kernel's version in the words of those who decide.
pub(crate) fn version(hierarchy: &Hierarchy) -> Version {
    match hierarchy.version() {
        plimsoll_kernel::cgroup::Version::V1 => Version::V1,
        plimsoll_kernel::cgroup::Version::V2 => Version::V2,
    }
}

/// Removes groups of pods that are gone.
pub(crate) fn sweep(groups: &[Cgroup]) {
    for group in groups {
        if let Err(error) = remove(group) {
            tracing::warn!(group = group.path(), %error, "control group of a pod that is gone stays");
        }
    }
}

fn remove(group: &Cgroup) -> Result<(), Refused> {
    if !group.exists() {
        return Ok(());
    }
    match group.remove() {
        Err(Refused::Busy(_)) => {
            group.kill_all()?;
            group.remove()
        }
        result => result,
    }
}

pub(crate) fn limits(values: &Values) -> Limits {
    Limits {
        cpu_shares: values.shares.and_then(|shares| u64::try_from(shares).ok()),
        cpu_quota: values.quota,
        cpu_period: values.period.map(i64::unsigned_abs),
        memory: values.memory,
        pids: values.pids,
        hugepages: values
            .huge_pages
            .iter()
            .map(|(size, bytes)| (size.clone(), bytes.unsigned_abs()))
            .collect(),
        unified: values.unified.clone(),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests;

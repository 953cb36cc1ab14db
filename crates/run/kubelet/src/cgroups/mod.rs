//! The control groups of pods: `kubepods`, its classes, one group for each pod.

use plimsoll_kernel::cgroup::{Cgroup, Error, Hierarchy, Limits};
use plimsoll_podlife::cgroup::{PERIOD, Values, pod, pod_path};

use k8s_openapi::api::core::v1::PodSpec;

/// The part of the hierarchy that belongs to pods.
#[derive(Clone)]
pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    root: String,
    pids: Option<i64>,
}

impl Cgroups {
    /// Makes the groups of the classes. `cpu` is in thousandths, `memory` in bytes: what pods may use
    /// together.
    pub(crate) fn new(root: &str, pids: Option<i64>, cpu: i64, memory: i64) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect()?;
        let root = format!("{}/kubepods", root.trim_end_matches('/'));
        let cgroups = Self { hierarchy, root, pids };
        let whole = cgroups.hierarchy.group(&cgroups.root);
        whole.create()?;
        let values = Values {
            shares: Some(plimsoll_podlife::cgroup::shares(cpu)),
            memory: Some(memory),
            ..Values::default()
        };
        whole.apply(&limits(&values))?;
        for class in ["burstable", "besteffort"] {
            let group = cgroups.hierarchy.group(&format!("{}/{class}", cgroups.root));
            group.create()?;
            group.apply(&Limits { cpu_shares: Some(2), ..Limits::default() })?;
        }
        Ok(cgroups)
    }

    /// The path of a pod's group, as the engine takes it.
    pub(crate) fn path(&self, spec: &PodSpec, uid: &str) -> String {
        format!("{}/{}", self.root, pod_path(spec, uid))
    }

    /// Makes a pod's group, or brings it up to date.
    pub(crate) fn make(&self, spec: &PodSpec, uid: &str) -> Result<(), Error> {
        let group = self.group(spec, uid);
        group.create()?;
        group.apply(&limits(&pod(spec, self.pids)))
    }

    /// Removes a pod's group; what runs in it, nobody knows about any more, and is killed.
    pub(crate) fn remove(&self, spec: &PodSpec, uid: &str) -> Result<(), Error> {
        remove(&self.group(spec, uid))
    }

    pub(crate) fn group(&self, spec: &PodSpec, uid: &str) -> Cgroup {
        self.hierarchy.group(&self.path(spec, uid))
    }

    /// The group of all pods.
    pub(crate) fn pods(&self) -> Cgroup {
        self.hierarchy.group(&self.root)
    }

    /// The group of the whole machine.
    pub(crate) fn machine(&self) -> Cgroup {
        self.hierarchy.group("/")
    }

    /// Shares the weight of burstable pods out anew.
    pub(crate) fn weigh_burstable(&self, shares: i64) -> Result<(), Error> {
        let group = self.hierarchy.group(&format!("{}/burstable", self.root));
        group.apply(&Limits { cpu_shares: u64::try_from(shares).ok(), ..Limits::default() })
    }

    /// The groups of pods that nobody knows.
    pub(crate) fn strangers(&self, known: impl Fn(&str) -> bool) -> Vec<Cgroup> {
        let mut strangers = Vec::new();
        for class in ["", "/burstable", "/besteffort"] {
            let parent = format!("{}{class}", self.root);
            let Some(dir) = self.hierarchy.group(&parent).dir("memory") else { continue };
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let unknown = name.strip_prefix("pod").is_some_and(|uid| !known(uid));
                if unknown && entry.path().is_dir() {
                    strangers.push(self.hierarchy.group(&format!("{parent}/{name}")));
                }
            }
        }
        strangers
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

fn remove(group: &Cgroup) -> Result<(), Error> {
    if !group.exists() {
        return Ok(());
    }
    match group.remove() {
        Err(Error::Busy(_)) => {
            group.kill_all()?;
            group.remove()
        }
        result => result,
    }
}

fn limits(values: &Values) -> Limits {
    Limits {
        cpu_shares: values.shares.and_then(|shares| u64::try_from(shares).ok()),
        cpu_quota: values.quota,
        cpu_period: values.quota.map(|_| PERIOD.unsigned_abs()),
        memory: values.memory,
        pids: values.pids,
        ..Limits::default()
    }
}

//! Where groups are: the same tree under the names of two drivers.

use k8s_openapi::api::core::v1::PodSpec;

use crate::qos::{Class, class};

/// The name of the group of all pods.
pub const PODS: &str = "kubepods";

/// Who makes groups, and so what they are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Folders named as they are: `/kubepods/burstable/pod<uid>`.
    #[default]
    Cgroupfs,
    /// Units of systemd: `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice`.
    Systemd,
}

impl Driver {
    /// The word in a KubeletConfiguration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The path of a group, named from the root down.
    ///
    /// A dash parts the levels of a slice, so that one within a name becomes an underscore.
    ///
    /// ```
    /// use plimsoll_podlife::cgroup::name::Driver;
    /// let names = ["kubepods", "pod1-2"];
    /// assert_eq!(Driver::Cgroupfs.path(&names), "/kubepods/pod1-2");
    /// assert_eq!(Driver::Systemd.path(&names), "/kubepods.slice/kubepods-pod1_2.slice");
    /// ```
    #[must_use]
    pub fn path(self, names: &[&str]) -> String {
        match self {
            Self::Cgroupfs => format!("/{}", names.join("/")),
            Self::Systemd => {
                let (mut path, mut unit) = (String::new(), String::new());
                for name in names {
                    let part = name.replace('-', "_");
                    unit = if unit.is_empty() { part } else { format!("{unit}-{part}") };
                    path = format!("{path}/{unit}.slice");
                }
                if path.is_empty() { "/".to_owned() } else { path }
            }
        }
    }

    /// The names, from the root down, of a group that a user wrote: a path, or a slice for systemd.
    #[must_use]
    pub fn parse(self, written: &str) -> Vec<String> {
        let slice = written.rsplit('/').next().and_then(|unit| unit.strip_suffix(".slice"));
        match (self, slice) {
            (Self::Systemd, Some(unit)) => unit.split('-').map(|part| part.replace('_', "-")).collect(),
            _ => written.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        }
    }

    /// The UID of the pod whose group has this name in its parent's folder.
    ///
    /// ```
    /// use plimsoll_podlife::cgroup::name::Driver;
    /// assert_eq!(Driver::Cgroupfs.pod_uid("pod1-2"), Some("1-2".to_owned()));
    /// assert_eq!(Driver::Systemd.pod_uid("kubepods-burstable-pod1_2.slice"), Some("1-2".to_owned()));
    /// assert_eq!(Driver::Systemd.pod_uid("kubepods-burstable.slice"), None);
    /// ```
    #[must_use]
    pub fn pod_uid(self, folder: &str) -> Option<String> {
        match self {
            Self::Cgroupfs => folder.strip_prefix("pod").map(str::to_owned),
            Self::Systemd => {
                let unit = folder.strip_suffix(".slice")?;
                let own = unit.rsplit('-').next()?;
                own.strip_prefix("pod").map(|uid| uid.replace('_', "-"))
            }
        }
    }
}

/// The names of a class's group below that of all pods; guaranteed pods have none of their own.
#[must_use]
pub fn of_class(class: Class) -> Option<&'static str> {
    match class {
        Class::Guaranteed => None,
        Class::Burstable => Some("burstable"),
        Class::BestEffort => Some("besteffort"),
    }
}

/// The names of a pod's group below that of all pods.
#[must_use]
pub fn of_pod(spec: &PodSpec, uid: &str) -> Vec<String> {
    of_class(class(spec)).map(str::to_owned).into_iter().chain([format!("pod{uid}")]).collect()
}

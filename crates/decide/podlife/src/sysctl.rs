//! Kernel parameters that a pod may set for itself (kubelet: pkg/kubelet/sysctl).

use k8s_openapi::api::core::v1::Pod;

use crate::spec::pod_spec;

/// Why a pod with a forbidden parameter is not taken.
pub const FORBIDDEN: &str = "SysctlForbidden";

/// The parameters that do no harm to others, with the kernel that has them for each pod apart.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// The namespace that keeps a parameter from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
        if name == "kernel.sem" || ipc.iter().any(|prefix| name.starts_with(prefix)) {
            Some(Self::Ipc)
        } else {
            name.starts_with("net.").then_some(Self::Net)
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Net => "net",
        }
    }
}

/// The parameters that pods of a node may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    names: Vec<String>,
    prefixes: Vec<String>,
}

/// A pattern names parameters that all pods share.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the sysctls \"{0}\" are not known to be namespaced")]
pub struct NotNamespaced(pub String);

impl Allowed {
    /// What is safe on a kernel of this release (`6.1.0-x`), and what the node allows beyond that.
    ///
    /// # Errors
    /// When the node would allow what is not a pod's own.
    pub fn new(unsafe_patterns: &[String], kernel: &str) -> Result<Self, NotNamespaced> {
        let known = SAFE.iter().filter(|(_, since)| version(kernel) >= *since).map(|(name, _)| *name);
        let mut allowed = Self { names: known.map(str::to_owned).collect(), prefixes: Vec::new() };
        for pattern in unsafe_patterns {
            let pattern = dotted(pattern);
            match pattern.strip_suffix('*') {
                Some(prefix) => {
                    // Any end of the pattern has to be a pod's own.
                    Namespace::of(prefix).ok_or_else(|| NotNamespaced(pattern.clone()))?;
                    allowed.prefixes.push(prefix.to_owned());
                }
                None => {
                    Namespace::of(&pattern).ok_or_else(|| NotNamespaced(pattern.clone()))?;
                    allowed.names.push(pattern);
                }
            }
        }
        Ok(allowed)
    }

    /// Checks what a pod wants to set.
    ///
    /// # Errors
    /// The message for the pod's status, with the reason [`FORBIDDEN`].
    pub fn check(&self, pod: &Pod) -> Result<(), String> {
        let spec = pod_spec(pod);
        let wanted = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
        for sysctl in wanted {
            let name = dotted(&sysctl.name);
            let known =
                self.names.contains(&name) || self.prefixes.iter().any(|it| name.starts_with(it.as_str()));
            let namespace = Namespace::of(&name).filter(|_| known);
            let shared = match namespace {
                None => return Err(format!("forbidden sysctl: \"{name}\" not allowlisted")),
                Some(Namespace::Ipc) => spec.host_ipc,
                Some(Namespace::Net) => spec.host_network,
            };
            if let Some(namespace) = namespace.filter(|_| shared == Some(true)) {
                let namespace = namespace.as_str();
                return Err(format!(
                    "forbidden sysctl: \"{name}\" not allowed with host {namespace} enabled"
                ));
            }
        }
        Ok(())
    }
}

/// A name with dots between its parts; it may be written with slashes (`net/ipv4/conf/eth0.1/x`).
#[must_use]
pub fn dotted(name: &str) -> String {
    let first = name.find(['.', '/']);
    if first.is_none_or(|at| name.as_bytes()[at] == b'.') {
        return name.to_owned();
    }
    let swap = |letter| match letter {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_pods_may_set() {
        let unsafe_ =
            ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned(), "net/ipv4/conf/*".to_owned()];
        let allowed = Allowed::new(&unsafe_, "6.1.0").unwrap();
        let cases = [
            ("kernel.shm_rmid_forced", "", None),
            ("kernel/shm_rmid_forced", "", None),
            (
                "kernel.shm_rmid_forced",
                "ipc",
                Some("\"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
            ),
            ("net.ipv4.tcp_rmem", "", None),
            ("net.core.somaxconn", "", None),
            ("net.core.somaxconn", "net", Some("\"net.core.somaxconn\" not allowed with host net enabled")),
            ("net.ipv4.conf.all.forwarding", "", None),
            ("kernel.msgmax", "", None),
            ("kernel.msgmax", "ipc", Some("\"kernel.msgmax\" not allowed with host ipc enabled")),
            ("kernel.sem", "", Some("\"kernel.sem\" not allowlisted")),
            ("vm.swappiness", "", Some("\"vm.swappiness\" not allowlisted")),
        ];
        for (name, host, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [],
                "hostNetwork": host == "net", "hostIPC": host == "ipc",
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
            .unwrap();
            let found = allowed.check(&pod).err();
            let expected = expected.map(|text| format!("forbidden sysctl: {text}"));
            assert_eq!(found, expected, "{name} {host}");
        }
    }

    #[test]
    fn what_nodes_may_allow() {
        for (pattern, good) in [
            ("kernel.shm*", true),
            ("kernel.sem", true),
            ("net.*", true),
            ("kernel.*", false),
            ("vm.swappiness", false),
            ("*", false),
        ] {
            assert_eq!(Allowed::new(&[pattern.to_owned()], "6.1").is_ok(), good, "{pattern}");
        }
        let old = Allowed::new(&[], "4.4.0-generic").unwrap();
        assert!(old.names.contains(&"net.ipv4.ip_local_reserved_ports".to_owned()));
        assert!(!old.names.contains(&"net.ipv4.tcp_rmem".to_owned()));
    }

    #[test]
    fn names_with_slashes() {
        for (name, expected) in [
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
            ("kernel/sem", "kernel.sem"),
            ("plain", "plain"),
        ] {
            assert_eq!(dotted(name), expected);
        }
    }
}

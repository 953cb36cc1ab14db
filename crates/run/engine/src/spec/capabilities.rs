//! What a container's root may do.

use std::collections::BTreeSet;

use plimsoll_cri::v1::LinuxContainerSecurityContext;

use super::SpecError;

/// What containers get unless they ask for less or more; the same for all usual engines.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability, in the kernel's order.
pub(crate) const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The sets of a container.
pub(super) struct Sets {
    pub(super) allowed: Vec<String>,
    pub(super) ambient: Vec<String>,
}

/// Applies `add` and `drop` to the usual set, within what the machine can give.
pub(super) fn of(
    security: &LinuxContainerSecurityContext,
    available: &BTreeSet<String>,
) -> Result<Sets, SpecError> {
    let wanted = security.capabilities.clone().unwrap_or_default();
    let add = names("add", &wanted.add_capabilities)?;
    let drop = names("drop", &wanted.drop_capabilities)?;
    let ambient = names("add", &wanted.add_ambient_capabilities)?;
    let all = |set: &BTreeSet<String>| set.contains("ALL");
    let base: BTreeSet<String> = match (security.privileged || all(&add), all(&drop)) {
        (true, _) => ALL.iter().map(|name| (*name).to_owned()).collect(),
        (false, true) => BTreeSet::new(),
        (false, false) => DEFAULT.iter().map(|name| (*name).to_owned()).collect(),
    };
    let kept = |name: &&String| !drop.contains(*name) || security.privileged;
    let mut allowed: BTreeSet<String> = base.iter().filter(kept).cloned().collect();
    allowed.extend(add.iter().filter(|name| *name != "ALL").cloned());
    allowed.extend(ambient.iter().cloned());
    let within = |set: BTreeSet<String>| set.intersection(available).cloned().collect();
    Ok(Sets { allowed: within(allowed), ambient: within(ambient) })
}

fn names(verb: &'static str, names: &[String]) -> Result<BTreeSet<String>, SpecError> {
    names.iter().map(|name| full_name(verb, name)).collect()
}

/// Users write `NET_ADMIN` as well as `CAP_NET_ADMIN`.
fn full_name(verb: &'static str, name: &str) -> Result<String, SpecError> {
    let upper = name.to_uppercase();
    if upper == "ALL" {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if ALL.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(SpecError::Capability { verb, name: name.to_owned() })
    }
}

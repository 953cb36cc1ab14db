//! Which check counts at which level since which version.
//!
//! A level's checks are those of baseline, by name, then those of restricted, by name. A restricted
//! check may take the place of a baseline check.

use super::checks::{host, privilege, profile, volume};
use super::level::{Level, LevelVersion, Version};
use super::pod::{Pod, Violation};

type CheckPod = fn(Pod<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// The rules, each with the first minor version that has it.
    versions: &'static [(u64, CheckPod)],
    /// The baseline check that this one replaces.
    replaces: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u64, CheckPod)]) -> Check {
    Check { id, level: Level::Baseline, versions, replaces: "" }
}

const fn restricted(id: &'static str, versions: &'static [(u64, CheckPod)], replaces: &'static str) -> Check {
    Check { id, level: Level::Restricted, versions, replaces }
}

const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, profile::app_armor)]),
    baseline("capabilities_baseline", &[(0, privilege::capabilities_baseline)]),
    baseline("hostNamespaces", &[(0, host::namespaces)]),
    baseline("hostPathVolumes", &[(0, volume::host_path)]),
    baseline("hostPorts", &[(0, host::ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, host::probes)]),
    baseline("privileged", &[(0, privilege::privileged)]),
    baseline("procMount", &[(0, privilege::proc_mount), (35, privilege::proc_mount_relaxed)]),
    baseline("seLinuxOptions", &[(0, profile::se_linux_1_0), (31, profile::se_linux_1_31)]),
    baseline(
        "seccompProfile_baseline",
        &[(0, profile::seccomp_annotations), (19, profile::seccomp_baseline)],
    ),
    baseline(
        "sysctls",
        &[
            (0, profile::sysctls::<0>),
            (27, profile::sysctls::<27>),
            (29, profile::sysctls::<29>),
            (32, profile::sysctls::<32>),
            (37, profile::sysctls::<37>),
        ],
    ),
    baseline("windowsHostProcess", &[(0, host::windows_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[(8, privilege::escalation), (25, privilege::escalation_unless_windows)],
        "",
    ),
    restricted(
        "capabilities_restricted",
        &[(22, privilege::capabilities_restricted), (25, privilege::capabilities_unless_windows)],
        "capabilities_baseline",
    ),
    restricted("procMount_restricted", &[(35, privilege::proc_mount)], "procMount"),
    restricted("restrictedVolumes", &[(0, volume::restricted)], "hostPathVolumes"),
    restricted("runAsNonRoot", &[(0, privilege::non_root), (35, privilege::non_root_relaxed)], ""),
    restricted("runAsUser", &[(23, privilege::user), (35, privilege::user_relaxed)], ""),
    restricted(
        "seccompProfile_restricted",
        &[(19, profile::seccomp_restricted), (25, profile::seccomp_unless_windows)],
        "seccompProfile_baseline",
    ),
];

/// Everything about a pod that a policy forbids.
pub(crate) fn evaluate(policy: LevelVersion, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match policy.version {
        Version::Minor(minor) => minor,
        Version::Latest => u64::MAX,
    };
    let rule =
        |check: &Check| check.versions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, rule)| *rule);
    let counting =
        || CHECKS.iter().filter(|check| check.level <= policy.level && policy.level != Level::Privileged);
    let replaced = |id: &str| counting().any(|other| other.replaces == id && rule(other).is_some());
    counting().filter(|check| !replaced(check.id)).filter_map(|check| rule(check)?(pod)).collect()
}

/// The reasons alone, as warnings about many pods use them.
pub(crate) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// Reasons with their details.
pub(crate) fn details(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn checks_stand_in_order_of_level_and_name() {
        let order: Vec<(Level, &str)> = CHECKS.iter().map(|check| (check.level, check.id)).collect();
        assert!(order.is_sorted(), "{order:?}");
        for check in CHECKS {
            assert!(check.versions.is_sorted_by_key(|(since, _)| *since), "{}", check.id);
            assert!(check.replaces.is_empty() || CHECKS.iter().any(|other| other.id == check.replaces));
        }
    }

    fn said(level: Level, version: Version, spec: &Value, annotations: &Value) -> String {
        let object = json!({"metadata": {"annotations": annotations}, "spec": spec});
        details(&evaluate(LevelVersion { level, version }, Pod::of(&object)))
    }

    /// Behaviour that depends on the version: level, version, specification, what is forbidden.
    #[test]
    fn versions_have_the_rules_of_their_time() {
        use Level::{Baseline, Restricted};
        let good = || {
            json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]})
        };
        let with = |change: &dyn Fn(&mut Value)| {
            let mut spec = good();
            change(&mut spec);
            spec
        };
        let windows = json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]});
        let own_users = with(&|spec| {
            spec["hostUsers"] = json!(false);
            spec["securityContext"] =
                json!({"runAsNonRoot": false, "runAsUser": 0, "seccompProfile": {"type": "Localhost"}});
            spec["containers"][0]["securityContext"]["procMount"] = json!("Unmasked");
        });
        let probe = with(&|spec| {
            spec["containers"][0]["livenessProbe"] = json!({"httpGet": {"host": "1.1.1.1"}});
            spec["containers"][0]["lifecycle"] = json!({"preStop": {"tcpSocket": {"host": "a"}}});
        });
        let sysctl = |name: &str| with(&|spec| spec["securityContext"]["sysctls"] = json!([{"name": name}]));
        let engine =
            with(&|spec| spec["securityContext"]["seLinuxOptions"] = json!({"type": "container_engine_t"}));
        let proc_mount = r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#;
        let rows: &[(Level, u64, Value, &str)] = &[
            (Restricted, 37, good(), ""),
            (
                Restricted,
                24,
                windows.clone(),
                r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
            ),
            (Restricted, 25, windows, ""),
            (
                Restricted,
                7,
                json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]}),
                "",
            ),
            (
                Restricted,
                8,
                json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]}),
                r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)"#,
            ),
            (Baseline, 34, own_users.clone(), proc_mount),
            (Baseline, 35, own_users.clone(), ""),
            (
                Restricted,
                22,
                own_users.clone(),
                &format!(
                    "{proc_mount}, runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"
                ),
            ),
            (
                Restricted,
                34,
                own_users.clone(),
                &format!(
                    "{proc_mount}, runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)"
                ),
            ),
            (Restricted, 35, own_users, proc_mount),
            (Baseline, 33, probe.clone(), ""),
            (
                Baseline,
                34,
                probe,
                r#"probe or lifecycle host (container "a" uses probe or lifecycle hosts "1.1.1.1", "a")"#,
            ),
            (
                Baseline,
                26,
                sysctl("net.ipv4.ip_local_reserved_ports"),
                "forbidden sysctls (net.ipv4.ip_local_reserved_ports)",
            ),
            (Baseline, 27, sysctl("net.ipv4.ip_local_reserved_ports"), ""),
            (
                Baseline,
                28,
                sysctl("net.ipv4.tcp_keepalive_time"),
                "forbidden sysctls (net.ipv4.tcp_keepalive_time)",
            ),
            (Baseline, 29, sysctl("net.ipv4.tcp_keepalive_time"), ""),
            (Baseline, 31, sysctl("net.ipv4.tcp_rmem"), "forbidden sysctls (net.ipv4.tcp_rmem)"),
            (Baseline, 32, sysctl("net.ipv4.tcp_rmem"), ""),
            (
                Baseline,
                36,
                sysctl("net.ipv4.tcp_notsent_lowat"),
                "forbidden sysctls (net.ipv4.tcp_notsent_lowat)",
            ),
            (Baseline, 37, sysctl("net.ipv4.tcp_notsent_lowat"), ""),
            (
                Baseline,
                30,
                engine.clone(),
                r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "container_engine_t")"#,
            ),
            (Baseline, 31, engine, ""),
        ];
        for (level, minor, spec, expected) in rows {
            assert_eq!(
                said(*level, Version::Minor(*minor), spec, &Value::Null),
                *expected,
                "{level}:v1.{minor} {spec}"
            );
        }
        assert_eq!(said(Level::Privileged, Version::Latest, &json!({"hostPID": true}), &Value::Null), "");
        let annotation = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
        assert_eq!(
            said(Baseline, Version::Minor(18), &good(), &annotation),
            r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#
        );
        assert_eq!(said(Baseline, Version::Minor(19), &good(), &annotation), "");
    }

    #[test]
    fn a_bare_pod_hears_everything_that_restricted_asks_for() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(
            said(Level::Restricted, Version::Latest, &spec, &Value::Null),
            r#"allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
        );
    }
}

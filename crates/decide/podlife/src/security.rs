//! What a container may do: its own security context over its pod's.

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile, SecurityContext};

use crate::spec::pod_spec;

/// Paths of proc and sys that containers do not see (containerd and CRI-O hide the same).
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths of proc that containers cannot write to.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A profile of seccomp or AppArmor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The engine's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// For seccomp a file below the agent's folder of profiles, for AppArmor the name of a loaded one.
    Localhost(String),
}

/// What a container may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The user id, where one is named.
    pub user: Option<i64>,
    /// The group id, where one is named.
    pub group: Option<i64>,
    /// Whether the user must not be root.
    pub non_root: bool,
    /// Whether nothing is kept from it.
    pub privileged: bool,
    /// Whether it cannot write to its image's files.
    pub read_only_root: bool,
    /// Whether it can never gain more than it starts with.
    pub no_new_privileges: bool,
    /// Capabilities beyond the usual ones, without the prefix CAP_.
    pub add: Vec<String>,
    /// Capabilities taken from the usual ones.
    pub drop: Vec<String>,
    /// The seccomp profile.
    pub seccomp: Profile,
    /// The AppArmor profile, where one is named.
    pub apparmor: Option<Profile>,
    /// Paths that are hidden.
    pub masked: Vec<String>,
    /// Paths that are read-only.
    pub read_only: Vec<String>,
}

/// The security of a container of a pod. `unnamed` is the seccomp profile of those that name none.
#[must_use]
pub fn security(pod: &Pod, container: &Container, unnamed: &Profile) -> Security {
    let whole = pod_spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let names = |list: Option<Vec<String>>| -> Vec<String> {
        let strip = |name: String| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned);
        list.into_iter().flatten().map(strip).collect()
    };
    let hidden = own.proc_mount.as_deref() != Some("Unmasked") && !privileged;
    let paths = |list: &[&str]| -> Vec<String> {
        list.iter().filter(|_| hidden).map(|path| (*path).to_owned()).collect()
    };
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Security {
        user: own.run_as_user.or(whole.run_as_user),
        group: own.run_as_group.or(whole.run_as_group),
        non_root: own.run_as_non_root.or(whole.run_as_non_root).unwrap_or(false),
        privileged,
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        add: names(capabilities.add),
        drop: names(capabilities.drop),
        seccomp: seccomp(&own, whole.seccomp_profile.as_ref(), privileged).unwrap_or_else(|| unnamed.clone()),
        apparmor: apparmor(pod, container),
        masked: paths(&MASKED),
        read_only: paths(&READ_ONLY),
    }
}

/// The profile that a container names; nothing for none.
fn seccomp(own: &SecurityContext, pod: Option<&SeccompProfile>, privileged: bool) -> Option<Profile> {
    let profile = own.seccomp_profile.as_ref().or(pod);
    if privileged {
        return Some(Profile::Unconfined);
    }
    let profile = profile?;
    match profile.type_.as_str() {
        "RuntimeDefault" => Some(Profile::RuntimeDefault),
        "Localhost" => Some(Profile::Localhost(profile.localhost_profile.clone().unwrap_or_default())),
        _ => Some(Profile::Unconfined),
    }
}

/// The AppArmor profile that a container names, in a field of its own or its pod's, or in the pod's annotation, as
/// before there was a field.
#[must_use]
pub fn apparmor(pod: &Pod, container: &Container) -> Option<Profile> {
    let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let whole = || pod_spec(pod).security_context.as_ref()?.app_armor_profile.as_ref();
    if let Some(profile) = own.or_else(whole) {
        return Some(match profile.type_.as_str() {
            "RuntimeDefault" => Profile::RuntimeDefault,
            "Localhost" => Profile::Localhost(profile.localhost_profile.clone().unwrap_or_default()),
            _ => Profile::Unconfined,
        });
    }
    let name = format!("container.apparmor.security.beta.kubernetes.io/{}", container.name);
    match pod.metadata.annotations.as_ref()?.get(&name)?.as_str() {
        "" => None,
        "runtime/default" => Some(Profile::RuntimeDefault),
        "unconfined" => Some(Profile::Unconfined),
        other => Some(Profile::Localhost(other.strip_prefix("localhost/").unwrap_or(other).to_owned())),
    }
}

/// Refuses to run as root what must not: `image_user` is the user that the image names.
///
/// # Errors
/// The message of a `CreateContainerConfigError`.
pub fn verify_non_root(
    security: &Security,
    image_user: &str,
    pod: &str,
    container: &str,
) -> Result<(), String> {
    if !security.non_root {
        return Ok(());
    }
    let where_ = format!("(pod: \"{pod}\", container: {container})");
    if let Some(user) = security.user {
        return match user {
            0 => Err(format!("container's runAsUser breaks non-root policy {where_}")),
            _ => Ok(()),
        };
    }
    let name = image_user.split(':').next().unwrap_or_default();
    match name.parse::<i64>() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root {where_}")),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {where_}"))
        }
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is \
             non-root {where_}"
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn profiles_of_apparmor() {
        let local = |name: &str| Some(Profile::Localhost(name.into()));
        let of = |kind: &str| json!({"appArmorProfile": {"type": kind, "localhostProfile": "p"}});
        for (annotation, whole, own, expected) in [
            ("", json!({}), json!({}), None),
            ("", of("RuntimeDefault"), json!({}), Some(Profile::RuntimeDefault)),
            ("", of("RuntimeDefault"), of("Localhost"), local("p")),
            ("localhost/q", of("Unconfined"), json!({}), Some(Profile::Unconfined)),
            ("localhost/q", json!({}), json!({}), local("q")),
            ("runtime/default", json!({}), json!({}), Some(Profile::RuntimeDefault)),
            ("unconfined", json!({}), json!({}), Some(Profile::Unconfined)),
        ] {
            let annotations = json!({"container.apparmor.security.beta.kubernetes.io/c": annotation});
            let pod: Pod = serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec":
                {"securityContext": whole, "containers": [{"name": "c", "securityContext": own}]}}))
            .unwrap();
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(security(&pod, container, &Profile::Unconfined).apparmor, expected, "{annotation}");
        }
    }

    #[test]
    fn the_container_wins_over_its_pod() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {"name": "a"},
                {"name": "b", "securityContext": {"runAsUser": 3, "allowPrivilegeEscalation": false,
                    "capabilities": {"add": ["CAP_NET_ADMIN"], "drop": ["ALL"]},
                    "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}},
                {"name": "c", "securityContext": {"privileged": true, "readOnlyRootFilesystem": true}},
            ],
        }}))
        .unwrap();
        let [a, b, c] = [0, 1, 2]
            .map(|index| security(&pod, &pod.spec.as_ref().unwrap().containers[index], &Profile::Unconfined));
        assert_eq!(
            (a.user, a.group, a.non_root, a.seccomp),
            (Some(1), Some(2), true, Profile::RuntimeDefault)
        );
        assert_eq!((a.masked.len(), a.read_only.len()), (11, 5));
        assert_eq!((b.user, b.no_new_privileges), (Some(3), true));
        assert_eq!((b.add, b.drop), (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()]));
        assert_eq!(b.seccomp, Profile::Localhost("p.json".into()));
        assert_eq!((c.privileged, c.read_only_root, c.seccomp), (true, true, Profile::Unconfined));
        assert!(c.masked.is_empty() && c.read_only.is_empty());
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).unwrap();
        let base = security(&pod, &Container::default(), &Profile::RuntimeDefault);
        assert_eq!(base.seccomp, Profile::RuntimeDefault, "the node's own choice");
        let cases = [
            (false, None, "", None),
            (true, Some(5), "", None),
            (
                true,
                Some(0),
                "",
                Some("container's runAsUser breaks non-root policy (pod: \"p\", container: c)"),
            ),
            (true, None, "7:8", None),
            (
                true,
                None,
                "",
                Some("container has runAsNonRoot and image will run as root (pod: \"p\", container: c)"),
            ),
            (
                true,
                None,
                "www",
                Some(
                    "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is \
                     non-root (pod: \"p\", container: c)",
                ),
            ),
        ];
        for (non_root, user, image, expected) in cases {
            let security = Security { non_root, user, ..base.clone() };
            let result = verify_non_root(&security, image, "p", "c");
            assert_eq!(result.err().as_deref(), expected, "{non_root} {user:?} {image}");
        }
    }
}

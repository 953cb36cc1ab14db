//! Whether a node takes a pod at all: what it asks of the kernel and of the engine.

use k8s_openapi::api::core::v1::Pod;

use crate::security::{Profile, apparmor};
use crate::spec::{pod_spec, specs};
use crate::sysctl::{self, Allowed};

/// What a node is able to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The kernel parameters that pods may set.
    pub sysctls: Allowed,
    /// Whether the kernel has AppArmor.
    pub apparmor: bool,
    /// Whether the engine leaves out the groups that an image names.
    pub strict_groups: bool,
}

/// Why a pod is not taken: its status gets the reason and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Whether the node is able to run a pod.
///
/// # Errors
/// When it is not.
pub fn accept(pod: &Pod, abilities: &Abilities) -> Result<(), Refusal> {
    let refusal = |reason, message| Err(Refusal { reason, message });
    if let Err(message) = abilities.sysctls.check(pod) {
        return refusal(sysctl::FORBIDDEN, message);
    }
    if !abilities.apparmor && wants_apparmor(pod) {
        return refusal("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host".into());
    }
    if !abilities.strict_groups && policy(pod) == Some("Strict") {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node".into();
        return refusal("SupplementalGroupsPolicyNotSupported", message);
    }
    Ok(())
}

fn policy(pod: &Pod) -> Option<&str> {
    pod_spec(pod).security_context.as_ref()?.supplemental_groups_policy.as_deref()
}

/// Whether any container is to run under a profile.
fn wants_apparmor(pod: &Pod) -> bool {
    let profiles = specs(pod).into_iter().filter_map(|spec| apparmor(pod, &spec.container));
    profiles.into_iter().any(|profile| profile != Profile::Unconfined)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_a_node_refuses() {
        let able = Abilities { sysctls: Allowed::default(), apparmor: true, strict_groups: true };
        let none = Abilities::default();
        let apparmor = Some(("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"));
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind, "localhostProfile": "p"}});
        type Expected = Option<(&'static str, &'static str)>;
        let cases: Vec<(Value, Value, Expected)> = vec![
            (json!({}), json!({}), None),
            (
                json!({"sysctls": [{"name": "vm.x", "value": "1"}]}),
                json!({}),
                Some(("SysctlForbidden", "forbidden sysctl: \"vm.x\" not allowlisted")),
            ),
            (profile("RuntimeDefault"), json!({}), apparmor),
            (json!({}), profile("Localhost"), apparmor),
            (profile("Localhost"), profile("Unconfined"), None),
            (json!({"supplementalGroupsPolicy": "Merge"}), json!({}), None),
            (
                json!({"supplementalGroupsPolicy": "Strict"}),
                json!({}),
                Some((
                    "SupplementalGroupsPolicyNotSupported",
                    "SupplementalGroupsPolicy=Strict is not supported in this node",
                )),
            ),
        ];
        for (whole, own, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": {"securityContext": whole,
                "containers": [{"name": "c", "securityContext": own}]}}))
            .unwrap();
            let found = accept(&pod, &none).err();
            let found = found.as_ref().map(|it| (it.reason, it.message.as_str()));
            assert_eq!(found, expected, "{whole} {own}");
            let sysctl = expected.is_some_and(|(reason, _)| reason == "SysctlForbidden");
            assert_eq!(accept(&pod, &able).is_err(), sysctl, "{whole} {own}");
        }
    }
}

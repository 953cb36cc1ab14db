//! Which AppArmor profile a container gets, and the text of the engine's own.
//!
//! What enters: what was asked for and what the machine has. What leaves: the name of a profile to switch to
//! when the program starts. The rules are containerd's (internal/cri/server/container_create_linux.go): who
//! asks for nothing gets the engine's own profile where there can be one.

use plimsoll_cri::v1::security_profile::ProfileType;
use plimsoll_cri::v1::{LinuxContainerSecurityContext, SecurityProfile};

use super::SpecError;

/// The name of the engine's own profile.
pub(crate) const OWN: &str = "plimsoll-default";

/// What the machine can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ability {
    /// The kernel has no AppArmor, or it is off.
    #[default]
    None,
    /// The kernel knows profiles that others load: `apparmor_parser` is missing.
    Named,
    /// The engine can load its own.
    Own,
}

/// The profile to switch to; none leaves a container without.
pub(crate) fn profile(
    security: &LinuxContainerSecurityContext,
    ability: Ability,
) -> Result<Option<String>, SpecError> {
    let asked = security.apparmor.as_ref();
    match (asked.map(SecurityProfile::profile_type), ability) {
        (None, Ability::None | Ability::Named) | (Some(ProfileType::Unconfined), _) => Ok(None),
        (Some(_), Ability::None) => Err(SpecError::Unsupported("apparmor")),
        (Some(ProfileType::Localhost), _) => {
            let name = asked.map(|asked| asked.localhost_ref.as_str()).unwrap_or_default();
            Ok(Some(name.strip_prefix("localhost/").unwrap_or(name).to_owned()))
        }
        _ if security.privileged => Ok(None),
        (None | Some(ProfileType::RuntimeDefault), Ability::Own) => Ok(Some(OWN.to_owned())),
        // Who asks for one must not run without.
        (Some(ProfileType::RuntimeDefault), Ability::Named) => {
            Err(SpecError::Unsupported("an AppArmor profile of the engine's own without apparmor_parser"))
        }
    }
}

/// The engine's own profile, as `apparmor_parser` reads it. `engine` is the label under which the engine runs:
/// it and whoever is not confined may end containers.
///
/// Everything is allowed that the system call filter and the capabilities allow, except for mounts and writes
/// to those parts of `/proc` and `/sys` that reach beyond the container. No other file is included, so that
/// it does not depend on the machine's.
pub(crate) fn text(engine: &str) -> String {
    let peers = match engine {
        "" | "unconfined" => String::new(),
        other => format!("  signal (receive) peer=\"{other}\",\n"),
    };
    format!(
        r#"profile {OWN} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  umount,
  unix,

  signal (receive) peer=unconfined,
{peers}  signal (send, receive) peer={OWN},
  ptrace (trace, tracedby, read, readby) peer={OWN},

  deny mount,

  # Files of /proc itself, and its folders that are not of a process, without what is the pod's own.
  deny /proc/* w,
  deny /proc/[^1-9st]** w,
  deny /proc/s[^ey]** w,
  deny /proc/sys/[^kn]** w,
  deny /proc/sys/kernel/{{?,??,[^ms][^sh][^gm]**}} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/{{mem,kmem,kcore}} rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_what_is_there() {
        let asked = |kind: ProfileType| {
            Some(SecurityProfile { profile_type: kind as i32, localhost_ref: "localhost/mine".to_owned() })
        };
        let missing = "an AppArmor profile of the engine's own without apparmor_parser is not supported";
        let (none, named, own) = (Ability::None, Ability::Named, Ability::Own);
        for (ability, privileged, asked, expected) in [
            (none, false, None, Ok(None)),
            (none, false, asked(ProfileType::Unconfined), Ok(None)),
            (none, false, asked(ProfileType::RuntimeDefault), Err("apparmor is not supported")),
            (none, false, asked(ProfileType::Localhost), Err("apparmor is not supported")),
            (named, false, None, Ok(None)),
            (named, false, asked(ProfileType::Unconfined), Ok(None)),
            (named, false, asked(ProfileType::RuntimeDefault), Err(missing)),
            (named, true, asked(ProfileType::RuntimeDefault), Ok(None)),
            (named, false, asked(ProfileType::Localhost), Ok(Some("mine"))),
            (own, false, None, Ok(Some(OWN))),
            (own, true, None, Ok(None)),
            (own, false, asked(ProfileType::RuntimeDefault), Ok(Some(OWN))),
            (own, true, asked(ProfileType::RuntimeDefault), Ok(None)),
            (own, false, asked(ProfileType::Unconfined), Ok(None)),
            (own, true, asked(ProfileType::Localhost), Ok(Some("mine"))),
        ] {
            let security =
                LinuxContainerSecurityContext { apparmor: asked.clone(), privileged, ..Default::default() };
            let found = profile(&security, ability).map_err(|error| error.to_string());
            let expected = expected.map(|name| name.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(found, expected, "{ability:?} {privileged} {asked:?}");
        }
    }

    #[test]
    fn a_confined_engine_may_end_containers() {
        assert!(!text("unconfined").contains("peer=\"unconfined\""));
        assert!(text("agent").contains("signal (receive) peer=\"agent\",\n  signal (send"));
    }
}

//! The admission plugins by upstream's names, and which of them are on.

use std::fmt;

/// Is a plugin on unless somebody says otherwise?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preset {
    On,
    Off,
    /// Known upstream and not built here: it may be switched off, not on.
    Missing,
}

macro_rules! plugins {
    ($($name:ident $preset:ident,)*) => {
        /// An admission plugin.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plugin {
            $(
                #[doc = concat!("Upstream's plugin `", stringify!($name), "`.")]
                $name,
            )*
        }

        const ALL: &[(Plugin, &str, Preset)] =
            &[$((Plugin::$name, stringify!($name), Preset::$preset),)*];
    };
}

// Upstream's order, v1.37; ours is the order in which `admit` of the API server calls them.
plugins! {
    AlwaysAdmit Off,
    NamespaceAutoProvision Missing,
    NamespaceLifecycle On,
    NamespaceExists Off,
    LimitPodHardAntiAffinityTopology Off,
    LimitRanger On,
    ServiceAccount On,
    NodeRestriction On,
    TaintNodesByCondition On,
    AlwaysPullImages Off,
    ImagePolicyWebhook Missing,
    PodSecurity On,
    PodNodeSelector Missing,
    Priority On,
    DefaultTolerationSeconds On,
    PodTolerationRestriction Missing,
    EventRateLimit Missing,
    ExtendedResourceToleration Off,
    DefaultStorageClass On,
    StorageObjectInUseProtection On,
    OwnerReferencesPermissionEnforcement Missing,
    PersistentVolumeClaimResize On,
    RuntimeClass On,
    CertificateApproval On,
    CertificateSigning On,
    ClusterTrustBundleAttest On,
    CertificateSubjectRestriction On,
    DefaultIngressClass On,
    DenyServiceExternalIPs Off,
    PodTopologyLabels On,
    MutatingAdmissionPolicy On,
    MutatingAdmissionWebhook On,
    ValidatingAdmissionPolicy On,
    ValidatingAdmissionWebhook On,
    ResourceQuota On,
    AlwaysDeny Off,
}

/// Which plugins are on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plugins(u64);

/// Why a choice of plugins is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// There is no such plugin.
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown {
        /// `enable-admission-plugins` or `disable-admission-plugins`.
        flag: &'static str,
        /// What it says.
        name: String,
    },
    /// Upstream has it, this server does not.
    #[error("enable-admission-plugins plugin {0:?} is not supported")]
    Missing(String),
    /// The same plugin is switched on and off.
    #[error("[{0}] in enable-admission-plugins and disable-admission-plugins overlapped")]
    Overlap(String),
}

impl Plugin {
    fn find(name: &str) -> Option<(Self, Preset)> {
        ALL.iter().find(|(_, known, _)| *known == name).map(|(plugin, _, preset)| (*plugin, *preset))
    }

    const fn bit(self) -> u64 {
        1 << self as u64
    }
}

impl Plugins {
    /// What is on by default, and `enable`, and not `disable`.
    ///
    /// # Errors
    /// For names that are unknown, or on and off at once.
    pub fn choose(enable: &[String], disable: &[String]) -> Result<Self, PluginError> {
        let find = |flag: &'static str, name: &String| {
            Plugin::find(name).ok_or_else(|| PluginError::Unknown { flag, name: name.clone() })
        };
        if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
            return Err(PluginError::Overlap(both.clone()));
        }
        let mut chosen = Self::default();
        for name in enable {
            match find("enable-admission-plugins", name)? {
                (_, Preset::Missing) => return Err(PluginError::Missing(name.clone())),
                (plugin, _) => chosen.0 |= plugin.bit(),
            }
        }
        for name in disable {
            chosen.0 &= !find("disable-admission-plugins", name)?.0.bit();
        }
        Ok(chosen)
    }

    /// Is this plugin on?
    pub const fn has(self, plugin: Plugin) -> bool {
        self.0 & plugin.bit() != 0
    }
}

impl Default for Plugins {
    fn default() -> Self {
        let on = ALL.iter().filter(|(.., preset)| *preset == Preset::On);
        Self(on.fold(0, |bits, (plugin, ..)| bits | plugin.bit()))
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(ALL.iter().filter(|(plugin, ..)| self.has(*plugin)).map(|(_, name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(enable: &[&str], disable: &[&str]) -> Result<Plugins, PluginError> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Plugins::choose(&list(enable), &list(disable))
    }

    #[test]
    fn flags_switch_plugins_on_and_off() {
        let defaults = Plugins::default();
        assert!(defaults.has(Plugin::PodSecurity) && !defaults.has(Plugin::AlwaysPullImages));
        let chosen = choose(&["AlwaysPullImages", "PodSecurity"], &["ServiceAccount", "EventRateLimit"]);
        let chosen = chosen.expect("known names");
        assert!(chosen.has(Plugin::AlwaysPullImages) && chosen.has(Plugin::PodSecurity));
        assert!(!chosen.has(Plugin::ServiceAccount) && chosen.has(Plugin::AlwaysPullImages));
    }

    #[test]
    fn unknown_names_are_errors() {
        for (enable, disable, message) in [
            (
                &["PodSecurityPolicy"][..],
                &[][..],
                r#"enable-admission-plugins plugin "PodSecurityPolicy" is unknown"#,
            ),
            (&[], &["podsecurity"], r#"disable-admission-plugins plugin "podsecurity" is unknown"#),
            (
                &["ImagePolicyWebhook"],
                &[],
                r#"enable-admission-plugins plugin "ImagePolicyWebhook" is not supported"#,
            ),
            (
                &["PodSecurity"],
                &["PodSecurity"],
                "[PodSecurity] in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
        ] {
            assert_eq!(choose(enable, disable).expect_err(message).to_string(), message);
        }
    }
}

//! Volumes that a CSI driver provides, and what is told to the driver.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, Pod, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest, Sha256};

use super::Mode;
use crate::spec::pod_spec;

/// A volume of a driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Csi {
    /// The driver's name.
    pub driver: String,
    /// What the driver calls the volume.
    pub handle: String,
    /// Whether it lives as long as its pod.
    pub life: Life,
    /// The kind of file system.
    pub fs_type: String,
    /// What the driver wants to know.
    pub attributes: BTreeMap<String, String>,
    /// How it may be used, in the words of the API (`ReadWriteOnce`); the first counts.
    pub access: Vec<String>,
    /// Where the words for staging are.
    pub stage_secret: Option<SecretReference>,
    /// Where the words for publishing are.
    pub publish_secret: Option<SecretReference>,
    /// Where the words for growing are.
    pub expand_secret: Option<SecretReference>,
}

/// How long a volume of a driver lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As long as its PersistentVolume.
    Persistent,
    /// As long as its pod.
    Ephemeral,
}

impl Life {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Persistent => "Persistent",
            Self::Ephemeral => "Ephemeral",
        }
    }
}

/// When the group of a pod is given to the files of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPolicy {
    /// For volumes with a file system that one node writes to.
    ReadWriteOnceWithFsType,
    /// Always.
    File,
    /// Never.
    None,
}

impl Csi {
    pub(super) fn persistent(source: CSIPersistentVolumeSource, access: Vec<String>) -> Self {
        Self {
            driver: source.driver,
            handle: source.volume_handle,
            life: Life::Persistent,
            fs_type: source.fs_type.unwrap_or_default(),
            attributes: source.volume_attributes.unwrap_or_default(),
            access,
            stage_secret: source.node_stage_secret_ref,
            publish_secret: source.node_publish_secret_ref,
            expand_secret: source.node_expand_secret_ref,
        }
    }

    pub(super) fn ephemeral(pod: &Pod, volume: &str, source: &CSIVolumeSource) -> Self {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let secret = source.node_publish_secret_ref.as_ref().map(|it| SecretReference {
            name: Some(it.name.clone()),
            namespace: pod.metadata.namespace.clone(),
        });
        Self {
            driver: source.driver.clone(),
            handle: name_of(&[uid, volume]),
            life: Life::Ephemeral,
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            access: vec!["ReadWriteOnce".into()],
            stage_secret: None,
            publish_secret: secret,
            expand_secret: None,
        }
    }

    /// The name of the VolumeAttachment that says when a node has the volume.
    #[must_use]
    pub fn attachment(&self, node: &str) -> String {
        name_of(&[&self.handle, &self.driver, node])
    }

    /// The name under which a node says that it uses the volume.
    #[must_use]
    pub fn unique_name(&self) -> String {
        unique_name(&self.driver, &self.handle)
    }

    /// The name of the folder that a driver prepares the volume in for all pods.
    #[must_use]
    pub fn stage_name(&self) -> String {
        hex(&[&self.handle])
    }

    /// Checks that the driver has volumes of this life.
    ///
    /// # Errors
    /// When it says that it has not.
    pub fn check_life(&self, driver: Option<&CSIDriver>) -> Result<(), String> {
        let modes = driver.and_then(|it| it.spec.volume_lifecycle_modes.clone());
        // Drivers that do not say have volumes that stay.
        let modes = modes.filter(|modes| !modes.is_empty()).unwrap_or_else(|| vec!["Persistent".into()]);
        let life = self.life.as_str();
        match driver {
            None if self.life == Life::Persistent => Ok(()),
            _ if modes.iter().any(|mode| mode == life) => Ok(()),
            None => Err(format!(
                "volume mode \"{life}\" not supported by driver {} (no CSIDriver object)",
                self.driver
            )),
            Some(_) => Err(format!(
                "volume mode \"{life}\" not supported by driver {} (only supports [{}])",
                self.driver,
                modes.iter().map(|mode| format!("\"{mode}\"")).collect::<Vec<_>>().join(" ")
            )),
        }
    }

    /// Whether somebody has to attach the volume before the node can use it.
    #[must_use]
    pub fn is_attached(&self, driver: Option<&CSIDriver>) -> bool {
        self.life == Life::Persistent && driver.and_then(|it| it.spec.attach_required).unwrap_or(true)
    }

    /// Whether the node gives the pod's group to the files.
    #[must_use]
    pub fn takes_group(&self, driver: Option<&CSIDriver>, read_only: bool) -> bool {
        match group_policy(driver) {
            _ if read_only => false,
            GroupPolicy::None => false,
            GroupPolicy::File => true,
            GroupPolicy::ReadWriteOnceWithFsType => {
                let once = |mode: &String| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
                !self.fs_type.is_empty() && self.access.iter().any(once)
            }
        }
    }

    /// The attributes that publishing tells the driver; `tokens` is what the pod's account got for it.
    #[must_use]
    pub fn publish_attributes(
        &self,
        pod: &Pod,
        driver: Option<&CSIDriver>,
        tokens: Option<&str>,
    ) -> BTreeMap<String, String> {
        let mut all = self.attributes.clone();
        if driver.and_then(|it| it.spec.pod_info_on_mount) == Some(true) {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let meta = &pod.metadata;
            let account = text(&pod_spec(pod).service_account_name);
            all.extend([
                ("csi.storage.k8s.io/pod.name".to_owned(), text(&meta.name)),
                ("csi.storage.k8s.io/pod.namespace".to_owned(), text(&meta.namespace)),
                ("csi.storage.k8s.io/pod.uid".to_owned(), text(&meta.uid)),
                ("csi.storage.k8s.io/serviceAccount.name".to_owned(), account),
                ("csi.storage.k8s.io/ephemeral".to_owned(), (self.life == Life::Ephemeral).to_string()),
            ]);
        }
        let secret = driver.and_then(|it| it.spec.service_account_token_in_secrets) == Some(true);
        if let Some(tokens) = tokens.filter(|_| !secret) {
            all.insert(TOKENS.to_owned(), tokens.to_owned());
        }
        all
    }
}

/// The name under which a node says that it uses a driver's volume.
#[must_use]
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The attribute or secret that carries tokens of the pod's account.
pub const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// What a driver says about groups.
#[must_use]
pub fn group_policy(driver: Option<&CSIDriver>) -> GroupPolicy {
    match driver.and_then(|it| it.spec.fs_group_policy.as_deref()) {
        Some("File") => GroupPolicy::File,
        Some("None") => GroupPolicy::None,
        _ => GroupPolicy::ReadWriteOnceWithFsType,
    }
}

/// The number of an access mode in the interface; `single_writer` says that the driver tells one writer
/// on a node from many.
#[must_use]
pub fn access_mode(words: &[String], single_writer: bool) -> i32 {
    match (words.first().map_or("ReadWriteOnce", String::as_str), single_writer) {
        ("ReadWriteOnce", true) => 7,
        ("ReadWriteOncePod", true) => 6,
        ("ReadOnlyMany", _) => 3,
        ("ReadWriteMany", _) => 5,
        _ => 1,
    }
}

/// The folder of a driver's volume below those of its pod.
#[must_use]
pub fn folder(mode: Mode) -> &'static str {
    match mode {
        Mode::Filesystem => "volumes",
        Mode::Block => "volumeDevices",
    }
}

fn name_of(parts: &[&str]) -> String {
    format!("csi-{}", hex(parts))
}

fn hex(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.concat());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

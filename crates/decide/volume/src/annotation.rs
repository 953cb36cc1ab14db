//! Annotations and finalizers by which controllers, the scheduler and provisioners speak to each other.

/// On a claim whose binding was carried through once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a volume, or a claim, that the controller bound and may set free again.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume that a provisioner made.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On claims and volumes of old plugins that a CSI driver takes care of.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a claim: the node that its first pod goes to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The name of [`STORAGE_PROVISIONER`] that old provisioners look for.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The class of claims and volumes before there was a field.
pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On the class of claims that name none.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The old name of [`DEFAULT_CLASS`].
pub const BETA_DEFAULT_CLASS: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// On a volume whose file system is still as small as this.
pub const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// Holds claims that pods use.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Holds volumes that are bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Holds attribute classes that are in use.
pub const ATTRIBUTES_PROTECTION: &str = "kubernetes.io/vac-protection";

//! Names of the built-in provisioner: folders of the nodes themselves.

/// The provisioner.
pub const PROVISIONER: &str = "plimsoll.io/local";
/// Holds a volume until its folder is gone, or is nobody's any more.
pub const FINALIZER: &str = "plimsoll.io/local-folder";
/// Label of a volume: the node that has its folder.
pub const NODE: &str = "plimsoll.io/node";
/// Annotation of a node: the folder below which it keeps such volumes.
pub const FOLDER: &str = "plimsoll.io/local-volumes";

//! Drivers of volumes on this node.
//!
//! Drivers that make themselves known are taken in ([`register`]) and named in the node's CSINode ([`node`]). Volumes of theirs are attached by others ([`attach`]), prepared and shown
//! to pods ([`publish`]), grow while they are used ([`grow`]), and are taken away again ([`unpublish`]). How full
//! they are, drivers tell ([`stats`]). What was done is written down beside each
//! volume as upstream does it ([`record`]), so that a later agent can undo it.

mod attach;
mod driver;
mod grow;
mod node;
mod publish;
mod record;
mod register;
mod secret;
mod stats;
mod unpublish;

use std::path::PathBuf;

use plimsoll_podlife::volume::csi::Csi;

pub(crate) use driver::Drivers;
pub(crate) use grow::{Occasion, grow};
pub(crate) use node::{begin, remove};
pub(crate) use publish::{Request, Round, publish};
pub(crate) use register::register;
pub(crate) use stats::{Fullness, Measure, fullness};
pub(crate) use unpublish::{sweep, unpublish};

use crate::config::Config;

/// The folder of everything that is prepared for all pods.
fn stages(config: &Config) -> PathBuf {
    config.data_dir.join("plugins/kubernetes.io/csi")
}

/// The folder in which a driver prepares a volume.
fn stage(config: &Config, csi: &Csi) -> PathBuf {
    stages(config).join(&csi.driver).join(csi.stage_name())
}

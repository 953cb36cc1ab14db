//! What the engine is told at its start.

use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_cri::v1::CgroupDriver;
use plimsoll_kernel::pod_network::PodNetwork;

use crate::images::Images;

/// The configuration of one engine.
#[derive(Clone)]
pub struct Config {
    /// The data directory of the instance; the engine uses `engine/` and `run/` in it.
    pub data_dir: PathBuf,
    /// The socket to serve the container runtime interface on.
    pub socket: PathBuf,
    /// The control group for sandboxes that name no parent (`/plimsoll`).
    pub cgroup_root: String,
    /// How whoever names parents is told to name them.
    pub cgroup_driver: CgroupDriver,
    /// Gives pods their network; without one, pods of their own network have only a loopback link.
    pub network: Option<Arc<dyn PodNetwork>>,
    /// Where devices are described that are asked for by name (CDI); later folders count more.
    pub device_folders: Vec<PathBuf>,
    /// The images.
    pub images: Arc<dyn Images>,
    /// The program to run as shim, with the arguments `shim NAMESPACE/POD`; usually this very program.
    pub program: PathBuf,
    /// The version to report.
    pub version: String,
}

impl Config {
    /// A configuration with the usual values for everything that has one.
    #[must_use]
    pub fn new(data_dir: PathBuf, images: Arc<dyn Images>) -> Self {
        Self {
            socket: data_dir.join("run/engine.sock"),
            data_dir,
            cgroup_root: "/plimsoll".to_owned(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            network: None,
            device_folders: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            images,
            // Stays what it is when the file is replaced by a newer one.
            program: PathBuf::from("/proc/self/exe"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

//! The drivers that made themselves known.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use plimsoll_csi::v1;
use plimsoll_csi::v1::node_client::NodeClient;
use plimsoll_csi::v1::node_service_capability::rpc::Type;
use tonic::transport::Channel;

use crate::engine::text;

/// A driver that answers.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(super) name: String,
    channel: Channel,
}

impl Driver {
    pub(super) fn new(name: String, endpoint: &Path) -> Self {
        Self { name, channel: plimsoll_cri::connect(endpoint) }
    }

    pub(super) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    /// What it can do, asked anew each time: a driver may come back as a newer one.
    pub(super) async fn abilities(&self) -> Result<Abilities, String> {
        let answer = self.node().node_get_capabilities(v1::NodeGetCapabilitiesRequest {}).await;
        let answer = answer.map_err(|status| text(&status))?.into_inner();
        let rpc = |it: v1::NodeServiceCapability| {
            it.r#type.map(|v1::node_service_capability::Type::Rpc(rpc)| rpc.r#type())
        };
        Ok(Abilities(answer.capabilities.into_iter().filter_map(rpc).collect()))
    }
}

/// What a driver can do beyond showing volumes.
pub(super) struct Abilities(Vec<Type>);

impl Abilities {
    pub(super) fn has(&self, ability: Type) -> bool {
        self.0.contains(&ability)
    }
}

/// All drivers by name.
#[derive(Default)]
pub(crate) struct Drivers {
    /// Each with the socket that it made itself known by.
    known: Mutex<BTreeMap<String, (PathBuf, Driver)>>,
    /// One at a time prepares or takes away for all pods.
    pub(super) stage: tokio::sync::Mutex<()>,
    /// How large volumes are here, by their names among all drivers.
    sizes: Mutex<HashMap<String, Size>>,
}

/// How large a volume is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// So many bytes.
    Bytes(i64),
    /// It does not grow while it is used.
    Stays,
}

impl Drivers {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (PathBuf, Driver)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, socket: PathBuf, driver: Driver) {
        self.known().insert(driver.name.clone(), (socket, driver));
    }

    /// Forgets the driver of a socket, and says which it was.
    pub(crate) fn remove(&self, socket: &Path) -> Option<String> {
        let mut known = self.known();
        let name = known.iter().find(|(_, (own, _))| own == socket).map(|(name, _)| name.clone())?;
        known.remove(&name).map(|_| name)
    }

    /// How large a volume is here; as large as its claim says, if nothing was noted yet.
    pub(super) fn size(&self, volume: String, claimed: i64) -> Size {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        *sizes.entry(volume).or_insert(Size::Bytes(claimed))
    }

    pub(super) fn set_size(&self, volume: String, size: Size) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(volume, size);
    }

    pub(super) fn forget_size(&self, volume: &str) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).remove(volume);
    }

    pub(super) fn get(&self, name: &str) -> Result<Driver, String> {
        let found = self.known().get(name).map(|(_, driver)| driver.clone());
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }
}

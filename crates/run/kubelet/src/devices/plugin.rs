//! One plugin: its connection, and following what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_plugins::HEALTHY;
use plimsoll_plugins::device as wire;
use plimsoll_plugins::device::device_plugin_client::DevicePluginClient;
use plimsoll_podlife::device::{Choice, Device};
use tonic::transport::Channel;

use super::Devices;
use crate::engine::text;

/// How long a plugin may take for what is done before a container starts.
const PRE_START: Duration = Duration::from_secs(30);

/// How long it may take to say what it can do.
const OPTIONS: Duration = Duration::from_secs(10);

/// A plugin that can be asked. Clones share the connection.
#[derive(Clone)]
pub(super) struct Plugin {
    pub(super) resource: String,
    /// Which of all plugins of this agent it is.
    pub(super) number: u64,
    pub(super) options: wire::DevicePluginOptions,
    client: DevicePluginClient<Channel>,
}

impl Plugin {
    /// The plugin behind a socket.
    pub(super) fn new(
        socket: &Path,
        resource: String,
        number: u64,
        options: wire::DevicePluginOptions,
    ) -> Self {
        let client = DevicePluginClient::new(plimsoll_cri::connect(socket));
        Self { resource, number, options, client }
    }

    /// What the plugin wants to be asked.
    pub(super) async fn ask_options(&self) -> Result<wire::DevicePluginOptions, String> {
        let mut request = tonic::Request::new(wire::Empty {});
        request.set_timeout(OPTIONS);
        let answer = self.client.clone().get_device_plugin_options(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| text(&status))
    }

    /// The devices that the plugin would like to give; none if it does not care.
    pub(super) async fn preferred(&self, choice: &Choice) -> Result<Vec<String>, String> {
        let Choice::Of { given, more, free, .. } = choice else { return Ok(Vec::new()) };
        if !self.options.get_preferred_allocation_available || *more == 0 {
            return Ok(Vec::new());
        }
        let size = i32::try_from(given.len() + more).unwrap_or(i32::MAX);
        let request = wire::ContainerPreferredAllocationRequest {
            available_device_i_ds: free.iter().chain(given).cloned().collect(),
            must_include_device_i_ds: given.iter().cloned().collect(),
            allocation_size: size,
        };
        let request = wire::PreferredAllocationRequest { container_requests: vec![request] };
        let answer = self.client.clone().get_preferred_allocation(request).await;
        let answer = answer.map_err(|status| text(&status))?.into_inner();
        Ok(answer.container_responses.into_iter().next().map(|it| it.device_i_ds).unwrap_or_default())
    }

    /// Makes devices ready for a container.
    pub(super) async fn allocate(
        &self,
        devices: &BTreeSet<String>,
    ) -> Result<wire::ContainerAllocateResponse, String> {
        let devices_ids = devices.iter().cloned().collect();
        let container_requests = vec![wire::ContainerAllocateRequest { devices_ids }];
        let answer = self.client.clone().allocate(wire::AllocateRequest { container_requests }).await;
        let answer = answer.map_err(|status| text(&status))?.into_inner();
        let first = answer.container_responses.into_iter().next();
        first.ok_or_else(|| "no containers return in allocation response".to_owned())
    }

    /// Tells the plugin that a container with these devices is about to start.
    pub(super) async fn pre_start(&self, devices: &BTreeSet<String>) -> Result<(), String> {
        let mut request = tonic::Request::new(wire::PreStartContainerRequest {
            devices_ids: devices.iter().cloned().collect(),
        });
        request.set_timeout(PRE_START);
        let answer = self.client.clone().pre_start_container(request).await;
        answer.map(drop).map_err(|status| {
            format!("device plugin PreStartContainer rpc failed with err: {}", text(&status))
        })
    }
}

/// Follows what a plugin tells until it is gone.
pub(super) async fn follow(devices: Arc<Devices>, plugin: Plugin) {
    let resource = plugin.resource.as_str();
    let stream = plugin.client.clone().list_and_watch(wire::Empty {}).await;
    match stream {
        Ok(stream) => {
            let mut stream = stream.into_inner();
            while let Ok(Some(told)) = stream.message().await {
                devices.announced(resource, list(told));
            }
            tracing::info!(resource, "a device plugin is gone");
        }
        Err(error) => tracing::warn!(resource, %error, "a device plugin does not tell its devices"),
    }
    devices.lost(&plugin);
}

fn list(told: wire::ListAndWatchResponse) -> BTreeMap<String, Device> {
    let one = |device: wire::Device| {
        let nodes = device.topology.into_iter().flat_map(|it| it.nodes).map(|node| node.id).collect();
        (device.id, Device { healthy: device.health == HEALTHY, nodes })
    };
    told.devices.into_iter().map(one).collect()
}

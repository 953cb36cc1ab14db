//! Asking a plugin who it is, and telling it what came of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Backoff;
use plimsoll_csi::registration::registration_client::RegistrationClient;
use plimsoll_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::engine::text;
use crate::{claims, csi, devices};

/// Longest wait for an answer to one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Registers the plugin of a socket, as often as it takes.
pub(super) async fn run(agent: Arc<Agent>, socket: PathBuf) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(120));
    while let Err(why) = once(&agent, &socket).await {
        tracing::warn!(socket = %socket.display(), why, "plugin not registered yet");
        tokio::time::sleep(backoff.delay()).await;
    }
}

async fn once(agent: &Arc<Agent>, socket: &Path) -> Result<(), String> {
    let mut plugin = RegistrationClient::new(plimsoll_cri::connect(socket));
    let asked = tokio::time::timeout(PATIENCE, plugin.get_info(InfoRequest {})).await;
    let info = asked.map_err(|_| "the plugin does not answer")?.map_err(|status| text(&status))?.into_inner();
    let result = accept(agent, socket, &info).await;
    tell(&mut plugin, &result).await?;
    result
}

async fn tell(plugin: &mut RegistrationClient<Channel>, result: &Result<(), String>) -> Result<(), String> {
    let error = result.as_ref().err().cloned().unwrap_or_default();
    let status = RegistrationStatus { plugin_registered: result.is_ok(), error };
    plugin.notify_registration_status(status).await.map(drop).map_err(|status| text(&status))
}

async fn accept(agent: &Arc<Agent>, socket: &Path, info: &PluginInfo) -> Result<(), String> {
    match info.r#type.as_str() {
        // Both kinds of drivers serve objects of the API.
        "CSIPlugin" if !agent.config.standalone => csi::register(agent, socket, info).await,
        "DRAPlugin" if !agent.config.standalone => claims::register(&agent.claims, socket, info),
        "DevicePlugin" => devices::register(&agent.devices, socket, info).await,
        other => Err(format!(
            "RegisterPlugin error -- no handler registered for plugin type: {other} at socket {}",
            socket.display()
        )),
    }
}

//! Asking a plugin who it is, and telling it what came of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Backoff;
use plimsoll_csi::registration::registration_client::RegistrationClient;
use plimsoll_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use plimsoll_csi::v1::NodeGetInfoRequest;
use tonic::transport::Channel;

use super::driver::Driver;
use super::node;
use crate::agent::Agent;
use crate::engine::text;

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
    if info.r#type != "CSIPlugin" {
        return Err(format!(
            "RegisterPlugin error -- no handler registered for plugin type: {} at socket {}",
            info.r#type,
            socket.display()
        ));
    }
    if !info.supported_versions.iter().any(|version| major(version) == Some(1)) {
        return Err(format!(
            "RegisterPlugin error -- plugin validation failed with err: kubernetes.io/csi: validation failed for \
             CSI Driver {} at endpoint {}: could not find a highest supported version matching versions reported \
             by this driver, driver reports these versions: [{}]",
            info.name,
            info.endpoint,
            info.supported_versions.join(" ")
        ));
    }
    let endpoint = if info.endpoint.is_empty() { socket } else { Path::new(&info.endpoint) };
    let driver = Driver::new(info.name.clone(), endpoint);
    let failed = |why: String| format!("RegisterPlugin error -- plugin registration failed with err: {why}");
    let asked = driver.node();
    let answer = tokio::time::timeout(PATIENCE, { asked }.node_get_info(NodeGetInfoRequest {})).await;
    let answer = answer.map_err(|_| failed("the driver does not answer".into()))?;
    let about = answer.map_err(|status| failed(text(&status)))?.into_inner();
    node::add(agent, &info.name, about).await.map_err(failed)?;
    agent.drivers.add(socket.to_owned(), driver);
    tracing::info!(driver = info.name, endpoint = %endpoint.display(), "CSI driver registered");
    Ok(())
}

/// The first number of a version such as `v1.11.0`.
fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, expected) in
            [("1.0.0", Some(1)), ("v1.11.0", Some(1)), ("0.3.0", Some(0)), ("2", Some(2)), ("x", None)]
        {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}

//! Taking in a driver that makes itself known.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_csi::registration::PluginInfo;
use plimsoll_csi::v1::NodeGetInfoRequest;

use super::driver::Driver;
use super::node;
use crate::agent::Agent;
use crate::engine::text;

/// Longest wait for an answer to one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes in the driver of a socket, and names it in the node's CSINode.
///
/// # Errors
/// Why it is not taken, in upstream's words.
pub(crate) async fn register(agent: &Arc<Agent>, socket: &Path, info: &PluginInfo) -> Result<(), String> {
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

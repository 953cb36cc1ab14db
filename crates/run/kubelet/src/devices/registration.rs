//! The server that device plugins register with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use plimsoll_csi::registration::PluginInfo;
use plimsoll_plugins::device as wire;
use plimsoll_plugins::device::registration_server::{Registration, RegistrationServer};
use plimsoll_plugins::{DEVICE_VERSION, SOCKET};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::plugin::Plugin;
use super::{Devices, clear};

struct Desk {
    devices: Arc<Devices>,
}

/// Takes in a device plugin that is found by the socket of its registration.
///
/// # Errors
/// Why it is not taken, in upstream's words.
pub(crate) async fn register(devices: &Arc<Devices>, socket: &Path, info: &PluginInfo) -> Result<(), String> {
    devices.metrics.device_plugin_registered(&info.name);
    let invalid = |why: String| format!("RegisterPlugin error -- plugin validation failed with err: {why}");
    if !info.supported_versions.iter().any(|version| version == DEVICE_VERSION) {
        return Err(invalid(format!(
            "manager version, {DEVICE_VERSION}, is not among plugin supported versions [{}]",
            info.supported_versions.join(" ")
        )));
    }
    if !is_extended(&info.name) {
        let why = format!("the ResourceName \"{}\" is invalid", info.name);
        return Err(invalid(format!("invalid name of device plugin socket: {why}")));
    }
    let endpoint = if info.endpoint.is_empty() { socket } else { Path::new(&info.endpoint) };
    let mut plugin = Plugin::new(endpoint, info.name.clone(), devices.number(), Default::default());
    plugin.options = plugin.ask_options().await.map_err(|why| {
        format!("RegisterPlugin error -- plugin registration failed with err: failed to get device plugin options: {why}")
    })?;
    devices.watched().insert(socket.to_owned(), plugin.clone());
    devices.arrivals.send(plugin).map_err(|_| "the node agent is about to end".to_owned())
}

impl Devices {
    /// The socket of a registration is gone, and with it the plugin.
    pub(crate) fn leave(&self, socket: &Path) {
        if let Some(plugin) = self.watched().remove(socket) {
            self.lost(&plugin);
        }
    }

    fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<PathBuf, Plugin>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `stop`. An agent that cannot serve them has no device plugins.
pub(super) async fn serve(devices: Arc<Devices>, stop: CancellationToken) {
    let socket = devices.folder.join(SOCKET);
    let listener = clear(&devices.folder).and_then(|()| plimsoll_cri::listen(&socket));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(socket = %socket.display(), %error, "device plugins cannot register");
            return;
        }
    };
    let desk = Desk { devices };
    let served = tonic::transport::Server::builder()
        .add_service(RegistrationServer::new(desk))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled());
    if let Err(error) = served.await {
        tracing::warn!(%error, "device plugins cannot register any more");
    }
}

#[tonic::async_trait]
impl Registration for Desk {
    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::Empty>, Status> {
        let request = request.into_inner();
        self.devices.metrics.device_plugin_registered(&request.resource_name);
        if request.version != DEVICE_VERSION {
            let text = format!(
                "requested API version \"{}\" is not supported by kubelet. Supported version is [\"{DEVICE_VERSION}\"]",
                request.version
            );
            return Err(Status::unknown(text));
        }
        if !is_extended(&request.resource_name) {
            let text = format!("the ResourceName \"{}\" is invalid", request.resource_name);
            return Err(Status::unknown(text));
        }
        // An endpoint is a name in the folder and leads nowhere else.
        if request.endpoint.is_empty() || request.endpoint.contains('/') {
            return Err(Status::unknown(format!("invalid endpoint \"{}\"", request.endpoint)));
        }
        let socket = self.devices.folder.join(&request.endpoint);
        let number = self.devices.number();
        let options = request.options.unwrap_or_default();
        let plugin = Plugin::new(&socket, request.resource_name, number, options);
        self.devices
            .arrivals
            .send(plugin)
            .map_err(|_| Status::unavailable("the node agent is about to end"))?;
        Ok(Response::new(wire::Empty {}))
    }
}

/// Whether a name can be one of a plugin's resource: qualified, and not Kubernetes' own
/// (kubernetes: pkg/apis/core/v1/helper, IsExtendedResourceName).
fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let word = |text: &str, more: fn(char) -> bool| {
        !text.is_empty()
            && text.len() <= 253
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more(letter))
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    !own && !name.starts_with("requests.")
        && word(domain, |letter| matches!(letter, '-' | '.'))
        && word(rest, |letter| matches!(letter, '-' | '_' | '.'))
        && rest.len() <= 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_resources_have_a_domain_of_their_own() {
        for (name, is) in [
            ("example.com/gpu", true),
            ("vendor/thing_1.a", true),
            ("gpu", false),
            ("kubernetes.io/gpu", false),
            ("x.kubernetes.io/gpu", false),
            ("requests.example.com/gpu", false),
            ("example.com/", false),
            ("example.com/a/b", false),
        ] {
            assert_eq!(is_extended(name), is, "{name}");
        }
    }
}

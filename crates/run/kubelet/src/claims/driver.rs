//! The drivers of claimed devices that made themselves known, and what they are asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_csi::registration::PluginInfo;
use plimsoll_plugins::dra::dra_plugin_client::DraPluginClient;
use plimsoll_plugins::dra::{
    Claim, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodeUnprepareResourceResponse,
    NodeUnprepareResourcesRequest,
};
use plimsoll_plugins::dra_v1beta1::dra_plugin_client::DraPluginClient as OlderClient;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;

use super::{Claims, health};
use crate::engine::text;
use crate::metrics::Metrics;

/// How long a driver may take (kubelet: defaultClientCallTimeout).
const PATIENCE: Duration = Duration::from_secs(45);

/// The version of the interface that a driver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    V1,
    V1Beta1,
}

impl Service {
    const ALL: [(Self, &str); 2] = [(Self::V1, "v1.DRAPlugin"), (Self::V1Beta1, "v1beta1.DRAPlugin")];

    /// The first that both sides know.
    fn choose(offered: &[String]) -> Result<Self, String> {
        if offered.is_empty() {
            return Err("empty list of supported gRPC services (aka supported versions)".into());
        }
        let known = |name: &String| Self::ALL.iter().find(|(_, known)| name == known).map(|(it, _)| *it);
        offered.iter().find_map(known).ok_or_else(|| {
            let list =
                |names: Vec<&str>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ");
            format!(
                "none of services supported by the plugin ([{}]) are supported by the kubelet ([{}])",
                list(offered.iter().map(String::as_str).collect()),
                list(Self::ALL.map(|(_, name)| name).to_vec())
            )
        })
    }
}

/// A driver that can be asked.
#[derive(Clone)]
pub(super) struct Driver {
    pub(super) name: String,
    /// The socket that it made itself known by.
    socket: PathBuf,
    endpoint: PathBuf,
    service: Service,
    channel: Channel,
    metrics: Arc<Metrics>,
    /// Ends what follows it.
    _followed: Arc<DropGuard>,
}

impl Driver {
    /// Makes claims ready.
    pub(super) async fn prepare(
        &self,
        claims: Vec<Claim>,
    ) -> Result<HashMap<String, NodePrepareResourceResponse>, String> {
        let (channel, request) = (self.channel.clone(), NodePrepareResourcesRequest { claims });
        let answer = self.timed("NodePrepareResources", async move {
            match self.service {
                Service::V1 => DraPluginClient::new(channel).node_prepare_resources(request).await,
                Service::V1Beta1 => OlderClient::new(channel).node_prepare_resources(request).await,
            }
        });
        Ok(answer.await?.into_inner().claims)
    }

    /// Takes claims back.
    pub(super) async fn unprepare(
        &self,
        claims: Vec<Claim>,
    ) -> Result<HashMap<String, NodeUnprepareResourceResponse>, String> {
        let (channel, request) = (self.channel.clone(), NodeUnprepareResourcesRequest { claims });
        let answer = self.timed("NodeUnprepareResources", async move {
            match self.service {
                Service::V1 => DraPluginClient::new(channel).node_unprepare_resources(request).await,
                Service::V1Beta1 => OlderClient::new(channel).node_unprepare_resources(request).await,
            }
        });
        Ok(answer.await?.into_inner().claims)
    }

    async fn timed<T>(&self, name: &str, call: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")));
        let version = if self.service == Service::V1 { "v1" } else { "v1beta1" };
        let method = format!("/k8s.io.kubelet.pkg.apis.dra.{version}.DRAPlugin/{name}");
        let code = answer.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        self.metrics.driver_called(&self.name, method, code, begun.elapsed());
        answer.map_err(|status| format!("{name}: {}", text(&status)))
    }
}

/// Takes in a driver that makes itself known by a socket.
///
/// # Errors
/// Why it is not taken, in upstream's words.
pub(crate) fn register(claims: &Arc<Claims>, socket: &Path, info: &PluginInfo) -> Result<(), String> {
    let endpoint = if info.endpoint.is_empty() { socket } else { Path::new(&info.endpoint) };
    let (name, shown) = (&info.name, endpoint.display());
    let service = Service::choose(&info.supported_versions).map_err(|why| {
        format!(
            "RegisterPlugin error -- plugin validation failed with err: invalid supported gRPC versions of DRA driver \
             plugin {name} at endpoint {shown}: {why}"
        )
    })?;
    let mut drivers = claims.drivers();
    let all = drivers.entry(name.clone()).or_default();
    // One that came back under its old name takes the place that it had.
    all.retain(|known| known.socket != socket);
    if all.iter().any(|known| known.endpoint == endpoint) {
        return Err(format!(
            "RegisterPlugin error -- plugin registration failed with err: endpoint {shown} already registered for DRA \
             driver plugin {name}"
        ));
    }
    let (channel, gone) = (plimsoll_cri::connect(endpoint), CancellationToken::new());
    tokio::spawn(health::follow(Arc::downgrade(claims), name.clone(), channel.clone(), gone.clone()));
    all.push(Driver {
        name: name.clone(),
        socket: socket.to_owned(),
        endpoint: endpoint.to_owned(),
        service,
        channel,
        metrics: claims.metrics.clone(),
        _followed: Arc::new(gone.drop_guard()),
    });
    drop(drivers);
    claims.arrivals.send_modify(|count| *count += 1);
    tracing::info!(driver = name, endpoint = %shown, "DRA driver registered");
    Ok(())
}

impl Claims {
    fn drivers(&self) -> MutexGuard<'_, std::collections::BTreeMap<String, Vec<Driver>>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver to ask: of several the newest.
    pub(super) fn driver(&self, name: &str) -> Result<Driver, String> {
        let found = self.drivers().get(name).and_then(|all| all.last().cloned());
        found.ok_or_else(|| format!("DRA driver {name} is not registered"))
    }

    /// Whether a driver is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.drivers().contains_key(name)
    }

    /// The socket of a driver is gone. The driver's name, if it has no other.
    pub(crate) fn remove(&self, socket: &Path) -> Option<String> {
        let mut drivers = self.drivers();
        let of = |all: &Vec<Driver>| all.iter().any(|driver| driver.socket == socket);
        let name = drivers.iter().find(|(_, all)| of(all)).map(|(name, _)| name.clone())?;
        let all = drivers.get_mut(&name)?;
        all.retain(|driver| driver.socket != socket);
        let is_last = all.is_empty();
        if is_last {
            drivers.remove(&name);
        }
        is_last.then_some(name)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_sides_know_a_version() {
        let choose = |names: &[&str]| {
            Service::choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(choose(&["v1beta1.DRAPlugin", "v1.DRAPlugin"]), Ok(Service::V1Beta1));
        assert_eq!(choose(&["v1.DRAResourceHealth", "v1.DRAPlugin"]), Ok(Service::V1));
        assert_eq!(
            choose(&["1.0.0"]).unwrap_err(),
            "none of services supported by the plugin ([\"1.0.0\"]) are supported by the kubelet ([\"v1.DRAPlugin\" \
             \"v1beta1.DRAPlugin\"])"
        );
        assert!(choose(&[]).is_err());
    }
}

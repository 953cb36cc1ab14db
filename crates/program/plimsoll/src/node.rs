//! This machine as a node: images, engine, pod network, resolver, agent.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Node;
use plimsoll_client::Delta;
use plimsoll_engine::{Engine, StoredImages};
use plimsoll_network::BridgeNetwork;
use plimsoll_oci::{ImageStore, Keep, Registries};
use plimsoll_pki::{Purpose, Request};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::control_plane::{ControlPlane, Part};
use crate::instance::Instance;

/// The agent's port of the usual instance; others take a free one.
const USUAL_PORT: u16 = 10250;

/// The node's name: the one given, or the host's in lower case.
pub(crate) fn name(options: &Up) -> anyhow::Result<String> {
    let name = match &options.node_name {
        Some(name) => name.clone(),
        None => {
            nix::unistd::gethostname().context("read the host's name")?.to_string_lossy().to_ascii_lowercase()
        }
    };
    if let Err(rules) = plimsoll_meta::name::is_dns1123_subdomain(&name) {
        bail!("node name {name:?}: {}; choose one with --node-name", rules.join("; "));
    }
    Ok(name)
}

/// Starts everything that a node is.
pub(crate) async fn start(
    plane: &ControlPlane,
    options: &Up,
    instance: &Instance,
    name: &str,
    tasks: &mut JoinSet<Part>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let images = images(&instance.file("images")).await?;
    let network = plimsoll_network::Config {
        data_dir: instance.directory.clone(),
        instance: instance.id.clone(),
        cluster_cidr: vec![instance.pod_cidr],
        service_cidr: vec![instance.service_cidr],
        node_name: name.to_owned(),
        node_zone: None,
        resolver: vec![instance.cluster_dns()],
    };
    let bridge = BridgeNetwork::open(network.clone()).await.context("pod network")?;
    let socket = instance.file("run/engine.sock");
    let engine = plimsoll_engine::Config {
        socket: socket.clone(),
        cgroup_root: instance.cgroup_root.clone(),
        network: Some(Arc::new(bridge)),
        ..plimsoll_engine::Config::new(
            instance.directory.clone(),
            Arc::new(StoredImages::new(images, Registries::default())),
        )
    };
    Engine::start(engine, shutdown.clone()).await.context("container engine")?;
    let (informers, stop) = (plane.informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        ("network", plimsoll_network::run(network, informers, stop).await.map_err(Into::into))
    });
    let resolver = plimsoll_dns::Config {
        listen: vec![SocketAddr::new(instance.cluster_dns(), 53)],
        zone: "cluster.local".to_owned(),
        addresses: vec![instance.cluster_dns()],
        resolv_conf: "/etc/resolv.conf".into(),
    };
    let (informers, stop) = (plane.informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        ("resolver", plimsoll_dns::run(resolver, informers, stop).await.map_err(Into::into))
    });
    let agent = agent(plane, options, instance, name, &socket)?;
    let user = format!("system:node:{name}");
    let client = plane.client("kubelet", &user, &["system:nodes"]);
    let (informers, stop) = (plane.informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        ("node agent", plimsoll_kubelet::run(agent, client, informers, stop).await.map_err(Into::into))
    });
    Ok(())
}

/// The image store with the images that are made of this program.
async fn images(folder: &Path) -> anyhow::Result<ImageStore> {
    let folder = folder.to_owned();
    let open = move || -> anyhow::Result<ImageStore> {
        let store = ImageStore::open(&folder).context("image store")?;
        // The file that runs, even when it was replaced by a newer one.
        plimsoll_oci::ensure_builtin(&store, Path::new("/proc/self/exe")).context("built-in images")?;
        Ok(store)
    };
    let store = tokio::task::spawn_blocking(open).await.context("image store")??;
    let garbage = store.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = garbage.collect_garbage(Keep::BuildCache) {
            tracing::warn!(%error, "what images left behind cannot be removed");
        }
    });
    Ok(store)
}

fn agent(
    plane: &ControlPlane,
    options: &Up,
    instance: &Instance,
    name: &str,
    socket: &Path,
) -> anyhow::Result<plimsoll_kubelet::Config> {
    let address = match options.listen.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => instance.gateway(),
        ip => ip,
    };
    let usual = instance.directory == Path::new(crate::instance::USUAL);
    let mut config =
        plimsoll_kubelet::Config::new(name, instance.file("kubelet"), socket.to_owned(), address);
    config.cluster_dns = vec![instance.cluster_dns()];
    config.cgroup_root.clone_from(&instance.cgroup_root);
    config.fail_swap_on = options.fail_swap_on;
    config.port = if usual { USUAL_PORT } else { 0 };
    config.listen = address;
    config.tls = Some(tls(plane, instance, name, address)?);
    Ok(config)
}

/// The agent's server: its own certificate, and clients' certificates of the cluster's authority.
fn tls(
    plane: &ControlPlane,
    instance: &Instance,
    name: &str,
    address: IpAddr,
) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let request = Request {
        purpose: Purpose::Both,
        dns_names: vec![name.to_owned()],
        addresses: vec![address, IpAddr::from([127, 0, 0, 1])],
        ..Request::client(&format!("system:node:{name}"), &["system:nodes"])
    };
    let files = plane
        .authority
        .ensure_issued(&instance.file("pki"), "kubelet", &request)
        .context("certificate of the node agent")?;
    plimsoll_apiserver::server_tls(&files.certificate, &files.key, plane.authority.certificate())
        .context("TLS of the node agent")
}

/// Waits until the API says that the node is ready.
pub(crate) async fn ready(plane: &ControlPlane, name: &str) -> anyhow::Result<()> {
    let mut changes = plane.informers.informer::<Node>().subscribe();
    while let Some(change) = changes.recv().await {
        if let Delta::Applied { new, .. } = change
            && new.metadata.name.as_deref() == Some(name)
            && is_ready(&new)
        {
            return Ok(());
        }
    }
    bail!("the watch on nodes ended")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A part that ends by itself takes the process with it, so that a supervisor starts it whole again.
pub(crate) fn unexpected(ended: Option<Result<Part, JoinError>>) -> anyhow::Result<()> {
    match ended {
        Some(Ok((part, Err(error)))) => Err(error.context(format!("{part} ended"))),
        Some(Ok((part, Ok(())))) => bail!("{part} ended"),
        Some(Err(error)) => Err(error).context("a part panicked"),
        None => Ok(()),
    }
}

//! This machine as a node: images, engine, pod network, resolver, agent.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use plimsoll_client::Informers;
use plimsoll_engine::{CgroupDriver, Engine, StoredImages};
use plimsoll_kernel::pod_network::PodNetwork;
use plimsoll_kubelet::{PeerIdentity, Tls};
use plimsoll_network::{BridgeNetwork, CniNetwork, ConnectedBy, Metrics, Policies};
use plimsoll_oci::{ImageStore, Keep, Registries};
use plimsoll_pki::{Purpose, Request};
use plimsoll_podlife::configuration::Configuration;
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::control_plane::{ControlPlane, Part};
use crate::instance::Instance;
use crate::kubelet;
use crate::kubelet::settings::{FieldFlags, Sources};
use crate::network::NetworkArgs;

/// The agent's port of the usual instance; others take a free one.
pub(crate) const USUAL_PORT: u16 = 10250;

/// The node's name: the one given by a flag, or the host's in lower case.
pub(crate) fn name(given: Option<&str>, flag: &str) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => {
            nix::unistd::gethostname().context("read the host's name")?.to_string_lossy().to_ascii_lowercase()
        }
    };
    if let Err(rules) = plimsoll_meta::name::is_dns1123_subdomain(&name) {
        bail!("node name {name:?}: {}; choose one with {flag}", rules.join("; "));
    }
    Ok(name)
}

/// The settings of the agent of an instance.
pub(crate) struct AgentSettings {
    pub(crate) settings: Configuration,
    /// What users say themselves.
    given: Value,
}

/// Reads the settings of the agent. What belongs to the instance cannot be changed there.
pub(crate) fn settings(options: &Up, instance: &Instance) -> anyhow::Result<AgentSettings> {
    let own = json!({
        "clusterDomain": "cluster.local",
        "cgroupRoot": instance.cgroup_root,
        "containerRuntimeEndpoint": format!("unix://{}", instance.file("run/engine.sock").display()),
    });
    let mut base = json!({
        "address": agent_address(options, instance).to_string(),
        "port": USUAL_PORT,
        "clusterDNS": [instance.cluster_dns().to_string()],
        "podLogsDir": instance.file("kubelet/logs"),
        // Instances side by side would want the same port.
        "healthzPort": 0,
        "serializeImagePulls": false,
        "failSwapOn": options.fail_swap_on,
    });
    for (name, value) in own.as_object().into_iter().flatten() {
        base[name] = value.clone();
    }
    let sources = Sources {
        base,
        file: options.agent.kubelet_config.as_deref(),
        folder: options.agent.kubelet_config_dir.as_deref(),
        flags: &FieldFlags::default(),
    };
    let (given, settings) = sources.read()?;
    for (name, value) in own.as_object().into_iter().flatten() {
        ensure!(
            given.get(name).is_none_or(|said| said == value),
            "{name}: is {value} in this instance and cannot be set; `plimsoll kubelet` runs an agent alone"
        );
    }
    Ok(AgentSettings { settings, given })
}

/// Where the agent listens.
fn agent_address(options: &Up, instance: &Instance) -> IpAddr {
    match options.listen.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => instance.gateway(),
        ip => ip,
    }
}

/// The node's addresses: that of the agent, and one of the other family if pods have both.
fn node_addresses(options: &Up, instance: &Instance) -> Vec<IpAddr> {
    let first = agent_address(options, instance);
    let others = instance.gateways().into_iter().filter(|address| address.is_ipv4() != first.is_ipv4());
    std::iter::once(first).chain(others).collect()
}

/// Starts everything that a node is; what is answered is cancelled when the API knows the node as ready.
pub(crate) async fn start(
    plane: &ControlPlane,
    options: &Up,
    instance: &Instance,
    name: &str,
    tasks: &mut JoinSet<Part>,
    shutdown: &CancellationToken,
) -> anyhow::Result<CancellationToken> {
    let wanted = settings(options, instance)?;
    let addresses = node_addresses(options, instance);
    let place = Place { name, addresses: &addresses, network: &options.network };
    let (socket, rules) =
        foundation(instance, place, &wanted.settings, plane.informers.clone(), tasks, shutdown).await?;
    if let Some(config) = options.ingress.config(name, instance.cluster_dns()) {
        let client = plane.client("plimsoll-ingress", "system:plimsoll-ingress", &["system:masters"]);
        let (informers, stop) = (plane.informers.clone(), shutdown.clone());
        tasks.spawn(async move {
            ("ingress", plimsoll_ingress::run(config, client, informers, stop).await.map_err(Into::into))
        });
    }
    let mut agent = agent(plane, options, instance, name, &socket, &wanted)?;
    agent.registries = vec![rules.registry()];
    let user = format!("system:node:{name}");
    let client = plane.client("kubelet", &user, &["system:nodes"]);
    crate::up::leave_on_signal(agent.leaving.clone())?;
    let joined = agent.joined.clone();
    let (informers, stop) = (plane.informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        ("node agent", plimsoll_kubelet::run(agent, client, informers, stop).await.map_err(Into::into))
    });
    Ok(joined)
}

/// A node of the cluster, as users named and placed it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    /// Those that the API tells, the primary one of each family first.
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) network: &'a NetworkArgs,
}

/// Starts what pods stand on: images, engine, network and resolver; answers with the engine's socket and the
/// figures of Services' rules.
pub(crate) async fn foundation(
    instance: &Instance,
    place: Place<'_>,
    settings: &Configuration,
    informers: Informers,
    tasks: &mut JoinSet<Part>,
    shutdown: &CancellationToken,
) -> anyhow::Result<(PathBuf, Metrics)> {
    let metrics = Metrics::default();
    let images = images(&instance.file("images")).await?;
    let local_dns = place.network.local_dns.0;
    let network = plimsoll_network::Config {
        data_dir: instance.directory.clone(),
        instance: instance.id.clone(),
        cluster_cidr: instance.pod_cidr.all().to_vec(),
        service_cidr: instance.service_cidr.all().to_vec(),
        node_name: place.name.to_owned(),
        node_addresses: place.addresses.to_vec(),
        node_port_addresses: place.network.nodeport_addresses.ranges(place.addresses),
        resolver: instance.resolvers().into_iter().chain(local_dns).collect(),
        connected_by: match place.network.cni_conf_dir {
            Some(_) => ConnectedBy::Plugins,
            None => ConnectedBy::Links,
        },
        metrics: metrics.clone(),
    };
    let pods = pod_network(&network, place, &informers, tasks, shutdown).await?;
    let socket = instance.file("run/engine.sock");
    let engine = plimsoll_engine::Config {
        socket: socket.clone(),
        cgroup_driver: match settings.cgroup_driver.as_str() {
            "systemd" => CgroupDriver::Systemd,
            _ => CgroupDriver::Cgroupfs,
        },
        cgroup_root: instance.cgroup_root.clone(),
        network: Some(pods),
        ..plimsoll_engine::Config::new(
            instance.directory.clone(),
            Arc::new(StoredImages::new(images, Registries::default())),
        )
    };
    Engine::start(engine, shutdown.clone()).await.context("container engine")?;
    let (services, stop) = (informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        ("network", plimsoll_network::run(network, services, stop).await.map_err(Into::into))
    });
    let on = |port| instance.resolvers().iter().map(|address| SocketAddr::new(*address, port)).collect();
    let resolver = plimsoll_dns::Config {
        listen: on(53),
        listen_if_free: local_dns.map(|address| SocketAddr::new(address, 53)).into_iter().collect(),
        metrics: on(9153),
        zone: "cluster.local".to_owned(),
        addresses: instance.resolvers(),
        node_name: place.name.to_owned(),
        resolv_conf: "/etc/resolv.conf".into(),
        copies: plimsoll_dns::Copies::Shared,
    };
    let stop = shutdown.clone();
    tasks.spawn(async move {
        ("resolver", plimsoll_dns::run(resolver, informers, stop).await.map_err(Into::into))
    });
    Ok((socket, metrics))
}

/// What connects pods: CNI plugins where their configurations are named, or the built-in network with its
/// ways to other nodes. Policies hold in both.
async fn pod_network(
    network: &plimsoll_network::Config,
    place: Place<'_>,
    informers: &Informers,
    tasks: &mut JoinSet<Part>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Arc<dyn PodNetwork>> {
    if let Some(folder) = &place.network.cni_conf_dir {
        // The machine has its other addresses anyway.
        let in_range = |address: &&IpAddr| network.cluster_cidr.iter().any(|range| range.contains(*address));
        let own: Vec<_> = place.addresses.iter().filter(in_range).copied().collect();
        let programs = place.network.cni_bin_dir.clone();
        let plugins =
            CniNetwork::open(network, &own, folder.clone(), programs).await.context("CNI plugins")?;
        let policies = Policies::with_plugins(&plugins).context("network policies")?;
        enforce(policies, informers, tasks, shutdown);
        return Ok(Arc::new(plugins));
    }
    let bridge = BridgeNetwork::open(network.clone()).await.context("pod network")?;
    let policies = Policies::new(&bridge).context("network policies")?;
    let (hosts, nodes, stop) = (bridge.clone(), informers.clone(), shutdown.clone());
    tasks.spawn(async move {
        plimsoll_network::reach_hosts(hosts, nodes, stop).await;
        ("ways to other nodes", Ok(()))
    });
    enforce(policies, informers, tasks, shutdown);
    Ok(Arc::new(bridge))
}

/// Keeps the policies' rules.
fn enforce(
    policies: Policies,
    informers: &Informers,
    tasks: &mut JoinSet<Part>,
    shutdown: &CancellationToken,
) {
    let (followed, stop) = (informers.clone(), shutdown.clone());
    tasks.spawn(async move { ("network policies", policies.run(followed, stop).await.map_err(Into::into)) });
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
    AgentSettings { settings, given }: &AgentSettings,
) -> anyhow::Result<plimsoll_kubelet::Config> {
    let address = agent_address(options, instance);
    let usual = instance.directory == Path::new(crate::instance::USUAL);
    let mut config =
        plimsoll_kubelet::Config::new(name, instance.file("kubelet"), socket.to_owned(), address);
    config.apply(settings)?;
    config.node_ips = node_addresses(options, instance);
    if !usual && given.get("port").is_none() {
        config.port = 0;
    }
    config.local_volumes = Some(instance.file("volumes"));
    options.agent.common.apply(&mut config)?;
    if settings.enable_server {
        let own = certificate(plane, instance, name, address)?;
        config.peers = Some(PeerIdentity { certificate: own.certificate.clone(), key: own.key.clone() });
        config.tls = Some(kubelet::tls(own, settings)?);
    }
    Ok(config)
}

/// The agent's own certificate, which it also shows to other agents, and clients' certificates of the cluster's
/// authority.
fn certificate(
    plane: &ControlPlane,
    instance: &Instance,
    name: &str,
    address: IpAddr,
) -> anyhow::Result<Tls> {
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
    Ok(Tls {
        certificate: files.certificate,
        key: files.key,
        clients: Some(plane.authority.certificate().to_owned()),
        ..Tls::default()
    })
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

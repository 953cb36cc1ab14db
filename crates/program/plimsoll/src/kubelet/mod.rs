//! `plimsoll kubelet`: the node agent as a process of its own, for any API server and any container engine.

pub(crate) mod common;
mod credentials;
mod own;
pub(crate) mod settings;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use nix::sys::resource::{Resource, setrlimit};
use plimsoll_client::Informers;
use plimsoll_kubelet::{PeerIdentity, Tls};
use plimsoll_pki::{Authority, Purpose, Request};
use plimsoll_podlife::configuration::Configuration;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::instance::Instance;
use crate::network::NetworkArgs;
use crate::ranges::Ranges;
use crate::{log, node, preflight, up};
use common::CommonArgs;
use settings::{FieldFlags, Sources};

/// `plimsoll kubelet`
#[derive(Args, Clone, Debug)]
pub(crate) struct Kubelet {
    /// How the API server is reached; without it the agent runs static pods alone
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How the API server is reached to ask for a client certificate, when --kubeconfig is not there yet
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// File with the agent's configuration (KubeletConfiguration of kubelet.config.k8s.io/v1beta1)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of files that change parts of it: *.conf in the order of their names
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Where the agent keeps everything
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) root_dir: PathBuf,
    /// Where certificates lie [default: DIR/pki of --root-dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,
    /// Addresses of this node, the preferred one first [default: that of the default route]
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,
    #[command(flatten)]
    common: CommonArgs,
    /// How long the stop signal of a pod waits at most until Services have dropped it [default: 0s, 5s with
    /// --cluster-cidr]; the node has to be allowed to watch EndpointSlices, which upstream's role of nodes does
    /// not say
    #[arg(long, value_name = "DURATION", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) endpoint_drain: Option<Duration>,
    /// Range of the cluster's pod addresses, or one of each family; with it the node brings its own engine, pod network, Services and
    /// resolver, as a node of `plimsoll up` does
    #[arg(long, value_name = "CIDR,…", requires_all = ["kubeconfig", "service_cluster_ip_range"])]
    pub(crate) cluster_cidr: Option<Ranges>,
    /// Range of the cluster's Service addresses, or one of each family; the tenth of the first is the resolver's
    #[arg(long, value_name = "CIDR,…", requires = "cluster_cidr")]
    pub(crate) service_cluster_ip_range: Option<Ranges>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    pub(crate) fields: FieldFlags,
}

impl Kubelet {
    /// Where certificates lie.
    fn certificates(&self, root: &Path) -> PathBuf {
        self.cert_dir.clone().unwrap_or_else(|| root.join("pki"))
    }
}

pub(crate) fn run(options: &Kubelet) -> anyhow::Result<()> {
    let own = options.cluster_cidr.clone().zip(options.service_cluster_ip_range.clone());
    let sources = Sources {
        base: own.as_ref().map_or(json!({}), |(_, services)| own::base(&options.root_dir, services)),
        file: options.config.as_deref(),
        folder: options.config_dir.as_deref(),
        flags: &options.fields,
    };
    let (_, configuration) = sources.read()?;
    preflight::check_agent(&configuration)?;
    if own.is_some() {
        preflight::check_own_engine()?;
    }
    fs::create_dir_all(&options.root_dir).with_context(|| format!("make {}", options.root_dir.display()))?;
    let root = options.root_dir.canonicalize().context("find --root-dir")?;
    let _only = only(&root)?;
    let config = config(options, &configuration, &root)?;
    let own = own.map(|ranges| own::instance(&root, ranges, &configuration)).transpose()?;
    log::begin(log::Reader::File, log::Format::of(&configuration.logging.format));
    allow_files(configuration.max_open_files);
    let runtime = up::runtime()?;
    let outcome = runtime.block_on(serve(options, &configuration, config, own.as_ref()));
    runtime.shutdown_timeout(up::FAREWELL);
    outcome
}

/// Asks for so many open files. An agent that may not have them does with what it has.
fn allow_files(most: i64) {
    let most = u64::try_from(most).unwrap_or_default();
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most, most) {
        tracing::warn!(most, %error, "Failed to set rlimit on max file handles");
    }
}

/// Two agents on one folder would undo each other's work.
fn only(root: &Path) -> anyhow::Result<File> {
    let path = root.join("kubelet.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    ensure!(file.try_lock().is_ok(), "another node agent uses {}; choose another --root-dir", root.display());
    Ok(file)
}

fn config(
    options: &Kubelet,
    configuration: &Configuration,
    root: &Path,
) -> anyhow::Result<plimsoll_kubelet::Config> {
    let name = crate::node::name(options.hostname_override.as_deref(), "--hostname-override")?;
    let addresses = match options.node_ip.as_slice() {
        [] => vec![own_address().with_context(|| format!("can't get ip address of node {name}"))?],
        given => given.to_vec(),
    };
    let mut config = plimsoll_kubelet::Config::new(&name, root.to_owned(), PathBuf::new(), addresses[0]);
    config.apply(configuration)?;
    let own_engine = options.cluster_cidr.is_some();
    let usual = if own_engine { config.endpoint_drain } else { Duration::ZERO };
    config.endpoint_drain = options.endpoint_drain.unwrap_or(usual);
    options.common.apply(&mut config)?;
    config.standalone = options.kubeconfig.is_none();
    if configuration.enable_server {
        let folder = options.certificates(root);
        let (certificate, key) = if configuration.server_tls_bootstrap {
            let current = credentials::serving(&folder, &name, &addresses).current();
            (current.clone(), current)
        } else {
            certificate(&folder, &name, &addresses, configuration)?
        };
        config.tls = Some(tls(Tls { certificate, key, ..Tls::default() }, configuration)?);
    }
    config.node_ips = addresses;
    Ok(config)
}

/// The address that packets to the world leave from.
fn own_address() -> anyhow::Result<IpAddr> {
    let outward = |from: IpAddr, to: IpAddr| {
        // Nothing is sent: the kernel chooses a route and an address.
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((to, 9))?;
        socket.local_addr().map(|address| address.ip())
    };
    outward(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
        .or_else(|_| {
            outward(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
        })
        .context("no default routes found; name the address with --node-ip")
}

/// The server's certificate and key: those of the settings, or its own, as nobody gave it one.
fn certificate(
    folder: &Path,
    name: &str,
    addresses: &[IpAddr],
    settings: &Configuration,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    if !settings.tls_cert_file.is_empty() && !settings.tls_private_key_file.is_empty() {
        return Ok((PathBuf::from(&settings.tls_cert_file), PathBuf::from(&settings.tls_private_key_file)));
    }
    let authority = Authority::ensure(folder, "kubelet-ca", &format!("{name}-ca")).context("certificate")?;
    let request = Request {
        purpose: Purpose::Server,
        dns_names: vec![name.to_owned()],
        addresses: addresses.to_vec(),
        ..Request::client(name, &[])
    };
    let files = authority.ensure_issued(folder, "kubelet", &request).context("certificate")?;
    Ok((files.certificate, files.key))
}

/// TLS of the agent's server with what the settings say about it.
pub(crate) fn tls(own: Tls, settings: &Configuration) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let named = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let pair = named(&settings.tls_cert_file).zip(named(&settings.tls_private_key_file));
    let (certificate, key) = pair.unwrap_or((own.certificate, own.key));
    let tls = Tls {
        certificate,
        key,
        clients: named(&settings.authentication.x509.client_ca_file).or(own.clients),
        min_version: settings.tls_min_version.clone(),
        ciphers: settings.tls_cipher_suites.clone(),
        curves: settings.tls_curve_preferences.clone(),
    };
    tls.server().context("TLS of the node agent")
}

/// A client of no API server.
fn nobody() -> kube::Client {
    plimsoll_client::from_service(tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("there is no API server"))
    }))
}

async fn serve(
    options: &Kubelet,
    configuration: &Configuration,
    mut config: plimsoll_kubelet::Config,
    own: Option<&Instance>,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    up::stop_on_signal(shutdown.clone())?;
    up::leave_on_signal(config.leaving.clone())?;
    let folder = options.certificates(&config.data_dir);
    let client = match &options.kubeconfig {
        Some(file) => {
            let own = credentials::client(&folder, &config.node_name);
            if let Some(bootstrap) = &options.bootstrap_kubeconfig {
                let obtained = credentials::bootstrap(&own, bootstrap, file);
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    obtained = obtained => obtained?,
                }
            }
            let rotated = configuration.rotate_certificates.then_some(own);
            credentials::connect(file, rotated, &shutdown).await?
        }
        None => nobody(),
    };
    if configuration.server_tls_bootstrap && options.kubeconfig.is_some() {
        let serving = credentials::serving(&folder, &config.node_name, &config.node_ips);
        let asks = client.clone();
        tokio::spawn(serving.keep(move || asks.clone(), || {}, shutdown.clone()));
    }
    let informers = Informers::new(client.clone());
    let Some(own) = own else {
        return plimsoll_kubelet::run(config, client, informers, shutdown).await.context("node agent");
    };
    let mut tasks = JoinSet::new();
    let (name, addresses) = (config.node_name.clone(), config.node_ips.clone());
    let place = node::Place { name: &name, addresses: &addresses, network: &options.network };
    let seen = informers.clone();
    let (socket, rules) = node::foundation(own, place, configuration, seen, &mut tasks, &shutdown).await?;
    (config.cri_socket, config.registries) = (socket, vec![rules.registry()]);
    let current = credentials::client(&folder, &name).current();
    config.peers =
        current.exists().then(|| PeerIdentity { certificate: current.clone(), key: current.clone() });
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let outcome = plimsoll_kubelet::run(config, client, informers, stop).await;
        ("node agent", outcome.map_err(Into::into))
    });
    let first = tasks.join_next().await;
    if !shutdown.is_cancelled() {
        return node::unexpected(first);
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

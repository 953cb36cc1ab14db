//! API server, scheduler and controllers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use plimsoll_apiserver::{Config, Credentials, Server, User};
use plimsoll_client::{Election, ElectionError, EventRecorder, Informers, Term};
use plimsoll_pki::{Authority, CertifiedFiles, Purpose, Request};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::instance::Instance;
use crate::node;

/// The name of upstream's process that runs the controllers.
const CONTROLLERS: &str = "kube-controller-manager";

/// A part that runs until shutdown; its name, and why it ended.
pub(crate) type Part = (&'static str, anyhow::Result<()>);

/// The running control plane.
pub(crate) struct ControlPlane {
    pub(crate) server: Server,
    pub(crate) authority: Arc<Authority>,
    /// The file of the key that service account tokens are signed with.
    token_key: PathBuf,
    /// Shared by all parts of this process.
    pub(crate) informers: Informers,
    pub(crate) kubeconfig: PathBuf,
    cluster_cidr: String,
    service_cidrs: Vec<String>,
    node_masks: plimsoll_controllers::Masks,
    signing_duration: Duration,
    node_monitor_grace: Duration,
    chosen: plimsoll_controllers::Selection,
    /// Ports of the nodes that Services' load balancers must not take.
    own_ports: Vec<u16>,
    scheduler: plimsoll_scheduler::Config,
    /// How this instance is known where one of several works.
    identity: String,
}

impl ControlPlane {
    pub(crate) async fn start(
        options: &Up,
        instance: &Instance,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let scheduler = crate::scheduler::config(options.scheduler_config.as_deref())?;
        let folder = instance.file("pki");
        let authority = Authority::ensure(&folder, "ca", "plimsoll-ca").context("certificate authority")?;
        let credentials = credentials(&authority, options, instance)?;
        let token_key = credentials.service_account_key.clone();
        // Pods cannot reach a loopback address; the server serves them on this machine's address in their network.
        let inside = SocketAddr::new(instance.gateway(), options.listen.port());
        let reachable = !options.listen.ip().is_loopback() && !options.listen.ip().is_unspecified();
        let advertise = if reachable { options.listen } else { inside };
        let mut listen = vec![options.listen];
        if !options.no_node && options.listen.ip().is_loopback() {
            listen.push(inside);
        }
        let config = Config {
            store: instance.file("store"),
            datastore: options.store.datastore.datastore()?,
            compaction_interval: options.store.compaction_interval(),
            quota: options.store.quota(),
            snapshots: options.store.snapshots(instance.file("snapshots")),
            listen,
            advertise,
            service_cidrs: instance.service_cidr.all().to_vec(),
            node_ports: 30000..=32767,
            cluster_dns: instance.resolvers(),
            credentials,
            safeguards: options.safeguards.options(),
            features: options.feature_gates,
            limits: options.limits.limits(),
            authentication: options.access.authentication(folder.join("front-proxy-ca.crt"))?,
            authorization: options.access.authorization()?,
            authorization_file: options.access.authorization_file(),
            first_objects: first_objects(options),
            own_objects: [
                crate::controllers::proportional_autoscalers()
                    .context("definition of ProportionalAutoscalers")?,
                node_access(),
                options.ingress.definitions().context("definitions of the Gateway API")?,
            ]
            .concat(),
        };
        let server = Server::start(config, shutdown.clone()).await.context("API server")?;
        server.describe(crate::cli::flags());
        let kubeconfig = admin(&authority, options, instance)?;
        let inner = User::authenticated("system:apiserver", &["system:masters"]);
        let informers = Informers::new(plimsoll_client::from_service(server.service(inner, "plimsoll")));
        Ok(Self {
            server,
            authority: Arc::new(authority),
            token_key,
            informers,
            kubeconfig,
            cluster_cidr: instance.pod_cidr.to_string(),
            service_cidrs: instance.service_cidr.all().iter().map(ToString::to_string).collect(),
            node_masks: masks(options.node_cidr_mask_size),
            signing_duration: options.cluster_signing_duration,
            node_monitor_grace: options.node_monitor_grace_period,
            chosen: options.controllers.clone(),
            own_ports: vec![options.listen.port(), node::USUAL_PORT],
            scheduler,
            identity: identity(instance)?,
        })
    }

    /// A client inside this process, named `agent` where clients name their program.
    pub(crate) fn client(&self, agent: &'static str, user: &str, groups: &[&str]) -> kube::Client {
        plimsoll_client::from_service(self.server.service(User::authenticated(user, groups), agent))
    }

    /// Starts scheduler and controllers.
    pub(crate) fn controllers(&self, shutdown: &CancellationToken) -> JoinSet<Part> {
        let mut tasks = JoinSet::new();
        let (informers, stop) = (self.informers.clone(), shutdown.clone());
        let client = self.client("kube-scheduler", "system:kube-scheduler", &[]);
        let scheduler = self.scheduler.clone();
        let controllers = Arc::<plimsoll_controllers::Metrics>::default();
        self.server.tell(vec![scheduler.metrics.clone(), controllers.clone()]);
        tasks.spawn(async move {
            let outcome = plimsoll_scheduler::run(scheduler, informers, client, stop).await;
            ("scheduler", outcome.map_err(Into::into))
        });
        let (informers, stop) = (self.informers.clone(), shutdown.clone());
        let client = self.client(CONTROLLERS, "system:kube-controller-manager", &["system:masters"]);
        let config = plimsoll_controllers::Config {
            cluster_cidr: Some(self.cluster_cidr.clone()),
            service_cidrs: self.service_cidrs.clone(),
            node_masks: self.node_masks,
            ca_certificate_pem: self.authority.pem().to_owned(),
            authority: Some(self.authority.clone()),
            signing_duration: Some(self.signing_duration),
            token_key: Some(self.token_key.clone()),
            node_monitor_grace: Some(self.node_monitor_grace),
            controllers: self.chosen.clone(),
            balanced_except: Some(self.own_ports.clone()),
            metrics: controllers,
            ..plimsoll_controllers::Config::default()
        };
        let election = election(self.identity.clone());
        tasks.spawn(async move { ("controllers", lead(&election, config, client, informers, stop).await) });
        tasks
    }
}

/// No two processes share a directory, so who starts again need not wait for the Lease that it held before.
fn identity(instance: &Instance) -> anyhow::Result<String> {
    let host = nix::unistd::gethostname().context("name of the host")?;
    Ok(format!("{}_{}", host.to_string_lossy(), instance.id))
}

/// The Lease that upstream's controllers hold. It lasts longer than theirs: it is lost only together with the API
/// server of this process, and an instance at rest shall write little.
fn election(identity: String) -> Election {
    Election {
        namespace: "kube-system".to_owned(),
        name: CONTROLLERS.to_owned(),
        identity,
        lease_duration: Duration::from_secs(40),
        renew_deadline: Duration::from_secs(25),
        retry_period: Duration::from_secs(10),
    }
}

/// Runs the controllers whenever this process holds the Lease, until shutdown.
async fn lead(
    election: &Election,
    config: plimsoll_controllers::Config,
    client: kube::Client,
    informers: Informers,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Who runs no controllers must not keep others from it.
    if !plimsoll_controllers::names().any(|name| config.controllers.includes(name)) {
        return Ok(plimsoll_controllers::run(config, client, informers, shutdown).await?);
    }
    let events = EventRecorder::new(client.clone(), CONTROLLERS, None);
    loop {
        let mut ended = Ok(());
        let round = shutdown.child_token();
        let work = async |stop, term: Term| {
            let config = plimsoll_controllers::Config { term, ..config.clone() };
            ended = plimsoll_controllers::run(config, client.clone(), informers.clone(), stop).await;
        };
        match election.lead(client.clone(), &events, round.clone(), work).await {
            Ok(()) => return Ok(ended?),
            // What is still under way can write nothing any more.
            Err(ElectionError::Lost) => round.cancel(),
        }
    }
}

/// How much of the pods' addresses a node gets; the family is that of the pods.
fn masks(size: Option<u8>) -> plimsoll_controllers::Masks {
    let usual = plimsoll_controllers::Masks::default();
    plimsoll_controllers::Masks { v4: size.unwrap_or(usual.v4), v6: size.unwrap_or(usual.v6) }
}

fn credentials(authority: &Authority, options: &Up, instance: &Instance) -> anyhow::Result<Credentials> {
    let folder = instance.file("pki");
    let mut dns_names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    dns_names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    let mut addresses: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    addresses.extend(instance.first_services().into_iter().chain(instance.gateways()));
    if !options.listen.ip().is_unspecified() && !addresses.contains(&options.listen.ip()) {
        addresses.push(options.listen.ip());
    }
    let request =
        Request { purpose: Purpose::Server, dns_names, addresses, ..Request::client("kube-apiserver", &[]) };
    let server =
        authority.ensure_issued(&folder, "apiserver", &request).context("certificate of the API server")?;
    let kubelet = Request::client("kube-apiserver-kubelet-client", &["system:masters"]);
    let kubelet = authority
        .ensure_issued(&folder, "apiserver-kubelet-client", &kubelet)
        .context("certificate for node agents")?;
    let proxies = Authority::ensure(&folder, "front-proxy-ca", "front-proxy-ca")
        .context("certificate authority of the front proxy")?;
    let proxy = proxies
        .ensure_issued(&folder, "front-proxy-client", &Request::client("front-proxy-client", &[]))
        .context("certificate for extension API servers")?;
    Ok(Credentials {
        client_ca: authority.certificate().to_owned(),
        certificate: server.certificate,
        key: server.key,
        kubelet_certificate: kubelet.certificate,
        kubelet_key: kubelet.key,
        front_proxy_certificate: proxy.certificate,
        front_proxy_key: proxy.key,
        service_account_key: options
            .access
            .service_account_signing_key_file
            .clone()
            .unwrap_or_else(|| folder.join("sa.key")),
    })
}

/// Writes the administrator's kubeconfig.
fn admin(authority: &Authority, options: &Up, instance: &Instance) -> anyhow::Result<PathBuf> {
    let request = Request::client("kubernetes-admin", &["system:masters"]);
    let CertifiedFiles { certificate, key } = authority
        .ensure_issued(&instance.file("pki"), "admin", &request)
        .context("certificate of the administrator")?;
    let path = options.kubeconfig.clone().unwrap_or_else(|| instance.file("admin.kubeconfig"));
    let host = match options.listen.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), options.listen.port()),
        _ => options.listen,
    };
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let text = plimsoll_pki::kubeconfig(
        "plimsoll",
        &format!("https://{host}"),
        authority.pem(),
        "kubernetes-admin",
        &read(&certificate)?,
        &read(&key)?,
    );
    plimsoll_pki::write_private(&path, text.as_bytes()).context("kubeconfig")?;
    Ok(path)
}

/// The configuration of the nodes' resolvers, where users look for it.
fn corefile() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": plimsoll_dns::DEFAULT_COREFILE},
    })
}

/// What a new cluster with a node has.
fn first_objects(options: &Up) -> Vec<serde_json::Value> {
    match options.no_node {
        true => Vec::new(),
        false => [storage_class(), corefile()].into_iter().chain(options.ingress.class()).collect(),
    }
}

/// The class of claims that name none: folders of the nodes.
fn storage_class() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "plimsoll.io/local", "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    })
}

/// What agents with a network of their own read beside what upstream's role of nodes says: where packets go,
/// and the resolver's configuration.
fn node_access() -> Vec<serde_json::Value> {
    let (group, name) = ("rbac.authorization.k8s.io", "plimsoll:node-network");
    let version = format!("{group}/v1");
    let rule = |group: &str, resources: &[&str]| serde_json::json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let mut resolver = rule("", &["configmaps"]);
    resolver["resourceNames"] = serde_json::json!(["coredns", "coredns-custom"]);
    let rules = [
        rule("", &["services", "nodes", "namespaces", "pods"]),
        rule("discovery.k8s.io", &["endpointslices"]),
        rule("networking.k8s.io", &["networkpolicies"]),
    ];
    let nodes = serde_json::json!([{"apiGroup": group, "kind": "Group", "name": "system:nodes"}]);
    let everywhere = serde_json::json!({"name": name});
    let inside = serde_json::json!({"name": name, "namespace": "kube-system"});
    let role = |kind: &str| serde_json::json!({"apiGroup": group, "kind": kind, "name": name});
    vec![
        serde_json::json!({"apiVersion": version, "kind": "ClusterRole", "metadata": everywhere, "rules": rules}),
        serde_json::json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": everywhere,
            "roleRef": role("ClusterRole"), "subjects": nodes}),
        serde_json::json!({"apiVersion": version, "kind": "Role", "metadata": inside, "rules": [resolver]}),
        serde_json::json!({"apiVersion": version, "kind": "RoleBinding", "metadata": inside,
            "roleRef": role("Role"), "subjects": nodes}),
    ]
}

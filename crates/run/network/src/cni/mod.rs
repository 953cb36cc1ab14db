//! Pods connected by CNI plugins instead of the built-in network.
//!
//! What each sandbox was connected with is kept in a file before the first plugin is asked: whatever happens later,
//! the same plugins undo it, with the configuration and the result of then. Which list of plugins connects new
//! pods is looked up whenever it is needed: the first by name in the folder of configurations.

mod plugin;
mod records;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use ipnet::IpNet;
use plimsoll_kernel::link::{Join, LOOPBACK, Links, Route, in_namespace};
use plimsoll_kernel::pod_network::{Attach, Attached, NetworkError, PodNetwork};
use plimsoll_netplan::bandwidth::Bandwidth;
use plimsoll_netplan::cni::{Capabilities, Command, Network, addresses, after};
use serde_json::{Value, json};

use crate::Error;
use crate::config::{Config, Names, folder};
use crate::elements::restore;
use crate::policies::Attachments;
use crate::table::Table;
use plugin::Plugins;
use records::{Record, Records};

/// The pods' interface, inside.
const INTERFACE: &str = "eth0";

/// What upstream's engines say as long as there is no configuration.
const UNINITIALIZED: &str = "cni plugin not initialized";

/// Connects pods by CNI plugins.
#[derive(Clone)]
pub struct CniNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    configurations: PathBuf,
    plugins: Plugins,
    records: Mutex<Records>,
    tables: Mutex<Vec<Table>>,
    /// Of this node's pods, for plugins that want to be told.
    ranges: Mutex<Vec<IpNet>>,
    attachments: Attachments,
    /// What was said of pods that rules do not hold for.
    said: Mutex<BTreeSet<String>>,
}

impl CniNetwork {
    /// Takes over what an earlier process connected. The node answers pods on its own addresses, which are on the
    /// instance's bridge; nothing else of the built-in network is there.
    pub async fn open(
        config: &Config,
        own: &[IpAddr],
        configurations: PathBuf,
        programs: Vec<PathBuf>,
    ) -> Result<Self, Error> {
        config.check()?;
        let (names, records) = (Names::new(&config.instance)?, Records::open(&config.folder().join("cni"))?);
        let (ground, own) = (config.clone(), own.to_vec());
        let work = move || -> io::Result<Vec<Table>> {
            prepare(&ground, &names, &own)?;
            ground.families().map(|family| Table::open(&ground, &names, family)).collect()
        };
        let tables = tokio::task::spawn_blocking(work)
            .await
            .expect("the work does not panic")
            .map_err(|error| NetworkError::io("the node's addresses for pods", error))?;
        let network = Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                configurations,
                plugins: Plugins::new(programs),
                records: Mutex::new(records),
                tables: Mutex::new(tables),
                ranges: Mutex::default(),
                attachments: Attachments::default(),
                said: Mutex::default(),
            }),
        };
        let inner = &network.inner;
        let known: Vec<_> = inner.records().iter().cloned().collect();
        for record in known {
            inner.attachments.add(&record.id, record.key(), &addresses(&record.result));
            inner.bring_under_rules(&record).await;
        }
        inner.tell();
        inner.collect().await;
        Ok(network)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn attachments(&self) -> &Attachments {
        &self.inner.attachments
    }

    /// What brings the sandboxes' elements back into tables that somebody removed and another part made again.
    pub(crate) fn restore(&self) -> Box<dyn Fn() -> io::Result<()> + Send + Sync> {
        let inner = self.inner.clone();
        Box::new(move || inner.restore())
    }
}

/// Removes what plugins made for sandboxes of an instance that goes away.
pub(crate) async fn cleanup(data_dir: &Path) -> Result<(), Error> {
    let path = folder(data_dir).join("cni");
    if !path.exists() {
        return Ok(());
    }
    let records = Records::open(&path)?;
    for record in records.iter() {
        if let Err(error) = undo(record, &Plugins::new(record.programs.clone())).await {
            tracing::warn!(%error, sandbox = record.id, "a plugin left something behind");
        }
    }
    Ok(())
}

/// Gives the node the addresses that pods reach it by, and its own packets to Services a route.
fn prepare(config: &Config, names: &Names, own: &[IpAddr]) -> io::Result<()> {
    let mut links = Links::open()?;
    let device = links.ensure_bridge(&names.bridge(), names.group())?;
    let addresses: Vec<_> =
        own.iter().chain(&config.resolver).map(|address| (device, IpNet::from(*address))).collect();
    let source = |range: &IpNet| own.iter().find(|own| own.is_ipv4() == range.addr().is_ipv4()).copied();
    let routes: Vec<_> = config
        .service_cidr
        .iter()
        .map(|range| Route { destination: range.trunc(), device, gateway: None, source: source(range) })
        .collect();
    links.ensure(&[], &addresses, &routes)
}

impl PodNetwork for CniNetwork {
    fn attach<'a>(&'a self, request: Attach) -> BoxFuture<'a, Result<Attached, NetworkError>> {
        Box::pin(async move {
            let id = request.sandbox_id.clone();
            self.inner.attach(request).await.map_err(|reason| {
                NetworkError::Plugin(format!("failed to setup network for sandbox {id:?}: {reason}"))
            })
        })
    }

    fn detach<'a>(&'a self, sandbox_id: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async move {
            self.inner.detach(sandbox_id).await.map_err(|reason| {
                NetworkError::Plugin(format!(
                    "failed to destroy network for sandbox {sandbox_id:?}: {reason}"
                ))
            })
        })
    }

    fn attached(&self) -> Vec<String> {
        self.inner.records().iter().map(|record| record.id.clone()).collect()
    }

    fn trouble(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async {
            self.inner.trouble().await.map(|why| format!("Network plugin returns error: {why}"))
        })
    }

    fn set_pod_cidr<'a>(&'a self, ranges: &'a [IpNet]) -> BoxFuture<'a, Result<(), NetworkError>> {
        *self.inner.ranges.lock().expect("no code under the lock panics") = ranges.to_vec();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Inner {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("no code under the lock panics")
    }

    /// The list of plugins that connects new pods, and its text.
    fn configuration(&self) -> Result<(Network, String), String> {
        let listed = std::fs::read_dir(&self.configurations).into_iter().flatten().flatten();
        let mut files: Vec<_> = listed.map(|entry| entry.path()).collect();
        files.retain(|path| {
            path.extension().is_some_and(|it| ["conf", "conflist", "json"].iter().any(|known| it == *known))
        });
        files.sort();
        let Some(first) = files.first() else { return Err(UNINITIALIZED.to_owned()) };
        let read = |error: io::Error| format!("error reading {}: {error}", first.display());
        let text = std::fs::read_to_string(first).map_err(read)?;
        Ok((Network::read(&text).map_err(|error| format!("{}: {error}", first.display()))?, text))
    }

    /// Tells the rules which pods there are: what a pod sends to itself by a Service must come from the node, and
    /// hostPorts that plugins do not see to lead to pods. Told again and again, as somebody may remove all rules.
    fn tell(&self) {
        if let Err(error) = self.restore() {
            tracing::debug!(%error, "the rules do not know all pods yet");
        }
    }

    fn restore(&self) -> io::Result<()> {
        let records = self.records();
        let all: Vec<_> = records.iter().map(|record| (addresses(&record.result), &record.ports)).collect();
        let parts = all.iter().map(|(addresses, ports)| (addresses.as_slice(), ports.as_slice()));
        let mut tables = self.tables.lock().expect("no code under the lock panics");
        tables.iter_mut().try_for_each(|table| restore(table, parts.clone()))
    }

    /// Sees to it that a pod's packets pass the rules for Services and policies, where that can be.
    async fn bring_under_rules(&self, record: &Record) {
        let netns = record.netns.clone();
        let work = move || {
            let (mut links, netns) = (Links::open()?, File::open(&netns)?);
            Ok(match links.join(netns.as_fd(), INTERFACE)? {
                Join::Routed => None,
                Join::Apart(kind) => Some(format!("interfaces of the kind {kind:?} are not routed here")),
                Join::Bridged(bridge) => match links.filter_bridge(bridge) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        Some("packets between ports of a bridge need the kernel's br_netfilter".to_owned())
                    }
                    filtered => filtered.map(|()| None)?,
                },
            })
        };
        let done: io::Result<_> = tokio::task::spawn_blocking(work).await.expect("the work does not panic");
        let why = done.unwrap_or_else(|error| Some(error.to_string()));
        if let Some(why) = why
            && self.said.lock().expect("no code under the lock panics").insert(why.clone())
        {
            tracing::warn!(why, "rules of Services and NetworkPolicies do not hold for all that pods send");
        }
    }

    async fn trouble(&self) -> Option<String> {
        self.tell();
        let network = match self.configuration() {
            Ok((network, _)) => network,
            Err(why) => return Some(why),
        };
        if !network.can(Command::Status) {
            return None;
        }
        for (kind, request) in network.requests(Command::Status, &Capabilities::default(), None) {
            if let Err(why) = self.plugins.ask(&kind, Command::Status, &request, None).await {
                return Some(why);
            }
        }
        None
    }

    async fn attach(&self, request: Attach) -> Result<Attached, String> {
        let known = self.records().get(&request.sandbox_id).cloned();
        if let Some(known) = known {
            if self.holds(&known).await {
                return self.admit(&known).await;
            }
            self.detach(&known.id).await?;
        }
        let (network, text) = self.configuration()?;
        let mut record =
            Record::new(&request, text, self.plugins.programs.clone(), self.capabilities(&request)?);
        if !network.takes("portMappings") {
            record.ports.clone_from(&request.port_mappings);
        }
        self.records().keep(&record)?;
        if let Err(why) = self.connect(&network, &mut record).await {
            self.detach(&record.id).await?;
            return Err(why);
        }
        self.records().keep(&record)?;
        self.bring_under_rules(&record).await;
        self.tell();
        self.admit(&record).await
    }

    /// Waits until the policies' rules stand for a connected sandbox.
    async fn admit(&self, record: &Record) -> Result<Attached, String> {
        let attached = attached(record)?;
        let change = self.attachments.add(&record.id, record.key(), &attached.addresses);
        if self.attachments.stands(change).await {
            return Ok(attached);
        }
        Err("network policies cannot be read".to_owned())
    }

    async fn connect(&self, network: &Network, record: &mut Record) -> Result<(), String> {
        let netns = record.netns.clone();
        let loopback = move || {
            let netns = File::open(&netns)?;
            in_namespace(netns.as_fd(), || Links::open()?.set_up(LOOPBACK))
        };
        let set_up = tokio::task::spawn_blocking(loopback).await.expect("the work does not panic");
        set_up.map_err(|error| format!("the sandbox's loopback: {error}"))?;
        let mut result: Option<Value> = None;
        for (kind, request) in network.requests(Command::Add, &record.capabilities(), None) {
            let request = match &result {
                Some(previous) => after(request, previous),
                None => request,
            };
            let answer = self.plugins.ask(&kind, Command::Add, &request, Some(record)).await?;
            let answer = serde_json::from_str(&answer).map_err(|error| {
                format!("plugin type={kind:?} failed (add): its result cannot be read: {error}")
            })?;
            result = Some(answer);
        }
        record.result = result.unwrap_or_default();
        Ok(())
    }

    /// Whether a sandbox is still connected as it was.
    async fn holds(&self, record: &Record) -> bool {
        let Ok(network) = Network::read(&record.configuration) else { return false };
        if record.result.is_null() || !network.can(Command::Check) {
            return !record.result.is_null();
        }
        for (kind, request) in network.requests(Command::Check, &record.capabilities(), Some(&record.result))
        {
            if let Err(why) = self.plugins.ask(&kind, Command::Check, &request, Some(record)).await {
                tracing::warn!(why, sandbox = record.id, "a sandbox is not connected any more as it was");
                return false;
            }
        }
        true
    }

    async fn detach(&self, id: &str) -> Result<(), String> {
        let Some(record) = self.records().get(id).cloned() else { return Ok(()) };
        // Plugins may give its address to the next pod at once; nothing runs in this one any more.
        self.attachments.remove(id);
        undo(&record, &self.plugins).await?;
        self.records().forget(id)?;
        self.tell();
        Ok(())
    }

    /// Has plugins give up what belongs to sandboxes that are gone. What fails is tried at the next start.
    async fn collect(&self) {
        let Ok((network, _)) = self.configuration() else { return };
        if !network.can(Command::Gc) {
            return;
        }
        let sandboxes: Vec<_> = self.records().iter().map(|record| record.id.clone()).collect();
        for (kind, request) in network.collections(&sandboxes, INTERFACE) {
            if let Err(why) = self.plugins.ask(&kind, Command::Gc, &request, None).await {
                tracing::warn!(why, "a plugin does not give up what nobody has any more");
            }
        }
    }

    /// What plugins are told that can do something with it.
    fn capabilities(&self, request: &Attach) -> Result<Vec<(String, Value)>, String> {
        let mut told = Vec::new();
        if !request.port_mappings.is_empty() {
            let port = |port: &plimsoll_kernel::pod_network::PortMapping| {
                let protocol = json!(port.protocol).as_str().unwrap_or_default().to_lowercase();
                let host = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
                json!({"hostPort": port.host_port, "containerPort": port.container_port,
                    "protocol": protocol, "hostIP": host})
            };
            let ports: Vec<_> = request.port_mappings.iter().map(port).collect();
            told.push(("portMappings".to_owned(), json!(ports)));
        }
        let bandwidth = Bandwidth::read(&request.annotations)?;
        let mut rates = serde_json::Map::new();
        for (way, bits) in [("ingress", bandwidth.ingress), ("egress", bandwidth.egress)] {
            if let Some(bits) = bits {
                // As other engines have it: the plugin takes the burst in bits, of 32.
                rates.insert(format!("{way}Rate"), json!(bits));
                rates.insert(format!("{way}Burst"), json!(i32::MAX));
            }
        }
        if !rates.is_empty() {
            told.push(("bandwidth".to_owned(), Value::Object(rates)));
        }
        let ranges = self.ranges.lock().expect("no code under the lock panics").clone();
        if !ranges.is_empty() {
            let ranges: Vec<_> = ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect();
            told.push(("ipRanges".to_owned(), json!(ranges)));
        }
        told.push(("io.kubernetes.cri.pod-annotations".to_owned(), json!(request.annotations)));
        Ok(told)
    }
}

/// Undoes what was done for a sandbox, or what of it was.
async fn undo(record: &Record, plugins: &Plugins) -> Result<(), String> {
    let network = Network::read(&record.configuration)?;
    let result = (!record.result.is_null()).then_some(&record.result);
    for (kind, request) in network.requests(Command::Del, &record.capabilities(), result) {
        plugins.ask(&kind, Command::Del, &request, Some(record)).await?;
    }
    Ok(())
}

fn attached(record: &Record) -> Result<Attached, String> {
    let addresses = addresses(&record.result);
    if addresses.is_empty() {
        return Err(format!("failed to find network info for sandbox {:?}", record.id));
    }
    Ok(Attached { addresses, interface: INTERFACE.to_owned(), mtu: 0 })
}

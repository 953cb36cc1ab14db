//! The built-in pod network.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use ipnet::IpNet;
use plimsoll_kernel::link::{Bucket, LOOPBACK, Links, Loss, Route, Veth, in_namespace, index_of, sysctl};
use plimsoll_kernel::nft::Family;
use plimsoll_kernel::pod_network::{Attach, Attached, NetworkError, PodNetwork};
use plimsoll_netplan::bandwidth::{self, Bandwidth};
use tokio::sync::Notify;

use crate::Error;
use crate::cleanup::is_ours;
use crate::config::{Config, Names, family_of};
use crate::elements::{OF_PODS, Parts, add, elements, restore};
use crate::policies::Attachments;
use crate::reaper::Reaper;
use crate::sandboxes::{Sandbox, Sandboxes};
use crate::table::Table;

/// The pods' interface, inside.
const INTERFACE: &str = "eth0";

/// Where no default route tells a better one.
const DEFAULT_MTU: u32 = 1500;

/// Connects pods to the node by a link each, between which the node routes.
#[derive(Clone)]
pub struct BridgeNetwork {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) names: Names,
    bridge: AtomicU32,
    /// The device that wraps packets for other nodes; 0 while there is none.
    pub(crate) tunnel: AtomicU32,
    /// The largest packet to the world.
    pub(crate) uplink_mtu: u32,
    /// The largest packet of new pods.
    pub(crate) mtu: AtomicU32,
    /// Told when the node has got its ranges.
    pub(crate) ranged: Notify,
    sandboxes: Mutex<Sandboxes>,
    /// Held while links change: the kernel lets only one do so, and many who wait disturb that one.
    turn: Mutex<()>,
    tables: Mutex<Vec<Table>>,
    attachments: Attachments,
    reaper: Reaper,
}

impl BridgeNetwork {
    /// Sets the node up, or takes over what an earlier process of this instance left.
    pub async fn open(config: Config) -> Result<Self, Error> {
        config.check()?;
        let names = Names::new(&config.instance)?;
        let reaper = Reaper::start(names.doomed_group());
        let work = move || Inner::open(config, names, reaper);
        let inner = tokio::task::spawn_blocking(work).await.expect("the work does not panic")?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name of the instance's bridge.
    pub fn bridge(&self) -> String {
        self.inner.names.bridge()
    }

    /// The node's address towards its pods, of each family; empty until the ranges are known.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.inner.sandboxes().gateways()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What brings the sandboxes' elements back into tables that somebody removed and another part made again.
    pub(crate) fn restore(&self) -> Box<dyn Fn() -> io::Result<()> + Send + Sync> {
        let inner = self.inner.clone();
        Box::new(move || inner.restore())
    }

    pub(crate) fn attachments(&self) -> &Attachments {
        &self.inner.attachments
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, NetworkError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, NetworkError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || work(&inner)).await.expect("the work does not panic")
        })
    }
}

impl PodNetwork for BridgeNetwork {
    fn attach<'a>(&'a self, request: Attach) -> BoxFuture<'a, Result<Attached, NetworkError>> {
        let pod = (request.namespace.clone(), request.name.clone());
        let id = request.sandbox_id.clone();
        Box::pin(async move {
            let attached = self.blocking(move |inner| inner.attach(&request)).await?;
            let attachments = &self.inner.attachments;
            let change = attachments.add(&id, pod, &attached.addresses);
            if attachments.stands(change).await {
                return Ok(attached);
            }
            let error = io::Error::other("network policies cannot be read");
            Err(NetworkError::io(format!("connect sandbox {id}"), error))
        })
    }

    fn detach<'a>(&'a self, sandbox_id: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        let id = sandbox_id.to_owned();
        self.blocking(move |inner| inner.detach(&id))
    }

    fn attached(&self) -> Vec<String> {
        self.inner.sandboxes().iter().map(|sandbox| sandbox.id.clone()).collect()
    }

    fn trouble(&self) -> BoxFuture<'_, Option<String>> {
        let missing = self.inner.sandboxes().ranges().is_empty();
        let trouble = missing.then(|| "the node has no pod address range yet".to_owned());
        Box::pin(std::future::ready(trouble))
    }

    fn set_pod_cidr<'a>(&'a self, ranges: &'a [IpNet]) -> BoxFuture<'a, Result<(), NetworkError>> {
        let ranges = ranges.to_vec();
        self.blocking(move |inner| inner.set_ranges(&ranges))
    }
}

impl Inner {
    fn open(config: Config, names: Names, reaper: Reaper) -> Result<Self, NetworkError> {
        let kernel = |what: &'static str| move |error| NetworkError::io(what, error);
        let sandboxes = Sandboxes::open(&config.folder())?;
        let tables: io::Result<Vec<_>> =
            config.families().map(|family| Table::open(&config, &names, family)).collect();
        let tables = tables.map_err(kernel("packet rules"))?;
        for family in config.families() {
            let key = match family {
                Family::Ipv4 => "net/ipv4/ip_forward",
                Family::Ipv6 => "net/ipv6/conf/all/forwarding",
            };
            sysctl(key, "1").map_err(kernel("forwarding between pods"))?;
        }
        let mut links = Links::open().map_err(kernel("netlink"))?;
        let uplink_mtu = links.uplink_mtu().map_err(kernel("routes"))?.unwrap_or(DEFAULT_MTU);
        let inner = Self {
            config,
            names,
            bridge: AtomicU32::new(0),
            tunnel: AtomicU32::new(0),
            uplink_mtu,
            mtu: AtomicU32::new(uplink_mtu),
            ranged: Notify::new(),
            sandboxes: Mutex::new(sandboxes),
            turn: Mutex::new(()),
            tables: Mutex::new(tables),
            attachments: Attachments::default(),
            reaper,
        };
        for sandbox in inner.sandboxes().iter() {
            inner.attachments.add(&sandbox.id, sandbox.key(), &sandbox.addresses);
        }
        if !links.can_shape().unwrap_or(true) {
            tracing::warn!(
                "this kernel has no token buckets (CONFIG_NET_SCH_TBF): pods with bandwidth annotations do not start"
            );
        }
        inner.take_over(&mut links).map_err(kernel("links of an earlier process"))?;
        let ranges = inner.sandboxes().ranges();
        inner.make_bridge(&mut links)?;
        inner.address_bridge(&ranges)?;
        Ok(inner)
    }

    /// Makes the bridge if there is none.
    fn make_bridge(&self, links: &mut Links) -> Result<(), NetworkError> {
        let bridge = links
            .ensure_bridge(&self.names.bridge(), self.names.group())
            .map_err(|error| NetworkError::io("the instance's bridge", error))?;
        self.bridge.store(bridge, Ordering::Relaxed);
        for address in &self.config.resolver {
            links
                .ensure_address(bridge, IpNet::from(*address))
                .map_err(|error| NetworkError::io("the resolver's address", error))?;
        }
        Ok(())
    }

    /// Whether what went away is the network's.
    pub(crate) fn is_missed(&self, loss: Loss) -> bool {
        match loss {
            Loss::OfLink(link) => {
                [&self.bridge, &self.tunnel].iter().any(|own| own.load(Ordering::Relaxed) == link)
            }
            Loss::Route(destination) => {
                let ranges = self.config.cluster_cidr.iter().chain(&self.config.service_cidr);
                let is_own = ranges.clone().any(|range| range.contains(&destination));
                let is_host = destination.prefix_len() == destination.max_prefix_len();
                is_own
                    && (!is_host
                        || self.sandboxes().iter().any(|one| one.addresses.contains(&destination.addr())))
            }
            Loss::Missed => true,
        }
    }

    /// Puts back what somebody took from the node's own links and from the ways to its pods.
    pub(crate) fn mend(&self) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().expect("no code under the lock panics");
        let mut links = Links::open().map_err(|error| NetworkError::io("netlink", error))?;
        self.make_bridge(&mut links)?;
        self.address_bridge(&self.ranges())?;
        let sandboxes: Vec<_> = self.sandboxes().iter().cloned().collect();
        let gateways = self.sandboxes().gateways();
        for sandbox in &sandboxes {
            let Ok(device) = index_of(&self.names.veth(&sandbox.id)) else { continue };
            let (addresses, routes) = near_end(&gateways, sandbox, device);
            links
                .ensure(&[], &addresses, &routes)
                .map_err(|error| NetworkError::io(format!("sandbox {}", sandbox.id), error))?;
        }
        Ok(())
    }

    fn sandboxes(&self) -> MutexGuard<'_, Sandboxes> {
        self.sandboxes.lock().expect("no code under the lock panics")
    }

    /// Removes links and elements of sandboxes that are not remembered.
    fn take_over(&self, links: &mut Links) -> io::Result<()> {
        links.remove_group(self.names.doomed_group())?;
        let sandboxes = self.sandboxes();
        let known: Vec<_> = sandboxes.iter().map(|sandbox| self.names.veth(&sandbox.id)).collect();
        let prefix = self.names.veth_prefix();
        for link in links.list()? {
            if is_ours(&link.name, &prefix) && !known.contains(&link.name) {
                links.set_group(link.index, self.names.doomed_group())?;
                self.reaper.wake();
            }
        }
        drop(sandboxes);
        self.restore()
    }

    /// Makes the tables' elements those of the sandboxes.
    fn restore(&self) -> io::Result<()> {
        let sandboxes = self.sandboxes();
        let mut tables = self.tables.lock().expect("no code under the lock panics");
        tables.iter_mut().try_for_each(|table| restore(table, all(&sandboxes)))
    }

    fn set_ranges(&self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let ranges: Vec<_> = ranges.iter().map(IpNet::trunc).collect();
        if self.sandboxes().ranges() == ranges {
            return Ok(());
        }
        for range in &ranges {
            if !self.config.cluster_cidr.iter().any(|cluster| cluster.contains(range)) {
                let reason = "it is outside of the cluster's pod range".to_owned();
                return Err(NetworkError::Range { range: *range, reason });
            }
        }
        self.sandboxes().set_ranges(&ranges)?;
        self.address_bridge(&ranges)?;
        self.ranged.notify_one();
        Ok(())
    }

    /// The ranges of this node's pods; empty until they are known.
    pub(crate) fn ranges(&self) -> Vec<IpNet> {
        self.sandboxes().ranges()
    }

    /// Gives the bridge the pods' gateways, and sends to it what is for nobody: addresses of no pod
    /// must not leave by the default route, and packets of the node to Services must have a route
    /// before the rules send them elsewhere.
    fn address_bridge(&self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let gateways = self.sandboxes().gateways();
        let bridge = self.bridge.load(Ordering::Relaxed);
        let addresses: Vec<_> = gateways.iter().map(|gateway| (bridge, IpNet::from(*gateway))).collect();
        let mut routes = Vec::new();
        for (range, gateway) in ranges.iter().zip(&gateways) {
            let family = family_of(*gateway);
            let all = [&self.config.service_cidr, &self.config.cluster_cidr];
            let all = all.into_iter().filter_map(|ranges| Config::of_family(ranges, family));
            for destination in std::iter::once(*range).chain(all) {
                routes.push(Route { destination, device: bridge, gateway: None, source: Some(*gateway) });
            }
        }
        let work = || {
            let mut links = Links::open()?;
            let keep = |address: &IpNet| {
                self.config.resolver.contains(&address.addr()) || gateways.contains(&address.addr())
            };
            for old in links.addresses(bridge)?.iter().filter(|address| !keep(address)) {
                if !is_link_local(old.addr()) {
                    links.remove_address(bridge, *old)?;
                }
            }
            links.ensure(&[], &addresses, &routes)
        };
        work().map_err(|error| NetworkError::io("the bridge's addresses", error))
    }

    fn attach(&self, request: &Attach) -> Result<Attached, NetworkError> {
        let bandwidth = Bandwidth::read(&request.annotations).map_err(NetworkError::Annotation)?;
        let (sandbox, new) = self.sandboxes().reserve(request)?;
        let connected = self.connect(request, &sandbox, bandwidth).and_then(|()| self.add_elements(&sandbox));
        if let Err(error) = connected {
            if new {
                self.detach(&sandbox.id)?;
            }
            let what = format!("connect pod {}/{}", request.namespace, request.name);
            return Err(NetworkError::io(what, error));
        }
        Ok(Attached { addresses: sandbox.addresses, interface: INTERFACE.to_owned(), mtu: self.mtu() })
    }

    fn connect(&self, request: &Attach, sandbox: &Sandbox, bandwidth: Bandwidth) -> io::Result<()> {
        let netns = File::open(&request.netns)?;
        let name = self.names.veth(&sandbox.id);
        let _turn = self.turn.lock().expect("no code under the lock panics");
        let mut links = Links::open()?;
        let gateways = self.sandboxes().gateways();
        self.make_veth(&mut links, &name, &netns)?;
        let device = index_of(&name)?;
        // Packets from the node's loopback may leave by the link: the node may ask one of its own ports for a pod.
        sysctl(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
        if sandbox.addresses.iter().all(IpAddr::is_ipv4) {
            // Without IPv6 nobody has to listen to what links say about it.
            links.keep_from_ipv6(device)?;
        } else {
            trust_addresses(&name)?;
        }
        let pairs: Vec<_> =
            sandbox.addresses.iter().filter_map(|address| pair(&gateways, *address)).collect();
        let (addresses, routes) = near_end(&gateways, sandbox, device);
        in_namespace(netns.as_fd(), || set_up_inside(&pairs))?;
        links.ensure(&[], &addresses, &routes)?;
        // What the node sends into the link is what the pod receives.
        if let Some(bits) = bandwidth.ingress {
            shape(&mut links, device, bits)?;
        }
        if let Some(bits) = bandwidth.egress {
            in_namespace(netns.as_fd(), || shape(&mut Links::open()?, index_of(INTERFACE)?, bits))?;
        }
        links.await_carrier(device)
    }

    fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Makes the pod's link, unless it is there and whole.
    fn make_veth(&self, links: &mut Links, name: &str, netns: &File) -> io::Result<()> {
        let veth = Veth {
            name,
            peer: INTERFACE,
            peer_namespace: netns.as_fd(),
            mtu: self.mtu(),
            group: self.names.group(),
        };
        match links.create_veth(&veth) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let inside = in_namespace(netns.as_fd(), || Ok(index_of(INTERFACE).is_ok()))?;
                if inside && index_of(name).is_ok() {
                    return Ok(());
                }
                links.remove(name)?;
                links.create_veth(&veth)
            }
            made => made,
        }
    }

    fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let Some(sandbox) = self.sandboxes().get(id).cloned() else { return Ok(()) };
        self.disconnect(&sandbox)
            .map_err(|error| NetworkError::io(format!("disconnect sandbox {id}"), error))?;
        self.attachments.remove(id);
        self.sandboxes().release(id)
    }

    /// After this no packet reaches the sandbox by its addresses; its link goes a little later.
    fn disconnect(&self, sandbox: &Sandbox) -> io::Result<()> {
        self.remove_elements(sandbox)?;
        let Ok(device) = index_of(&self.names.veth(&sandbox.id)) else { return Ok(()) };
        let mut links = Links::open()?;
        for address in &sandbox.addresses {
            links.remove_route(&to_link(*address, device, None))?;
        }
        links.set_group(device, self.names.doomed_group())?;
        self.reaper.wake();
        Ok(())
    }

    /// Adds the sandbox's elements. When the table is gone, because somebody flushed all rules, it is
    /// made again with the elements of all sandboxes.
    fn add_elements(&self, sandbox: &Sandbox) -> io::Result<()> {
        let sandboxes = self.sandboxes();
        let mut tables = self.tables.lock().expect("no code under the lock panics");
        for table in tables.iter_mut() {
            let mut batch = table.batch();
            for set in OF_PODS {
                add(&mut batch, set, &elements(table.family(), parts(sandbox), set));
            }
            match table.commit(batch) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    *table = Table::open(&self.config, &self.names, table.family())?;
                    restore(table, all(&sandboxes))?;
                }
                committed => committed?,
            }
        }
        Ok(())
    }

    /// Removes the sandbox's elements. What is gone already need not be removed.
    fn remove_elements(&self, sandbox: &Sandbox) -> io::Result<()> {
        let mut tables = self.tables.lock().expect("no code under the lock panics");
        for table in tables.iter_mut() {
            for set in OF_PODS {
                let mut batch = table.batch();
                let elements = elements(table.family(), parts(sandbox), set);
                batch.delete_elements(set.name(), elements.iter().map(|(key, _)| key.as_slice()));
                match table.commit(batch) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Lets a link's IPv6 addresses be used at once: nobody else is on it who could have the same. Neighbours are
/// asked from the link's own address, which would be on trial for a second.
fn trust_addresses(name: &str) -> io::Result<()> {
    sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0")
}

fn shape(links: &mut Links, device: u32, bits: u64) -> io::Result<()> {
    let bandwidth::Bucket { rate, burst, limit } = bandwidth::Bucket::of(bits);
    links.shape(device, Bucket { rate, burst, limit })
}

/// Runs in the pod's namespace.
fn set_up_inside(pairs: &[(IpAddr, IpAddr)]) -> io::Result<()> {
    let device = index_of(INTERFACE)?;
    if pairs.iter().any(|(address, _)| address.is_ipv6()) {
        trust_addresses(INTERFACE)?;
    }
    let addresses: Vec<_> = pairs.iter().map(|(address, _)| (device, IpNet::from(*address))).collect();
    let mut routes = Vec::new();
    for (_, gateway) in pairs {
        let everywhere = IpNet::new(unspecified(*gateway), 0).expect("no prefix is shorter than none");
        routes.push(to_link(*gateway, device, None));
        routes.push(Route { destination: everywhere, device, gateway: Some(*gateway), source: None });
    }
    Links::open()?.ensure(&[LOOPBACK, device], &addresses, &routes)
}

fn to_link(address: IpAddr, device: u32, source: Option<IpAddr>) -> Route {
    Route { destination: IpNet::from(address), device, gateway: None, source }
}

/// The addresses and routes of a pod's link on the node.
fn near_end(gateways: &[IpAddr], sandbox: &Sandbox, device: u32) -> (Vec<(u32, IpNet)>, Vec<Route>) {
    let pairs = sandbox.addresses.iter().filter_map(|address| pair(gateways, *address));
    pairs
        .map(|(address, gateway)| ((device, IpNet::from(gateway)), to_link(address, device, Some(gateway))))
        .unzip()
}

/// The address with the gateway of its family.
fn pair(gateways: &[IpAddr], address: IpAddr) -> Option<(IpAddr, IpAddr)> {
    let gateway = gateways.iter().find(|gateway| gateway.is_ipv4() == address.is_ipv4())?;
    Some((address, *gateway))
}

/// What of a sandbox is in the tables.
fn parts(sandbox: &Sandbox) -> Parts<'_> {
    (&sandbox.addresses, &sandbox.ports)
}

fn all(sandboxes: &Sandboxes) -> impl Iterator<Item = Parts<'_>> + Clone {
    sandboxes.iter().map(parts)
}

fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

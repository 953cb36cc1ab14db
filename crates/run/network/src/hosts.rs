//! Keeps the ways to other nodes' pods as the cluster's nodes want them.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use plimsoll_client::{Backoff, Informer, Informers};
use plimsoll_kernel::far::{Neighbour, Vxlan};
use plimsoll_kernel::link::{LOOPBACK, Links, Route, Watch, index_of};
use plimsoll_netplan::hosts::{self, Host, Loss, OnLink, Plan, Tunnel};
use tokio_util::sync::CancellationToken;

use crate::bridge::{BridgeNetwork, Inner};

/// How long what is torn is left alone, lest it be mended while it is still being torn.
const MOMENT: Duration = Duration::from_millis(50);

/// Keeps routes and the tunnel as the nodes want them, until `shutdown`. They stay when it ends, and the
/// next run takes them over.
pub async fn reach_hosts(network: BridgeNetwork, informers: Informers, shutdown: CancellationToken) {
    let nodes = informers.informer::<Node>();
    let watch =
        Watch::open().inspect_err(|error| tracing::warn!(%error, "changes of links are not told")).ok();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(&network, &nodes, watch.as_ref()) => {}
    }
}

async fn follow(network: &BridgeNetwork, nodes: &Informer<Node>, watch: Option<&Watch>) {
    let mut changes = nodes.subscribe();
    nodes.synced().await;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    let (mut before, mut told, mut torn) = (None, Plan::default(), false);
    loop {
        while changes.try_recv().is_ok() {}
        let seen = (network.inner.ranges(), sight(nodes));
        // What the kernel has is only looked at when somebody's place may have changed.
        if before.as_ref() != Some(&seen) {
            let (inner, (ranges, all)) = (network.inner.clone(), seen.clone());
            let work = move || {
                if torn {
                    inner.mend().map_err(io::Error::other)?;
                }
                inner.reach(ranges, &all)
            };
            match tokio::task::spawn_blocking(work).await.expect("the work does not panic") {
                Ok(plan) => {
                    tell(&told, &plan);
                    (before, told, torn) = (Some(seen), plan, false);
                    backoff.reset();
                }
                Err(error) => {
                    tracing::warn!(%error, "ways to other nodes were refused, trying again");
                    tokio::time::sleep(backoff.delay()).await;
                    continue;
                }
            }
        }
        tokio::select! {
            change = changes.recv() => if change.is_none() { return },
            () = network.inner.ranged.notified() => {}
            () = lost(&network.inner, watch) => {
                tracing::warn!("somebody changed the links or routes of pods, they are put right");
                (before, torn) = (None, true);
            }
        }
    }
}

/// Waits until the network lacks something, and a moment longer: the rest of it may be on its way out.
async fn lost(inner: &Inner, watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.lost(|loss| inner.is_missed(loss)).await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(MOMENT).await;
}

/// All nodes, in order.
fn sight(nodes: &Informer<Node>) -> Vec<Host> {
    let mut all: Vec<_> = nodes.list().iter().map(|node| Host::of(node)).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn tell(before: &Plan, plan: &Plan) {
    for (node, loss) in plan.lost.iter().filter(|(node, loss)| before.lost.get(*node) != Some(loss)) {
        match loss {
            Loss::NoAddress => tracing::debug!(node, %loss, "pods of a node cannot be reached"),
            _ => tracing::warn!(node, %loss, "pods of a node cannot be reached"),
        }
    }
}

impl Inner {
    fn reach(&self, ranges: Vec<IpNet>, all: &[Host]) -> io::Result<Plan> {
        let mut links = Links::open()?;
        let name = &self.config.node_name;
        let addresses = all.iter().find(|host| host.name == *name).map(|host| host.addresses.clone());
        // Before this node has its range nothing can come back.
        let own = Host { name: name.clone(), ranges, addresses: addresses.unwrap_or_default() };
        let others = if own.ranges.is_empty() { &[] } else { all };
        let plan = hosts::plan(&own, others, &self.on_links(&mut links)?, &self.config.cluster_cidr);
        self.mtu.store(plan.mtu.map_or(self.uplink_mtu, |mtu| mtu.min(self.uplink_mtu)), Ordering::Relaxed);
        let tunnel = plan.tunnel.as_ref().map(|tunnel| self.dig(&mut links, tunnel)).transpose()?;
        self.tunnel.store(tunnel.unwrap_or(0), Ordering::Relaxed);
        self.route(&mut links, &plan, tunnel)?;
        if tunnel.is_none() {
            links.remove(&self.names.tunnel())?;
        }
        Ok(plan)
    }

    /// The addresses of this machine that do not belong to the instance.
    fn on_links(&self, links: &mut Links) -> io::Result<Vec<OnLink>> {
        let all = links.list()?;
        let foreign = |index: u32| {
            let link = all.iter().find(|link| link.index == index)?;
            (link.group != self.names.group() && index != LOOPBACK).then_some(link.mtu)
        };
        let addresses = links.all_addresses()?.into_iter();
        Ok(addresses
            .filter_map(|(device, address)| Some(OnLink { address, device, mtu: foreign(device)? }))
            .collect())
    }

    /// Makes the tunnel what it should be; answers with its index.
    fn dig(&self, links: &mut Links, tunnel: &Tunnel) -> io::Result<u32> {
        let device = links.ensure_vxlan(&Vxlan {
            name: self.names.tunnel(),
            network: (hosts::NETWORK, hosts::PORT),
            local: tunnel.local,
            hardware: tunnel.hardware,
            mtu: tunnel.mtu,
            group: self.names.group(),
        })?;
        let addresses: Vec<_> = tunnel.addresses.iter().map(|address| IpNet::from(*address)).collect();
        for old in links.addresses(device)?.iter().filter(|old| !addresses.contains(old)) {
            links.remove_address(device, *old)?;
        }
        for address in addresses {
            links.ensure_address(device, address)?;
        }
        let wanted: Vec<_> = tunnel.peers.iter().flat_map(neighbours).collect();
        let found = links.neighbours(device)?;
        for old in found.iter().filter(|old| !wanted.iter().any(|new| same_key(old, new))) {
            links.remove_neighbour(device, old)?;
        }
        for new in wanted.iter().filter(|new| !found.contains(new)) {
            links.ensure_neighbour(device, new)?;
        }
        Ok(device)
    }

    fn route(&self, links: &mut Links, plan: &Plan, tunnel: Option<u32>) -> io::Result<()> {
        let route = |way: &hosts::Route| {
            let device = way.device.or(tunnel)?;
            Some(Route {
                destination: way.destination,
                device,
                gateway: Some(way.gateway),
                source: way.source,
            })
        };
        let ways = plan.routes.iter().filter_map(route);
        let wanted: Vec<_> = ways.flat_map(|way| [entrance(&way, tunnel), Some(way)]).flatten().collect();
        // Other instances on this machine have routes of their own.
        let ours =
            |route: &Route| self.config.cluster_cidr.iter().any(|range| range.contains(&route.destination));
        let found: Vec<_> = links.far_routes()?.into_iter().filter(ours).collect();
        for new in wanted.iter().filter(|new| !found.contains(new)) {
            links.ensure_far_route(new)?;
        }
        for old in found.iter().filter(|old| !wanted.iter().any(|new| new.destination == old.destination)) {
            links.remove_far_route(old)?;
        }
        Ok(())
    }
}

/// What the kernel wants before it takes a way of IPv6 through the tunnel: it finds the gateway in the cluster's range, which
/// is the bridge's, and holds it for another device's.
fn entrance(way: &Route, tunnel: Option<u32>) -> Option<Route> {
    let gateway = way.gateway.filter(|gateway| gateway.is_ipv6() && Some(way.device) == tunnel)?;
    Some(Route { destination: IpNet::from(gateway), gateway: None, ..*way })
}

fn neighbours(peer: &hosts::Peer) -> impl Iterator<Item = Neighbour> + '_ {
    let inside = peer.inside.iter().map(|address: &IpAddr| Neighbour::Resolved(*address, peer.hardware));
    inside.chain([Neighbour::Forwarded(peer.hardware, peer.remote)])
}

/// Whether saying the one replaces the other.
fn same_key(one: &Neighbour, other: &Neighbour) -> bool {
    match (one, other) {
        (Neighbour::Resolved(one, _), Neighbour::Resolved(other, _)) => one == other,
        // A hardware address may lead to several machines: only the very same is replaced.
        (one, other) => one == other,
    }
}

/// Removes the ways to other nodes' pods that this node sends into from an address of its bridge.
pub(crate) fn forget(links: &mut Links, bridge: &str) -> io::Result<()> {
    let Ok(bridge) = index_of(bridge) else { return Ok(()) };
    let own: Vec<_> = links.addresses(bridge)?.iter().map(IpNet::addr).collect();
    for route in links.far_routes()? {
        if route.source.is_some_and(|source| own.contains(&source)) {
            links.remove_far_route(&route)?;
        }
    }
    Ok(())
}

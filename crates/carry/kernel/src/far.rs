//! Ways to other machines: routes with a mark, a VXLAN device, and who is where in it.
//!
//! All of it is kept by the kernel when the process ends; whoever starts next reads it back.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::LinkVxlan;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::link::{Links, Route, index_of, route_message};
use crate::netlink::{CREATE, EXCLUSIVE, REPLACE};

/// Tells these routes from those of others (`proto 76` in `ip route`).
const MARK: RouteProtocol = RouteProtocol::Other(76);

/// A VXLAN device that learns nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Name of the interface.
    pub name: String,
    /// Number of the network, and its UDP port.
    pub network: (u32, u16),
    /// The address that wrapped packets come from.
    pub local: IpAddr,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Group of the interface.
    pub group: u32,
}

/// Where something on a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Neighbour {
    /// Who has an address on the link.
    Resolved(IpAddr, [u8; 6]),
    /// Where packets for a hardware address are sent when they are wrapped.
    Forwarded([u8; 6], IpAddr),
}

impl Links {
    /// Makes the device, or takes the one that is there if it is the same; sets it up; answers with its index.
    pub fn ensure_vxlan(&mut self, vxlan: &Vxlan) -> io::Result<u32> {
        if let Some(found) = self.vxlan(&vxlan.name)? {
            if found == *vxlan {
                let index = index_of(&vxlan.name)?;
                self.set_up(index)?;
                return Ok(index);
            }
            self.remove(&vxlan.name)?;
        }
        let (id, port) = vxlan.network;
        let device = LinkVxlan::new(&vxlan.name, id).port(port).learning(false);
        let device = match vxlan.local {
            IpAddr::V4(local) => device.local(local),
            IpAddr::V6(local) => device.local6(local),
        };
        let message =
            device.address(vxlan.hardware.to_vec()).mtu(vxlan.mtu).link_group(vxlan.group).up().build();
        self.one(RouteNetlinkMessage::NewLink(message), CREATE | EXCLUSIVE, None)?;
        let index = index_of(&vxlan.name)?;
        self.keep_from_ipv6(index)?;
        Ok(index)
    }

    fn vxlan(&mut self, name: &str) -> io::Result<Option<Vxlan>> {
        let mut found = None;
        self.all(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message
                && let Some(vxlan) = vxlan_of(&link).filter(|vxlan| vxlan.name == name)
            {
                found = Some(vxlan);
            }
        })?;
        Ok(found)
    }

    /// All routes with the mark, whose next hop is on the link whatever its addresses say.
    pub fn far_routes(&mut self) -> io::Result<Vec<Route>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            self.all(RouteNetlinkMessage::GetRoute(request), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    found.extend(far_route(&route));
                }
            })?;
        }
        Ok(found)
    }

    /// Adds a route with the mark, or replaces the one to the same destination.
    pub fn ensure_far_route(&mut self, route: &Route) -> io::Result<()> {
        self.one(RouteNetlinkMessage::NewRoute(marked(route)), CREATE | REPLACE, None)
    }

    /// Removes a route with the mark. Succeeds when it is gone.
    pub fn remove_far_route(&mut self, route: &Route) -> io::Result<()> {
        self.one(RouteNetlinkMessage::DelRoute(marked(route)), 0, Some(Errno::ESRCH))
    }

    /// What was said about a device's neighbours, and was not learnt.
    pub fn neighbours(&mut self, device: u32) -> io::Result<Vec<Neighbour>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            self.all(RouteNetlinkMessage::GetNeighbour(request), |message| {
                if let RouteNetlinkMessage::NewNeighbour(neighbour) = message
                    && neighbour.header.ifindex == device
                    && neighbour.header.state == NeighbourState::Permanent
                {
                    found.extend(neighbour_of(&neighbour));
                }
            })?;
        }
        Ok(found)
    }

    /// Says where a neighbour is, instead of what was said about it before.
    pub fn ensure_neighbour(&mut self, device: u32, neighbour: &Neighbour) -> io::Result<()> {
        let message = neighbour_message(device, neighbour);
        self.one(RouteNetlinkMessage::NewNeighbour(message), CREATE | REPLACE, None)
    }

    /// Forgets where a neighbour is. Succeeds when nothing is known.
    pub fn remove_neighbour(&mut self, device: u32, neighbour: &Neighbour) -> io::Result<()> {
        let message = neighbour_message(device, neighbour);
        self.one(RouteNetlinkMessage::DelNeighbour(message), 0, Some(Errno::ENOENT))
    }
}

fn vxlan_of(link: &LinkMessage) -> Option<Vxlan> {
    let (mut name, mut hardware, mut mtu, mut group, mut infos) = (None, None, 0, 0, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => hardware = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Group(number) => group = *number,
            LinkAttribute::LinkInfo(parts) if parts.contains(&LinkInfo::Kind(InfoKind::Vxlan)) => {
                infos = parts.iter().find_map(|part| match part {
                    LinkInfo::Data(InfoData::Vxlan(infos)) => Some(infos),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let (mut id, mut port, mut local) = (0, 0, None);
    for info in infos? {
        match info {
            InfoVxlan::Id(number) => id = *number,
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Local(address) => local = Some(IpAddr::from(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::from(*address)),
            _ => {}
        }
    }
    Some(Vxlan { name: name?, network: (id, port), local: local?, hardware: hardware?, mtu, group })
}

fn marked(route: &Route) -> RouteMessage {
    let mut message = route_message(route);
    message.header.protocol = MARK;
    message.header.scope = RouteScope::Universe;
    if route.gateway.is_some() {
        message.header.flags |= RouteFlags::Onlink;
    }
    message
}

fn far_route(message: &RouteMessage) -> Option<Route> {
    if message.header.protocol != MARK {
        return None;
    }
    let (mut destination, mut device, mut gateway, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    let destination = IpNet::new(destination?, message.header.destination_prefix_length).ok()?;
    Some(Route { destination, device: device?, gateway, source })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn neighbour_message(device: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let (address, hardware, own) = match neighbour {
        Neighbour::Resolved(address, hardware) => (*address, hardware, false),
        Neighbour::Forwarded(hardware, address) => (*address, hardware, true),
    };
    let mut message = NeighbourMessage::default();
    message.header.ifindex = device;
    message.header.state = NeighbourState::Permanent;
    message.header.family = match address {
        _ if own => AddressFamily::Bridge,
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    if own {
        message.header.flags = NeighbourFlags::Own;
    }
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(hardware.to_vec()),
    ];
    message
}

fn neighbour_of(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut address, mut hardware) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(found) => address = neighbour_address(found),
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    match message.header.family {
        AddressFamily::Bridge => Some(Neighbour::Forwarded(hardware?, address?)),
        _ => Some(Neighbour::Resolved(address?, hardware?)),
    }
}

/// The codec knows no addresses of forwarding entries: their length tells the family.
fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}

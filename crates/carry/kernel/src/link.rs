//! Links, addresses and routes, by netlink.
//!
//! A [`Links`] belongs to the network namespace of the thread that opened it.
//! All calls block for as long as the kernel works on them: microseconds for
//! most, milliseconds for making and removing links. Call them from a blocking
//! thread. Every `ensure_…` may be repeated.

mod bandwidth;
mod join;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage, State,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

pub use bandwidth::Bucket;
pub use join::Join;
pub use watch::{Loss, Watch};

use crate::netlink::{ACK, CREATE, Conversation, DUMP, EXCLUSIVE, Message, REPLACE, REQUEST};

const ROUTE_FAMILY: isize = 0;

/// The loopback interface of every namespace.
pub const LOOPBACK: u32 = 1;

/// How often the carrier of a link is asked for, a millisecond apart. Busy machines need some.
const CARRIER_ATTEMPTS: u32 = 2000;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface in its namespace.
    pub index: u32,
    /// Name of the interface.
    pub name: String,
    /// Largest packet it sends, in bytes.
    pub mtu: u32,
    /// The group it was put into; 0 by default.
    pub group: u32,
}

/// A pair of connected interfaces, one of them in another namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Name of the other end.
    pub peer: &'a str,
    /// Namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Group of the end in this namespace.
    pub group: u32,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// Index of the interface it leaves by.
    pub device: u32,
    /// The next hop, when the destination is not on the link itself.
    pub gateway: Option<IpAddr>,
    /// Source address for packets of this host's own.
    pub source: Option<IpAddr>,
}

/// A conversation with the kernel about the links of one namespace.
#[derive(Debug)]
pub struct Links {
    netlink: Conversation,
}

impl Links {
    /// Opens a conversation about the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Conversation::open(ROUTE_FAMILY)? })
    }

    /// Makes the bridge if it is missing, sets it up; answers with its index.
    pub fn ensure_bridge(&mut self, name: &str, group: u32) -> io::Result<u32> {
        let message = LinkBridge::new(name).link_group(group).up().build();
        self.one(RouteNetlinkMessage::NewLink(message), CREATE | EXCLUSIVE, Some(Errno::EEXIST))?;
        let index = index_of(name)?;
        self.set_up(index)?;
        Ok(index)
    }

    /// Makes a pair of interfaces; the near end is up, the far end cannot be yet. Fails with `AlreadyExists` when either name is taken.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> io::Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(veth.peer)
            .mtu(veth.mtu)
            .setns_by_fd(veth.peer_namespace.as_raw_fd())
            .build();
        let message = LinkVeth::new(veth.name, veth.peer)
            .mtu(veth.mtu)
            .link_group(veth.group)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        self.one(RouteNetlinkMessage::NewLink(message), CREATE | EXCLUSIVE, None)
    }

    /// Sets an interface up.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.one(RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build()), 0, None)
    }

    /// Gives an interface no IPv6 address of the kernel's own choice. Succeeds on kernels without IPv6.
    ///
    /// The parameter `disable_ipv6` would do more, but whoever writes it spins while anything changes in the
    /// links of any namespace.
    pub fn keep_from_ipv6(&mut self, index: u32) -> io::Result<()> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            .build();
        self.one(RouteNetlinkMessage::SetLink(message), 0, Some(Errno::EAFNOSUPPORT))
    }

    /// Waits until packets can leave by an interface whose peer was just set up.
    ///
    /// The kernel notices a link's carrier some time after it appears and drops what is sent until then.
    /// Asking for the link makes it notice at once (since Linux 6.8), or tells whether it has.
    pub fn await_carrier(&mut self, index: u32) -> io::Result<()> {
        for _ in 0..CARRIER_ATTEMPTS {
            let mut up = false;
            let request = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_index(index).build());
            self.get(request, ACK, |message| {
                if let RouteNetlinkMessage::NewLink(link) = message {
                    up = link.attributes.contains(&LinkAttribute::OperState(State::Up));
                }
            })?;
            if up {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("interface {index} has no carrier")))
    }

    /// Moves an interface into a group.
    pub fn set_group(&mut self, index: u32, group: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).link_group(group).build();
        self.one(RouteNetlinkMessage::SetLink(message), 0, None)
    }

    /// Removes an interface, and its peer if it has one. Succeeds when it is gone.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let message = LinkUnspec::new_with_name(name).build();
        self.one(RouteNetlinkMessage::DelLink(message), 0, Some(Errno::ENODEV))
    }

    /// Removes all interfaces of a group at once, which costs little more than removing one.
    pub fn remove_group(&mut self, group: u32) -> io::Result<()> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().link_group(group).build();
        self.one(RouteNetlinkMessage::DelLink(message), 0, Some(Errno::ENODEV))
    }

    /// Gives an interface an address; the prefix length says what is on its link.
    pub fn ensure_address(&mut self, device: u32, address: IpNet) -> io::Result<()> {
        let message = address_message(device, address);
        self.one(RouteNetlinkMessage::NewAddress(message), CREATE | REPLACE, None)
    }

    /// Takes an address from an interface. Succeeds when it is gone.
    pub fn remove_address(&mut self, device: u32, address: IpNet) -> io::Result<()> {
        let message = address_message(device, address);
        self.one(RouteNetlinkMessage::DelAddress(message), 0, Some(Errno::EADDRNOTAVAIL))
    }

    /// The addresses of an interface.
    pub fn addresses(&mut self, device: u32) -> io::Result<Vec<IpNet>> {
        let all = self.all_addresses()?;
        Ok(all.into_iter().filter(|(index, _)| *index == device).map(|(_, address)| address).collect())
    }

    /// The addresses of all interfaces, with the index of each.
    pub fn all_addresses(&mut self) -> io::Result<Vec<(u32, IpNet)>> {
        let mut found = Vec::new();
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.all(request, |message| {
            if let RouteNetlinkMessage::NewAddress(address) = message {
                found.extend(address_of(&address).map(|net| (address.header.index, net)));
            }
        })?;
        Ok(found)
    }

    /// Adds a route, or replaces the one to the same destination.
    pub fn ensure_route(&mut self, route: &Route) -> io::Result<()> {
        self.one(RouteNetlinkMessage::NewRoute(route_message(route)), CREATE | REPLACE, None)
    }

    /// Makes several changes in one call to the kernel, in order; each may repeat an earlier one.
    pub fn ensure(&mut self, up: &[u32], addresses: &[(u32, IpNet)], routes: &[Route]) -> io::Result<()> {
        let up = up
            .iter()
            .map(|index| (RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(*index).up().build()), 0));
        let addresses = addresses.iter().map(|(device, address)| {
            (RouteNetlinkMessage::NewAddress(address_message(*device, *address)), CREATE | REPLACE)
        });
        let routes = routes
            .iter()
            .map(|route| (RouteNetlinkMessage::NewRoute(route_message(route)), CREATE | REPLACE));
        self.batch(up.chain(addresses).chain(routes), None)
    }

    /// Removes a route. Succeeds when it is gone.
    pub fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        self.one(RouteNetlinkMessage::DelRoute(route_message(route)), 0, Some(Errno::ESRCH))
    }

    /// All links of the namespace.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        let mut found = Vec::new();
        self.all(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                found.push(link_of(&link));
            }
        })?;
        Ok(found)
    }

    /// The MTU of the interface that default routes leave by, if there is one.
    pub fn uplink_mtu(&mut self) -> io::Result<Option<u32>> {
        let mut uplinks = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            self.all(RouteNetlinkMessage::GetRoute(request), |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    uplinks.extend(default_route_device(&route));
                }
            })?;
        }
        let links = self.list()?;
        Ok(links.iter().filter(|link| uplinks.contains(&link.index)).map(|link| link.mtu).min())
    }

    pub(crate) fn one(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        harmless: Option<Errno>,
    ) -> io::Result<()> {
        self.batch(std::iter::once((message, flags)), harmless)
    }

    fn batch(
        &mut self,
        requests: impl Iterator<Item = (RouteNetlinkMessage, u16)>,
        harmless: Option<Errno>,
    ) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(1024);
        for (message, flags) in requests {
            write(&mut buffer, message, REQUEST | ACK | flags, self.netlink.next_sequence());
        }
        let refused = self.netlink.send(&buffer)?;
        match refused.into_iter().find(|refusal| Some(refusal.error) != harmless) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    pub(crate) fn all(
        &mut self,
        request: RouteNetlinkMessage,
        take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.get(request, DUMP, take)
    }

    fn get(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        write(&mut buffer, request, REQUEST | flags, self.netlink.next_sequence());
        let dumped = self.netlink.dump(&buffer, |message| take_parsed(message, &mut take));
        // A table that changed meanwhile may lack or repeat entries that changed, no others.
        dumped.or_else(|error| if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) })
    }
}

/// Runs `work` on a thread of its own inside a network namespace.
///
/// The calling thread never leaves its namespace, and no thread has to find back.
pub fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let enter = || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plim-netns".to_owned()).spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The number of the interface with this name in the calling thread's namespace.
pub fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Writes a kernel parameter of the calling thread's namespace, for example
/// `sysctl("net/ipv4/ip_forward", "1")`. What has the value already is not written.
pub fn sysctl(key: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(key);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if std::fs::read_to_string(&path).map_err(named)?.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(named)
}

fn write(buffer: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut buffer[start..]);
}

fn take_parsed(message: &Message<'_>, take: &mut impl FnMut(RouteNetlinkMessage)) {
    use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader};
    let mut header = NetlinkHeader::default();
    header.message_type = message.kind;
    // Attributes of newer kernels are kept as unknown by the codec: what it cannot read is malformed.
    if let Ok(parsed) = RouteNetlinkMessage::deserialize(&header, message.body) {
        take(parsed);
    }
}

fn address_message(device: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(device)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(device)
                .address(net.addr(), net.prefix_len())
                .build();
            // Whoever gives addresses out knows that nobody else has them; asking around takes a second.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

pub(crate) fn route_message(route: &Route) -> RouteMessage {
    let mut message = match route.destination {
        IpNet::V4(net) => {
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(net.network(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(net.network(), net.prefix_len()).build()
        }
    };
    if route.gateway.is_none() && matches!(route.destination, IpNet::V4(_)) {
        message.header.scope = RouteScope::Link;
    }
    message.attributes.push(RouteAttribute::Oif(route.device));
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(route_address(gateway))));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(route_address(source))));
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn default_route_device(route: &RouteMessage) -> Option<u32> {
    if route.header.destination_prefix_length != 0 || route.header.table != 254 {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(device) => Some(*device),
        _ => None,
    })
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), mtu: 0, group: 0 };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Group(group) => link.group = *group,
            _ => {}
        }
    }
    link
}

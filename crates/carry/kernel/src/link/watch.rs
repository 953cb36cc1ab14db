//! Being told that links, addresses, routes and neighbours went away.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{ROUTE_FAMILY, take_parsed};
use crate::netlink::messages;
use crate::readiness::register;

/// The groups that are told of links, neighbours, and the addresses and routes of both families.
const CHANGES: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// What went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Something of the link with this index: itself, its being up, an address, a neighbour.
    OfLink(u32),
    /// The route to this destination.
    Route(IpNet),
    /// There was more than could be told.
    Missed,
}

/// Tells what goes away in a network namespace, whoever takes it.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Listens in the calling thread's namespace, in the caller's runtime.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(ROUTE_FAMILY)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        CHANGES.iter().try_for_each(|group| socket.add_membership(*group))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket: register(socket.as_fd().try_clone_to_owned()?, Interest::READABLE)? })
    }

    /// Waits until something goes that matters, and takes all that is known by then. Waits for ever when the
    /// kernel tells nothing any more.
    pub async fn lost(&self, matters: impl Fn(Loss) -> bool) {
        if self.wait(matters).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn wait(&self, matters: impl Fn(Loss) -> bool) -> io::Result<()> {
        let (mut buffer, mut found) = (vec![0; 32 << 10], false);
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready
                .try_io(|socket| Ok(recv(socket.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty())?));
            match received {
                Ok(Ok(length)) => found |= losses(&buffer[..length]).into_iter().any(&matters),
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    found |= matters(Loss::Missed);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if found => return Ok(()),
                Err(_) => {}
            }
        }
    }
}

fn losses(bytes: &[u8]) -> Vec<Loss> {
    let mut found = Vec::new();
    for message in messages(bytes) {
        take_parsed(&message, &mut |message| found.extend(loss(&message)));
    }
    found
}

fn loss(message: &RouteNetlinkMessage) -> Option<Loss> {
    let is_down = |link: &LinkMessage| !link.header.flags.contains(LinkFlags::Up);
    match message {
        RouteNetlinkMessage::DelLink(link) => Some(Loss::OfLink(link.header.index)),
        RouteNetlinkMessage::NewLink(link) if is_down(link) => Some(Loss::OfLink(link.header.index)),
        RouteNetlinkMessage::DelAddress(address) => Some(Loss::OfLink(address.header.index)),
        RouteNetlinkMessage::DelNeighbour(neighbour) => Some(Loss::OfLink(neighbour.header.ifindex)),
        RouteNetlinkMessage::DelRoute(route) => destination(route).map(Loss::Route),
        _ => None,
    }
}

/// Where a route leads, if it is not a default route.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

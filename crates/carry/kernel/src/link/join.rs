//! How interfaces that somebody else made join a pod to this machine.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::{Links, in_namespace};

const CABLE: &str = "veth";
const BRIDGE: &str = "bridge";

/// What a pod's packets come to on their way to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// An interface of this machine, from which they are routed.
    Routed,
    /// A bridge of this machine, of this number, which carries them to its other ports.
    Bridged(u32),
    /// Something that this machine sees nothing of, of this kind, for example `macvlan`.
    Apart(String),
}

/// What is told of an interface about where it leads.
struct End {
    index: u32,
    name: String,
    kind: String,
    /// The other end of a cable, or what the interface stands on.
    link: Option<u32>,
    /// What the interface is a port of.
    master: Option<u32>,
}

impl Links {
    /// How a pod's interface of this name joins it to this conversation's machine.
    pub fn join(&mut self, pod: BorrowedFd<'_>, interface: &str) -> io::Result<Join> {
        let inside = in_namespace(pod, || Self::open()?.ends())?;
        let inside = inside.into_iter().find(|one| one.name == interface).ok_or(Errno::ENODEV)?;
        if inside.kind != CABLE {
            return Ok(Join::Apart(inside.kind));
        }
        let here = self.ends()?;
        let find = |index: Option<u32>| here.iter().find(|one| Some(one.index) == index);
        let Some(near) = find(inside.link).filter(|one| one.kind == CABLE) else {
            return Ok(Join::Apart(CABLE.to_owned()));
        };
        Ok(match find(near.master) {
            None => Join::Routed,
            Some(master) if master.kind == BRIDGE => Join::Bridged(master.index),
            Some(master) => Join::Apart(master.kind.clone()),
        })
    }

    /// Has what passes between the ports of a bridge pass this machine's rules for what is routed, too. An error of
    /// kind `Unsupported` where the kernel cannot do so (module `br_netfilter`).
    pub fn filter_bridge(&mut self, bridge: u32) -> io::Result<()> {
        if !Path::new("/proc/sys/net/bridge").exists() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let filtered = vec![InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(filtered))];
        let message =
            LinkUnspec::new_with_index(bridge).append_extra_attribute(LinkAttribute::LinkInfo(info)).build();
        self.one(RouteNetlinkMessage::NewLink(message), 0, None)
    }

    fn ends(&mut self) -> io::Result<Vec<End>> {
        let mut found = Vec::new();
        self.all(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                found.push(end(&link));
            }
        })?;
        Ok(found)
    }
}

fn end(message: &LinkMessage) -> End {
    let index = message.header.index;
    let mut read = End { index, name: String::new(), kind: String::new(), link: None, master: None };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => read.name.clone_from(name),
            LinkAttribute::Link(link) => read.link = Some(*link),
            LinkAttribute::Controller(master) => read.master = Some(*master),
            LinkAttribute::LinkInfo(parts) => {
                let kind = parts.iter().find_map(|part| match part {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                read.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    read
}

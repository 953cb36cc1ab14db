//! Connections that the kernel remembers and should not any more.

use std::io;
use std::net::IpAddr;

use super::NETFILTER_FAMILY;
use super::expression::address_bytes;
use super::message::{Writer, begin_message};
use crate::netlink::{ACK, Conversation, REQUEST};

const DELETE_CONNECTION: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const SOURCE_ADDRESS: u32 = 1;
const DESTINATION_ADDRESS: u32 = 1 << 1;
const PROTOCOL: u32 = 1 << 3;
const SOURCE_PORT: u32 = 1 << 4;
const DESTINATION_PORT: u32 = 1 << 5;

/// Which remembered connections are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Those answered by this address and port.
    AnsweredBy {
        /// Number of the transport protocol.
        protocol: u8,
        /// Who answers.
        address: IpAddr,
        /// From which port.
        port: u16,
    },
    /// Those that were sent to this port, at this address or any.
    SentTo {
        /// Number of the transport protocol.
        protocol: u8,
        /// Family and, unless it is unspecified, address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
}

/// Makes the kernel forget all connections of each kind, so that their next packet is routed anew.
pub fn forget_flows(flows: impl IntoIterator<Item = Flow>) -> io::Result<()> {
    let mut netlink = Conversation::open(NETFILTER_FAMILY)?;
    for flow in flows {
        let request = request(flow, netlink.next_sequence());
        if let Some(refusal) = netlink.send(&request)?.into_iter().next() {
            return Err(refusal.into());
        }
    }
    Ok(())
}

fn request(flow: Flow, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let (Flow::AnsweredBy { address, .. } | Flow::SentTo { address, .. }) = flow;
    let family = if address.is_ipv4() { 2 } else { 10 };
    let start = begin_message(&mut writer, DELETE_CONNECTION, REQUEST | ACK, family, 0, sequence);
    match flow {
        Flow::AnsweredBy { protocol, address, port } => {
            writer.nested(TUPLE_REPLY, |writer| tuple(writer, protocol, Some((true, address)), (2, port)));
            filter(&mut writer, FILTER_REPLY, SOURCE_ADDRESS | PROTOCOL | SOURCE_PORT);
        }
        Flow::SentTo { protocol, address, port } => {
            let known = (!address.is_unspecified()).then_some((false, address));
            writer.nested(TUPLE_ORIGINAL, |writer| tuple(writer, protocol, known, (3, port)));
            let by_address = if known.is_some() { DESTINATION_ADDRESS } else { 0 };
            filter(&mut writer, FILTER_ORIGINAL, by_address | PROTOCOL | DESTINATION_PORT);
        }
    }
    writer.end_message(start);
    writer.into_bytes()
}

fn tuple(writer: &mut Writer, protocol: u8, address: Option<(bool, IpAddr)>, (port_kind, port): (u16, u16)) {
    if let Some((source, address)) = address {
        let kind = match (address.is_ipv4(), source) {
            (true, true) => 1,
            (true, false) => 2,
            (false, true) => 3,
            (false, false) => 4,
        };
        writer.nested(1, |writer| writer.raw(kind, &address_bytes(address)));
    }
    writer.nested(2, |writer| {
        writer.raw(1, &[protocol]);
        writer.raw(port_kind, &port.to_be_bytes());
    });
}

/// The flags are the one number of this interface in the host's byte order.
fn filter(writer: &mut Writer, direction: u16, flags: u32) {
    writer.nested(FILTER, |writer| writer.raw(direction, &flags.to_ne_bytes()));
}

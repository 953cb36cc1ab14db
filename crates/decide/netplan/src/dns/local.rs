//! Answers from a configuration's `hosts`.

use std::net::IpAddr;

use super::corefile::hosts::{Hosts, Told};
use super::message::{Kind, Query, Rcode};
use super::reply::{Owner, Reply, Section};
use super::zone::reverse_address;
use super::{Answer, Transport};

/// Answers a query from `hosts`; nothing when they do not tell.
pub fn answer_from_hosts(
    query: &Query<'_>,
    hosts: &Hosts,
    transport: Transport,
    reply: &mut Vec<u8>,
) -> Option<Answer> {
    let name = query.name.text()?;
    let mut reply = Reply::begin(query, transport, hosts.lifetime, reply);
    if let Some(address) = reverse_address(name) {
        let names = hosts.of_address(address);
        if names.is_empty() || !matches!(query.kind, Kind::Ptr | Kind::Any) {
            return None;
        }
        for name in names {
            reply.name(Kind::Ptr, Owner::Question, name);
        }
        return Some(reply.finish(Rcode::NoError));
    }
    let wanted = |address: &&IpAddr| match query.kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Any => true,
        _ => false,
    };
    match hosts.of_name(name) {
        Told::Nothing => None,
        Told::NoName => Some(reply.finish(Rcode::NameError)),
        Told::Addresses(addresses) => {
            for address in addresses.iter().filter(wanted) {
                reply.address(Section::Answer, Owner::Question, *address);
            }
            Some(reply.finish(Rcode::NoError))
        }
    }
}

//! Answers from a configuration's `hosts` and `template`.

use std::net::IpAddr;

use super::corefile::hosts::{Hosts, Told};
use super::corefile::{Data, Template, written};
use super::message::{Kind, Opcode, Query, Rcode};
use super::reply::{Owner, Reply, Section};
use super::zone::reverse_address;
use super::{Answer, Transport, fail};

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

/// Answers a query from `template`s; nothing when none of them tells. An alias that an address was asked for is to
/// be followed.
pub fn answer_from_templates(
    query: &Query<'_>,
    templates: &[Template],
    transport: Transport,
    reply: &mut Vec<u8>,
) -> Option<Answer> {
    if templates.is_empty() || query.opcode != Opcode::Query || !query.is_internet() {
        return None;
    }
    let name = query.name.text()?;
    let written = written(templates, name, query.kind)?;
    if written.rcode == Rcode::ServerFailure {
        return Some(fail(query.message(), written.rcode, reply));
    }
    let (mut reply, mut alias) = (Reply::begin(query, transport, 0, reply), None);
    for record in &written.records {
        let own = record.owner.eq_ignore_ascii_case(name);
        let owner = if own { Owner::Question } else { Owner::Name(&record.owner) };
        reply.live_for(record.lifetime);
        match &record.data {
            Data::Address(address) => reply.address(Section::Answer, owner, *address),
            Data::Text(text) => reply.text(text),
            Data::Name(kind, target) => {
                reply.name(*kind, owner, target);
                alias = (*kind == Kind::Cname).then(|| target.to_ascii_lowercase());
            }
        }
    }
    let follows = matches!(query.kind, Kind::A | Kind::Aaaa);
    let answer = reply.finish(written.rcode);
    Some(alias.filter(|_| follows).map_or(answer, Answer::Elsewhere))
}

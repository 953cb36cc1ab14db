//! Finding the records of a name.
//!
//! | name | records |
//! | --- | --- |
//! | `SERVICE.NAMESPACE.svc.ZONE` | A/AAAA of the Service or its endpoints, or CNAME; SRV of its ports |
//! | `ENDPOINT.SERVICE.NAMESPACE.svc.ZONE` | A/AAAA of one endpoint of a headless Service |
//! | `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc.ZONE` | SRV |
//! | `10-0-0-1.NAMESPACE.pod.ZONE` | A/AAAA |
//! | `1.0.0.10.in-addr.arpa` | PTR |
//! | `dns-version.ZONE` | TXT |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::corefile::Pods;
use super::message::{Kind, Query};
use super::records::{EndpointRecord, Place, PortRecord, Records, ServiceRecords};
use super::reply::{Owner, Reply, Section};
use crate::endpoints::Protocol;

/// The specification these records follow.
const VERSION: &str = "1.1.0";

/// Aliases of aliases that are followed inside the zone.
const LONGEST_CHAIN: usize = 8;

/// Addresses added to SRV records; more only lengthen the reply.
const ADDITIONAL: usize = 32;

pub(super) enum Outcome {
    /// Records were written.
    Found,
    /// The name exists, without such records.
    NoData,
    /// There is no such name.
    NoName,
    /// An alias was written whose target is outside of the zone.
    Alias(String),
    /// The name is outside of the zone.
    Foreign,
    /// An address that no Service has.
    ForeignAddress,
}

/// Writes the records of the query's name, if there are any.
pub(super) fn look_up(records: &Records, query: &Query<'_>, spread: u32, reply: &mut Reply<'_>) -> Outcome {
    let Some(name) = query.name.text() else {
        let bytes = query.name.bytes();
        let inside = bytes.strip_suffix(records.zone().as_bytes()).is_some_and(|rest| rest.ends_with(b"."));
        return if inside { Outcome::NoName } else { Outcome::Foreign };
    };
    let mut search = Search { records, kind: query.kind, spread, reply, owner: None, followed: 0 };
    if let Some(relative) = relative(name, records.zone()) {
        return search.in_zone(relative);
    }
    match reverse_address(name) {
        Some(address) => search.reverse(address),
        None => Outcome::Foreign,
    }
}

/// The labels before the zone; empty for the zone itself, `None` outside of it.
fn relative<'a>(name: &'a str, zone: &str) -> Option<&'a str> {
    let rest = name.strip_suffix(zone)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

struct Search<'s, 'r> {
    records: &'s Records,
    kind: Kind,
    spread: u32,
    reply: &'s mut Reply<'r>,
    /// The name that records are about, after an alias was followed.
    owner: Option<String>,
    followed: usize,
}

impl Search<'_, '_> {
    fn in_zone(&mut self, relative: &str) -> Outcome {
        match relative {
            "" => return self.apex(),
            "svc" | "pod" | "dns" => return Outcome::NoData,
            "dns-version" => return self.version(),
            "ns.dns" => return self.addresses(self.records.resolver()),
            _ => {}
        }
        if let Some(rest) = relative.strip_suffix(".svc") {
            return self.service_name(rest);
        }
        match relative.strip_suffix(".pod") {
            Some(rest) if self.records.pods() == Pods::Insecure => self.pod(rest),
            _ => Outcome::NoName,
        }
    }

    fn apex(&mut self) -> Outcome {
        match self.kind {
            Kind::Soa | Kind::Any => self.reply.start_of_authority(Section::Answer, self.records),
            Kind::Ns => {
                let server = format!("ns.dns.{}", self.records.zone());
                self.reply.name(Kind::Ns, Owner::Question, &server);
                for address in self.records.resolver() {
                    self.reply.address(Section::Additional, Owner::Name(&server), *address);
                }
            }
            _ => return Outcome::NoData,
        }
        Outcome::Found
    }

    fn version(&mut self) -> Outcome {
        if !matches!(self.kind, Kind::Txt | Kind::Any) {
            return Outcome::NoData;
        }
        self.reply.text(VERSION);
        Outcome::Found
    }

    /// `SERVICE.NAMESPACE` and what may stand before it.
    fn service_name(&mut self, name: &str) -> Outcome {
        let Some(dot) = name.rfind('.') else {
            return if self.records.has_namespace(name) { Outcome::NoData } else { Outcome::NoName };
        };
        let start = name[..dot].rfind('.').map_or(0, |before| before + 1);
        let records = self.records;
        let key = &name[start..];
        let Some(service) = records.service(key) else { return Outcome::NoName };
        let prefix = &name[..start.saturating_sub(1)];
        match prefix.split_once('.') {
            None if prefix.is_empty() => self.service(key, service),
            None => self.endpoint(service, prefix),
            Some((port, protocol)) => self.port(key, service, port, protocol),
        }
    }

    fn service(&mut self, key: &str, service: &ServiceRecords) -> Outcome {
        match &service.place {
            Place::Alias(target) => self.alias(target),
            Place::Endpoints(endpoints) if endpoints.is_empty() => Outcome::NoName,
            _ if self.kind == Kind::Srv => self.places(key, service, |_| true),
            Place::Cluster(addresses) => self.addresses(addresses),
            Place::Endpoints(endpoints) => {
                let mut addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
                addresses.dedup();
                self.addresses(&addresses)
            }
        }
    }

    fn alias(&mut self, target: &str) -> Outcome {
        let owner = self.owner.take();
        self.reply.name(Kind::Cname, owner.as_deref().map_or(Owner::Question, Owner::Name), target);
        if self.kind == Kind::Cname {
            return Outcome::Found;
        }
        match relative(target, self.records.zone()) {
            None => Outcome::Alias(target.to_owned()),
            // Whoever asks can only be told what the chain is, not that it leads nowhere.
            Some(_) if self.followed >= LONGEST_CHAIN => Outcome::Found,
            Some(relative) => {
                self.followed += 1;
                self.owner = Some(target.to_owned());
                match self.in_zone(relative) {
                    Outcome::Alias(target) => Outcome::Alias(target),
                    _ => Outcome::Found,
                }
            }
        }
    }

    fn endpoint(&mut self, service: &ServiceRecords, label: &str) -> Outcome {
        let Place::Endpoints(endpoints) = &service.place else { return Outcome::NoName };
        let mut addresses: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| endpoint.label() == label)
            .map(|endpoint| endpoint.address)
            .collect();
        addresses.dedup();
        if addresses.is_empty() { Outcome::NoName } else { self.addresses(&addresses) }
    }

    fn port(&mut self, key: &str, service: &ServiceRecords, port: &str, protocol: &str) -> Outcome {
        let (Some(name), Some(protocol)) = (port.strip_prefix('_'), parse_protocol(protocol)) else {
            return Outcome::NoName;
        };
        self.places(key, service, |port| *port.name == *name && port.protocol == protocol)
    }

    /// SRV records of the ports that match, if they are asked for.
    fn places(
        &mut self,
        key: &str,
        service: &ServiceRecords,
        matches: impl Fn(&PortRecord) -> bool,
    ) -> Outcome {
        let name = format!("{key}.svc.{}", self.records.zone());
        let found: Vec<(u16, String, Vec<IpAddr>)> = match &service.place {
            Place::Cluster(addresses) => {
                let ports = service.ports.iter().filter(|port| matches(port));
                ports.map(|port| (port.port, name.clone(), addresses.to_vec())).collect()
            }
            Place::Endpoints(endpoints) => endpoint_places(endpoints, &name, matches),
            Place::Alias(_) => Vec::new(),
        };
        if found.is_empty() {
            return Outcome::NoName;
        }
        if !matches!(self.kind, Kind::Srv | Kind::Any) {
            return Outcome::NoData;
        }
        let weight = u16::try_from(100 / found.len()).unwrap_or(1).max(1);
        for (port, target, _) in &found {
            self.reply.service(weight, *port, target);
        }
        let mut told = Vec::new();
        for (_, target, addresses) in found.iter().take(ADDITIONAL) {
            for address in addresses.iter().filter(|address| !told.contains(&(target, **address))) {
                self.reply.address(Section::Additional, Owner::Name(target), *address);
            }
            told.extend(addresses.iter().map(|address| (target, *address)));
        }
        Outcome::Found
    }

    fn pod(&mut self, name: &str) -> Outcome {
        let Some((label, namespace)) = name.split_once('.') else { return Outcome::NoData };
        match parse_dashed(label) {
            Some(address) if !namespace.contains('.') => self.addresses(&[address]),
            _ => Outcome::NoName,
        }
    }

    fn reverse(&mut self, address: IpAddr) -> Outcome {
        let (mut known, zone) = (false, self.records.zone());
        for (key, service) in self.records.owners(address) {
            known = true;
            if !matches!(self.kind, Kind::Ptr | Kind::Any) {
                return Outcome::NoData;
            }
            let Place::Endpoints(endpoints) = &service.place else {
                self.reply.name(Kind::Ptr, Owner::Question, &format!("{key}.svc.{zone}"));
                continue;
            };
            for endpoint in endpoints.iter().filter(|endpoint| endpoint.address == address) {
                let name = format!("{}.{key}.svc.{zone}", endpoint.label());
                self.reply.name(Kind::Ptr, Owner::Question, &name);
            }
        }
        if known { Outcome::Found } else { Outcome::ForeignAddress }
    }

    fn addresses(&mut self, addresses: &[IpAddr]) -> Outcome {
        let wanted = |address: &&IpAddr| match self.kind {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            Kind::Any => true,
            _ => false,
        };
        let count = addresses.iter().filter(wanted).count();
        if count == 0 {
            return Outcome::NoData;
        }
        let first = self.spread as usize % count;
        let owner = self.owner.as_deref().map_or(Owner::Question, Owner::Name);
        let (early, late): (Vec<_>, Vec<_>) =
            addresses.iter().filter(wanted).enumerate().partition(|(index, _)| *index >= first);
        for (_, address) in early.into_iter().chain(late) {
            self.reply.address(Section::Answer, owner, *address);
        }
        Outcome::Found
    }
}

fn endpoint_places(
    endpoints: &[EndpointRecord],
    service: &str,
    matches: impl Fn(&PortRecord) -> bool,
) -> Vec<(u16, String, Vec<IpAddr>)> {
    let mut found = Vec::new();
    for endpoint in endpoints {
        for port in endpoint.ports.iter().filter(|port| matches(port)) {
            found.push((port.port, format!("{}.{service}", endpoint.label()), vec![endpoint.address]));
        }
    }
    found
}

fn parse_protocol(label: &str) -> Option<Protocol> {
    match label {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        "_sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn parse_dashed(label: &str) -> Option<IpAddr> {
    let ipv4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    ipv4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address of `1.0.0.10.in-addr.arpa` or of 32 digits below `ip6.arpa`.
pub(super) fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = labels.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then_some(Ipv4Addr::from(octets).into());
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let (mut number, mut count) = (0u128, 0);
    for label in labels.rsplit('.') {
        let digit = (label.len() == 1).then(|| u128::from_str_radix(label, 16).ok()).flatten()?;
        number = number.wrapping_shl(4) | digit;
        count += 1;
    }
    (count == 32).then_some(Ipv6Addr::from(number).into())
}

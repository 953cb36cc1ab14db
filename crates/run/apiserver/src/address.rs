//! Service addresses and node ports: given once, never twice.
//!
//! An address is given when its IPAddress is committed ([`crate::claims`]); what is remembered here are those of
//! writes that are on their way. Of ports all that are given are remembered.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_store::Store;
use serde_json::{Value, json};

use crate::object::meta;
use crate::{claims, registry, service_change};

/// What is given out. Clones share it.
#[derive(Clone)]
pub(crate) struct Addresses {
    store: Store,
    /// Those that Services may have here, the usual one first.
    families: Vec<Family>,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// The family of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ipv4 => Self::Ipv6,
            Self::Ipv6 => Self::Ipv4,
        }
    }
}

#[derive(Debug, Default)]
struct Taken {
    /// Of writes that are not committed yet.
    addresses: HashSet<IpAddr>,
    ports: HashSet<(String, u16)>,
}

/// What a write takes and gives up; undone unless the write is committed.
#[must_use]
pub(crate) struct Reservation {
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
    given_up: Vec<(String, u16)>,
    owner: Addresses,
}

impl Reservation {
    /// The write is committed.
    pub(crate) fn keep(mut self) {
        // What the drop below takes back is what the Service no longer holds.
        self.ports = std::mem::take(&mut self.given_up);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.owner.taken();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}

impl Addresses {
    /// Learns which ports stored Services hold.
    pub(crate) fn read(store: &Store, ranges: &[IpNet], ports: RangeInclusive<u16>) -> Self {
        let families = ranges.iter().map(|range| Family::of(range.addr())).collect();
        let addresses = Self { store: store.clone(), families, ports, taken: Arc::default() };
        let kind = plimsoll_catalogue::find("", "v1", "services").expect("services are in the catalogue");
        let page = registry::prefix(kind, "")
            .ok()
            .and_then(|prefix| store.range(&prefix, None, usize::MAX, None).ok());
        for entry in page.into_iter().flat_map(|page| page.entries) {
            if let Ok(service) = registry::served(kind, &entry) {
                addresses.taken().ports.extend(held_ports(&service));
            }
        }
        addresses
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a Service what it needs and has not.
    pub(crate) fn reserve(
        &self,
        kind: &Kind,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation, Status> {
        let mut reservation = Reservation {
            addresses: Vec::new(),
            ports: Vec::new(),
            given_up: Vec::new(),
            owner: self.clone(),
        };
        if !is_service(kind) {
            return Ok(reservation);
        }
        let name = meta(service, "name").to_owned();
        let refuse = |errors: Vec<FieldError>| Status::invalid("", "Service", &name, &errors);
        service_change::settle(service, old);
        if service["spec"]["type"] != "ExternalName" {
            service_change::settle_families(service, old, &self.families).map_err(refuse)?;
        }
        self.reserve_addresses(service, old, &mut reservation)?;
        self.reserve_ports(service, old, &mut reservation).map_err(|error| refuse(vec![error]))?;
        self.reserve_health_port(service, old, &mut reservation)?;
        if let Some(old) = old {
            let ports = held_ports(service);
            reservation.given_up = held_ports(old).into_iter().filter(|one| !ports.contains(one)).collect();
        }
        Ok(reservation)
    }

    fn reserve_addresses(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        if service["spec"]["type"] == "ExternalName" {
            if let Some(spec) = service["spec"].as_object_mut() {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            }
            return Ok(());
        }
        if service["spec"]["clusterIP"] == "None" {
            service["spec"]["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let before = old.map(|old| service_change::texts(old, "clusterIPs")).unwrap_or_default();
        let wanted = service_change::texts(service, "clusterIPs");
        let mut given = Vec::new();
        for (at, family) in service_change::texts(service, "ipFamilies").iter().enumerate() {
            let family = if family == "IPv4" { Family::Ipv4 } else { Family::Ipv6 };
            match (wanted.get(at).filter(|text| !text.is_empty()), before.get(at)) {
                (None, _) => given.push(self.reserve_free(family, reservation)?.to_string()),
                (Some(wanted), Some(before)) if wanted == before => given.push(wanted.clone()),
                // An address may not change: validation says so.
                (Some(_), Some(_)) => return Ok(()),
                (Some(wanted), None) => {
                    let address = self.reserve_wanted(wanted, family, reservation).map_err(|cause| {
                        let path = Path::root("spec").child("clusterIPs");
                        let detail = format!("failed to allocate IP {wanted}: {cause}");
                        let error = FieldError::invalid(&path, &json!([wanted]), detail);
                        Status::invalid("", "Service", meta(service, "name"), &[error])
                    })?;
                    given.push(address.to_string());
                }
            }
        }
        service["spec"]["clusterIP"] = json!(given.first());
        service["spec"]["clusterIPs"] = json!(given);
        Ok(())
    }

    fn reserve_free(&self, family: Family, reservation: &mut Reservation) -> Result<IpAddr, Status> {
        let full = || Status::internal("failed to allocate a serviceIP: range is full");
        let free = self.free_address(family).ok_or_else(full)?;
        reservation.addresses.push(free);
        Ok(free)
    }

    fn reserve_wanted(
        &self,
        wanted: &str,
        family: Family,
        reservation: &mut Reservation,
    ) -> Result<IpAddr, &'static str> {
        const OUTSIDE: &str = "the provided network does not match the current range";
        let address = wanted.parse().map_err(|_| OUTSIDE)?;
        if !self.ranges(family).any(|range| range.contains(address)) {
            return Err(OUTSIDE);
        }
        if !self.take_if_free(address) {
            return Err("provided IP is already allocated");
        }
        reservation.addresses.push(address);
        Ok(address)
    }

    /// What can be given now.
    fn ranges(&self, family: Family) -> impl Iterator<Item = Range> {
        claims::ranges(&self.store)
            .into_iter()
            .filter(move |range| Family::of(range.addr()) == family)
            .filter_map(Range::new)
    }

    fn take_if_free(&self, address: IpAddr) -> bool {
        let is_new = self.taken().addresses.insert(address);
        // Looked up after it is taken here: between the two nobody of this server can have committed it.
        if is_new && claims::is_claimed(&self.store, address) {
            self.taken().addresses.remove(&address);
            return false;
        }
        is_new
    }

    /// A random free address of the upper part of a range; the lower part is left to those who choose.
    fn free_address(&self, family: Family) -> Option<IpAddr> {
        let random = |numbers: RangeInclusive<u128>| {
            let (first, count) = (*numbers.start(), (numbers.end() + 1).saturating_sub(*numbers.start()));
            let start = if count == 0 { 0 } else { rand::random_range(0..count) };
            (0..count).map(move |step| first + (start + step) % count)
        };
        self.ranges(family).find_map(|range| {
            let upper = random(range.reserved + 1..=range.last);
            let numbers = upper.chain(random(1..=range.reserved));
            numbers.map(|number| range.at(number)).find(|address| self.take_if_free(*address))
        })
    }

    fn reserve_ports(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), FieldError> {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        let balanced = kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != false;
        let wants = kind == "NodePort" || balanced;
        let before: HashSet<(String, u16)> = old.map(held_ports).unwrap_or_default().into_iter().collect();
        let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
        for (at, port) in ports.iter_mut().enumerate() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let given = u16::try_from(port["nodePort"].as_u64().unwrap_or(0)).unwrap_or(0);
            if kind == "ClusterIP" || kind == "ExternalName" {
                if let Some(port) = port.as_object_mut().filter(|_| old.is_some()) {
                    port.remove("nodePort");
                }
                continue;
            }
            let path = Path::root("spec").child("ports").index(at).child("nodePort");
            let number = match given {
                0 if wants => self.free_port(&protocol).ok_or_else(|| {
                    FieldError::invalid(&path, &json!(0), "failed to allocate a nodePort: range is full")
                })?,
                0 => continue,
                given
                    if before.contains(&(protocol.clone(), given))
                        || reservation.ports.contains(&(protocol.clone(), given)) =>
                {
                    port["nodePort"] = json!(given);
                    continue;
                }
                given => {
                    self.take_port(&protocol, given)
                        .map_err(|cause| FieldError::invalid(&path, &json!(given), cause))?;
                    given
                }
            };
            reservation.ports.push((protocol, number));
            port["nodePort"] = json!(number);
        }
        Ok(())
    }

    /// The port at which load balancers ask for health. What a change makes of a port that is needed before and
    /// after is left to validation.
    fn reserve_health_port(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        let needs = service_change::needs_health_port;
        if !needs(service) || old.is_some_and(needs) {
            return Ok(());
        }
        let refuse = |given: u16, cause: &str| match given {
            0 => Status::internal(format!("failed to allocate a HealthCheck NodePort 0: {cause}")),
            _ => Status::internal(format!(
                "failed to allocate requested HealthCheck NodePort {given}: {cause}"
            )),
        };
        let given = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
        let given = u16::try_from(given).unwrap_or(u16::MAX);
        let number = match given {
            0 => self.free_port("TCP").ok_or_else(|| refuse(0, "range is full"))?,
            given => {
                self.take_port("TCP", given).map_err(|cause| refuse(given, &cause))?;
                given
            }
        };
        reservation.ports.push(("TCP".to_owned(), number));
        service["spec"]["healthCheckNodePort"] = json!(number);
        Ok(())
    }

    fn take_port(&self, protocol: &str, port: u16) -> Result<(), String> {
        if !self.ports.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.ports.start(),
                self.ports.end()
            ));
        }
        match self.taken().ports.insert((protocol.to_owned(), port)) {
            true => Ok(()),
            false => Err("provided port is already allocated".to_owned()),
        }
    }

    fn free_port(&self, protocol: &str) -> Option<u16> {
        let (first, count) = (*self.ports.start(), self.ports.end() - self.ports.start() + 1);
        let start = rand::random_range(0..count);
        let mut taken = self.taken();
        (0..count)
            .map(|step| first + ((u32::from(start) + u32::from(step)) % u32::from(count)) as u16)
            .find(|port| taken.ports.insert((protocol.to_owned(), *port)))
    }

    /// Takes back the ports that a deleted Service held.
    pub(crate) fn release(&self, kind: &Kind, service: &Value) {
        if !is_service(kind) {
            return;
        }
        let mut taken = self.taken();
        for port in held_ports(service) {
            taken.ports.remove(&port);
        }
    }
}

/// A range by numbers: its network is 0, which no Service gets.
#[derive(Clone, Copy)]
struct Range {
    net: IpNet,
    last: u128,
    /// So many at the beginning are left to those who choose.
    reserved: u128,
}

impl Range {
    fn new(net: IpNet) -> Option<Self> {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        // As upstream: not more than a /64 of IPv6, and not the broadcast address of IPv4.
        if bits > 64 {
            return None;
        }
        let size = 1u128 << bits;
        let last = (size - 1).saturating_sub(u128::from(net.addr().is_ipv4()));
        let reserved = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        Some(Self { net: net.trunc(), last, reserved })
    }

    fn at(&self, number: u128) -> IpAddr {
        match self.net {
            IpNet::V4(net) => {
                let number = u32::try_from(number).unwrap_or_default();
                Ipv4Addr::from(u32::from(net.network()).wrapping_add(number)).into()
            }
            IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()).wrapping_add(number)).into(),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let is_edge = self.last == 0 || address < self.at(1) || address > self.at(self.last);
        self.net.contains(&address) && !is_edge
    }
}

/// The addresses of a Service; one may be named twice.
pub(crate) fn held_addresses(service: &Value) -> Vec<IpAddr> {
    let listed = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    listed.chain(service["spec"]["clusterIP"].as_str()).filter_map(|text| text.parse().ok()).collect()
}

fn held_ports(service: &Value) -> Vec<(String, u16)> {
    let number =
        |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let held = ports.filter_map(|port| {
        Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), number(&port["nodePort"])?))
    });
    held.chain(number(&service["spec"]["healthCheckNodePort"]).map(|port| ("TCP".to_owned(), port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_out_their_edges() {
        let cases = [
            ("10.0.0.0/16", "10.0.0.1", "10.0.255.254", 256),
            ("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 16),
            ("10.0.0.0/28", "10.0.0.1", "10.0.0.14", 0),
            ("fd00::/112", "fd00::1", "fd00::ffff", 256),
        ];
        for (text, first, last, reserved) in cases {
            let range = Range::new(text.parse().expect("a range")).expect("not too wide");
            assert_eq!(
                (range.at(1).to_string(), range.at(range.last).to_string()),
                (first.into(), last.into())
            );
            assert_eq!(range.reserved, reserved, "{text}");
            assert!(range.contains(range.at(1)) && range.contains(range.at(range.last)), "{text}");
            assert!(!range.contains(range.at(0)) && !range.contains(range.at(range.last + 1)), "{text}");
        }
        assert!(Range::new("fd00::/48".parse().expect("a range")).is_none());
        let single = Range::new("10.0.0.7/32".parse().expect("a range")).expect("not too wide");
        assert!(!single.contains(single.at(0)));
    }
}

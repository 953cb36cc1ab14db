//! Service addresses and node ports: given once, never twice.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_store::Store;
use serde_json::{Value, json};

use crate::object::meta;
use crate::{registry, service_change};

/// What is given out. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    range: IpNet,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<(String, u16)>,
}

/// What a write takes and gives up; undone unless the write is committed.
#[must_use]
pub(crate) struct Reservation {
    addresses: Vec<IpAddr>,
    ports: Vec<(String, u16)>,
    given_up: Held,
    owner: Addresses,
}

type Held = (Vec<IpAddr>, Vec<(String, u16)>);

impl Reservation {
    /// The write is committed.
    pub(crate) fn keep(mut self) {
        // What the drop below takes back is what the Service no longer holds.
        (self.addresses, self.ports) = std::mem::take(&mut self.given_up);
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
    /// Learns what stored Services hold; `reserved` is never given unless asked for by name.
    pub(crate) fn read(store: &Store, range: IpNet, ports: RangeInclusive<u16>) -> Self {
        let addresses = Self { range, ports, taken: Arc::default() };
        let kind = plimsoll_catalogue::find("", "v1", "services").expect("services are in the catalogue");
        let page = registry::prefix(kind, "")
            .ok()
            .and_then(|prefix| store.range(&prefix, None, usize::MAX, None).ok());
        for entry in page.into_iter().flat_map(|page| page.entries) {
            if let Ok(service) = registry::served(kind, &entry) {
                let mut taken = addresses.taken();
                taken.addresses.extend(held_addresses(&service));
                taken.ports.extend(held_ports(&service));
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
            given_up: Held::default(),
            owner: self.clone(),
        };
        if !is_service(kind) {
            return Ok(reservation);
        }
        let name = meta(service, "name").to_owned();
        let refuse = |errors: Vec<FieldError>| Status::invalid("", "Service", &name, &errors);
        service_change::settle(service, old);
        self.settle_families(service, old).map_err(refuse)?;
        self.reserve_address(service, old, &mut reservation).map_err(|error| refuse(vec![error]))?;
        self.reserve_ports(service, old, &mut reservation).map_err(|error| refuse(vec![error]))?;
        self.reserve_health_port(service, old, &mut reservation)?;
        if let Some(old) = old {
            let (addresses, ports) = (held_addresses(service), held_ports(service));
            reservation.given_up.0 =
                held_addresses(old).into_iter().filter(|one| !addresses.contains(one)).collect();
            reservation.given_up.1 = held_ports(old).into_iter().filter(|one| !ports.contains(one)).collect();
        }
        Ok(reservation)
    }

    fn reserve_address(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), FieldError> {
        if service["spec"]["type"] == "ExternalName" {
            if let Some(spec) = service["spec"].as_object_mut() {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            }
            return Ok(());
        }
        let path = Path::root("spec").child("clusterIPs");
        let wanted = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        if wanted == "None" {
            service["spec"]["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let before = old.map(held_addresses).unwrap_or_default();
        let address = match wanted.parse::<IpAddr>() {
            Err(_) => {
                let free = self.free_address().ok_or_else(|| FieldError {
                    kind: plimsoll_meta::field::ErrorKind::Internal,
                    ..FieldError::required(&path, "failed to allocate a serviceIP: range is full")
                })?;
                reservation.addresses.push(free);
                free
            }
            // An address may not change: validation says so.
            Ok(address) if !before.is_empty() && !before.contains(&address) => return Ok(()),
            Ok(address) if before.contains(&address) => address,
            Ok(address) => {
                self.take_address(address).map_err(|cause| {
                    let detail = format!("failed to allocate IP {wanted}: {cause}");
                    FieldError::invalid(&path, &json!([wanted]), detail)
                })?;
                reservation.addresses.push(address);
                address
            }
        };
        service["spec"]["clusterIP"] = json!(address.to_string());
        service["spec"]["clusterIPs"] = json!([address.to_string()]);
        Ok(())
    }

    /// Policy and families, as far as this range of one family can serve them.
    fn settle_families(&self, service: &mut Value, old: Option<&Value>) -> Result<(), Vec<FieldError>> {
        if service["spec"]["type"] == "ExternalName" {
            return Ok(());
        }
        let own = if self.range.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        service_change::settle_families(service, old, own)
    }

    fn take_address(&self, address: IpAddr) -> Result<(), String> {
        if !self.range.contains(&address) {
            return Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                self.range
            ));
        }
        match self.taken().addresses.insert(address) {
            true => Ok(()),
            false => Err("provided IP is already allocated".to_owned()),
        }
    }

    /// A random free address of the upper part of the range; the lower part is left to those who choose.
    fn free_address(&self) -> Option<IpAddr> {
        let (first, size) = match self.range {
            IpNet::V4(net) => (u128::from(u32::from(net.network())), 1u128 << (32 - net.prefix_len())),
            IpNet::V6(net) => {
                (u128::from(net.network()), 1u128 << (128 - u32::from(net.prefix_len())).min(64))
            }
        };
        let at = |offset: u128| match self.range {
            IpNet::V4(_) => {
                IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(first + offset).unwrap_or(u32::MAX)))
            }
            IpNet::V6(_) => IpAddr::from(std::net::Ipv6Addr::from(first + offset)),
        };
        // Upstream: min(max(16, size/16), 256) addresses at the beginning are for explicit choice.
        let low = (size / 16).clamp(16, 256).min(size / 2);
        let upper = size.saturating_sub(1).saturating_sub(low).max(1);
        let start = rand::random_range(0..upper);
        let mut taken = self.taken();
        let offsets = (0..upper).map(|step| low + (start + step) % upper).chain(1..low);
        offsets.map(at).find(|address| taken.addresses.insert(*address))
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

    /// Takes back what a deleted Service held.
    pub(crate) fn release(&self, kind: &Kind, service: &Value) {
        if !is_service(kind) {
            return;
        }
        let mut taken = self.taken();
        for address in held_addresses(service) {
            taken.addresses.remove(&address);
        }
        for port in held_ports(service) {
            taken.ports.remove(&port);
        }
    }
}

fn held_addresses(service: &Value) -> Vec<IpAddr> {
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

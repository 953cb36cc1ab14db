//! What of connected sandboxes is in the tables: pairs of an address with itself, and hostPorts.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use plimsoll_kernel::nft::{Batch, Family};
use plimsoll_kernel::pod_network::{PortMapping, Protocol};
use plimsoll_netplan::endpoints::Target;
use plimsoll_netplan::services::{Audience, Frontend};

use crate::config::family_of;
use crate::encode::{address_bytes, frontend_key, target_bytes};
use crate::table::{Set, Table};

/// The sets that have elements of sandboxes.
pub(crate) const OF_PODS: [Set; 2] = [Set::OwnPods, Set::HostPorts];

/// A sandbox's addresses and its hostPorts.
pub(crate) type Parts<'a> = (&'a [IpAddr], &'a [PortMapping]);

/// A key and, in maps, its value.
pub(crate) type Element = (Vec<u8>, Option<Vec<u8>>);

/// Makes the table's elements those of the sandboxes.
pub(crate) fn restore<'a>(
    table: &mut Table,
    sandboxes: impl Iterator<Item = Parts<'a>> + Clone,
) -> io::Result<()> {
    let mut batch = table.batch();
    for set in OF_PODS {
        // A hostPort leads to one pod, whoever else says that he has it.
        let wanted: BTreeMap<_, _> =
            sandboxes.clone().flat_map(|sandbox| elements(table.family(), sandbox, set)).collect();
        let found: BTreeMap<_, _> = table.held(set)?.into_iter().collect();
        let gone = found.iter().filter(|(key, value)| wanted.get(*key) != Some(*value));
        batch.delete_elements(set.name(), gone.map(|(key, _)| key.as_slice()));
        let new = wanted.into_iter().filter(|(key, value)| found.get(key) != Some(value));
        add(&mut batch, set, &new.collect::<Vec<_>>());
    }
    table.commit(batch)
}

/// Adds elements to a set.
pub(crate) fn add(batch: &mut Batch, set: Set, elements: &[Element]) {
    batch.add_elements(set.name(), elements.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
}

/// A sandbox's elements of one set.
pub(crate) fn elements(family: Family, (addresses, ports): Parts<'_>, set: Set) -> Vec<Element> {
    let Some(address) = addresses.iter().find(|address| family_of(**address) == family) else {
        return Vec::new();
    };
    let own = address_bytes(family, Some(*address));
    match set {
        Set::OwnPods => vec![([own.clone(), own].concat(), None)],
        _ => ports.iter().filter_map(|port| host_port(family, port, *address)).collect(),
    }
}

fn host_port(family: Family, mapping: &PortMapping, pod: IpAddr) -> Option<Element> {
    let address = mapping.host_ip.filter(|address| !address.is_unspecified());
    if address.is_some_and(|address| family_of(address) != family) {
        return None;
    }
    let frontend = Frontend {
        address,
        protocol: protocol(mapping.protocol),
        port: mapping.host_port,
        audience: Audience::Everyone,
    };
    let target = Target { address: pod, port: mapping.container_port };
    Some((frontend_key(family, &frontend), Some(target_bytes(family, &target))))
}

fn protocol(protocol: Protocol) -> plimsoll_netplan::endpoints::Protocol {
    use plimsoll_netplan::endpoints::Protocol as Planned;
    match protocol {
        Protocol::Tcp => Planned::Tcp,
        Protocol::Udp => Planned::Udp,
        Protocol::Sctp => Planned::Sctp,
    }
}

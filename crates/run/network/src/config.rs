//! What the network of one instance is made of.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use plimsoll_kernel::nft::Family;
use plimsoll_netplan::digest;

use crate::Error;
use crate::metrics::Metrics;

/// Longest name of an interface, in bytes.
const LONGEST_NAME: usize = 15;

/// Characters of a sandbox id's digest in its interface's name.
const DIGEST: usize = 8;

/// What the network of one instance is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where addresses are remembered: in the folder `network` below it.
    pub data_dir: PathBuf,
    /// Tells this instance from others on the machine: at most six letters or digits, such as
    /// [`instance_name`] makes.
    pub instance: String,
    /// The addresses of all pods of the cluster, at most one range of each family.
    pub cluster_cidr: Vec<IpNet>,
    /// The addresses of all Services, at most one range of each family.
    pub service_cidr: Vec<IpNet>,
    /// This node's name.
    pub node_name: String,
    /// This node's addresses, as the API tells them.
    pub node_addresses: Vec<IpAddr>,
    /// Which of this node's addresses node ports are open on; of a family without a range, on all.
    pub node_port_addresses: Vec<IpNet>,
    /// The resolver's addresses, which pods find in their resolv.conf and this node answers itself.
    pub resolver: Vec<IpAddr>,
    /// Who gives pods their network.
    pub connected_by: ConnectedBy,
    /// What is told of the rules of Services.
    pub metrics: Metrics,
}

/// Who gives pods their network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConnectedBy {
    /// The built-in network.
    #[default]
    Links,
    /// CNI plugins, which also see to it how pods reach the world.
    Plugins,
}

/// Six hexadecimal digits that tell the instance of this data directory from others.
///
/// The directory need not exist; different spellings of one path give one name only when absolute.
pub fn instance_name(data_dir: &Path) -> String {
    let path = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    format!("{:016x}", digest(path.as_os_str().as_encoded_bytes()))[..6].to_owned()
}

impl Config {
    /// Refuses what cannot work, before anything is changed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Names::new(&self.instance)?;
        if self.cluster_cidr.is_empty() {
            return Err(Error::Config("no pod range".to_owned()));
        }
        for (what, ranges) in [("pod", &self.cluster_cidr), ("service", &self.service_cidr)] {
            for family in [Family::Ipv4, Family::Ipv6] {
                if ranges.iter().filter(|range| family_of(range.addr()) == family).count() > 1 {
                    return Err(Error::Config(format!("more than one {what} range of {family:?}")));
                }
            }
        }
        let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
        for pods in &self.cluster_cidr {
            if let Some(services) = self.service_cidr.iter().find(|services| overlaps(pods, services)) {
                return Err(Error::Config(format!("pod range {pods} and service range {services} overlap")));
            }
        }
        Ok(())
    }

    /// The families that pods have addresses of.
    pub(crate) fn families(&self) -> impl Iterator<Item = Family> + '_ {
        self.cluster_cidr.iter().map(|range| family_of(range.addr()))
    }

    /// The ranges of one family among `ranges`.
    pub(crate) fn of_family(ranges: &[IpNet], family: Family) -> Option<IpNet> {
        ranges.iter().find(|range| family_of(range.addr()) == family).map(IpNet::trunc)
    }

    /// The folder that belongs to the network.
    pub(crate) fn folder(&self) -> PathBuf {
        folder(&self.data_dir)
    }
}

/// The folder that belongs to the network, below a data directory.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("network")
}

/// The family of an address.
pub(crate) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The names of an instance's things in the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    instance: String,
}

impl Names {
    pub(crate) fn new(instance: &str) -> Result<Self, Error> {
        let longest = LONGEST_NAME - DIGEST - 1;
        let good = (1..=longest).contains(&instance.len())
            && instance.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if good {
            Ok(Self { instance: instance.to_owned() })
        } else {
            Err(Error::Config(format!("instance {instance:?} is not one to {longest} letters or digits")))
        }
    }

    /// The bridge.
    pub(crate) fn bridge(&self) -> String {
        format!("plim-{}", self.instance)
    }

    /// The device that wraps packets for nodes on other links.
    pub(crate) fn tunnel(&self) -> String {
        format!("plimx-{}", self.instance)
    }

    /// The table of packet rules, of the same name in each family.
    pub(crate) fn table(&self) -> String {
        format!("plim-{}", self.instance)
    }

    /// What the names of pods' interfaces on the node begin with.
    pub(crate) fn veth_prefix(&self) -> String {
        format!("p{}", self.instance)
    }

    /// The interface of a sandbox on the node.
    pub(crate) fn veth(&self, sandbox_id: &str) -> String {
        format!("{}{}", self.veth_prefix(), &format!("{:016x}", digest(sandbox_id.as_bytes()))[..DIGEST])
    }

    /// The group of all links of the instance.
    pub(crate) fn group(&self) -> u32 {
        let digest = digest(self.instance.as_bytes()).to_be_bytes();
        // Small numbers are administrators'; the last bit tells the living from the doomed.
        u32::from_be_bytes([digest[0] | 0x40, digest[1], digest[2], digest[3] & 0xfe])
    }

    /// The group of links that are about to be removed.
    pub(crate) fn doomed_group(&self) -> u32 {
        self.group() | 1
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let names = Names::new("1a2b3c").unwrap();
        assert_eq!(names.bridge(), "plim-1a2b3c");
        assert_eq!(names.veth("x").len(), LONGEST_NAME);
        assert_ne!(names.veth("sandbox-1"), names.veth("sandbox-2"));
        assert_ne!(names.group(), names.doomed_group());
        assert_ne!(Names::new("1a2b3d").unwrap().group(), names.group());
        assert_ne!(instance_name(Path::new("/no/a")), instance_name(Path::new("/no/b")));
        for bad in ["", "1234567", "a-b", "ä"] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_must_fit_together() {
        let cases: [(&[&str], &[&str], bool); 6] = [
            (&["10.42.0.0/16"], &["10.43.0.0/16"], true),
            (&["10.42.0.0/16", "fd00::/64"], &["10.43.0.0/16", "fd01::/112"], true),
            (&[], &["10.43.0.0/16"], false),
            (&["10.42.0.0/16", "10.44.0.0/16"], &[], false),
            (&["10.0.0.0/8"], &["10.43.0.0/16"], false),
            (&["10.43.7.0/24"], &["10.43.0.0/16"], false),
        ];
        for (pods, services, good) in cases {
            let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let config = Config {
                data_dir: PathBuf::new(),
                instance: "a".to_owned(),
                cluster_cidr: parse(pods),
                service_cidr: parse(services),
                node_name: String::new(),
                node_addresses: vec![],
                node_port_addresses: vec![],
                resolver: vec![],
                connected_by: ConnectedBy::Links,
                metrics: Metrics::default(),
            };
            assert_eq!(config.check().is_ok(), good, "{pods:?} {services:?}");
        }
    }
}

//! What users choose of a node's part in the network.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

/// Flags about a node's part in the network.
#[derive(Args, Clone, Debug)]
pub(crate) struct NetworkArgs {
    /// Which of this node's addresses node ports are open on: ranges, or primary for those that the API tells
    /// [default: all]
    #[arg(
        long,
        value_name = "CIDR,…",
        default_value = "",
        hide_default_value = true,
        help_heading = "Network"
    )]
    pub(crate) nodeport_addresses: NodePortAddresses,
    /// Folder of configurations of CNI plugins, which connect pods instead of the built-in network
    #[arg(long, value_name = "DIR", help_heading = "Network")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Folders of CNI plugins
    #[arg(
        long,
        value_name = "DIR,…",
        value_delimiter = ',',
        default_value = "/opt/cni/bin,/usr/lib/cni",
        requires = "cni_conf_dir",
        help_heading = "Network"
    )]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
    /// Link-local address on which pods reach their node's resolver too, the same on all nodes; or none
    #[arg(long, value_name = "ADDRESS", default_value = "169.254.20.10", help_heading = "Network")]
    pub(crate) local_dns: LocalDns,
}

/// Where a node's resolver answers beside the address of its Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalDns(pub(crate) Option<IpAddr>);

impl FromStr for LocalDns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Of any other range packets might be meant to leave the node.
        let link_local = text.parse().ok().filter(Ipv4Addr::is_link_local);
        match link_local {
            Some(address) => Ok(Self(Some(address.into()))),
            None if text == "none" => Ok(Self(None)),
            None => Err("must be an address in 169.254.0.0/16 or 'none'".to_owned()),
        }
    }
}

/// Where node ports are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodePortAddresses {
    /// On the addresses that the API tells of the node.
    Primary,
    /// On addresses in these ranges; without one, on all.
    Within(Vec<IpNet>),
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(',').map(str::trim).collect::<Vec<_>>().as_slice() {
            [""] => Ok(Self::Within(Vec::new())),
            ["primary"] => Ok(Self::Primary),
            several if several.contains(&"primary") => Err("can't use both 'primary' and CIDRs".to_owned()),
            ranges => {
                ranges.iter().map(|range| range.parse()).collect::<Result<_, _>>().map(Self::Within).map_err(
                    |_| {
                        "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48) or 'primary'"
                            .to_owned()
                    },
                )
            }
        }
    }
}

impl NodePortAddresses {
    /// The ranges, for a node with these addresses.
    pub(crate) fn ranges(&self, node: &[IpAddr]) -> Vec<IpNet> {
        match self {
            Self::Primary => node.iter().map(|address| IpNet::from(*address)).collect(),
            Self::Within(ranges) => ranges.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ports_are_open_where_users_say() {
        let node: Vec<IpAddr> = ["192.0.2.1", "fd00::1"].iter().flat_map(|it| it.parse()).collect();
        let cases = [
            ("", Ok("")),
            ("primary", Ok("192.0.2.1/32 fd00::1/128")),
            ("10.0.0.0/8, fd00::/8", Ok("10.0.0.0/8 fd00::/8")),
            ("10.0.0.0/8,primary", Err("can't use both 'primary' and CIDRs")),
            (
                "10.0.0.1",
                Err("must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48) or 'primary'"),
            ),
        ];
        for (text, expected) in cases {
            let found = text.parse::<NodePortAddresses>().map(|chosen| {
                chosen.ranges(&node).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_resolvers_local_address_is_link_local() {
        for (text, expected) in [
            ("169.254.20.10", Some(Some("169.254.20.10"))),
            ("none", Some(None)),
            ("10.0.0.1", None),
            ("fe80::1", None),
            ("", None),
        ] {
            let expected =
                expected.map(|address| LocalDns(address.and_then(|address: &str| address.parse().ok())));
            assert_eq!(text.parse::<LocalDns>().ok(), expected, "{text}");
        }
    }
}

//! Ranges of a cluster's addresses: one, or one of each family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{bail, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::instance::nth;

/// One range or two, of different families; the first is that of who does not ask for a family.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ranges(Vec<IpNet>);

impl Ranges {
    /// The range of who does not ask for a family.
    pub(crate) fn first(&self) -> IpNet {
        self.0[0]
    }

    pub(crate) fn all(&self) -> &[IpNet] {
        &self.0
    }

    /// An address of each range, counted from its first.
    pub(crate) fn each_nth(&self, offset: u32) -> Vec<IpAddr> {
        self.0.iter().map(|range| nth(*range, offset)).collect()
    }

    fn has_family_of(&self, other: &IpNet) -> bool {
        self.0.iter().any(|range| range.addr().is_ipv4() == other.addr().is_ipv4())
    }
}

/// Refuses ranges of pods and Services that cannot serve a cluster together.
pub(crate) fn check(pods: &Ranges, services: &Ranges) -> anyhow::Result<()> {
    for range in pods.all() {
        let node = if range.addr().is_ipv4() { 24 } else { 64 };
        ensure!(
            range.prefix_len() <= node,
            "--pod-cidr {range}: a node takes a /{node} of it, so it must not be smaller"
        );
    }
    for range in services.all() {
        let least = if range.addr().is_ipv4() { 28 } else { 124 };
        ensure!(range.prefix_len() <= least, "--service-cidr {range}: too small, a /{least} is the least");
        ensure!(
            range.addr().is_ipv4() || range.prefix_len() >= 64,
            "--service-cidr {range}: too large, a /64 is the most"
        );
        ensure!(pods.has_family_of(range), "--service-cidr {range}: pods have no addresses of this family");
        for pods in pods.all() {
            let meet = pods.contains(&range.network()) || range.contains(&pods.network());
            ensure!(!meet, "--pod-cidr {pods} and --service-cidr {range} overlap");
        }
    }
    Ok(())
}

/// Refuses ranges that hold an address which this machine has already: packets for it would go to pods.
pub(crate) fn check_machine(
    pods: &Ranges,
    services: &Ranges,
    machine: &[(String, IpAddr)],
) -> anyhow::Result<()> {
    for (flag, ranges) in [("--pod-cidr", pods), ("--service-cidr", services)] {
        for range in ranges.all() {
            if let Some((link, address)) = machine.iter().find(|(_, address)| range.contains(address)) {
                bail!(
                    "{flag} {range}: overlaps with {address} of this machine's {link}, choose another range"
                );
            }
        }
    }
    Ok(())
}

impl From<IpNet> for Ranges {
    fn from(range: IpNet) -> Self {
        Self(vec![range])
    }
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| {
            part.trim().parse::<IpNet>().map_err(|_| format!("{part:?} is not a range such as 10.42.0.0/16"))
        };
        let ranges = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        match ranges.as_slice() {
            [_] => Ok(Self(ranges)),
            [one, other] if one.addr().is_ipv4() != other.addr().is_ipv4() => Ok(Self(ranges)),
            [_, _] => Err("two ranges must be one of IPv4 and one of IPv6".to_owned()),
            _ => Err("there can be two ranges at most, one of IPv4 and one of IPv6".to_owned()),
        }
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl TryFrom<String> for Ranges {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ranges> for String {
    fn from(ranges: Ranges) -> Self {
        ranges.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_be_of_different_families() {
        for (text, error) in [
            ("10.42.0.0/16", None),
            ("fd42::/48, 10.42.0.0/16", None),
            ("10.42.0.0", Some("\"10.42.0.0\" is not a range such as 10.42.0.0/16")),
            ("10.42.0.0/16,10.44.0.0/16", Some("two ranges must be one of IPv4 and one of IPv6")),
            (
                "10.42.0.0/16,fd42::/48,fd44::/48",
                Some("there can be two ranges at most, one of IPv4 and one of IPv6"),
            ),
        ] {
            assert_eq!(text.parse::<Ranges>().err().as_deref(), error, "{text}");
        }
        let both: Ranges = "10.42.0.0/16,fd42::/48".parse().unwrap();
        assert_eq!(serde_json::to_string(&both).unwrap(), "\"10.42.0.0/16,fd42::/48\"");
        assert_eq!(serde_json::from_str::<Ranges>("\"10.42.0.0/16,fd42::/48\"").unwrap(), both);
        assert_eq!(both.each_nth(1), ["10.42.0.1", "fd42::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn ranges_must_be_apart_from_the_machine() {
        let machine = [("eth0".to_owned(), "10.42.7.1".parse().unwrap())];
        for (pods, services, error) in [
            ("10.44.0.0/16", "10.43.0.0/16", None),
            ("10.42.0.0/16", "10.43.0.0/16", Some("--pod-cidr 10.42.0.0/16: ")),
            ("10.44.0.0/16", "10.42.0.0/16", Some("--service-cidr 10.42.0.0/16: ")),
        ] {
            let found = check_machine(&pods.parse().unwrap(), &services.parse().unwrap(), &machine);
            let rest = "overlaps with 10.42.7.1 of this machine's eth0, choose another range";
            assert_eq!(found.err().map(|it| it.to_string()), error.map(|flag| format!("{flag}{rest}")));
        }
    }

    #[test]
    fn pods_and_services_must_fit_together() {
        for (pods, services, error) in [
            ("10.42.0.0/16", "10.43.0.0/16", ""),
            ("10.42.0.0/16,fd42::/48", "10.43.0.0/16,fd43::/112", ""),
            ("10.42.0.0/16,fd42::/48", "10.43.0.0/16", ""),
            (
                "10.42.0.0/25",
                "10.43.0.0/16",
                "--pod-cidr 10.42.0.0/25: a node takes a /24 of it, so it must not be smaller",
            ),
            (
                "fd42::/65",
                "fd43::/112",
                "--pod-cidr fd42::/65: a node takes a /64 of it, so it must not be smaller",
            ),
            ("10.42.0.0/16", "10.43.0.0/29", "--service-cidr 10.43.0.0/29: too small, a /28 is the least"),
            ("fd42::/48", "fd43::/48", "--service-cidr fd43::/48: too large, a /64 is the most"),
            (
                "10.42.0.0/16",
                "fd43::/112",
                "--service-cidr fd43::/112: pods have no addresses of this family",
            ),
            (
                "10.42.0.0/16",
                "10.42.7.0/24",
                "--pod-cidr 10.42.0.0/16 and --service-cidr 10.42.7.0/24 overlap",
            ),
            (
                "10.42.0.0/16,fd00::/8",
                "10.43.0.0/16,fd43::/112",
                "--pod-cidr fd00::/8 and --service-cidr fd43::/112 overlap",
            ),
        ] {
            let found = check(&pods.parse().unwrap(), &services.parse().unwrap());
            assert_eq!(
                found.map_or_else(|error| error.to_string(), |()| String::new()),
                error,
                "{pods} {services}"
            );
        }
    }
}

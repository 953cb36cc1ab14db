//! Addresses and ranges of addresses inside of objects.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use plimsoll_meta::field::Path;

use crate::report::{Report, VALID_IP};

/// An address that traffic from elsewhere can go to.
pub(crate) fn check_external(text: &str, path: &Path, report: &mut Report) {
    let Ok(address) = text.parse::<IpAddr>() else {
        report.invalid(path, text, VALID_IP);
        return;
    };
    check_not_special(text, address, path, report);
}

pub(crate) fn check_not_special(text: &str, address: IpAddr, path: &Path, report: &mut Report) {
    if address.is_unspecified() {
        report.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        report.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if is_link_local {
        report.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    let is_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    if is_multicast {
        report.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// A list of ranges, one for each family at most.
pub(crate) fn check_ranges(texts: &[&str], path: &Path, report: &mut Report) {
    let ranges: Vec<Option<IpNet>> = texts.iter().map(|text| text.parse().ok()).collect();
    for (at, range) in ranges.iter().enumerate() {
        if range.is_none() {
            report.invalid(&path.index(at), shown(texts), "must be valid CIDR");
        }
        if texts[..at].contains(&texts[at]) {
            report.duplicate(&path.index(at), texts[at]);
        }
    }
    let of_version_4 = ranges.iter().flatten().filter(|range| range.addr().is_ipv4()).count();
    if texts.len() > 2 || of_version_4 > 1 || texts.len() - of_version_4 > 1 {
        report.invalid(path, shown(texts), "may specify no more than one CIDR for each IP family");
    }
}

/// One or two ranges, the second of the other family, each written in the one way there is for it.
pub(crate) fn check_strict_ranges(texts: &[&str], path: &Path, report: &mut Report) {
    let ranges: Vec<Option<IpNet>> = texts.iter().map(|text| text.parse().ok()).collect();
    for (at, (range, text)) in ranges.iter().zip(texts).enumerate() {
        let path = path.index(at);
        let Some(range) = range else {
            report.invalid(&path, *text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
            continue;
        };
        if matches!(range.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
            report.invalid(&path, *text, "must not have an IPv4-mapped IPv6 address");
            continue;
        }
        if range.to_string() != *text {
            report.invalid(&path, *text, format!("must be in canonical form ({:?})", range.to_string()));
        }
        if range.addr() != range.network() {
            report.invalid(&path, *text, "must not have bits set beyond the prefix length");
        }
    }
    if let [Some(one), Some(two)] = ranges[..]
        && one.addr().is_ipv4() == two.addr().is_ipv4()
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        report.invalid(path, serde_json::json!({ "cidrs": texts }), detail);
    }
}

fn shown(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect()
}

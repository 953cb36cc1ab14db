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

fn shown(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect()
}

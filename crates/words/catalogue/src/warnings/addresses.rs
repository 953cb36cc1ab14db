//! Addresses that are written in an unusual way.

use std::net::IpAddr;

use ipnet::IpNet;
use plimsoll_meta::field::Path;

/// An address that validation has let pass.
pub(crate) fn ip(text: &str, at: &Path) -> Option<String> {
    let strict: Option<IpAddr> = text.parse().ok();
    let usual = strict.or_else(|| sloppy(text))?;
    if let (None, usual) | (Some(_), usual @ IpAddr::V4(_)) = (strict, canonical(usual))
        && usual.to_string() != text
    {
        return Some(format!(
            "{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            usual.to_string()
        ));
    }
    (usual.to_string() != text).then(|| {
        format!(
            "{at}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            usual.to_string()
        )
    })
}

/// A range that validation has let pass.
pub(crate) fn network(text: &str, at: &Path) -> Vec<String> {
    let strict = text
        .split_once('/')
        .and_then(|(address, length)| IpNet::new(address.parse().ok()?, length.parse().ok()?).ok());
    let Some(given) = strict.or_else(|| sloppy_network(text)) else { return Vec::new() };
    let mut told = Vec::new();
    let whole = given.trunc();
    if whole != given {
        let single = format!("{}/{}", given.addr(), given.max_prefix_len());
        told.push(format!(
            "{at}: CIDR value {text:?} is ambiguous in this context (should be {:?} or {single:?}?)",
            whole.to_string()
        ));
    }
    if strict.is_none() {
        told.push(format!(
            "{at}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            whole.to_string()
        ));
    }
    if told.is_empty() && given.to_string() != text {
        told.push(format!(
            "{at}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})",
            given.to_string()
        ));
    }
    told
}

/// An IPv4 address that is written as an IPv6 one is one.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Leading zeros are read as decimal, as Go did once.
fn sloppy(text: &str) -> Option<IpAddr> {
    let parts: Vec<&str> = text.split('.').collect();
    let decimal = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() != 4 || !parts.iter().all(decimal) {
        return None;
    }
    let short: Vec<&str> = parts
        .iter()
        .map(|part| match part.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        })
        .collect();
    short.join(".").parse().ok()
}

fn sloppy_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(sloppy(address)?, length.parse().ok()?).ok()
}

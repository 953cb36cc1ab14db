//! IP addresses (apiserver: pkg/cel/library/ip.go).

use std::net::IpAddr;

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Value};

pub(super) const TABLE: &str = "
string_to_ip ip global string net.IP
is_ip isIP global string bool
ip_is_canonical ip.isCanonical global string bool
ip_family family member net.IP int
ip_is_unspecified isUnspecified member net.IP bool
ip_is_loopback isLoopback member net.IP bool
ip_is_link_local_multicast isLinkLocalMulticast member net.IP bool
ip_is_link_local_unicast isLinkLocalUnicast member net.IP bool
ip_is_global_unicast isGlobalUnicast member net.IP bool
ip_to_string string global net.IP string
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isIP", [Value::String(text)]) => bool(parse(text).is_ok()),
        ("ip", [Value::String(text)]) => match parse(text) {
            Ok(ip) => Ok(Value::Opaque(Opaque::Ip(ip))),
            Err(message) => fail(message),
        },
        ("ip.isCanonical", [Value::String(text)]) => match parse(text) {
            Ok(ip) => bool(ip.to_string() == **text),
            Err(message) => fail(message),
        },
        (_, [Value::Opaque(Opaque::Ip(ip))]) => of_ip(function, *ip)?,
        _ => return None,
    })
}

/// Reads an address as upstream allows it: no zone, and no IPv4 in IPv6.
pub(super) fn parse(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') && text.split('%').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()) {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP")
    })?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        ip => Ok(ip),
    }
}

fn of_ip<'a>(function: &str, ip: IpAddr) -> Option<Evaluated<'a>> {
    Some(match function {
        "family" => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => bool(ip.is_unspecified()),
        "isLoopback" => bool(ip.is_loopback()),
        "isLinkLocalMulticast" => bool(is_link_local_multicast(ip)),
        "isLinkLocalUnicast" => bool(is_link_local(ip)),
        "isGlobalUnicast" => bool(is_global(ip)),
        "string" => Ok(Value::text(ip.to_string())),
        _ => return None,
    })
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Any address for one host, private ones too (Go: net/netip).
fn is_global(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip))
}

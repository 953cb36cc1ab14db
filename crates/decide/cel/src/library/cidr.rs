//! Ranges of addresses (apiserver: pkg/cel/library/cidr.go).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{bool, fail, ip};
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Value};

pub(super) const TABLE: &str = "
string_to_cidr cidr global string net.CIDR
is_cidr isCIDR global string bool
cidr_contains_ip_string containsIP member net.CIDR,string bool
cidr_contains_ip_ip containsIP member net.CIDR,net.IP bool
cidr_contains_cidr_string containsCIDR member net.CIDR,string bool
cidr_contains_cidr containsCIDR member net.CIDR,net.CIDR bool
cidr_ip ip member net.CIDR net.IP
cidr_prefix_length prefixLength member net.CIDR int
cidr_masked masked member net.CIDR net.CIDR
cidr_to_string string global net.CIDR string
";

/// An address and how many of its bits are the range's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isCIDR", [Value::String(text)]) => bool(parse(text).is_ok()),
        ("cidr", [Value::String(text)]) => match parse(text) {
            Ok(cidr) => Ok(Value::Opaque(Opaque::Cidr(cidr))),
            Err(message) => fail(message),
        },
        (_, [Value::Opaque(Opaque::Cidr(cidr)), rest @ ..]) => of_cidr(function, *cidr, rest)?,
        _ => return None,
    })
}

fn of_cidr<'a>(function: &str, cidr: Cidr, rest: &[Value<'_>]) -> Option<Evaluated<'a>> {
    Some(match (function, rest) {
        ("ip", []) => Ok(Value::Opaque(Opaque::Ip(cidr.address))),
        ("prefixLength", []) => Ok(Value::Int(cidr.bits.into())),
        ("masked", []) => Ok(Value::Opaque(Opaque::Cidr(cidr.masked()))),
        ("string", []) => Ok(Value::text(cidr.to_string())),
        ("containsIP", [Value::Opaque(Opaque::Ip(ip))]) => bool(cidr.contains(*ip)),
        ("containsIP", [Value::String(text)]) => match ip::parse(text) {
            Ok(ip) => bool(cidr.contains(ip)),
            Err(message) => fail(message),
        },
        ("containsCIDR", [Value::Opaque(Opaque::Cidr(other))]) => bool(cidr.covers(*other)),
        ("containsCIDR", [Value::String(text)]) => match parse(text) {
            Ok(other) => bool(cidr.covers(other)),
            Err(message) => fail(message),
        },
        _ => return None,
    })
}

impl Cidr {
    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
            }
        };
        Self { address, ..self }
    }

    fn contains(self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4() && Self { address: ip, ..self }.masked() == self.masked()
    }

    fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }
}

fn parse(text: &str) -> Result<Cidr, String> {
    let failed = |why: &str| {
        let twice = "network address parse error during conversion from string: ";
        Err(format!("{twice}{twice}netip.ParsePrefix({text:?}): {why}"))
    };
    let Some((address, bits)) = text.rsplit_once('/') else { return failed("no '/'") };
    if address.contains('%') {
        return failed("IPv6 zones cannot be present in a prefix");
    }
    let Ok(address) = address.parse::<IpAddr>() else { return failed("ParseAddr: unable to parse IP") };
    let plain = bits == "0" || !bits.starts_with(['0', '+', '-']);
    let Some(bits) = bits.parse::<u8>().ok().filter(|_| plain) else { return failed("bad bits after slash") };
    if bits > if address.is_ipv4() { 32 } else { 128 } {
        return failed("prefix length out of range");
    }
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(format!(
            "network address parse error during conversion from string: IPv4-mapped IPv6 address {text:?} is not allowed"
        ));
    }
    Ok(Cidr { address, bits })
}

//! Who sent a request, where proxies are in between.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether an address is in one of the ranges. An IPv4 address counts as such in IPv6's clothes, too.
pub fn within(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.iter().any(|range| range.contains(&address))
}

/// The client's address: who connected, or, where that is trusted, the last address in the `X-Forwarded-For` headers
/// that is not trusted itself.
pub fn address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    if trusted.is_empty() {
        return client;
    }
    for part in forwarded.rev().flat_map(|header| header.rsplit(',')) {
        if !within(trusted, client) {
            break;
        }
        let Some(before) = parse(part.trim()) else { break };
        client = before;
    }
    client
}

/// An address that may have a port.
fn parse(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|range| range.parse().unwrap()).collect();
        let table: &[(&str, &[&str], &str)] = &[
            ("1.1.1.1", &["2.2.2.2"], "1.1.1.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", &["6.6.6.6, 2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", &["6.6.6.6, 2.2.2.2, 10.9.9.9"], "2.2.2.2"),
            ("10.0.0.1", &["6.6.6.6", "2.2.2.2", "10.9.9.9"], "2.2.2.2"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, garbage"], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6:1234"], "6.6.6.6"),
            ("::ffff:10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &["2.2.2.2"], "2.2.2.2"),
        ];
        for (peer, headers, expected) in table {
            let found = address(peer.parse().unwrap(), headers.iter().copied(), &trusted);
            assert_eq!(found.to_string(), *expected, "{peer} {headers:?}");
        }
        let found = address("10.0.0.1".parse().unwrap(), ["2.2.2.2"].into_iter(), &[]);
        assert_eq!(found.to_string(), "10.0.0.1", "nobody is trusted unless configured");
    }
}

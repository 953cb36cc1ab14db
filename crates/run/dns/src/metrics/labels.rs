//! How figures are told apart.

use plimsoll_netplan::dns::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Types of records that are told apart.
pub(super) const TYPES: [&str; 9] = ["A", "AAAA", "SRV", "PTR", "TXT", "NS", "SOA", "CNAME", "other"];

/// Response codes by number; more are told as the last.
pub(super) const RCODES: [&str; 7] =
    ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"];

pub(super) const PLUGINS: [&str; 4] = ["kubernetes", "hosts", "template", "forward"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) proto: &'static str,
    pub(super) family: &'static str,
    pub(super) r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResponseLabels {
    pub(super) rcode: &'static str,
    pub(super) plugin: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CacheLabels {
    pub(super) r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    pub(super) proxy_name: &'static str,
    pub(super) to: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ExchangeLabels {
    pub(super) proxy_name: &'static str,
    pub(super) to: String,
    pub(super) rcode: &'static str,
}

pub(super) fn place(kind: Kind) -> usize {
    match kind {
        Kind::A => 0,
        Kind::Aaaa => 1,
        Kind::Srv => 2,
        Kind::Ptr => 3,
        Kind::Txt => 4,
        Kind::Ns => 5,
        Kind::Soa => 6,
        Kind::Cname => 7,
        Kind::Any | Kind::Other(_) => 8,
    }
}

pub(super) fn upstream(server: &str) -> UpstreamLabels {
    UpstreamLabels { proxy_name: "forward", to: server.to_owned() }
}

pub(super) fn request_counters(family: &Family<RequestLabels, Counter>) -> Vec<Counter> {
    let mut counters = Vec::new();
    for proto in ["udp", "tcp"] {
        for address in ["1", "2"] {
            let labels = TYPES.map(|r#type| RequestLabels { proto, family: address, r#type });
            counters.extend(labels.iter().map(|labels| family.get_or_create_owned(labels)));
        }
    }
    counters
}

pub(super) fn response_counters(family: &Family<ResponseLabels, Counter>) -> Vec<Counter> {
    let labels = RCODES.iter().flat_map(|rcode| PLUGINS.map(|plugin| ResponseLabels { rcode, plugin }));
    labels.map(|labels| family.get_or_create_owned(&labels)).collect()
}

//! The ingress of the node, as flags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use plimsoll_document::Document;
use serde_json::{Value, json};

use crate::up::FAREWELL;

/// How requests from outside come to pods
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Ingress")]
pub(crate) struct IngressArgs {
    /// Serve Ingresses of the class plimsoll; nothing listens before there is one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = true)]
    pub(crate) ingress: bool,
    /// Port for plain requests, on all addresses of the machine
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub(crate) ingress_http_port: u16,
    /// Port for encrypted requests
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub(crate) ingress_https_port: u16,
    /// Proxies whose X-Forwarded-For and PROXY protocol are believed
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub(crate) ingress_trusted_proxies: Vec<IpNet>,
    /// Connections of these proxies begin with a header of the PROXY protocol
    #[arg(long)]
    pub(crate) ingress_proxy_protocol: bool,
    /// What clients are answered that ask for more than the limits allow
    #[arg(long, value_name = "CODE", default_value_t = 503, value_parser = clap::value_parser!(u16).range(400..=599))]
    pub(crate) ingress_limit_status: u16,
    /// Where metrics of the ingress are told by HTTP [default: port 10254 of the resolver's address]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) ingress_metrics: Option<SocketAddr>,
}

impl IngressArgs {
    /// The settings of a node's ingress, if it has one.
    pub(crate) fn config(&self, node_name: &str, resolver: IpAddr) -> Option<plimsoll_ingress::Config> {
        let any = any_address();
        self.ingress.then(|| plimsoll_ingress::Config {
            http: SocketAddr::new(any, self.ingress_http_port),
            https: SocketAddr::new(any, self.ingress_https_port),
            node_name: node_name.to_owned(),
            trusted: self.ingress_trusted_proxies.clone(),
            resolver: Some(SocketAddr::new(resolver, 53)),
            proxy_protocol: self.ingress_proxy_protocol,
            limit_status: self.ingress_limit_status,
            metrics: self.ingress_metrics.or(Some(SocketAddr::new(resolver, 10254))),
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            farewell: FAREWELL.saturating_sub(Duration::from_secs(1)),
        })
    }

    /// The kinds of the Gateway API.
    pub(crate) fn definitions(&self) -> anyhow::Result<Vec<Value>> {
        if !self.ingress {
            return Ok(Vec::new());
        }
        let mut list = Document::yaml(plimsoll_ingress::DEFINITIONS)?.value;
        Ok(serde_json::from_value(list["items"].take())?)
    }

    /// The class of Ingresses that name none, in a new cluster.
    pub(crate) fn class(&self) -> Option<Value> {
        self.ingress.then(|| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": {
                    "name": "plimsoll",
                    "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
                },
                "spec": {"controller": "plimsoll.io/ingress"},
            })
        })
    }
}

/// All addresses of this machine: those of both families where it has both.
fn any_address() -> IpAddr {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

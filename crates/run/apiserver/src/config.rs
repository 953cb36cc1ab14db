//! What the server is started with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::features::Features;
use crate::limits::Limits;
use crate::safeguards::Safeguards;

/// Everything the server needs to know; nothing is read from the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the store keeps its files.
    pub store: PathBuf,
    /// Addresses to serve on.
    pub listen: Vec<SocketAddr>,
    /// The address that pods reach the server at, published as Service `default/kubernetes`.
    pub advertise: SocketAddr,
    /// Range of Service addresses.
    pub service_cidr: IpNet,
    /// Range of node ports.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Address of the cluster's resolver, kept free for the Service `kube-system/kube-dns`.
    pub cluster_dns: IpAddr,
    /// Keys and certificates.
    pub credentials: Credentials,
    /// Admission plugins, encryption at rest and the audit log.
    pub safeguards: Safeguards,
    /// Feature gates.
    pub features: Features,
    /// Bounds of requests.
    pub limits: Limits,
}

/// Files of keys and certificates, all PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Authority of client certificates.
    pub client_ca: PathBuf,
    /// The server's own certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Client certificate for node agents.
    pub kubelet_certificate: PathBuf,
    /// Its key.
    pub kubelet_key: PathBuf,
    /// Client certificate for extension servers, whose authority is not that of other clients.
    pub front_proxy_certificate: PathBuf,
    /// Its key.
    pub front_proxy_key: PathBuf,
    /// Key that signs service account tokens.
    pub service_account_key: PathBuf,
}

//! What is observed of a cluster and a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;

use super::drafts::RouteDraft;
use super::kinds::{Gateway, GatewayClass, ReferenceGrant};
use crate::draft::SecretKey;

/// Everything that decides about Gateways.
pub struct World<'a> {
    /// All classes.
    pub classes: &'a [Arc<GatewayClass>],
    /// The definitions of all kinds of the Gateway API, and the versions that they tell ([`super::VERSION`]).
    pub definitions: &'a [(&'a str, Option<&'a str>)],
    /// All Gateways.
    pub gateways: &'a [Arc<Gateway>],
    /// All routes.
    pub routes: &'a [Arc<RouteDraft>],
    /// All grants.
    pub grants: &'a [Arc<ReferenceGrant>],
    /// Labels of a namespace.
    pub labels: &'a dyn Fn(&str) -> BTreeMap<String, String>,
    /// A Service of a namespace.
    pub service: &'a dyn Fn(&str, &str) -> Option<Arc<Service>>,
    /// What is wrong with a Secret as a certificate: nothing, or something while what was there before is kept, or all.
    pub certificate: &'a dyn Fn(&SecretKey) -> Result<Option<String>, String>,
    /// Whether a port of the node is open; none if that is not known yet.
    pub port: &'a dyn Fn(u16) -> Option<Result<(), String>>,
    /// The ports that Ingresses are served on, too.
    pub ingress: Ports,
    /// Addresses of the node.
    pub addresses: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// Two ports of the node.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For plain requests.
    pub http: u16,
    /// For encrypted requests.
    pub https: u16,
}

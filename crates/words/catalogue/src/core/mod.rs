//! The core group, `v1`.

mod component_status;
mod config;
mod endpoints;
mod event;
mod limits;
mod namespace;
mod node;
pub(crate) mod pod;
mod pod_columns;
mod replication_controller;
mod service;
mod service_account;
mod service_change;
mod service_rules;
pub(crate) mod volume;

pub(crate) use event::{COLUMNS as EVENT_COLUMNS, check as check_event};
pub(crate) use service::load_balancer;
pub(crate) use service_rules::check_load_balancer_status;
pub use service_rules::service_address_errors;

use crate::kind::{Kind, Storage};

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    pod::BINDING,
    component_status::COMPONENT_STATUS,
    config::CONFIG_MAP,
    endpoints::ENDPOINTS,
    event::EVENT,
    limits::LIMIT_RANGE,
    namespace::NAMESPACE,
    node::NODE,
    volume::CLAIM,
    volume::VOLUME,
    pod::POD,
    pod::POD_TEMPLATE,
    replication_controller::REPLICATION_CONTROLLER,
    limits::RESOURCE_QUOTA,
    config::SECRET,
    service_account::SERVICE_ACCOUNT,
    service::SERVICE,
];

/// Core kinds are stored as `v1`.
const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "", version: "v1" }
}

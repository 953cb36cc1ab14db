//! CSI drivers on a node: how they make themselves known, and what they are asked for.
//!
//! What enters and leaves are the messages of both interfaces, over Unix sockets. The agent is their client;
//! servers are generated, too, for drivers that tests are made of. This crate never decides when a call is made.

/// The messages and services of package `csi.v1`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description, where the explanations stand"
)]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}

/// The messages and services of package `pluginregistration`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description, where the explanations stand"
)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

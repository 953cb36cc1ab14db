//! The etcd v3 API: messages, and the code of clients and servers.
//!
//! What enters and leaves are messages, compiled from `proto`. This crate never decides when a call is made or
//! what is answered; `plimsoll-store` serves the API, and asks clusters of etcd by it.

/// Keys and events.
#[expect(missing_docs, reason = "generated from the interface description")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users and roles.
#[expect(missing_docs, reason = "generated from the interface description")]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Requests, answers, and the services KV, Watch, Lease, Cluster, Maintenance and Auth.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The health of a server.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

//! The interfaces between the node agent and its plugins.
//!
//! What enters and leaves are messages over Unix sockets in the agent's folder: device plugins register and are
//! asked for devices, so are drivers of claimed ones, and monitoring asks which pod has which. This crate holds messages, clients and servers, and decides nothing.

/// Device plugins (`v1beta1`): <https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/>.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod device {
    tonic::include_proto!("v1beta1");
}

/// Who has which resources of the node (`PodResourcesLister`).
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod resources {
    tonic::include_proto!("v1");
}

/// Drivers of devices that are allocated by claims (`k8s.io.kubelet.pkg.apis.dra.v1`).
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod dra {
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
}

/// The same under its older name (`k8s.io.kubelet.pkg.apis.dra.v1beta1`).
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod dra_v1beta1 {
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1beta1");
}

/// The health of devices of such drivers (`v1.DRAResourceHealth`).
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod dra_health {
    include!(concat!(env!("OUT_DIR"), "/health/v1.rs"));
}

/// The same under its older name (`v1alpha1.DRAResourceHealth`).
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description"
)]
pub mod dra_health_v1alpha1 {
    include!(concat!(env!("OUT_DIR"), "/health/v1alpha1.rs"));
}

/// The version of the interface of device plugins.
pub const DEVICE_VERSION: &str = "v1beta1";
/// What a device says of itself when it can be used.
pub const HEALTHY: &str = "Healthy";
/// The file name of the agent's socket for device plugins and for questions about resources.
pub const SOCKET: &str = "kubelet.sock";

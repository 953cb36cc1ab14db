//! CSI drivers on a node: how they make themselves known, and what they are asked for.
//!
//! What enters: the path of a plugin's Unix socket. What leaves: a channel to it, and the messages and
//! services of both interfaces. The agent is their client; servers are generated, too, for drivers that
//! tests are made of. This crate never decides when a call is made.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

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

/// A channel to the plugin behind `socket`; it connects at the first call.
#[must_use]
pub fn connect(socket: &Path) -> Channel {
    let path = socket.to_owned();
    // The URI only fills the authority of the requests: the connector knows the path.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

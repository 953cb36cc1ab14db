//! Exec, attach and port-forward for clients that come over the network.

use plimsoll_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};

use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Where to connect to for this process.
    pub(crate) fn prepare_exec(&self, request: ExecRequest) -> Result<String> {
        self.shared.pods.container(&request.container_id)?;
        Err(no_server())
    }

    /// Where to connect to for this container.
    pub(crate) fn prepare_attach(&self, request: AttachRequest) -> Result<String> {
        self.shared.pods.container(&request.container_id)?;
        Err(no_server())
    }

    /// Where to connect to for the ports of this sandbox.
    pub(crate) fn prepare_port_forward(&self, request: PortForwardRequest) -> Result<String> {
        self.shared.pods.sandbox(&request.pod_sandbox_id)?;
        Err(no_server())
    }
}

fn no_server() -> Error {
    Error::State("this engine has no streaming server".to_owned())
}

//! The contract between the container engine and whatever gives pods their network.
//!
//! The engine makes a network namespace for each sandbox and asks for it to be
//! attached; it never learns how. The built-in implementation lives in
//! `run/network`, as does the one that asks CNI plugins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use futures::future::BoxFuture;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Gives sandboxes their addresses, and takes them back.
pub trait PodNetwork: Send + Sync {
    /// Connects the sandbox's network namespace to the pod network.
    ///
    /// Asking again for the same sandbox answers with the same addresses and
    /// repairs what is missing.
    fn attach<'a>(&'a self, request: Attach) -> BoxFuture<'a, Result<Attached, NetworkError>>;

    /// Removes the sandbox from the network and frees its addresses.
    ///
    /// Succeeds for sandboxes that are unknown or were detached before.
    fn detach<'a>(&'a self, sandbox_id: &'a str) -> BoxFuture<'a, Result<(), NetworkError>>;

    /// The ids of all sandboxes that hold an address, so that the engine can
    /// detach those it no longer knows after a crash.
    fn attached(&self) -> Vec<String>;

    /// Why no pods can be attached now, if that is so.
    fn trouble(&self) -> BoxFuture<'_, Option<String>>;

    /// Tells the ranges this node's pods take their addresses from, at most one
    /// of each family. Setting the same ranges again does nothing.
    fn set_pod_cidr<'a>(&'a self, ranges: &'a [IpNet]) -> BoxFuture<'a, Result<(), NetworkError>>;
}

/// A sandbox that wants to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The engine's id of the sandbox; the key of `attach` and `detach`.
    pub sandbox_id: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// A file that stands for the sandbox's network namespace
    /// (`/proc/PID/ns/net` or a bind mount of it).
    pub netns: PathBuf,
    /// The pod's hostPorts.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations.
    pub annotations: HashMap<String, String>,
}

/// One hostPort of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port inside the pod.
    pub container_port: u16,
    /// Port on the node.
    pub host_port: u16,
    /// The node's address it is bound to; `None` means every address.
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol that Services and hostPorts know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// What a connected sandbox was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The pod's addresses, the primary family first. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Name of the pod's interface inside its namespace.
    pub interface: String,
    /// Largest packet the pod's interface sends, in bytes.
    pub mtu: u32,
}

/// Why a sandbox could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `set_pod_cidr` was not called yet.
    #[error("the node has no pod address range yet")]
    NoRange,
    /// Every address of the range is held by a sandbox.
    #[error("no free address in {0}")]
    Exhausted(IpNet),
    /// The range is too small, doubled, or cannot replace the one in use.
    #[error("pod range {range}: {reason}")]
    Range {
        /// The refused range.
        range: IpNet,
        /// What is wrong with it.
        reason: String,
    },
    /// An annotation about the network says nothing that can be done.
    #[error("{0}")]
    Annotation(String),
    /// A CNI plugin failed, or there is none.
    #[error("{0}")]
    Plugin(String),
    /// Another sandbox holds the hostPort.
    #[error("host port {port} is already taken by sandbox {holder}")]
    PortTaken {
        /// The wanted port.
        port: u16,
        /// The sandbox that has it.
        holder: String,
    },
    /// The kernel or the disk refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, naming its object.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl NetworkError {
    /// Wraps the operating system's answer to `what`.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

//! Control groups, mounts, namespaces, links and packet rules.

pub mod pod_network;

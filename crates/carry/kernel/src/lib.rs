//! Control groups, mounts, namespaces, links, packet rules and profiles.
//!
//! What enters: numbers and paths that others have decided on. What leaves: the same machine, set
//! up accordingly. Nothing here knows pods; this is the only crate that speaks to the kernel without
//! a safe wrapper.

pub mod apparmor;
mod bpf;
pub mod build_step;
pub mod cgroup;
pub mod far;
pub mod idmap;
pub mod link;
pub mod listen;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
mod netlink;
pub mod nft;
pub mod packet;
pub mod pause;
pub mod pod_network;
pub mod pressure;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod terminal;

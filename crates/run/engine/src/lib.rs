//! The container engine behind the container runtime interface.
//!
//! What enters: requests of the container runtime interface, on a Unix socket or by calls of
//! [`Engine`]. What leaves: sandboxes and containers on this machine, their logs and exit codes, and
//! events about them.
//!
//! ```text
//! kubelet ─ CRI ─ service ─ Engine ─┬─ images: layers ─ overlay
//!                                   ├─ spec: an OCI document
//!                                   └─ shim client ~ socket ~ shim ─┬─ pause
//!                                                                   └─ containers (libcontainer)
//! ```
//!
//! The engine remembers nothing that is not on disk or in a shim, so it can be killed at any moment:
//! the next one adopts what it finds. It never decides what should run; that is the node agent's.

mod adopt;
mod cdi;
mod clock;
mod config;
mod container;
mod descriptor;
mod destroy;
mod engine;
mod error;
mod exec;
mod files;
mod group;
mod images;
mod layout;
mod pods;
mod profiles;
mod protocol;
mod sandbox;
mod service;
mod shim;
mod shim_client;
mod spec;
mod stats;
mod status;
mod stop;
mod stored_images;
mod stream;
mod users;
mod workdir;

pub use config::Config;
pub use engine::Engine;
pub use error::{Error, Result};
pub use exec::{Attached, Output, Session};
pub use images::{Credentials, ImageError, ImageFacts, ImageUsage, Images};
pub use plimsoll_cri::v1::CgroupDriver;
pub use shim::shim_main;
pub use spec::SpecError;
pub use stored_images::StoredImages;

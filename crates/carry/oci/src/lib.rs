//! Images: what containers start from.
//!
//! What enters: names, registries, archives, Dockerfiles. What leaves: for each
//! image its configuration and the directories that overlayfs mounts, ready
//! before anyone asks. This crate never starts a container; of the steps of a
//! build it only knows the trait [`build::RunStep`] and its default.
//!
//! ```text
//! registry ─ pull ┐                      ┌ resolve ─ engine
//! archive ── load ┼─ blobs ─ layers ─ index
//! Dockerfile build┘                      └ save, push
//! ```
//!
//! A store is a directory that several processes may use at once:
//!
//! ```text
//! blobs/sha256/…   compressed layers, configurations, manifests by digest
//! partial/…        downloads that a later pull resumes
//! layers/…         unpacked layers by the digest of their chain: lower directories
//! tmp/…            what is being made
//! index.json       images and their names; replaced as a whole
//! ```
//!
//! A name appears in `blobs` or `layers` only when its content is complete, and
//! in the index only when all of it is there. So a crash leaves at most garbage,
//! which [`ImageStore::collect_garbage`] finds.

mod archive;
pub mod build;
mod builtin;
mod digest;
mod document;
mod error;
mod image;
mod layer;
mod mounts;
mod name;
mod registry;
mod store;

pub use archive::Loaded;
pub use builtin::{DEMO, PAUSE, ensure_builtin};
pub use digest::Digest;
pub use error::{Error, Result};
pub use image::Image;
pub use layer::Limits;
pub use name::ImageName;
pub use registry::{Auth, Phase, Progress, ProgressFn, Registries};
pub use store::{DiskUsage, Freed, ImageStore, Keep, Removed};

//! Builds images from Dockerfiles.

mod cache;

pub(crate) use cache::{cached_layers, forget_cache};

//! An image as its users see it.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;
use crate::store::Record;

/// An image in the store: everything needed to start a container from it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration: the image id.
    pub id: Digest,
    /// Names with tags, as `docker.io/library/busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Names with the digest they were pulled or pushed by.
    pub repo_digests: Vec<String>,
    /// What to run and how.
    pub config: ImageConfiguration,
    /// Unpacked layers for overlayfs, lowest first.
    pub layer_dirs: Vec<PathBuf>,
    /// Bytes of the files of all layers.
    pub size: u64,
    /// Never removed to make room, nor by users.
    pub pinned: bool,
    /// Seconds since 1970 when the store got it.
    pub added: i64,
    pub(crate) record: Record,
}

impl Image {
    /// The first twelve digits of the id, as docker prints it.
    pub fn short_id(&self) -> String {
        self.id.hex()[..12].to_owned()
    }

    /// The digest of the manifest whose blobs are in the store.
    pub fn manifest(&self) -> Digest {
        self.record.manifest
    }

    /// When it was built, in seconds since 1970, if it says so.
    pub fn created(&self) -> Option<i64> {
        let text = self.config.created().as_ref()?;
        text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
    }

    /// Entry point and arguments of a container that names neither.
    pub fn command(&self) -> Vec<String> {
        let config = self.config.config().as_ref();
        let entrypoint = config.and_then(|c| c.entrypoint().clone()).unwrap_or_default();
        let arguments = config.and_then(|c| c.cmd().clone()).unwrap_or_default();
        [entrypoint, arguments].concat()
    }
}

//! What the engine needs to know of images.
//!
//! The store of the program is [`plimsoll_oci::ImageStore`]; tests bring folders.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use oci_spec::image::Config as ImageConfig;

/// An image that containers can start from.
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    /// Digest of the configuration, `sha256:…`.
    pub id: String,
    /// Names with tags.
    pub repo_tags: Vec<String>,
    /// Names with digests.
    pub repo_digests: Vec<String>,
    /// What to run and how.
    pub config: ImageConfig,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Bytes.
    pub size: u64,
    /// Never removed.
    pub pinned: bool,
}

/// Who asks for an image, as registries want to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Anybody.
    #[default]
    Anonymous,
    /// User name and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that stands for a user, to be exchanged.
    IdentityToken(String),
    /// A token for the registry itself.
    RegistryToken(String),
}

/// What the images take on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// Why an image could not be had. The text is for users.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image.
    #[error("image \"{0}\" not found")]
    NotFound(String),
    /// The registry wants other credentials.
    #[error("{0}")]
    Denied(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Images by name.
pub trait Images: Send + Sync {
    /// The image of that name, digest or id.
    fn find(&self, name: &str) -> Option<Arc<ImageFacts>>;

    /// All images.
    fn list(&self) -> Vec<Arc<ImageFacts>>;

    /// Fetches an image; answers with its id.
    fn pull<'a>(
        &'a self,
        name: &'a str,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<String, ImageError>>;

    /// Removes a name, and with the last one the image. One that is not there is no error.
    fn remove<'a>(
        &'a self,
        name: &'a str,
        in_use: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> BoxFuture<'a, Result<(), ImageError>>;

    /// The folder that the images live in.
    fn folder(&self) -> PathBuf;

    /// What they take on disk.
    fn usage(&self) -> BoxFuture<'_, ImageUsage>;
}

//! The program's image store as the engine's images.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use plimsoll_oci::{Auth, Image, ImageStore, Registries};

use crate::engine::blocking;
use crate::error::Error;
use crate::images::{Credentials, ImageError, ImageFacts, ImageUsage, Images};

/// An image store and where it pulls from.
#[derive(Clone, Debug)]
pub struct StoredImages {
    store: ImageStore,
    registries: Arc<Registries>,
}

impl StoredImages {
    /// Images of `store`, pulled by the rules of `registries`.
    #[must_use]
    pub fn new(store: ImageStore, registries: Registries) -> Self {
        Self { store, registries: Arc::new(registries) }
    }
}

impl Images for StoredImages {
    fn find(&self, name: &str) -> Option<Arc<ImageFacts>> {
        self.store.resolve(name).map(|image| Arc::new(facts(&image)))
    }

    fn list(&self) -> Vec<Arc<ImageFacts>> {
        self.store.list().iter().map(|image| Arc::new(facts(image))).collect()
    }

    fn pull<'a>(
        &'a self,
        name: &'a str,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<String, ImageError>> {
        Box::pin(async move {
            // What is made of this very program comes from no registry.
            if let Some(builtin) = self.store.resolve(name).filter(|image| image.pinned) {
                return Ok(builtin.id.to_string());
            }
            let pulled = self.store.pull(name, &auth(credentials)?, &self.registries, Arc::new(|_| {})).await;
            pulled.map(|image| image.id.to_string()).map_err(|error| ImageError::Other(error.to_string()))
        })
    }

    fn remove<'a>(
        &'a self,
        name: &'a str,
        in_use: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> BoxFuture<'a, Result<(), ImageError>> {
        let (store, name) = (self.store.clone(), name.to_owned());
        Box::pin(async move {
            let removed = blocking(move || {
                match store.remove(&name, &|digest| in_use(&digest.to_string())) {
                    // The interface wants it gone, and it is.
                    Ok(_) | Err(plimsoll_oci::Error::NotFound(_)) => Ok(()),
                    Err(error) => Err(Error::Image(ImageError::Other(error.to_string()))),
                }
            });
            removed.await.map_err(|error| ImageError::Other(error.to_string()))
        })
    }

    fn folder(&self) -> PathBuf {
        self.store.root().to_owned()
    }

    fn usage(&self) -> BoxFuture<'_, ImageUsage> {
        let store = self.store.clone();
        Box::pin(async move {
            let usage =
                blocking(move || Ok(store.disk_usage().unwrap_or_default())).await.unwrap_or_default();
            ImageUsage { bytes: usage.blobs + usage.layers, inodes: usage.inodes }
        })
    }
}

fn auth(credentials: Credentials) -> Result<Auth, ImageError> {
    match credentials {
        Credentials::Anonymous => Ok(Auth::Anonymous),
        Credentials::Password { user, password } => Ok(Auth::Basic { user, password }),
        Credentials::RegistryToken(token) => Ok(Auth::Bearer(token)),
        Credentials::IdentityToken(_) => Err(ImageError::Denied(
            "identity tokens cannot be exchanged: give a password or a registry token".to_owned(),
        )),
    }
}

fn facts(image: &Image) -> ImageFacts {
    ImageFacts {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        config: image.config.config().clone().unwrap_or_default(),
        layers: image.layer_dirs.clone(),
        size: image.size,
        pinned: image.pinned,
    }
}

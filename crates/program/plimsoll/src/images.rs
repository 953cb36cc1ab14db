//! The image store as the engine sees it.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use plimsoll_engine::{Credentials, ImageError, ImageFacts, ImageUsage, Images};
use plimsoll_oci::{Auth, Error, Image, ImageStore, Registries};

/// Images of an instance.
pub(crate) struct Stored {
    store: ImageStore,
    registries: Registries,
}

impl Stored {
    pub(crate) fn new(store: ImageStore) -> Self {
        Self { store, registries: Registries::default() }
    }
}

fn facts(image: &Image) -> Arc<ImageFacts> {
    Arc::new(ImageFacts {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        config: image.config.config().clone().unwrap_or_default(),
        layers: image.layer_dirs.clone(),
        size: image.size,
        pinned: image.pinned,
    })
}

fn failure(error: Error) -> ImageError {
    match error {
        Error::NotFound(name) => ImageError::NotFound(name),
        other => ImageError::Other(other.to_string()),
    }
}

impl Images for Stored {
    fn find(&self, name: &str) -> Option<Arc<ImageFacts>> {
        self.store.resolve(name).map(|image| facts(&image))
    }

    fn list(&self) -> Vec<Arc<ImageFacts>> {
        self.store.list().iter().map(|image| facts(image)).collect()
    }

    fn pull<'a>(
        &'a self,
        name: &'a str,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<String, ImageError>> {
        let auth = match credentials {
            Credentials::Anonymous => Auth::Anonymous,
            Credentials::Password { user, password } => Auth::Basic { user, password },
            Credentials::RegistryToken(token) => Auth::Bearer(token),
            Credentials::IdentityToken(_) => {
                let cause = format!(
                    "image {name:?}: identity tokens are not supported, use a user name and a password"
                );
                return Box::pin(async move { Err(ImageError::Denied(cause)) });
            }
        };
        Box::pin(async move {
            // What is made of this program comes from no registry.
            if let Some(builtin) = self.store.resolve(name).filter(|image| image.pinned) {
                return Ok(builtin.id.to_string());
            }
            let pulled = self.store.pull(name, &auth, &self.registries, Arc::new(|_| {})).await;
            pulled.map(|image| image.id.to_string()).map_err(failure)
        })
    }

    fn remove<'a>(
        &'a self,
        name: &'a str,
        in_use: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> BoxFuture<'a, Result<(), ImageError>> {
        let store = self.store.clone();
        let name = name.to_owned();
        Box::pin(async move {
            let work = move || store.remove(&name, &|id| in_use(&id.to_string()));
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(_) | Err(Error::NotFound(_))) => Ok(()),
                Ok(Err(error)) => Err(failure(error)),
                Err(error) => Err(ImageError::Other(error.to_string())),
            }
        })
    }

    fn folder(&self) -> PathBuf {
        self.store.root().to_owned()
    }

    fn usage(&self) -> BoxFuture<'_, ImageUsage> {
        let store = self.store.clone();
        Box::pin(async move {
            let usage = tokio::task::spawn_blocking(move || store.disk_usage()).await;
            match usage {
                Ok(Ok(usage)) => ImageUsage { bytes: usage.blobs + usage.layers, inodes: usage.inodes },
                _ => ImageUsage::default(),
            }
        })
    }
}

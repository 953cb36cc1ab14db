//! Pulls an image: manifest, blobs in parallel, layers unpacked.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use oci_client::RegistryOperation;

use super::blob::{blocking, fetch};
use super::remote::Remote;
use super::{Auth, Phase, Progress, ProgressFn, Registries};
use crate::digest::Digest;
use crate::document::{Document, Manifest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::name::ImageName;
use crate::store::{ImageStore, Source};

/// Blobs downloaded at the same time, as docker does by default.
const PARALLEL: usize = 3;

/// A manifest for this platform, and what the name led to.
struct Found {
    remote: Remote,
    bytes: Vec<u8>,
    manifest: Manifest,
    /// Digest of the manifest, and of the index that led to it.
    digest: Digest,
    named: Digest,
}

impl ImageStore {
    /// Pulls an image for this platform and unpacks it.
    ///
    /// Nothing is downloaded that the store has; an interrupted pull goes on where it ended.
    pub async fn pull(
        &self,
        name: &str,
        auth: &Auth,
        registries: &Registries,
        progress: ProgressFn,
    ) -> Result<Arc<Image>> {
        let name = ImageName::parse(name)?;
        let found = find(&name, auth, registries).await?;
        let store = self.clone();
        let adding = blocking(move || store.adding()).await?;
        if !self.has(&found) {
            let Found { remote, manifest, .. } = &found;
            // Boxed, so that the future of the whole pull can move between threads.
            let mut fetches: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                fetches.push(Box::pin(fetch(self, remote, blob, &progress)));
            }
            stream::iter(fetches).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        }
        let store = self.clone();
        blocking(move || {
            let _adding = adding;
            let source = Source {
                // Asked by digest, the tag may mean something else by now.
                tags: if name.digest().is_none() { vec![name.clone()] } else { Vec::new() },
                digests: vec![name.with_digest(found.named)],
            };
            let layers = &found.manifest.layers;
            store.import(&found.bytes, &source, &|n, done| {
                let phase = if done { Phase::Done } else { Phase::Unpacking };
                progress(Progress {
                    digest: layers[n].digest,
                    phase,
                    done: layers[n].size,
                    total: layers[n].size,
                });
            })
        })
        .await
    }

    fn has(&self, found: &Found) -> bool {
        let id = found.manifest.config.digest.to_string();
        let blobs = || found.manifest.layers.iter().all(|layer| self.content().has_blob(layer.digest));
        self.resolve(&id).is_some_and(|image| image.manifest() == found.digest) && blobs()
    }
}

/// Asks the mirrors, then the registry itself. Its answer is the one that counts.
async fn find(name: &ImageName, auth: &Auth, registries: &Registries) -> Result<Found> {
    for mirror in registries.mirrors.get(name.registry()).into_iter().flatten() {
        match find_in(&name.at(mirror)?, &Auth::Anonymous, registries).await {
            Ok(found) => return Ok(found),
            Err(error) => tracing::debug!(%name, %mirror, %error, "mirror skipped"),
        }
    }
    find_in(name, auth, registries).await
}

async fn find_in(name: &ImageName, auth: &Auth, registries: &Registries) -> Result<Found> {
    let remote = Remote::connect(name, auth, registries, RegistryOperation::Pull).await?;
    let (bytes, named) = remote.manifest(None).await?;
    let (bytes, digest, manifest) = match Document::parse(&bytes)? {
        Document::Manifest(manifest) => (bytes, named, manifest),
        Document::Index(index) => {
            let chosen = index.pick(&name.to_string())?.digest;
            let (bytes, digest) = remote.manifest(Some(chosen)).await?;
            match Document::parse(&bytes)? {
                Document::Manifest(manifest) => (bytes, digest, manifest),
                Document::Index(_) => return Err(Error::document("image index", "it names another index")),
            }
        }
    };
    Ok(Found { remote, bytes, manifest, digest, named })
}

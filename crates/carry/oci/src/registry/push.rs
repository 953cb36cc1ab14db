//! Pushes an image: the blobs that the registry lacks, then the manifest.

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use tokio::io::AsyncReadExt;

use super::blob::blocking;
use super::remote::Remote;
use super::{Auth, Phase, Progress, ProgressFn, Registries};
use crate::digest::Digest;
use crate::document::Descriptor;
use crate::error::{During, Error, Result};
use crate::name::ImageName;
use crate::store::ImageStore;

const PARALLEL: usize = 3;
const PIECE: usize = 256 << 10;

impl ImageStore {
    /// Pushes the image to the registry that its name says, and returns the digest it has there.
    pub async fn push(
        &self,
        name: &str,
        auth: &Auth,
        registries: &Registries,
        progress: ProgressFn,
    ) -> Result<Digest> {
        let parsed = ImageName::parse(name)?;
        if parsed.digest().is_some() {
            return Err(Error::Name { name: name.into(), reason: "push by a tag, not by a digest" });
        }
        let image = self.find(&parsed.to_string())?;
        let store = self.clone();
        let taken = image.clone();
        let (manifest, bytes, _adding) = blocking(move || {
            store.adding().and_then(|lock| store.manifest_of(&taken).map(|m| (m.0, m.1, lock)))
        })
        .await?;
        let remote = Remote::connect(&parsed, auth, registries, RegistryOperation::Push).await?;
        stream::iter(manifest.layers.iter().chain([&manifest.config]))
            .map(|blob| push_blob(self, &remote, blob, &progress))
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        let media_type =
            manifest.media_type().parse().map_err(|_| Error::document("image manifest", "media type"))?;
        let pushed = remote.client.push_manifest_raw(&remote.reference, bytes, media_type).await;
        pushed.map_err(|fault| remote.explain(fault))?;
        let digest = image.manifest();
        let (store, known) = (self.clone(), parsed.with_digest(digest).to_string());
        blocking(move || store.add_digest(image.id, known)).await?;
        Ok(digest)
    }

    fn add_digest(&self, id: Digest, name: String) -> Result<()> {
        self.change(|index| {
            if let Some(record) = index.images.get_mut(&id)
                && !record.digests.contains(&name)
            {
                record.digests.push(name);
            }
            Ok(())
        })
    }
}

async fn push_blob(
    store: &ImageStore,
    remote: &Remote,
    blob: &Descriptor,
    progress: &ProgressFn,
) -> Result<()> {
    let tell = {
        let (progress, digest, total) = (progress.clone(), blob.digest, blob.size);
        move |phase, done| progress(Progress { digest, phase, done, total })
    };
    let text = blob.digest.to_string();
    let there = remote.client.blob_exists(&remote.reference, &text).await;
    if there.map_err(|fault| remote.explain(fault))? {
        tell(Phase::Exists, blob.size);
        return Ok(());
    }
    let path = store.content().blob(blob.digest);
    let file = tokio::fs::File::open(&path).await.during(|| format!("open {}", path.display()))?;
    let told = tell.clone();
    let content = stream::try_unfold((file, 0), move |(mut file, done)| {
        let told = told.clone();
        async move {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let count = file.read_buf(&mut piece).await?;
            if count == 0 {
                return Ok::<_, OciDistributionError>(None);
            }
            let done = done + count as u64;
            told(Phase::Transfer, done);
            Ok(Some((piece.freeze(), (file, done))))
        }
    });
    let pushed = remote.client.push_blob_stream(&remote.reference, content, &text, Some(blob.size)).await;
    pushed.map_err(|fault| remote.explain(fault))?;
    tell(Phase::Done, blob.size);
    Ok(())
}

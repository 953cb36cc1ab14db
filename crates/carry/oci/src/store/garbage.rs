//! Removing images and what no image needs.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use super::index::Stamp;
use super::{ImageStore, Index, layer_name, lock};
use crate::digest::Digest;
use crate::document::Document;
use crate::error::{During, Error, Result};
use crate::image::Image;
use crate::name::ImageName;

/// Partial downloads that nobody resumed for this long are garbage.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// Downloads in progress and other processes change the figures a little; this is soon enough.
const USAGE_AGE: Duration = Duration::from_secs(60);

/// What [`ImageStore::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The image, if that was its last name.
    pub deleted: Option<Digest>,
    /// What that freed.
    pub freed: Freed,
}

/// Space that garbage collection gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes on disk.
    pub bytes: u64,
    /// Blobs and layers.
    pub items: u64,
}

/// Whether garbage collection spares the layers that only the build cache needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The next build is fast.
    BuildCache,
    /// The disk is full.
    OnlyImages,
}

/// How much the store uses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Blobs and partial downloads.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Number of files and directories.
    pub inodes: u64,
}

impl ImageStore {
    /// Removes a name; with its last name, or when given by id, the image itself.
    ///
    /// `in_use` tells whether containers need an image. Layers that are mounted
    /// anywhere on the machine are never removed, whatever it says.
    pub fn remove(&self, name_or_id: &str, in_use: &dyn Fn(&Digest) -> bool) -> Result<Removed> {
        let image = self.find(name_or_id)?;
        let refuse = |reason: &str| Err(Error::InUse { name: name_or_id.into(), reason: reason.into() });
        if image.pinned {
            return refuse("it is part of this program");
        }
        let names = self.names_meant(&image, name_or_id);
        let all = image.repo_tags.iter().chain(&image.repo_digests);
        let deletes = all.clone().all(|name| names.contains(name));
        if deletes && (in_use(&image.id) || self.is_mounted(&image)) {
            return refuse("containers use it");
        }
        let untagged = if deletes { all.cloned().collect() } else { names };
        self.change(|index| {
            if deletes {
                index.images.remove(&image.id);
            } else if let Some(record) = index.images.get_mut(&image.id) {
                record.tags.retain(|name| !untagged.contains(name));
                record.digests.retain(|name| !untagged.contains(name));
            }
            Ok(())
        })?;
        let freed = if deletes { self.collect_garbage(Keep::BuildCache)? } else { Freed::default() };
        Ok(Removed { untagged, deleted: deletes.then_some(image.id), freed })
    }

    /// Removes blobs, layers and scratch files that no image needs.
    ///
    /// Does nothing while another task or process is adding content.
    pub fn collect_garbage(&self, keep: Keep) -> Result<Freed> {
        let Some(_lock) = lock::collecting(self.root())? else { return Ok(Freed::default()) };
        let index = Index::read(self.root())?;
        let mut wanted = Wanted::of(self, &index);
        match keep {
            Keep::BuildCache => wanted.add_build_cache(self),
            Keep::OnlyImages => crate::build::forget_cache(self)?,
        }
        wanted.layers.extend(crate::mounts::mounted_layers(&self.content().layers()));
        let mut freed = Freed::default();
        let root = self.root();
        sweep(&root.join("blobs/sha256"), &mut freed, |name, _| !wanted.blobs.contains(name))?;
        sweep(&root.join("layers"), &mut freed, |name, _| !wanted.layers.contains(name))?;
        sweep(&root.join("tmp"), &mut freed, |_, _| true)?;
        *self.inner.usage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        sweep(&root.join("partial"), &mut freed, |_, age| age > PARTIAL_AGE || keep == Keep::OnlyImages)?;
        Ok(freed)
    }

    /// What the store uses. Counting takes a walk over all files, so the figures are those of the
    /// last change to the images, or at most a minute old.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let stamp = Stamp::of(self.root());
        let mut last = self.inner.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((counted, when, usage)) = *last
            && counted == stamp
            && when.elapsed() < USAGE_AGE
        {
            return Ok(usage);
        }
        let usage = self.count_usage();
        *last = Some((stamp, Instant::now(), usage));
        Ok(usage)
    }

    fn count_usage(&self) -> DiskUsage {
        let mut usage = DiskUsage::default();
        for (dir, is_layers) in [("blobs", false), ("partial", false), ("layers", true), ("tmp", false)] {
            let (bytes, inodes) = usage_of(&self.root().join(dir));
            usage.inodes += inodes;
            *(if is_layers { &mut usage.layers } else { &mut usage.blobs }) += bytes;
        }
        usage
    }

    /// The names of the image that the text means: one of them, or all for an id.
    fn names_meant(&self, image: &Image, text: &str) -> Vec<String> {
        let all = || image.repo_tags.iter().chain(&image.repo_digests).cloned();
        let Ok(name) = ImageName::parse(text) else { return all().collect() };
        let name = match name.digest() {
            Some(digest) => name.with_digest(digest).to_string(),
            None => name.to_string(),
        };
        if !all().any(|other| other == name) {
            return all().collect();
        }
        // The last tag of a repository takes the repository's digests with it, as in docker.
        let base = |name: &str| ImageName::parse(name).map(|name| name.base()).unwrap_or_default();
        let others = image.repo_tags.iter().any(|tag| *tag != name && base(tag) == base(&name));
        all()
            .filter(|other| {
                *other == name || !others && image.repo_digests.contains(other) && base(other) == base(&name)
            })
            .collect()
    }

    fn is_mounted(&self, image: &Image) -> bool {
        let mounted = crate::mounts::mounted_layers(&self.content().layers());
        // Layers of other images below it are mounted for those: the highest one is its own.
        image.record.layers.last().is_some_and(|layer| mounted.contains(&layer_name(layer.chain)))
            && !self.shares_top(image)
    }

    fn shares_top(&self, image: &Image) -> bool {
        let top = |image: &Image| image.record.layers.last().map(|layer| layer.chain);
        self.list().iter().any(|other| {
            other.id != image.id && other.record.layers.iter().any(|layer| Some(layer.chain) == top(image))
        })
    }
}

/// Names of files that stay.
struct Wanted {
    blobs: HashSet<String>,
    layers: HashSet<String>,
}

impl Wanted {
    fn of(store: &ImageStore, index: &Index) -> Self {
        let mut wanted = Self { blobs: HashSet::new(), layers: HashSet::new() };
        for (id, record) in &index.images {
            wanted.blobs.extend([id.hex(), record.manifest.hex()]);
            wanted.blobs.extend(record.layers.iter().map(|layer| layer.blob.hex()));
            wanted.layers.extend(record.layers.iter().map(|layer| layer_name(layer.chain)));
            // The manifest may name blobs that the record does not, when a load was of several forms.
            let manifest =
                store.content().document(record.manifest).and_then(|bytes| Document::parse(&bytes));
            if let Ok(Document::Manifest(manifest)) = manifest {
                wanted.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
            }
        }
        wanted
    }

    fn add_build_cache(&mut self, store: &ImageStore) {
        for layer in crate::build::cached_layers(store) {
            self.blobs.insert(layer.blob.hex());
            self.layers.insert(layer_name(layer.chain));
        }
    }
}

/// Removes the entries of a directory that the test names, by name and age.
fn sweep(dir: &Path, freed: &mut Freed, garbage: impl Fn(&str, Duration) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).during(|| format!("list {}", dir.display()))? {
        let Ok(entry) = entry else { continue };
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if !garbage(&name, age.unwrap_or_default()) {
            continue;
        }
        let (bytes, _) = usage_of(&path);
        let result = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        result.during(|| format!("remove {}", path.display()))?;
        freed.bytes += bytes;
        freed.items += 1;
    }
    Ok(())
}

/// Bytes on disk and number of files; what vanishes meanwhile does not count.
fn usage_of(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.symlink_metadata() else { return (0, 0) };
    let own = (metadata.blocks() * 512, 1);
    if !metadata.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    entries.flatten().map(|entry| usage_of(&entry.path())).fold(own, |a, b| (a.0 + b.0, a.1 + b.1))
}

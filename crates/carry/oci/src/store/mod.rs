//! The image store: names and ids to images, from memory.

mod content;
mod garbage;
mod import;
mod index;
mod lock;
mod names;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use oci_spec::image::ImageConfiguration;

pub(crate) use content::{Content, layer_name};
pub use garbage::{DiskUsage, Freed, Keep, Removed};
pub(crate) use import::{Source, chains, diff_ids, now};
pub(crate) use index::{Index, LayerRecord, Record};
pub(crate) use lock::{Lock, index as lock_index};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::Limits;
use crate::name::ImageName;
use index::Stamp;

/// The images of a node. Clones share one state; other processes may use the same directory.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    content: Content,
    limits: Limits,
    view: RwLock<View>,
    /// What was counted last, of which index, and when.
    usage: Mutex<Option<(Stamp, Instant, DiskUsage)>>,
}

/// The index as it was when its stamp was taken, ready for questions.
#[derive(Debug, Default)]
struct View {
    stamp: Stamp,
    images: HashMap<Digest, Arc<Image>>,
    names: HashMap<String, Digest>,
}

impl ImageStore {
    /// Opens the store in `root`, making it if it is not there.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, Limits::default())
    }

    /// Opens the store with other limits on what a layer may cost.
    pub fn open_with(root: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let content = Content::create(root.as_ref())?;
        let store = Self {
            inner: Arc::new(Inner { content, limits, view: RwLock::default(), usage: Mutex::default() }),
        };
        store.reload()?;
        Ok(store)
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.content.root
    }

    /// The image of that name or id, if it is there and complete.
    ///
    /// Takes names as users write them, `name@sha256:…`, ids with and without
    /// `sha256:`, and beginnings of ids. It asks the file system only whether
    /// another process has changed the index.
    pub fn resolve(&self, name_or_id: &str) -> Option<Arc<Image>> {
        self.find(name_or_id).ok()
    }

    /// Like [`Self::resolve`], and says why there is none.
    pub fn find(&self, name_or_id: &str) -> Result<Arc<Image>> {
        let view = self.view();
        let id = names::find(&view.names, &view.images, name_or_id)?;
        view.images.get(&id).cloned().ok_or_else(|| Error::NotFound(name_or_id.into()))
    }

    /// All images.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.view().images.values().cloned().collect()
    }

    /// The configuration as it was published, with fields that [`Image::config`] does not know.
    pub fn configuration(&self, image: &Image) -> Result<Vec<u8>> {
        self.content().document(image.id)
    }

    /// Gives an image another name.
    pub fn tag(&self, name_or_id: &str, new_name: &str) -> Result<Arc<Image>> {
        let image = self.find(name_or_id)?;
        let name = ImageName::parse(new_name)?;
        if name.digest().is_some() {
            return Err(Error::Name { name: new_name.into(), reason: "a tag cannot be made with a digest" });
        }
        self.change(|index| {
            // Another process may have removed the image since.
            if !index.images.contains_key(&image.id) {
                return Err(Error::NotFound(name_or_id.into()));
            }
            index.untag(&name.to_string());
            if let Some(record) = index.images.get_mut(&image.id) {
                record.tags.push(name.to_string());
            }
            Ok(())
        })?;
        self.find(&image.id.to_string())
    }

    pub(crate) fn content(&self) -> &Content {
        &self.inner.content
    }

    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Protects what is being added from garbage collection while the lock is held.
    pub(crate) fn adding(&self) -> Result<Lock> {
        lock::adding(self.root())
    }

    /// Changes the index, also against other processes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let lock = lock::index(self.root())?;
        let mut index = Index::read(self.root())?;
        let before = index.clone();
        let result = change(&mut index)?;
        if index != before {
            index.write(self.root())?;
        }
        drop(lock);
        self.reload()?;
        Ok(result)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        let view = self.read();
        if view.stamp == Stamp::of(self.root()) {
            return view;
        }
        drop(view);
        if let Err(error) = self.reload() {
            tracing::warn!(%error, "the image index cannot be read, going on with the last one");
        }
        self.read()
    }

    fn read(&self) -> RwLockReadGuard<'_, View> {
        // A view is replaced as a whole: a panic elsewhere cannot leave half of one.
        self.inner.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Result<()> {
        // The stamp is taken first: a change in between makes the next question read again.
        let stamp = Stamp::of(self.root());
        let index = Index::read(self.root())?;
        let known = self.read().images.clone();
        let view = View::build(stamp, index, |id, record| match known.get(&id) {
            Some(image) if image.record == *record => Some(image.clone()),
            _ => self.image(id, record),
        });
        *self.inner.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }

    /// Nothing if a part is missing: then a pull or load puts it right.
    fn image(&self, id: Digest, record: &Record) -> Option<Arc<Image>> {
        let layer_dirs: Vec<PathBuf> =
            record.layers.iter().map(|layer| self.content().layer(layer.chain)).collect();
        let missing = layer_dirs.iter().find(|dir| !dir.is_dir());
        let config = self.content().document(id).and_then(|bytes| parse_configuration(&bytes));
        match (missing, config) {
            (None, Ok(config)) => Some(Arc::new(Image {
                id,
                repo_tags: record.tags.clone(),
                repo_digests: record.digests.clone(),
                config,
                layer_dirs,
                size: record.layers.iter().map(|layer| layer.size).sum(),
                pinned: record.pinned,
                added: record.added,
                record: record.clone(),
            })),
            (Some(dir), _) => {
                tracing::warn!(image = %id, layer = %dir.display(), "image is incomplete: a layer is missing");
                None
            }
            (_, Err(error)) => {
                tracing::warn!(image = %id, %error, "image is incomplete");
                None
            }
        }
    }
}

impl View {
    fn build(stamp: Stamp, index: Index, image: impl Fn(Digest, &Record) -> Option<Arc<Image>>) -> Self {
        let mut view = Self { stamp, ..Self::default() };
        for (id, record) in &index.images {
            let Some(image) = image(*id, record) else { continue };
            let names = record.tags.iter().chain(&record.digests);
            view.names.extend(names.map(|name| (name.clone(), *id)));
            for name in &record.digests {
                // Pulled through a list, an image is also known by the digest of its own manifest.
                if let Ok(name) = ImageName::parse(name) {
                    view.names.entry(name.with_digest(record.manifest).to_string()).or_insert(*id);
                }
            }
            view.images.insert(*id, image);
        }
        view
    }
}

pub(crate) fn parse_configuration(bytes: &[u8]) -> Result<ImageConfiguration> {
    serde_json::from_slice(bytes).map_err(|error| Error::document("image configuration", error))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

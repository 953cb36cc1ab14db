//! Remembers which step on which files gave which layer.
//!
//! The key of a step is a digest of everything that decides its result; the
//! layer of a known key is taken instead of running the step. Layers that only
//! the cache knows survive garbage collection until the disk is full or the
//! cache drops them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{During, Result};
use crate::store::{ImageStore, LayerRecord, Lock, layer_name};

const FILE: &str = "build-cache.json";
/// Steps remembered: the ones used longest ago are dropped first.
const MAX_STEPS: usize = 500;
/// Steps not used for this many seconds are dropped: two weeks.
const MAX_AGE: i64 = 14 * 24 * 3600;

/// Steps by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cache {
    steps: BTreeMap<Digest, Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    result: Cached,
    used: i64,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cached {
    /// Nothing if the step changed no file.
    pub(crate) layer: Option<CachedLayer>,
    /// When it ran, as in the image's history.
    pub(crate) created: String,
}

/// A layer with all that manifest and configuration say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CachedLayer {
    pub(crate) record: LayerRecord,
    pub(crate) diff_id: Digest,
    pub(crate) media_type: String,
    /// Bytes of the blob.
    pub(crate) size: u64,
}

/// Layers that this build has made. They get their names when all of them are safely on
/// the disk, which costs more than making them.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    layers: BTreeMap<Digest, tempfile::TempDir>,
}

impl Fresh {
    pub(crate) fn add(&mut self, chain: Digest, dir: tempfile::TempDir) {
        self.layers.entry(chain).or_insert(dir);
    }

    /// The name of a layer's directory among the layers of the store.
    pub(crate) fn name_of(&self, chain: Digest) -> PathBuf {
        let fresh = self.layers.get(&chain).and_then(|dir| dir.path().file_name());
        fresh.map_or_else(|| layer_name(chain).into(), PathBuf::from)
    }

    /// Gives all of them their names.
    pub(crate) fn settle(&mut self, store: &ImageStore) -> Result<()> {
        if self.layers.is_empty() {
            return Ok(());
        }
        store.content().sync()?;
        std::mem::take(&mut self.layers)
            .into_iter()
            .try_for_each(|(chain, dir)| store.content().commit_layer(dir, chain))
    }
}

/// Looks a step up; its layer must still be there. The lock keeps it there.
pub(crate) fn look_up(store: &ImageStore, key: Digest, _adding: &Lock) -> Option<Cached> {
    let step = read(store.root()).steps.get(&key)?.result.clone();
    let complete = step.layer.as_ref().is_none_or(|layer| {
        store.content().has_blob(layer.record.blob) && store.content().layer(layer.record.chain).is_dir()
    });
    complete.then_some(step)
}

/// Remembers the steps of a build, new ones and those used again.
pub(crate) fn remember(store: &ImageStore, used: &[(Digest, Cached)], now: i64) -> Result<()> {
    let _lock = crate::store::lock_index(store.root())?;
    let mut cache = read(store.root());
    for (key, result) in used {
        cache.steps.insert(*key, Step { result: result.clone(), used: now });
    }
    cache.steps.retain(|_, step| now - step.used <= MAX_AGE);
    while cache.steps.len() > MAX_STEPS {
        let oldest = cache.steps.iter().min_by_key(|(_, step)| step.used).map(|(key, _)| *key);
        oldest.map(|key| cache.steps.remove(&key));
    }
    write(store.root(), &cache)
}

/// Layers that the cache needs.
pub(crate) fn cached_layers(store: &ImageStore) -> Vec<LayerRecord> {
    let steps = read(store.root()).steps;
    steps.into_values().filter_map(|step| Some(step.result.layer?.record)).collect()
}

/// Drops the cache, so that its layers become garbage.
pub(crate) fn forget_cache(store: &ImageStore) -> Result<()> {
    match fs::remove_file(store.root().join(FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.during(|| "remove the build cache".into()),
    }
}

/// A cache that cannot be read is an empty one.
fn read(root: &Path) -> Cache {
    let bytes = fs::read(root.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(root: &Path, cache: &Cache) -> Result<()> {
    let during = || "write the build cache".into();
    let mut file = tempfile::NamedTempFile::new_in(root).during(during)?;
    file.write_all(&serde_json::to_vec(cache).expect("plain JSON")).during(during)?;
    file.persist(root.join(FILE)).map_err(|error| error.error).during(during)?;
    Ok(())
}

//! From blobs to an image: layers are unpacked, then the index gets its entry.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ImageStore, LayerRecord, Record, parse_configuration};
use crate::digest::Digest;
use crate::document::{Document, Manifest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::{Unpacked, adopt_implied, unpack};
use crate::name::ImageName;

/// Layers unpacked at the same time: more only compete for the disk.
const WORKERS: usize = 3;

/// Where an image comes from, and so what it is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) tags: Vec<ImageName>,
    /// Names with digests.
    pub(crate) digests: Vec<ImageName>,
}

/// A layer that is unpacked but has no name yet.
struct Prepared {
    dir: tempfile::TempDir,
    unpacked: Unpacked,
}

impl ImageStore {
    /// Makes an image of a manifest whose configuration and layers are blobs of this store.
    ///
    /// The caller holds [`ImageStore::adding`]. `unpacking` is told the index of each
    /// layer when it begins and when it is done.
    pub(crate) fn import(
        &self,
        manifest: &[u8],
        source: &Source,
        unpacking: &(dyn Fn(usize, bool) + Sync),
    ) -> Result<Arc<Image>> {
        let digest = self.content().put_blob(manifest)?;
        let Document::Manifest(manifest) = Document::parse(manifest)? else {
            return Err(Error::document("image manifest", "an index is not an image"));
        };
        let config = self.content().document(manifest.config.digest)?;
        let diff_ids = diff_ids(&config)?;
        if diff_ids.len() != manifest.layers.len() {
            let reason = format!("{} layers, {} diff ids", manifest.layers.len(), diff_ids.len());
            return Err(Error::document("image configuration", reason));
        }
        let layers = self.unpack_layers(&manifest, &diff_ids, unpacking)?;
        self.enter(manifest.config.digest, digest, layers, source)
    }

    fn enter(
        &self,
        id: Digest,
        manifest: Digest,
        layers: Vec<LayerRecord>,
        source: &Source,
    ) -> Result<Arc<Image>> {
        self.change(|index| {
            source.tags.iter().for_each(|tag| index.untag(&tag.to_string()));
            let record = index.images.entry(id).or_insert_with(|| Record {
                manifest,
                layers: layers.clone(),
                tags: Vec::new(),
                digests: Vec::new(),
                pinned: false,
                builtin: false,
                added: now(),
            });
            (record.manifest, record.layers) = (manifest, layers);
            add_names(&mut record.tags, &source.tags);
            add_names(&mut record.digests, &source.digests);
            Ok(())
        })?;
        self.find(&id.to_string())
    }

    fn unpack_layers(
        &self,
        manifest: &Manifest,
        diff_ids: &[Digest],
        unpacking: &(dyn Fn(usize, bool) + Sync),
    ) -> Result<Vec<LayerRecord>> {
        let chains = chains(diff_ids);
        let missing: Vec<usize> =
            (0..chains.len()).filter(|n| !self.content().layer(chains[*n]).is_dir()).collect();
        let mut prepared = self.prepare(manifest, diff_ids, &missing, unpacking)?;
        // Directories that only lower layers describe need those layers complete: in order.
        for (place, n) in missing.iter().enumerate() {
            let below: Vec<PathBuf> = (0..*n)
                .rev()
                .map(|lower| match missing.iter().position(|m| *m == lower) {
                    Some(place) => prepared[place].dir.path().to_owned(),
                    None => self.content().layer(chains[lower]),
                })
                .collect();
            let Prepared { dir, unpacked } = &prepared[place];
            adopt_implied(dir.path(), &unpacked.implied, &below)?;
        }
        if !missing.is_empty() {
            self.content().sync()?;
        }
        let mut sizes = vec![None; chains.len()];
        for (Prepared { dir, unpacked }, n) in prepared.drain(..).zip(&missing) {
            sizes[*n] = Some(unpacked.size);
            self.content().commit_layer(dir, chains[*n])?;
        }
        let size = |n: usize| sizes[n].or_else(|| self.known_size(chains[n])).unwrap_or(0);
        Ok((0..chains.len())
            .map(|n| LayerRecord { chain: chains[n], blob: manifest.layers[n].digest, size: size(n) })
            .collect())
    }

    /// Unpacks the missing layers, several at a time.
    fn prepare(
        &self,
        manifest: &Manifest,
        diff_ids: &[Digest],
        missing: &[usize],
        unpacking: &(dyn Fn(usize, bool) + Sync),
    ) -> Result<Vec<Prepared>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(n) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                unpacking(*n, false);
                let result = self.prepare_one(manifest.layers[*n].digest, diff_ids[*n]);
                unpacking(*n, true);
                if result.is_err() {
                    // The others need not begin.
                    next.store(missing.len(), Ordering::Relaxed);
                }
                done.push((*n, result));
            }
            done
        };
        let mut results: Vec<(usize, Result<Prepared>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS.min(missing.len())).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("unpacking does not panic")).collect()
        });
        results.sort_by_key(|(n, _)| *n);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn prepare_one(&self, blob: Digest, diff_id: Digest) -> Result<Prepared> {
        let dir = self.content().scratch()?;
        // tempfile makes private directories; the root of a layer is everybody's.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open)
            .map_err(|source| Error::Io { what: format!("chmod {}", dir.path().display()), source })?;
        let unpacked = unpack(&self.content().blob(blob), dir.path(), self.limits())?;
        if unpacked.diff_id != diff_id {
            return Err(Error::Mismatch {
                what: format!("unpacked layer {blob}"),
                expected: diff_id,
                actual: unpacked.diff_id,
            });
        }
        Ok(Prepared { dir, unpacked })
    }

    /// The size of a layer that some image already uses, else counted.
    fn known_size(&self, chain: Digest) -> Option<u64> {
        let known = |image: &Arc<Image>| {
            image.record.layers.iter().find(|layer| layer.chain == chain).map(|layer| layer.size)
        };
        self.list()
            .iter()
            .find_map(known)
            .or_else(|| crate::layer::tree_size(&self.content().layer(chain)).ok())
    }
}

/// Digests of the plain layers, lowest first.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>> {
    parse_configuration(config)?.rootfs().diff_ids().iter().map(|text| text.parse()).collect()
}

/// Names each layer together with those below it.
/// Source: OCI image-spec, config.md, "Layer ChainID".
pub(crate) fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => *diff_id,
            Some(below) => chain(*below, *diff_id),
        });
    }
    chains
}

fn chain(below: Digest, diff_id: Digest) -> Digest {
    Digest::of(format!("{below} {diff_id}").as_bytes())
}

fn add_names(names: &mut Vec<String>, new: &[ImageName]) {
    for name in new.iter().map(ImageName::to_string) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
